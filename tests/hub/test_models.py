"""Models of Hugging Face keep the contract of `Model`; what they refuse, and how they are opened."""

from __future__ import annotations

import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import huggingface_hub
import huggingface_hub.errors
import pytest
import torch
import transformers as library
from PIL import Image

import attnviz
from attnviz.edits import BlockedEdges, Edit, head_flags, token_flags
from attnviz.hub.errors import CannotOpen, CannotRecord
from attnviz.methods import METHODS
from attnviz.types import NoTokenMap, Sample, Target, UnsupportedMask
from tests.hub.families import IMAGE, SHAPE, SHARED, TEXT, WORDS, Processor, enlarge, tokenizer
from tests.models.test_contract import (  # noqa: F401
    Case,
    test_a_batch_of_edits_is_each_of_them_alone,
    test_a_layer_can_be_asked_alone,
    test_a_text_comes_back_from_its_tokens,
    test_a_token_enters_as_its_row_of_the_embeddings,
    test_it_honours_what_it_says_and_refuses_the_rest,
    test_it_is_a_model,
    test_it_is_causal_where_it_says_so,
    test_it_reads_no_more_than_its_context_length,
    test_its_grid_is_that_of_its_patches,
    test_its_layers_heads_and_width_are_those_it_records,
    test_its_outputs_are_its_logits,
    test_its_pooling_sums_to_one,
    test_special_tokens_stand_for_no_text,
)

PLAIN = "the old man was not at home, she said."
WORD_PIECES = {**TEXT, "vocab_size": len(WORDS)}
SMALL = {**SHAPE, **WORD_PIECES}
EXPERTS = {"num_local_experts": 2, "num_experts_per_tok": 1}
BUILDERS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "classifier": ("BertForSequenceClassification", "BertConfig", {**SMALL, "num_labels": 3}),
    "hidden words": ("BertForMaskedLM", "BertConfig", SMALL),
    "bare": ("RobertaModel", "RobertaConfig", SMALL),
    "local": ("ModernBertForMaskedLM", "ModernBertConfig", {**SMALL, "local_attention": 4}),
    "next words": ("MistralForCausalLM", "MistralConfig", {**SHARED, **WORD_PIECES, "sliding_window": 4}),
    "soft-cap": ("Gemma2ForCausalLM", "Gemma2Config", {**SHARED, **WORD_PIECES, "head_dim": 8, "sliding_window": 4}),
    "sinks": (
        "GptOssForCausalLM",
        "GptOssConfig",
        {**SHARED, **WORD_PIECES, "head_dim": 8, "num_local_experts": 2, "num_experts_per_tok": 1},
    ),
    "pictures": ("ViTForImageClassification", "ViTConfig", {**SHAPE, **IMAGE, "num_labels": 3}),
    "distilled": ("DeiTForImageClassificationWithTeacher", "DeiTConfig", {**SHAPE, **IMAGE, "num_labels": 3}),
    "registers": ("Dinov2WithRegistersModel", "Dinov2WithRegistersConfig", {**SHAPE, **IMAGE}),
    "mean of patches": (
        "BeitForImageClassification",
        "BeitConfig",
        {**SHAPE, **IMAGE, "use_relative_position_bias": True, "vocab_size": 8, "num_labels": 3},
    ),
}


def network(name: str) -> Any:
    """One network, with weights from a seed."""
    model, config, options = BUILDERS[name]
    torch.manual_seed(0)
    return enlarge(getattr(library, model)(getattr(library, config)(**options)), 2.0)


def opened(name: str) -> Any:
    """The model of a network."""
    built = network(name)
    return attnviz.from_transformers(built, Processor() if built.main_input_name == "pixel_values" else tokenizer())


def sample_of(model: Any) -> Sample:
    """Something it can read."""
    return model.prepare(Image.linear_gradient("L") if model.spec.modality == "image" else PLAIN)


@pytest.fixture(scope="module", params=BUILDERS)
def case(request: pytest.FixtureRequest) -> Case:
    """Every model once."""
    model = opened(request.param)
    sample = sample_of(model)
    with torch.no_grad():
        return Case(model, sample, model(sample))


def test_its_answer_is_that_of_the_network(case: Case) -> None:
    module, model = case.model.network.module, case.model
    assert module.config._attn_implementation != "attnviz"
    with torch.no_grad():
        expected = module(**model.inputs(case.sample, 1))
    if model.outputs:
        found = next(iter(case.trace.logits.values()))
        torch.testing.assert_close(found, expected.logits[0].reshape(found.shape), atol=1e-4, rtol=1e-4)
    else:
        assert not case.trace.logits


def test_the_last_residual_gives_the_logits(case: Case) -> None:
    residuals = case.trace.residuals["main"]
    if not case.model.outputs:
        with pytest.raises(UnsupportedMask):
            case.model.logits_from(residuals[-1])
        return
    (logits,) = case.trace.logits.values()
    torch.testing.assert_close(case.model.logits_from(residuals[-1]), logits, atol=1e-5, rtol=1e-5)
    lens = case.model.logits_from(torch.stack(residuals))
    torch.testing.assert_close(lens[-1], logits, atol=1e-4, rtol=1e-4)
    assert not torch.allclose(lens[0], logits)


def test_every_method_gives_numbers_or_a_reason(case: Case) -> None:
    tokens = case.sample.tokens["main"]
    for name, method in METHODS.items():
        options = {option.name: int(option.range[0]) for option in method.options if option.kind == "number"}
        target = Target(row=3) if "word" in case.model.outputs else None
        try:
            row = attnviz.explain(name, case.model, case.sample, target, **options)
        except (NoTokenMap, UnsupportedMask) as reason:
            if len(str(reason).split()) < 5:
                raise
            continue
        assert row.shape == (len(tokens),), name
        assert row.isfinite().all(), name


def test_gradients_are_those_of_the_network(case: Case) -> None:
    """The gradient of a logit at the embeddings, against a small step there."""
    model, content = case.model, case.trace.token_embeddings["main"]
    if not model.outputs:
        return
    leaf = content.clone().requires_grad_()
    (logits,) = model(case.sample, edit=Edit(embeddings=leaf)).logits.values()
    (slope,) = torch.autograd.grad(logits[0, 0], leaf)
    step = 1e-3 * slope / slope.norm()
    with torch.no_grad():
        ends = [
            next(iter(model(case.sample, edit=Edit(embeddings=content + s)).logits.values())) for s in (step, -step)
        ]
    assert float(ends[0][0, 0] - ends[1][0, 0]) == pytest.approx(2e-3 * float(slope.norm()), rel=0.05)


def test_what_answers_are_read_from() -> None:
    words = {
        name: opened(name).spec.answer_from for name in ("classifier", "distilled", "mean of patches", "next words")
    }
    assert words == {
        "classifier": "CLS",
        "distilled": "CLS and DIST",
        "mean of patches": "the mean of all patches",
        "next words": "the last token",
    }
    assert "keep_tokens" not in opened("mean of patches").spec.honours


def test_prefix_tokens_are_named() -> None:
    labels = {name: sample_of(opened(name)).tokens["main"].labels[:5] for name in ("distilled", "registers")}
    assert labels["distilled"][:3] == ("CLS", "DIST", "r0c0")
    assert labels["registers"] == ("CLS", "REG 1", "REG 2", "REG 3", "REG 4")


def test_sinks_refuse_a_rollout() -> None:
    model = opened("sinks")
    with pytest.raises(NoTokenMap):
        attnviz.explain("rollout", model, sample_of(model))
    rows = model(sample_of(model)).calls[0].weights().sum(-1)
    assert (rows < 1 + 1e-6).all()
    assert rows.min() < 0.9


def test_edits_change_what_they_say() -> None:
    model = opened("hidden words")
    sample = sample_of(model)
    count = len(sample.tokens["main"])
    keep, cut = ~token_flags(count, [2]), token_flags(count, [1])
    removed = model(sample, edit=Edit(keep_tokens=keep))
    assert all((call.weights()[..., 2] == 0).all() for call in removed.calls)
    blocked = model(sample, edit=Edit(blocked_edges=BlockedEdges(cut, ~cut)))
    assert all(torch.equal(call.weights()[:, 1], torch.eye(count)[1].expand(4, -1)) for call in blocked.calls)
    ablated = model(sample, edit=Edit(ablated_heads=head_flags(2, 4, [(0, 3)])))
    assert (ablated.calls[0].output[3] == 0).all()
    assert not (ablated.calls[1].output[3] == 0).all()


def test_two_texts_are_told_apart() -> None:
    model = opened("classifier")
    sample = model.prepare(("the old man", "a cat ."))
    types = model.inputs(sample, 1)["token_type_ids"][0]
    assert sample.tokens["main"].labels == ("CLS", "the", "old", "man", "SEP", "a", "cat", ".", "SEP")
    assert types.tolist() == [0] * 5 + [1] * 4


def test_special_tokens_written_in_a_text_are_text_but_for_a_hidden_word() -> None:
    model = opened("hidden words")
    sample = model.prepare("the [SEP] [MASK] .")
    assert sample.inputs["main"].tolist().count(model.tokenizer.special["sep"]) == 1
    assert "MASK" in sample.tokens["main"].labels
    assert model.pooling(sample).argmax() == sample.tokens["main"].labels.index("MASK")


def test_a_users_object_is_left_as_it_was_found() -> None:
    built = network("classifier").train()
    built.bert.embeddings.eval()
    before = [module.training for module in built.modules()]
    model = attnviz.from_transformers(built, tokenizer())
    model(sample_of(model))
    assert [module.training for module in built.modules()] == before
    assert built.config._attn_implementation != "attnviz"
    assert not any("forward" in vars(m) or m._forward_hooks or m._forward_pre_hooks for m in built.modules())
    assert all(parameter.requires_grad for parameter in built.parameters())


# ---- folders


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A classifier as save_pretrained writes it."""
    path = tmp_path_factory.mktemp("classifier")
    network("classifier").save_pretrained(path)
    tokenizer().save_pretrained(path)
    return path


def test_a_folder_opens(folder: Path) -> None:
    model: Any = attnviz.load(str(folder))
    expected = opened("classifier")
    sample = model.prepare(PLAIN)
    assert sample.digest == expected.prepare(PLAIN).digest
    torch.testing.assert_close(model(sample).logits["class"], expected(sample).logits["class"])
    assert model.network.module.config._attn_implementation == "attnviz"
    assert model.digest == attnviz.load(folder).digest
    assert not any(parameter.requires_grad for parameter in model.network.module.parameters())


def test_pictures_open_from_a_folder(tmp_path: Path) -> None:
    network("pictures").save_pretrained(tmp_path)
    library.ViTImageProcessor(size={"height": 32, "width": 32}).save_pretrained(tmp_path)
    model: Any = attnviz.load(tmp_path)
    assert model.spec.input_size == (32, 32)
    assert model(sample_of(model)).logits["class"].shape == (1, 3)


def test_eight_visitors_of_one_model_get_whole_traces(folder: Path) -> None:
    model: Any = attnviz.load(folder)
    texts = ["the " * (1 + i) + "cat ." for i in range(8)]
    expected = [model(model.prepare(text)) for text in texts]

    def visit(i: int) -> list[Any]:
        return [model(model.prepare(texts[i])) for _ in range(5)]

    with ThreadPoolExecutor(8) as pool:
        for found, alone in zip(pool.map(visit, range(8)), expected, strict=True):
            for trace in found:
                assert len(trace.calls) == 2
                torch.testing.assert_close(trace.logits["class"], alone.logits["class"])
                torch.testing.assert_close(trace.calls[1].weights(), alone.calls[1].weights())


def test_threads_share_a_users_object() -> None:
    model = opened("classifier")
    samples = [model.prepare("the " * (1 + i)) for i in range(4)]
    with ThreadPoolExecutor(4) as pool:
        traces = list(pool.map(model, samples * 3))
    assert [len(trace.calls) for trace in traces] == [2] * 12
    assert model.network.module.config._attn_implementation != "attnviz"


def damaged(folder: Path, to: Path, how: str) -> Path:
    """A copy of the folder with something wrong."""
    shutil.copytree(folder, to)
    weights = to / "model.safetensors"
    if how == "no config":
        (to / "config.json").unlink()
    elif how == "no tokenizer":
        (to / "tokenizer.json").unlink()
    elif how == "pickles":
        weights.rename(to / "pytorch_model.bin")
    elif how == "no weights":
        weights.unlink()
    elif how == "cut weights":
        weights.write_bytes(weights.read_bytes()[:5000])
    elif how == "other weights":
        network("pictures").save_pretrained(to / "other")
        shutil.copy(to / "other" / "model.safetensors", weights)
    return to


@pytest.mark.parametrize(
    ("how", "said"),
    {
        "no config": "config",
        "no tokenizer": "tokenizer",
        "pickles": "pickled",
        "no weights": "no weights",
        "cut weights": "whole",
        "other weights": "belong to another",
    }.items(),
)
def test_a_bad_folder_is_refused_in_a_sentence(folder: Path, tmp_path: Path, how: str, said: str) -> None:
    with pytest.raises(CannotOpen, match=said) as refusal:
        attnviz.load(damaged(folder, tmp_path / "model", how))
    assert "\n" not in str(refusal.value)


def test_other_bad_input_is_refused_in_a_sentence(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="hf:owner/name"):
        attnviz.load("nobody")
    with pytest.raises(CannotOpen, match="no folder"):
        attnviz.load(str(tmp_path / "nothing"))
    with pytest.raises(CannotOpen, match="owner/name"):
        attnviz.load("hf:a/b/c/d")
    with pytest.raises(TypeError, match="transformers"):
        attnviz.from_transformers(torch.nn.Linear(2, 2))
    for name in ("classifier", "pictures"):
        with pytest.raises(CannotOpen, match="from_transformers"):
            attnviz.from_transformers(network(name))
    empty = tokenizer()
    monkeypatch.setattr("tokenizers.Tokenizer.get_vocab_size", lambda self, with_added_tokens=True: 0)
    with pytest.raises(CannotOpen, match="empty"):
        attnviz.from_transformers(network("classifier"), empty)


@pytest.mark.parametrize(
    ("raised", "said"),
    {
        "GatedRepoError": "gated",
        "RepositoryNotFoundError": "no public model",
        "RevisionNotFoundError": "no revision",
        "LocalEntryNotFoundError": "internet",
    }.items(),
)
def test_what_the_hub_refuses_is_said_in_a_sentence(monkeypatch: pytest.MonkeyPatch, raised: str, said: str) -> None:
    def refuse(name: str, *, revision: str | None, allow_patterns: list[str], **_: Any) -> str:
        assert (name, revision) == ("owner/name", "branch")
        assert not any(".bin" in pattern or ".py" in pattern for pattern in allow_patterns)
        kind = getattr(huggingface_hub.errors, raised)
        raise kind.__new__(kind)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", refuse)
    with pytest.raises(CannotOpen, match=said) as refusal:
        attnviz.load("hf:owner/name@branch")
    assert "\n" not in str(refusal.value)


def test_a_name_opens_what_was_downloaded(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda *names, **options: str(folder))
    model: Any = attnviz.load("hf:owner/name")
    assert model.name == "owner/name"
    assert model.digest != attnviz.load(folder).digest


def test_what_pages_cannot_follow_is_sent_to_the_other_door() -> None:
    swin = library.SwinModel(
        library.SwinConfig(image_size=32, patch_size=2, embed_dim=16, depths=[1, 1], num_heads=[2, 2], window_size=4)
    )
    with pytest.raises(CannotRecord, match=r"attnviz\.record"):
        attnviz.from_transformers(swin, Processor())
    sound = library.Wav2Vec2Model(library.Wav2Vec2Config(**SHAPE, num_conv_pos_embedding_groups=4))
    with pytest.raises(CannotOpen, match=r"attnviz\.record"):
        attnviz.from_transformers(sound)
