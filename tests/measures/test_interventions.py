"""Effects of heads, patching and the lens: against loops of single passes and against the formulas, by hand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor

import attnviz
from attnviz.edits import Edit, PatchedResiduals
from attnviz.interventions import ablate, head_means
from attnviz.measures.interventions import (
    answer_of,
    crossing,
    greedy_heads,
    head_effects,
    lens,
    margins,
    pair_effect,
    same_length,
    token_logits,
)
from attnviz.types import Model, NoTokenMap, Sample, Target, Trace
from tests.foreign import foreign_models
from tests.test_interventions import picture_model


@dataclass(frozen=True, eq=False)
class Case:
    """A model with two inputs of equal length whose answers differ."""

    model: Model
    sample: Sample
    other: Sample


def both(model: Model, raw: Sequence[Any]) -> Case:
    """A model with two inputs made ready for it."""
    return Case(model, *(model.prepare(one) for one in raw))


def case(name: str) -> Case:
    """A small network for pictures (read from CLS or the mean), the encoder or the decoder of the app."""
    if name in ("cls", "mean"):
        model = picture_model(pooling=name)
        raw = [Image.radial_gradient("L").convert("RGB"), Image.new("RGB", (32, 32), "white")]
        between = torch.stack([model(model.prepare(one)).logits["class"][0] for one in raw]).mean(0)
        model.network.classify.bias.data[0] += between[1] - between[0]  # now one answers 1 and the other 0
    else:
        model = attnviz.load(name)
        raw = {
            "sentences": ["The film is a joy to watch.", "The film is a pain to watch."],
            "stories": ["The boys in the garden", "The boy in the garden"],
        }[name]
    return both(model, raw)


KINDS = pytest.mark.parametrize("name", ["cls", "mean", "sentences", "stories"])


def answers_row(model: Model, trace: Trace) -> Tensor:
    """The row that answers for the whole input, written out for each kind."""
    if "sentiment" in trace.logits:
        return trace.logits["sentiment"][0]
    return trace.logits["word"][-1] if "word" in trace.logits else trace.logits["class"][0]


def heads_of(model: Model) -> list[tuple[int, int]]:
    return [(layer, head) for layer in range(model.spec.layers) for head in range(model.spec.heads)]


@KINDS
@pytest.mark.parametrize("mean", [False, True])
def test_effects_are_those_of_one_head_after_the_other(name: str, mean: bool) -> None:
    one = case(name)
    model, sample = one.model, one.sample
    means = head_means(model, [sample, one.other]) if mean else None
    found = head_effects(model, sample, means=means, batch=7)
    clean = answers_row(model, model(sample)).float()
    label = int(clean.argmax())
    for layer, head in heads_of(model):
        changed = answers_row(model, model(sample, edit=ablate(model, [(layer, head)], means=means))).float()
        logit = changed[label] - clean[label]
        share = changed.exp()[label] / changed.exp().sum() - clean.exp()[label] / clean.exp().sum()
        torch.testing.assert_close(found.logit[layer, head], logit, atol=2e-5, rtol=1e-4)
        torch.testing.assert_close(found.probability[layer, head], share, atol=2e-5, rtol=1e-4)
    assert found.logit.abs().max() > 1e-3


def test_an_effect_is_of_the_label_that_is_named() -> None:
    one = case("cls")
    effects = [head_effects(one.model, one.sample, Target("class", 0, label)).logit for label in range(5)]
    assert not torch.allclose(effects[0], effects[1])
    torch.testing.assert_close(
        head_effects(one.model, one.sample).logit, effects[answer_of(one.model(one.sample)).label]
    )


@KINDS
def test_a_pair_is_three_passes(name: str) -> None:
    one = case(name)
    model, sample = one.model, one.sample
    first, second = (0, 1), (1, 2)
    found = pair_effect(model, sample, (first, second))
    clean = answers_row(model, model(sample)).float()
    label = int(clean.argmax())
    passes = [
        answers_row(model, model(sample, edit=ablate(model, heads))) for heads in ([first], [second], [first, second])
    ]
    by_hand = [float(one.float()[label] - clean[label]) for one in passes]
    assert [found.first, found.second, found.both] == pytest.approx(by_hand, abs=2e-5)
    assert found.interaction == pytest.approx(by_hand[2] - by_hand[0] - by_hand[1], abs=4e-5)


def test_heads_of_the_last_layer_add_up_before_the_norm_only() -> None:
    """The interaction is no artefact: with the MLP and the norm between, two heads do not add up."""
    one = case("cls")
    assert abs(pair_effect(one.model, one.sample, ((2, 0), (2, 1))).interaction) > 1e-6


@KINDS
def test_a_greedy_search_is_the_best_head_again_and_again(name: str) -> None:
    one = case(name)
    model, sample = one.model, one.sample
    found = greedy_heads(model, sample, most=3, batch=5)
    clean = answers_row(model, model(sample)).float()
    label = int(clean.argmax())
    gone: list[tuple[int, int]] = []

    def margin(heads: list[tuple[int, int]]) -> float:
        logits = answers_row(model, model(sample, edit=ablate(model, heads)) if heads else model(sample)).float()
        return float(logits[label] - torch.cat([logits[:label], logits[label + 1 :]]).max())

    for step in found.steps:
        assert margin(gone) >= 0, "it went on after the answer had changed"
        costs = {head: margin([*gone, head]) for head in heads_of(model) if head not in gone}
        assert costs[step.head] == pytest.approx(min(costs.values()), abs=2e-5)
        assert step.margin == pytest.approx(costs[step.head], abs=2e-5)
        gone.append(step.head)
        torch.testing.assert_close(
            step.logits, answers_row(model, model(sample, edit=ablate(model, gone))).float(), atol=1e-4, rtol=1e-4
        )
    assert found.changed == (margin(gone) < 0)
    assert (
        found.changed or len(found.steps) == 3 or min(margin([*gone, head]) for head in heads_of(model)) >= margin(gone)
    )


def test_a_search_that_finds_nothing_says_so() -> None:
    one = case("sentences")
    found = greedy_heads(one.model, one.sample, most=1)
    assert len(found.steps) == 1
    assert not found.changed
    assert found.steps[0].logits.argmax() == answer_of(one.model(one.sample)).label


def test_a_margin_is_over_the_largest_other_logit() -> None:
    logits = torch.tensor([[3.0, 1.0, 2.5], [3.0, 4.0, 0.0]])
    assert margins(logits, 0).tolist() == [0.5, -1.0]
    assert margins(logits, 2).tolist() == [-0.5, -4.0]


@KINDS
def test_crossing_is_the_formula_of_single_passes(name: str) -> None:
    one = case(name)
    model, sample, donor = one.model, one.sample, one.model(one.other)
    found = crossing(model, sample, donor, batch=9)
    clean, other = (answers_row(model, trace).float() for trace in (model(sample), donor))
    own, theirs = int(clean.argmax()), int(other.argmax())
    assert (found.own, found.other) == (own, theirs)
    values = torch.stack(donor.residuals["main"])
    depths, count = values.shape[:2]
    for depth in (0, 1, depths - 1):
        for token in (0, count // 2, count - 1):
            where = torch.zeros(depths, count, dtype=torch.bool)
            where[depth, token] = True
            logits = answers_row(model, model(sample, edit=Edit(residuals=PatchedResiduals(values, where)))).float()
            before, after = (float(x[theirs] - x[own]) for x in (clean, other))
            share = (float(logits[theirs] - logits[own]) - before) / (after - before)
            assert float(found.share[depth, token]) == pytest.approx(share, abs=1e-4)


@KINDS
def test_all_tokens_patched_cross_over_whole_and_none_of_its_own_at_all(name: str) -> None:
    one = case(name)
    everyone = [range(len(one.sample.tokens["main"]))]
    whole = crossing(one.model, one.sample, one.model(one.other), groups=everyone)
    torch.testing.assert_close(whole.share, torch.ones_like(whole.share), atol=1e-4, rtol=0)
    trace = one.model(one.sample)
    own = {name: x for name, x in one.model(one.other).logits.items()}
    mixed = Trace(**{**vars(trace), "sample": None, "logits": own})  # its own residuals, beside the other's answer
    none = crossing(one.model, one.sample, mixed)
    torch.testing.assert_close(none.share, torch.zeros_like(none.share), atol=1e-4, rtol=0)


def test_groups_are_patched_together() -> None:
    one = case("cls")
    donor = one.model(one.other)
    found = crossing(one.model, one.sample, donor, groups=[[0], [2, 3, 4]])
    values, where = torch.stack(donor.residuals["main"]), torch.zeros(4, 18, dtype=torch.bool)
    where[1, 2:5] = True
    logits = one.model(one.sample, edit=Edit(residuals=PatchedResiduals(values, where))).logits["class"][0]
    torch.testing.assert_close(found.logits[1, 1], logits.float(), atol=1e-5, rtol=1e-5)
    assert found.share.shape == (4, 2)


def test_what_cannot_be_compared_is_said() -> None:
    one = case("stories")
    longer = one.model(one.model.prepare("The boys in the large garden"))
    assert not same_length(one.sample, longer)
    with pytest.raises(ValueError, match="7 tokens and this one 6"):
        crossing(one.model, one.sample, longer)
    with pytest.raises(ValueError, match="same answer"):
        crossing(one.model, one.sample, one.model(one.sample))
    with pytest.raises(ValueError, match="a pair is two heads"):
        pair_effect(one.model, one.sample, ((0, 1), (0, 1)))
    with pytest.raises(ValueError, match="the output 'class'; this network has word"):
        head_effects(one.model, one.sample, Target("class"))
    with pytest.raises(ValueError, match="row 99"):
        head_effects(one.model, one.sample, Target("word", 99))
    with pytest.raises(ValueError, match="label -1"):
        head_effects(one.model, one.sample, Target("word", 0, -1))
    bare = foreign_models()["foreign-encoder"].model
    with pytest.raises(NoTokenMap, match="no output"):
        head_effects(bare, bare.prepare("the old man"))


@pytest.mark.parametrize("name", ["cls", "mean"])
def test_the_lens_of_a_picture_is_norm_and_classifier_of_each_token(name: str) -> None:
    """By the formula: classify(norm(x)) of one vector, whatever the network pools from."""
    one = case(name)
    trace = one.model(one.sample)
    found = lens(one.model, trace, best=5, batch=4)
    network = one.model.network  # type: ignore[attr-defined]
    for depth, residual in enumerate(trace.residuals["main"]):
        by_hand = network.classify(network.norm(residual)).float()
        torch.testing.assert_close(token_logits(one.model, residual, 4), by_hand)
        top = by_hand.softmax(-1).sort(descending=True)
        assert (found.labels[depth] == top.indices).all()
        torch.testing.assert_close(found.probabilities[depth], top.values)
    assert found.output == "class"


def test_the_lens_at_the_answering_token_is_the_answer() -> None:
    one = case("cls")
    trace = one.model(one.sample)
    assert lens(one.model, trace).labels[-1, 0, 0] == trace.logits["class"][0].argmax()
    pooled = case("mean")
    trace = pooled.model(pooled.sample)
    mean = trace.residuals["main"][-1][2:].mean(0)  # not what any single token says: the norm comes before the mean
    assert not torch.allclose(token_logits(pooled.model, mean[None].expand(18, -1)), trace.logits["class"].float())


@pytest.mark.parametrize("name", ["stories", "sentences"])
def test_the_lens_of_a_text_ends_in_its_own_answers(name: str) -> None:
    one = case(name)
    trace = one.model(one.sample)
    found = lens(one.model, trace)
    own = trace.logits["word"].float().softmax(-1).topk(5)
    assert found.output == "word"
    assert (found.labels[-1] == own.indices).all()
    torch.testing.assert_close(found.probabilities[-1], own.values)
    assert (found.labels[0] != found.labels[-1]).any()


def test_the_lens_reads_a_foreign_decoder_and_refuses_a_bare_encoder() -> None:
    model = foreign_models()["foreign-decoder"].model
    table = model.input_embeddings
    assert table is not None
    sample = model.prepare("The old man was not at home")
    found = lens(model, model(sample))
    by_hand = torch.stack([residual @ table.T for residual in model(sample).residuals["main"]])
    assert (found.labels[..., 0] == by_hand.argmax(-1)).all()
    reader = attnviz.load("text-bench/mha")
    with pytest.raises(ValueError, match="no output that can be read"):
        lens(reader, reader(reader.prepare("A fine film.")))


def test_progress_ends_at_one() -> None:
    one = case("cls")
    for run in (
        lambda told: head_effects(one.model, one.sample, progress=told),
        lambda told: crossing(one.model, one.sample, one.model(one.other), progress=told),
        lambda told: lens(one.model, one.model(one.sample), batch=5, progress=told),
    ):
        told: list[float] = []
        run(told.append)
        assert told == sorted(told)
        assert told[-1] == 1
