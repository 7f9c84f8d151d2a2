"""Agreement of maps with masks, and means of scores: by hand, against loops, and against faults of other code."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from attnviz.measures.intervals import paired, summarise
from attnviz.measures.localisation import mask_of_parts, mass, pointing, quarter, rank_accuracy

RELEVANCE = torch.tensor([[0.5, 0.1, 0.4], [0.0, 0.6, -0.2]])


def test_scores_by_hand() -> None:
    mask = torch.tensor([True, False, True])
    assert pointing(RELEVANCE, mask).tolist() == [1, 0]
    assert mass(RELEVANCE, mask).tolist() == pytest.approx([0.9, 0])  # negative relevance is none
    assert rank_accuracy(RELEVANCE, mask).tolist() == pytest.approx([1, 0.5])
    assert rank_accuracy(RELEVANCE, torch.tensor([False, True, False])).tolist() == [0, 1]


def test_an_empty_mask_is_no_hit() -> None:
    """Written into an array of bool, not a number counts as a hit (Quantus 0.6)."""
    empty = torch.zeros(3, dtype=torch.bool)
    for score in (pointing, mass, rank_accuracy):
        values = score(RELEVANCE, empty)
        assert values.isnan().all()
        found = summarise(torch.cat([values, torch.ones(2)]).numpy())
        assert (found.mean, found.scored, found.excluded) == (1.0, 2, 2)
    assert math.isnan(summarise(np.full(3, np.nan)).mean)


def test_a_single_input_has_no_interval() -> None:
    """Its bootstrap would have no width, and look certain."""
    found = summarise(np.array([0.3, np.nan]))
    assert (found.mean, found.scored, found.excluded) == (0.3, 1, 1)
    assert math.isnan(found.low)
    assert math.isnan(found.high)


def test_a_flat_map_points_at_chance() -> None:
    """Ties are broken by the seed: the first place is not favoured, wherever the mask lies."""
    flat, first = torch.zeros(100), torch.arange(100) < 10
    hits = [float(pointing(flat, first, seed)) for seed in range(400)]
    assert np.mean(hits) == pytest.approx(0.1, abs=0.05)
    assert float(mass(flat, first)) == 0


def test_scores_equal_loops(random: torch.Generator) -> None:
    maps = torch.randn(5, 30, generator=random, dtype=torch.float64)
    masks = torch.rand(5, 30, generator=random) < 0.3
    for relevance, mask, hit, inside, top in zip(
        maps, masks, pointing(maps, masks), mass(maps, masks), rank_accuracy(maps, masks), strict=True
    ):
        chosen = [i for i in range(30) if mask[i]]
        order = sorted(range(30), key=lambda i: -float(relevance[i]))
        assert float(hit) == float(order[0] in chosen)
        positive = [max(float(v), 0.0) for v in relevance]
        assert float(inside) == pytest.approx(sum(positive[i] for i in chosen) / sum(positive), abs=1e-12)
        assert float(top) == pytest.approx(len(set(order[: len(chosen)]) & set(chosen)) / len(chosen))


def test_masks_of_patches_and_quarters() -> None:
    mask = torch.zeros(8, 12, dtype=torch.bool)
    mask[3, 4] = True  # patch of row 0, column 1 of 2 x 3
    assert mask_of_parts(mask, 4).tolist() == [False, True, False, False, False, False]
    mask[4, 11] = True
    assert mask_of_parts(mask, 4).tolist() == [False, True, False, False, False, True]
    cells = quarter(mask)
    assert cells[:4, :6].all()
    assert cells[4:, 6:].all()
    assert int(cells.sum()) == 48
    with pytest.raises(ValueError, match="divide"):
        mask_of_parts(mask, 5)


def test_grid_pointing_by_hand() -> None:
    """A quarter with 3 of 4 units of relevance scores 0.75, however little of it lies on the object."""
    mask = torch.zeros(4, 4, dtype=torch.bool)
    mask[0, 0] = True
    relevance = torch.zeros(4, 4)
    relevance[1, 1], relevance[3, 3] = 3, 1
    assert float(mass(relevance.flatten(), mask_of_parts(quarter(mask), 1))) == 0.75


def test_intervals_hold_the_mean_as_often_as_they_say() -> None:
    """Of 300 samples of 150 numbers about 95 % of the intervals hold the true mean; pairing narrows them."""
    random = np.random.default_rng(0)
    found = [summarise(random.normal(1, 1, 150)) for _ in range(300)]
    assert np.mean([one.low <= 1 <= one.high for one in found]) == pytest.approx(0.95, abs=0.04)
    hard = random.normal(0, 1, 300)
    better = paired(hard + 0.1 + random.normal(0, 0.05, 300), hard)
    alone = summarise(hard)
    assert better.low > 0
    assert better.high - better.low < (alone.high - alone.low) / 5
    with pytest.raises(ValueError, match="paired"):
        paired(hard, hard[:4])


def test_means_are_of_inputs_and_not_of_batches() -> None:
    values = np.array([0.0, 0.0, 0.0, 1.0, np.nan])
    assert summarise(values).mean == 0.25
    assert summarise(values) == summarise(values)  # the bootstrap has a seed
