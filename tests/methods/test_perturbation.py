"""Deletion, occlusion and activation patching: against passes written out one by one, against captum, and by hand."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from captum.attr import FeatureAblation, Occlusion
from torch import Tensor

import attnviz
from attnviz.measures.faithfulness import removal, single_deletion, single_drops
from attnviz.methods import METHODS
from attnviz.methods.perturbation import TOGETHER, windows
from attnviz.types import Edit, NoTokenMap, Target, Tokens, UnsupportedMask
from tests.explained import dense, dense_picture, dense_text, picture_model, pooled_by, text_model
from tests.foreign import foreign_models

SHAPES = {"cls": {}, "registers": {"registers": 4}, "mean": {"pooling": "mean", "cls": False}}
CLOSE: dict[str, Any] = {"atol": 1e-10, "rtol": 1e-8}
BY_CHANGE = ("deletion", "occlusion", "activation patching")


@pytest.fixture(params=SHAPES)
def pair(request):
    """A model and a picture of 3 x 7 patches."""
    return picture_model((3, 7), **SHAPES[request.param])


def content_of(model, sample) -> Tensor:
    return model(sample).token_embeddings["main"].clone()


def baseline(content: Tensor, prefix: int, name: str) -> Tensor:
    """Every patch as zero or as the mean of all, written out."""
    found = content.clone()
    found[prefix:] = 0 if name == "zero" else content[prefix:].mean(0)
    return found


def forward(model, sample):
    """The class logits [copy class] of embeddings [copy token feature], as captum wants them."""
    return lambda embeddings: model(sample, edit=Edit(embeddings=embeddings)).logits["class"][..., 0, :]


@pytest.mark.parametrize("target", [Target(label=3), Target(label=3, against=1)])
def test_deletion_is_the_fall_without_each_token(pair, target):
    model, sample = pair
    row, prefix = attnviz.explain("deletion", model, sample, target), sample.tokens["main"].prefix

    def score(keep: Tensor) -> Tensor:
        logits = dense_picture(model, sample, keep).logits[0]
        return logits[3] - (0 if target.against is None else logits[target.against])

    kept = torch.ones(len(row), dtype=torch.bool)
    one_by_one = [score(kept) - score(kept & (torch.arange(len(row)) != token)) for token in range(prefix, len(row))]
    torch.testing.assert_close(row[prefix:], torch.stack(one_by_one).detach(), **CLOSE)
    assert not row[:prefix].any()


def test_deletion_is_what_the_single_deletion_score_asks_for(pair):
    """By that score it is 1 by definition, and any other order is not."""
    model, sample = pair
    drops = single_drops(removal(model, sample, Target(label=2)))
    row = attnviz.explain("deletion", model, sample, Target(label=2))[sample.tokens["main"].prefix :]
    assert float(single_deletion(row, drops)) == pytest.approx(1.0)
    assert float(single_deletion(row.roll(1), drops)) < 0.9


def test_a_decoder_keeps_the_token_that_answers():
    model, sample = text_model(causal=True)
    row = attnviz.explain("deletion", model, sample, Target("word", 3, 50))
    assert row[3] == 0
    assert not row[4:].any()  # later tokens are not seen
    assert row[1:3].all()


@pytest.mark.parametrize("name", ["zero", "mean"])
def test_occlusion_of_single_patches_is_captums_ablation(pair, name):
    model, sample = pair
    content, prefix = content_of(model, sample), sample.tokens["main"].prefix
    absent, groups = baseline(content, prefix, name), torch.arange(len(content))[None, :, None]
    ablated = FeatureAblation(forward(model, sample)).attribute(
        content[None], absent[None], target=3, feature_mask=groups.expand(1, *content.shape)
    )
    row = attnviz.explain("occlusion", model, sample, Target(label=3), baseline=name)
    torch.testing.assert_close(row, ablated[0, :, 0].to(row), atol=1e-6, rtol=1e-6)  # captum adds up in float32


@pytest.mark.parametrize("size", [2, 3, 5])
def test_occlusion_by_a_window_is_captums(size):
    """The window lies wherever it fits; along a side that is shorter it covers all."""
    model, sample = picture_model((3, 7), registers=2)
    content, prefix = content_of(model, sample), sample.tokens["main"].prefix
    absent = baseline(content, prefix, "mean").unflatten(0, (-1,))

    def of_grid(patches: Tensor) -> Tensor:  # [copy row column feature]
        special = content[:prefix].expand(len(patches), -1, -1)
        return forward(model, sample)(torch.cat([special, patches.flatten(1, 2)], 1))

    grid = content[prefix:].unflatten(0, (3, 7))[None]
    covered = absent[prefix:].unflatten(0, (3, 7))[None]
    shape = (min(size, 3), min(size, 7), content.shape[-1])
    found = Occlusion(of_grid).attribute(grid, shape, baselines=covered, target=3)[0, ..., 0]
    row = attnviz.explain("occlusion", model, sample, Target(label=3), size=size)
    torch.testing.assert_close(row[prefix:], found.flatten().to(row), atol=1e-6, rtol=1e-6)


def test_windows_of_words_pass_over_special_tokens():
    tokens = Tokens(("CLS", "a", "b", "c", "END"), words=(-1, 0, 1, 2, -1))
    assert windows(tokens, 2).tolist() == [[False, True, True, False, False], [False, False, True, True, False]]
    assert windows(tokens, 9).tolist() == [[False, True, True, True, False]]
    with pytest.raises(NoTokenMap, match="special tokens"):
        windows(Tokens(("CLS", "END"), words=(-1, -1)), 1)


@pytest.mark.parametrize(("depth", "layer"), [(0.0, 0), (0.5, 2), (1.0, 3)])
@pytest.mark.parametrize("name", ["zero", "mean"])
def test_patching_sets_one_residual_into_a_neutral_pass(pair, depth, layer, name):
    model, sample = pair
    network, prefix, content = model.network, sample.tokens["main"].prefix, content_of(model, sample)
    keep = torch.ones(len(content), dtype=torch.bool)

    def answer(x: Tensor) -> Tensor:
        return network.classify(pooled_by(network, keep) @ network.norm(x))[None]

    own = dense_picture(model, sample).residuals
    start = own[0] - content + baseline(content, prefix, name)
    neutral = dense(network.blocks, start, answer)
    gains = []
    for token in range(prefix, len(content)):
        mixed = torch.where((torch.arange(len(content)) == token)[:, None], own[layer], neutral.residuals[layer])
        gains.append(dense(network.blocks[layer:], mixed, answer).logits[0, 3] - neutral.logits[0, 3])
    row = attnviz.explain("activation patching", model, sample, Target(label=3), depth=depth, baseline=name)
    torch.testing.assert_close(row[prefix:], torch.stack(gains).detach(), **CLOSE)
    assert not row[:prefix].any()


def test_patching_of_a_text_starts_from_neutral_words():
    model, sample = text_model()
    inside = torch.tensor([word >= 0 for word in sample.tokens["main"].words or ()])
    content, own = content_of(model, sample), dense_text(model, sample).residuals
    absent = content.clone()
    absent[inside] = content[inside].mean(0)
    network = model.network

    def answer(x: Tensor) -> Tensor:
        return network.pieces.unembed(network.norm(x))

    neutral = dense(network.blocks, own[0] - content + absent, answer)
    token = int(inside.nonzero()[1])
    mixed = neutral.residuals[1].clone()
    mixed[token] = own[1][token]
    gain = dense(network.blocks[1:], mixed, answer).logits[3, 50] - neutral.logits[3, 50]
    row = attnviz.explain("activation patching", model, sample, Target("word", 3, 50), depth=0.5)
    assert float(row[token]) == pytest.approx(gain.item(), rel=1e-8)
    assert not row[~inside].any()


@pytest.mark.parametrize("name", BY_CHANGE)
def test_a_batch_is_each_input_alone(name):
    model, both = picture_model((3, 7), batch=(2,))
    rows = attnviz.explain(name, model, both, Target(label=1))
    for index, pixels in enumerate(both.inputs["main"]):
        one = type(both)(f"{index}", {"main": pixels}, both.tokens)
        torch.testing.assert_close(rows[index], attnviz.explain(name, model, one, Target(label=1)), **CLOSE)


@pytest.mark.parametrize("name", BY_CHANGE)
def test_tokens_removed_before_stay_removed(name):
    """A token that was not there can neither be missed nor be enough."""
    model, sample = picture_model((3, 7))
    keep = torch.ones(len(sample.tokens["main"]), dtype=torch.bool)
    keep[5:9] = False
    trace = model(sample, edit=Edit(keep_tokens=keep))
    row = attnviz.explain(name, model, sample, Target(label=1), trace=trace)
    torch.testing.assert_close(row[5:9], torch.zeros(4, dtype=row.dtype), atol=1e-12, rtol=0)
    assert not torch.allclose(row, attnviz.explain(name, model, sample, Target(label=1)))


@pytest.mark.parametrize("name", BY_CHANGE)
def test_progress_is_told_and_ends_at_one(name):
    model, sample = picture_model((6, 8))
    told: list[float] = []
    attnviz.explain(name, model, sample, progress=told.append)
    assert len(told) == -(-48 // TOGETHER)
    assert told == sorted(told)
    assert told[-1] == 1


def test_the_class_of_the_unchanged_input_is_explained():
    model, sample = picture_model((3, 7), seed=1)
    predicted = int(model(sample).logits["class"].argmax())
    for name in BY_CHANGE:
        row = attnviz.explain(name, model, sample)
        assert torch.equal(row, attnviz.explain(name, model, sample, Target(label=predicted)))


@pytest.mark.parametrize("name", BY_CHANGE)
def test_a_model_that_cannot_be_changed_says_so(name):
    refused = 0
    for foreign in foreign_models().values():
        model, needs = foreign.model, {"deletion": "keep_tokens", "occlusion": "embeddings"}.get(name, "residuals")
        if needs in model.spec.honours:
            continue
        refused += 1
        with pytest.raises((UnsupportedMask, NoTokenMap), match=r"\w+ \w+ \w+"):
            attnviz.explain(name, model, model.prepare(foreign.raw))
    assert refused


def test_wrong_options_are_refused():
    model, sample = picture_model()
    wrong: list[tuple[str, dict[str, Any]]] = [
        ("occlusion", {"size": 0}),
        ("occlusion", {"baseline": "blur"}),
        ("activation patching", {"baseline": "blur"}),
        ("activation patching", {"depth": 1.5}),
        ("activation patching", {"depth": -0.1}),
    ]
    for name, options in wrong:
        with pytest.raises(ValueError, match=r"expected|known"):
            attnviz.explain(name, model, sample, **options)
    assert all(METHODS[name].signed and METHODS[name].slow for name in BY_CHANGE)
