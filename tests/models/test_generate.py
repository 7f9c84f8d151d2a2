"""Writing on: the network against Hugging Face's Llama, the cache against the whole pass, settings, seeds, any text."""

from __future__ import annotations

import itertools
import unicodedata
from typing import Any

import pytest
import torch

from attnviz.attention import VARIANTS
from attnviz.models.generate import (
    SamplingConfig,
    continued,
    filtered,
    next_token_probabilities,
    sample_token,
    steps,
    words,
)
from attnviz.models.subwords import BOS, EOS, MASK, SPECIAL, load_subwords
from attnviz.models.text import Reader, ReaderConfig
from attnviz.models.text_model import TextModel

SHAPE = ReaderConfig(
    width=48,
    layers=3,
    heads=6,
    variant="gqa",
    options={"groups": 2, "bias": False},
    norm="rms",
    gated=True,
    mlp=8 / 3,
    positions="rotary",
    context_length=64,
    causal=True,
)


def opened(seed: int = 0, longest: int = 64) -> TextModel:
    """A small untrained network, each time the same, sure enough of itself to write differing texts."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = Reader(ReaderConfig(**{**vars(SHAPE), "context_length": longest}))
        network.pieces.bias.data.normal_()
        for parameter in network.parameters():
            if parameter.ndim == 1:
                parameter.data += 0.1 * torch.randn(parameter.shape)
    return TextModel("small", network, load_subwords())


@pytest.fixture(scope="module")
def model() -> TextModel:
    """The small network."""
    return opened()


def some_ids(count: int, seed: int = 0) -> torch.Tensor:
    """Pieces at random after BOS."""
    drawn_ids = torch.randint(
        len(SPECIAL), SHAPE.vocabulary, (count - 1,), generator=torch.Generator().manual_seed(seed)
    )
    return torch.cat([torch.tensor([BOS]), drawn_ids])


def test_the_network_is_hugging_faces_llama(model: TextModel):
    transformers = pytest.importorskip("transformers")
    config, network = SHAPE, model.network
    theirs = transformers.LlamaForCausalLM(
        transformers.LlamaConfig(
            vocab_size=config.vocabulary,
            hidden_size=config.width,
            num_hidden_layers=config.layers,
            num_attention_heads=config.heads,
            num_key_value_heads=2,
            intermediate_size=round(config.mlp * config.width),
            rms_norm_eps=1e-6,
            max_position_embeddings=config.context_length,
            rope_theta=1e4,
            hidden_act="silu",
            tie_word_embeddings=False,
            attention_bias=False,
            mlp_bias=False,
            attn_implementation="eager",
        )
    ).eval()
    weights = {
        "model.embed_tokens.weight": network.pieces.table * config.width**0.5,
        "lm_head.weight": network.pieces.table,
        "model.norm.weight": network.norm.weight,
    }
    blocks: list[Any] = list(network.blocks)
    for i, block in enumerate(blocks):
        here = f"model.layers.{i}."
        weights |= {
            f"{here}self_attn.q_proj.weight": block.attention.query.weight,
            f"{here}self_attn.k_proj.weight": block.attention.key.weight,
            f"{here}self_attn.v_proj.weight": block.attention.value.weight,
            f"{here}self_attn.o_proj.weight": block.attention.out.weight,
            f"{here}mlp.gate_proj.weight": block.mlp.gate.weight,
            f"{here}mlp.up_proj.weight": block.mlp.up.weight,
            f"{here}mlp.down_proj.weight": block.mlp.down.weight,
            f"{here}input_layernorm.weight": block.attention_norm.weight,
            f"{here}post_attention_layernorm.weight": block.mlp_norm.weight,
        }
    theirs.load_state_dict(weights)
    ids = torch.stack([some_ids(40), some_ids(40, 1)])
    with torch.no_grad():
        ours = network(ids)
        said = theirs(ids, output_attentions=True, output_hidden_states=True)
        torch.testing.assert_close(ours.logits["word"], said.logits + network.pieces.bias, atol=1e-5, rtol=1e-5)
        for call, attention in zip(ours.calls, said.attentions, strict=True):
            torch.testing.assert_close(call.weights(), attention, atol=1e-5, rtol=1e-5)
        for residual, state in zip(ours.residuals["main"][:-1], said.hidden_states, strict=False):
            torch.testing.assert_close(residual, state, atol=1e-5, rtol=1e-5)


def test_decoding_with_a_cache_equals_the_whole_pass(model: TextModel):
    ids = some_ids(30)
    whole = model.network(ids).logits["word"]
    past: list[Any] = []
    begin, kinds = 0, dict[str, Any](VARIANTS)
    for count in (7, 1, 1, 10, 1, 10):
        scores, past = model.network.decode(ids[begin : begin + count], past)
        begin += count
        torch.testing.assert_close(scores, whole[begin - 1], atol=1e-5, rtol=1e-5)
    kept = sum(tensor.nbytes for layer in past for tensor in layer)
    assert kept == SHAPE.layers * kinds["gqa"](48, 6, groups=2, bias=False).cost(1, 30).state_bytes
    assert 3 * kept == SHAPE.layers * kinds["mha"](48, 6).cost(1, 30).state_bytes


def test_nothing_leaks_from_the_future_and_batches_change_nothing(model: TextModel):
    ids, other = some_ids(30), some_ids(30, 1)
    changed = torch.cat([ids[:12], other[12:]])
    first, second = (model.network(row).logits["word"] for row in (ids, changed))
    assert torch.equal(first[:12], second[:12])
    assert not torch.allclose(first[12], second[12])
    together = model.network(torch.stack([ids, changed])).logits["word"]
    torch.testing.assert_close(together[0], first, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(together[1], second, atol=1e-5, rtol=1e-5)


def test_temperature_top_k_and_top_p_by_hand():
    chances = torch.tensor([0.1, 0.4, 0.3, 0.2], dtype=torch.float64)
    keep: dict[str, Any] = {"temperature": 1.0, "top_p": 1.0}
    torch.testing.assert_close(filtered(chances, SamplingConfig(**keep)), chances)
    torch.testing.assert_close(
        filtered(chances, SamplingConfig(**keep, top_k=2)), torch.tensor([0, 4, 3, 0]).double() / 7
    )
    nucleus = filtered(chances, SamplingConfig(temperature=1.0, top_p=0.75))
    torch.testing.assert_close(nucleus, torch.tensor([0, 4, 3, 2]).double() / 9)
    torch.testing.assert_close(
        filtered(chances, SamplingConfig(temperature=1.0, top_p=0.01)), torch.tensor([0, 1, 0, 0]).double()
    )
    hot = filtered(chances, SamplingConfig(temperature=2.0, top_p=1.0))
    torch.testing.assert_close(hot, chances.sqrt() / chances.sqrt().sum())
    assert filtered(chances, SamplingConfig(temperature=0)).tolist() == [0, 1, 0, 0]
    # top-p reads what top-k has left: of 4/7 and 3/7 the first alone reaches a half
    assert (filtered(chances, SamplingConfig(temperature=1.0, top_k=2, top_p=0.5)) > 0).tolist() == [
        False,
        True,
        False,
        False,
    ]


def test_of_equally_likely_pieces_the_first_stay_and_no_more_than_reach_the_share():
    alike = torch.full((8,), 0.125, dtype=torch.float64)
    halves = ({"top_k": 4, "top_p": 1.0}, {"top_p": 0.5})  # the first four together reach a half
    for half in halves:
        assert filtered(alike, SamplingConfig(temperature=1.0, **half)).tolist() == [0.25] * 4 + [0] * 4
    assert filtered(alike, SamplingConfig(temperature=0)).tolist() == [1] + [0] * 7
    assert filtered(alike, SamplingConfig(temperature=1.0, top_k=99, top_p=1.0)).tolist() == alike.tolist()


def test_what_was_impossible_stays_impossible():
    chances = torch.tensor([0.0, 0.75, 0.25, 0.0], dtype=torch.float64)
    for settings in (SamplingConfig(temperature=5.0, top_p=1.0), SamplingConfig(temperature=5.0, top_k=4)):
        assert (filtered(chances, settings) > 0).tolist() == [False, True, True, False]


def test_unless_told_otherwise_it_draws_a_little_colder_than_it_expects():
    assert SamplingConfig() == SamplingConfig(temperature=0.7, top_k=0, top_p=0.95, seed=0)


@pytest.mark.parametrize("wrong", [{"temperature": -1}, {"top_k": -1}, {"top_p": 0}, {"top_p": 1.5}])
def test_settings_that_mean_nothing_are_refused(wrong: dict[str, Any]):
    with pytest.raises(ValueError, match="top-p"):
        SamplingConfig(**wrong)


def test_draws_follow_the_probabilities_and_depend_on_seed_and_place_alone():
    chances = torch.tensor([0.0, 0.7, 0.3])
    found = [sample_token(chances, seed, 5) for seed in range(400)]
    assert found == [sample_token(chances, seed, 5) for seed in range(400)]
    assert 0.6 < found.count(1) / 400 < 0.8
    assert found.count(0) == 0
    assert (
        len({tuple(sample_token(torch.full((50,), 0.02), seed, place) for place in range(5)) for seed in range(20)})
        == 20
    )


def test_seed_and_place_are_no_one_number():
    """Else the text of one seed would be that of the next, a piece later; and no seed is too large."""
    chances = torch.full((10_000,), 1e-4)
    assert len({sample_token(chances, seed, 10 - seed) for seed in range(5)}) == 5
    assert len({sample_token(chances, 0, place) for place in range(600)}) > 550
    assert len({sample_token(chances, seed, 0) for seed in range(600)}) > 550
    assert sample_token(chances, 2**70, 1) != sample_token(chances, 2**70, 2)


def test_the_same_beginning_settings_and_seed_give_the_same_text(model: TextModel):
    ids = model.prepare("Once upon a time").inputs["main"].tolist()
    settings = SamplingConfig(seed=3)
    once = [step.id for step in itertools.islice(steps(model, ids, settings), 12)]
    again = [step.id for step in itertools.islice(steps(model, ids, settings), 12)]
    on = [step.id for step in itertools.islice(steps(model, [*ids, *once[:5]], settings), 7)]
    assert once == again
    assert once[5:] == on
    assert once != [step.id for step in itertools.islice(steps(model, ids, SamplingConfig(seed=4)), 12)]
    first = words(model, ids, settings, 1)
    assert words(model, ids, settings, 4) == [*first, *words(model, [*ids, *first], settings, 3)]


def test_steps_say_what_was_expected_and_what_was_left(model: TextModel):
    ids = model.prepare("The dog").inputs["main"].tolist()
    step = next(steps(model, ids, SamplingConfig(top_k=5, top_p=1.0)))
    logits = model.network(torch.tensor(ids)).logits["word"][-1]
    torch.testing.assert_close(step.probabilities, next_token_probabilities(logits), atol=1e-6, rtol=1e-4)
    assert (step.filtered > 0).sum() == 5
    assert step.filtered[step.id] > 0
    assert step.id == sample_token(step.filtered, 0, len(ids))
    assert step.probabilities.dtype == torch.float64  # so that rounding decides no draw
    assert step.probabilities.sum() == pytest.approx(1)
    assert step.filtered.sum() == pytest.approx(1)
    assert step.probabilities[[id for id in range(len(SPECIAL)) if id != EOS]].sum() == 0


def test_writing_stops_at_the_end_of_a_text_and_of_the_context(model: TextModel):
    ids = [BOS, *model.tokenizer.ids("The dog")]
    assert len(ids) + len(list(steps(model, ids, SamplingConfig()))) == SHAPE.context_length
    assert list(steps(model, some_ids(SHAPE.context_length).tolist(), SamplingConfig())) == []
    assert list(steps(model, [*ids, EOS], SamplingConfig())) == []
    ends = opened(1)
    ends.network.pieces.bias.data[EOS] = 50
    assert [step.id for step in steps(ends, ids, SamplingConfig())] == [EOS]


def test_a_word_ends_before_the_next_one_begins(model: TextModel):
    ids = [BOS, *model.tokenizer.ids("The dog")]
    for count in (1, 3, 10):
        found = words(model, ids, SamplingConfig(seed=count), count)
        starts = [model.tokenizer.bytes_of(id).startswith(b" ") for id in found if id != EOS]
        assert sum(starts[1:]) + 1 == count
    assert not model.tokenizer.begins_word(EOS)  # it ends the text, and with it a word
    assert [model.tokenizer.begins_word(model.tokenizer.ids(text)[-1]) for text in ("a dog", "dog,")] == [True, False]


@pytest.mark.parametrize("text", ["é", "👩‍🚀", "犬", "שלום"])
def test_bytes_that_are_no_whole_character_yet_show_nothing(model: TextModel, text: str):
    ids = model.tokenizer.ids(text)
    shown = [model.tokenizer.decode(ids[:count]) for count in range(len(ids) + 1)]
    assert shown[-1] == text
    assert not any("\ufffd" in part for part in shown)
    sample = model.prepare("A")
    for count in range(len(ids) + 1):
        assert "\ufffd" not in "".join(continued(model, sample, ids[:count]).tokens["main"].labels)


def test_a_decoder_takes_the_sign_of_a_hidden_word_for_letters(model: TextModel):
    text = "She poured [MASK] into"
    assert MASK in [piece.id for piece in model.tokenizer.encode(text)]
    ids = model.prepare(text).inputs["main"].tolist()
    assert MASK not in ids
    assert model.tokenizer.decode(ids) == text


def test_no_piece_of_the_vocabulary_is_called_by_something_unseen(model: TextModel):
    labels = continued(model, model.prepare(""), range(len(model.tokenizer))).tokens["main"].labels
    assert all(label and "\ufffd" not in label for label in labels)
    assert not any(unicodedata.category(sign) == "Cc" for label in labels for sign in label)


def test_a_text_written_on_reads_as_if_it_had_been_typed(model: TextModel):
    text = "The little dog was running home, and the extraordinary cat wasn't."
    whole = model.prepare(text)
    for cut in range(len(whole.inputs["main"]) - 1):
        begin = model.prepare(model.tokenizer.decode(whole.inputs["main"][: cut + 1].tolist()))
        if len(begin.inputs["main"]) != cut + 1:
            continue  # cut inside a word, the beginning falls into other pieces
        on = continued(model, begin, whole.inputs["main"][cut + 1 :].tolist())
        assert torch.equal(on.inputs["main"], whole.inputs["main"])
        assert on.tokens["main"].labels == whole.tokens["main"].labels
        assert on.tokens["main"].words == whole.tokens["main"].words
        assert on.digest != begin.digest
