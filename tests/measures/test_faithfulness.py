"""Scores of maps: by hand on three parts, against loops in float64, and against the faults of other code."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.stats import spearmanr
from torch import Tensor, nn

import attnviz
from attnviz.edits import Edit
from attnviz.measures.faithfulness import (
    Perturbation,
    area,
    blur_fill,
    by_part,
    completeness_error,
    curve,
    filling,
    kept_after,
    mean_fill,
    order_of,
    parts_of,
    rank_correlation,
    rationale,
    removal,
    removal_areas,
    saco,
    single_deletion,
    single_drops,
)
from attnviz.measures.randomisation import cascade_correlation
from attnviz.types import Target, Tokens

WEIGHTS = torch.tensor([3.0, 1.0, 2.0], dtype=torch.float64)  # of each part for class 0, in an additive model


def additive(weights: Tensor = WEIGHTS, label: int = 0) -> Perturbation:
    """A model whose logit of class 0 is the sum of the weights of what is left, and that of class 1 always 0."""

    def logits(keep: Tensor) -> Tensor:
        total = keep.to(weights) @ weights
        return torch.stack([total, torch.zeros_like(total)], -1)

    return Perturbation(logits, torch.arange(len(weights)), label)


def interacting(count: int, random: torch.Generator) -> Perturbation:
    """A model of random pairwise interactions and three classes."""
    pairs = torch.randn(3, count, count, generator=random, dtype=torch.float64)
    return Perturbation(lambda keep: torch.einsum("ei,cij,ej->ec", *(keep.double(), pairs, keep.double())),
                        torch.arange(count), 1)  # fmt: skip


def test_curves_by_hand() -> None:
    """Weights 3, 1, 2 in the right order: logits 6, 3, 1, 0 at 0, 1/3, 2/3 and all removed; the reverse 6, 5, 3, 0."""
    found = curve(additive(), torch.tensor([[0, 2, 1], [1, 2, 0]]), steps=3)
    assert found.removed.tolist() == pytest.approx([0, 1 / 3, 2 / 3, 1])
    assert found.logit.tolist() == [[6, 3, 1, 0], [6, 5, 3, 0]]
    areas = removal_areas(additive(), WEIGHTS, steps=3)["logit"]
    assert float(areas.deletion) == pytest.approx((4.5 + 2 + 0.5) / 3)
    assert float(areas.insertion) == pytest.approx((5.5 + 4 + 1.5) / 3)
    assert float(areas.abpc) == pytest.approx(4 / 3)
    assert found.probability[0].tolist() == pytest.approx([1 / (1 + math.exp(-x)) for x in (6, 3, 1, 0)])


def test_the_area_counts_the_clean_point_and_no_factor() -> None:
    """Values 1, 0, 0 are 0.25. Without the clean point it would be 0, and with dx = 1 it would be 0.5."""
    values, removed = torch.tensor([1.0, 0, 0]), torch.tensor([0, 0.5, 1])
    assert float(area(removed, values)) == 0.25
    assert float((values.sum() - (values[0] + values[-1]) / 2) / 2) == 0.25  # the form of RISE
    with pytest.raises(ValueError, match="expected 0 to 1"):
        area(removed[1:], values[1:])


def test_the_class_that_is_watched_stays_fixed() -> None:
    """Class 1 is unlikely at first and has the maximum in the end; the curve of class 0 does not follow that."""
    found = curve(additive(WEIGHTS - 2, label=0), torch.tensor([0, 2, 1]), steps=3)
    assert found.logit.tolist() == [0, -1, -1, 0]
    assert found.probability[1] < 0.5


def test_areas_equal_a_loop(random: torch.Generator) -> None:
    model, maps = interacting(11, random), torch.randn(4, 11, generator=random, dtype=torch.float64)
    found = removal_areas(model, maps, steps=5)
    for index, relevance in enumerate(maps):
        best = sorted(range(11), key=lambda part: -float(relevance[part]))
        for name, order in (("deletion", best), ("insertion", best[::-1])):
            points = []
            for step in range(6):
                keep = torch.ones(1, 11, dtype=torch.bool)
                for part in order[: round(step * 11 / 5)]:
                    keep[0, part] = False
                logits = model.logits(keep)[0]
                points.append((round(step * 11 / 5) / 11, float(logits.softmax(0)[1])))
            total = sum((x2 - x1) * (y1 + y2) / 2 for (x1, y1), (x2, y2) in itertools.pairwise(points))
            assert float(getattr(found["probability"], name)[index]) == pytest.approx(total, abs=1e-12)


def test_insertion_is_least_relevant_first_mirrored(random: torch.Generator) -> None:
    """Putting parts in, the most relevant first, visits the same inputs as removing the least relevant first."""
    model, relevance = interacting(6, random), torch.randn(6, generator=random)
    order = order_of(relevance)
    removed = curve(model, order.flip(-1), 6).logit
    inserted = [float(model.logits(~kept_after(order, [k]))[0, 1]) for k in range(7)]
    torch.testing.assert_close(removed.flip(-1), torch.tensor(inserted, dtype=torch.float64))


def test_ties_are_broken_by_a_seed_and_not_by_place() -> None:
    flat = torch.zeros(2, 40)
    first, again = order_of(flat)
    assert torch.equal(first, again)
    assert not torch.equal(first, torch.arange(40))
    assert sorted(first.tolist()) == list(range(40))
    assert not torch.equal(first, order_of(flat, seed=1)[0])
    assert order_of(torch.tensor([0.0, 2, 1])).tolist() == [1, 2, 0]


def test_single_deletion_by_hand() -> None:
    """An additive model: the drop of each part is its weight, so its own weights correlate by 1."""
    drops = single_drops(additive())
    assert drops.tolist() == WEIGHTS.tolist()
    assert float(single_deletion(torch.tensor([9.0, 0, 5]), drops)) == pytest.approx(1)
    assert float(single_deletion(-WEIGHTS, drops)) == pytest.approx(-1)
    assert float(single_deletion(torch.tensor([1.0, 2, 3]), drops)) == pytest.approx(-0.5)
    assert single_deletion(torch.ones(3), drops).isnan()


def test_rank_correlation_is_that_of_scipy(random: torch.Generator) -> None:
    first = torch.randint(5, (6, 30), generator=random).double()  # with ties
    second = torch.randint(9, (6, 30), generator=random).double()
    expected = [spearmanr(a, b).statistic for a, b in zip(first.numpy(), second.numpy(), strict=True)]
    np.testing.assert_allclose(rank_correlation(first, second).numpy(), expected, atol=1e-12, rtol=0)


def test_saco_by_hand() -> None:
    """Three groups of one part. The right map agrees in all pairs: 1; the reverse in none: -1.

    Relevance 3, 2, 1 for parts whose drops are d0 > d2 > d1: of the differences 1, 2, 1 only that of the parts 1 and 2
    is against the map: (1 + 2 - 1) / 4.
    """
    assert float(saco(additive(), WEIGHTS)) == pytest.approx(1)
    assert float(saco(additive(), -WEIGHTS)) == pytest.approx(-1)
    assert float(saco(additive(), torch.tensor([3.0, 2, 1]))) == pytest.approx(0.5)
    assert saco(additive(), torch.ones(3)).isnan()


def test_saco_equals_a_loop(random: torch.Generator) -> None:
    model, maps = interacting(12, random), torch.rand(3, 12, generator=random, dtype=torch.float64)
    found = saco(model, maps, groups=4)
    clean = float(model.logits(torch.ones(1, 12).bool())[0].softmax(0)[1])
    for index, relevance in enumerate(maps):
        order = np.argsort(-relevance.numpy(), kind="stable")
        groups = [order[i : i + 3] for i in range(0, 12, 3)]
        drops, salience = [], [float(relevance[g.tolist()].sum()) for g in groups]
        for group in groups:
            keep = torch.ones(1, 12, dtype=torch.bool)
            keep[0, group.tolist()] = False
            drops.append(clean - float(model.logits(keep)[0].softmax(0)[1]))
        score = total = 0.0
        for i, j in itertools.combinations(range(4), 2):
            weight = salience[i] - salience[j]
            score += weight if drops[i] >= drops[j] else -weight
            total += abs(weight)
        assert float(found[index]) == pytest.approx(score / total, abs=1e-12)


def test_sufficiency_and_comprehensiveness_by_hand() -> None:
    """One of three parts, the one of weight 3: s(6) - s(3) is lost without it, s(6) - s(3) with nothing but it."""
    sigmoid = [1 / (1 + math.exp(-x)) for x in range(7)]
    found = rationale(additive(), torch.stack([WEIGHTS, -WEIGHTS]), shares=(1 / 3,))
    assert found.comprehensiveness.tolist() == pytest.approx([sigmoid[6] - sigmoid[3], sigmoid[6] - sigmoid[5]])
    assert found.sufficiency.tolist() == pytest.approx([sigmoid[6] - sigmoid[3], sigmoid[6] - sigmoid[1]])
    several = rationale(additive(), WEIGHTS, shares=(0.01, 0.7))  # at least one part; two of three
    lost = [sigmoid[6] - sigmoid[3], sigmoid[6] - sigmoid[1]]
    assert float(several.comprehensiveness) == pytest.approx(sum(lost) / 2)


def test_completeness_error_by_hand() -> None:
    found = completeness_error(torch.tensor([[1.0, 2, 3], [1, 2, 1]]), torch.tensor([6.0, -2]))
    assert found.tolist() == [0, 3]


def test_parts_are_patches_or_whole_words() -> None:
    assert parts_of(Tokens.patches(1, 3, ["CLS", "REG"])).tolist() == [-1, -1, 0, 1, 2]
    text = Tokens(("<s>", "the", "dog", "…s", "</s>"), words=(-1, 4, 7, 7, -1))
    assert parts_of(text).tolist() == [-1, 0, 1, 1, -1]
    assert by_part(torch.tensor([9.0, 1, 2, 3, 9]), parts_of(text)).tolist() == [1, 5]


def test_removal_is_the_mask_of_the_model_and_keeps_the_prefix() -> None:
    model = attnviz.load("vit-digits")
    sample = model.prepare(Image.linear_gradient("L"))
    perturbation = removal(model, sample)
    assert perturbation.label == int(model(sample).logits["class"].argmax())
    keep = torch.rand(5, 16, generator=torch.Generator().manual_seed(0)) < 0.5
    kept = torch.cat([torch.ones(5, 1, dtype=torch.bool), keep], -1)
    for edit, row in enumerate(kept):
        expected = model(sample, edit=Edit(keep_tokens=row)).logits["class"][0]
        torch.testing.assert_close(perturbation.logits(keep)[edit], expected, atol=1e-5, rtol=0)
    assert removal(model, sample, Target("class", 0, 3)).label == 3


def test_fills_change_the_removed_patches_alone() -> None:
    model = attnviz.load("vit-digits")
    sample = model.prepare(Image.linear_gradient("L"))
    pixels = sample.inputs["main"]
    keep = torch.ones(1, 16, dtype=torch.bool)
    keep[0, 6] = False  # row 1, column 2 of 4 x 4 patches of 2 px
    filled = pixels.clone()
    filled[:, 2:4, 4:6] = 0
    found = filling(model, sample, mean_fill(pixels)).logits(keep)
    torch.testing.assert_close(found[0], model.network(filled).logits["class"][0], atol=1e-5, rtol=0)
    blurred = blur_fill(pixels, 1.5)
    assert blurred.shape == pixels.shape
    torch.testing.assert_close(blur_fill(torch.ones(3, 8, 8), 2.0), torch.ones(3, 8, 8))
    assert blurred.std() < pixels.std()
    text = attnviz.load("sentences")
    with pytest.raises(ValueError, match="attention mask"):
        filling(text, text.prepare("A fine film."), mean_fill(pixels))


def test_words_are_removed_whole() -> None:
    model = attnviz.load("sentences")
    sample = model.prepare("A wonderfully entertaining film.")
    target = Target("sentiment")
    perturbation = removal(model, sample, target)
    tokens = sample.tokens["main"]
    keep = torch.ones(1, perturbation.count, dtype=torch.bool)
    keep[0, 1] = False
    kept = torch.tensor([word != tokens.words[2] for word in tokens.words])
    assert perturbation.parts[2] == 1
    expected = model(sample, edit=Edit(keep_tokens=kept)).logits["sentiment"][-1]
    torch.testing.assert_close(perturbation.logits(keep)[0], expected, atol=1e-5, rtol=0)


def test_without_a_target_the_answer_about_the_whole_input_is_watched() -> None:
    """As methods do it, though the first output of this model is the word at every token."""
    model = attnviz.load("sentences")
    sample = model.prepare("A dull and lifeless film.")
    logits = model(sample).logits
    assert next(iter(logits)) == "word"
    perturbation = removal(model, sample)
    assert perturbation.label == int(logits["sentiment"].argmax())
    clean = perturbation.logits(torch.ones(1, int(perturbation.parts.max()) + 1, dtype=torch.bool))
    torch.testing.assert_close(clean, logits["sentiment"].float(), atol=1e-5, rtol=1e-5)


def test_maps_of_a_randomised_network_lose_their_order() -> None:
    """A map that reads the network falls; one that does not stays at 1, which is the fault the check is for."""
    generator = torch.Generator().manual_seed(0)
    layers = nn.ModuleList([nn.Linear(32, 32) for _ in range(3)])
    for layer in layers:
        nn.init.normal_(layer.weight, 0, 0.4, generator=generator)
    inputs = torch.randn(50, 32, generator=generator)

    def maps() -> Tensor:
        hidden = inputs
        for layer in layers:
            hidden = layer(hidden).tanh()
        return torch.stack([hidden.detach()[:, 0], inputs[:, 0]])

    found = cascade_correlation(maps, list(layers))
    assert found.shape == (4, 2)
    assert found[0].tolist() == pytest.approx([1, 1])
    assert (found[1:, 0].abs() < 0.6).all()
    assert found[:, 1].tolist() == pytest.approx([1] * 4)
