"""The tokens that hold a share of a map: enough, and no set of fewer; numbers on paper; signs, ties, special tokens."""

from __future__ import annotations

from itertools import combinations

import pytest
import torch

from attnviz.measures.mass import mass_mask


def test_on_paper():
    row = torch.tensor([0.1, 0.5, 0.05, 0.35])
    assert mass_mask(row, 0.6).tolist() == [False, True, False, True]
    assert mass_mask(row, 0.5).tolist() == [False, True, False, False]
    assert mass_mask(row, 0.0).tolist() == [False] * 4
    assert mass_mask(row, 1.0).tolist() == [True] * 4
    assert mass_mask(torch.tensor([0.5, 0.0, 0.5]), 1.0).tolist() == [True, False, True]
    assert not mass_mask(torch.zeros(3), 0.6).any()


@pytest.mark.parametrize("share", [0.1, 0.37, 0.6, 0.95])
@pytest.mark.parametrize("signed", [False, True])
def test_enough_and_no_set_of_fewer(share: float, signed: bool):
    """By trying every set of ten tokens."""
    maps = torch.randn(6, 10, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    maps = maps if signed else maps.abs()
    for row, kept in zip(maps, mass_mask(maps, share), strict=True):
        mass = row.abs()
        needed = share * float(mass.sum())
        assert float(mass[kept].sum()) >= needed
        count = int(kept.sum())
        assert count == min(
            size for size in range(11) if any(sum(some) >= needed for some in combinations(mass.tolist(), size))
        )
        assert torch.equal(mass[kept].sort().values, mass.sort().values[10 - count :])


def test_a_signed_map_keeps_both_signs():
    assert mass_mask(torch.tensor([0.1, -0.6, 0.3]), 0.9).tolist() == [False, True, True]


def test_the_first_of_equal_tokens_is_taken_first():
    assert mass_mask(torch.ones(5), 0.6).tolist() == [True, True, True, False, False]
    assert mass_mask(torch.full((5,), 0.1), 0.6).tolist() == [True, True, True, False, False]


def test_special_tokens_do_not_count():
    special = torch.tensor([True, False, False])
    assert mass_mask(torch.tensor([0.9, 0.06, 0.04]), 0.6, special).tolist() == [False, True, False]


def test_a_share_is_between_0_and_1():
    for share in (-0.1, 1.1):
        with pytest.raises(ValueError, match="expected 0 to 1"):
            mass_mask(torch.ones(2), share)
