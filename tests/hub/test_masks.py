"""Masks of others reduced to the smallest that says the same, held against every pair."""

from __future__ import annotations

import pytest
import torch

from attnviz.hub.masks import ReducedMask, reduced, smallest, split
from attnviz.hub.windows import windows_of
from attnviz.types import Mask

COUNT = 300  # more than one block of rows
PADDING = torch.arange(COUNT) < 250
KEEP = torch.rand(1, COUNT, COUNT, generator=torch.Generator().manual_seed(0)) > 0.3
GROUPS = torch.arange(COUNT) // 70
CASES = {
    "causal": Mask(causal=True),
    "band": Mask(band=5),
    "causal band": Mask(causal=True, band=5),
    "padding": Mask(key_padding=PADDING),
    "causal padding": Mask(causal=True, key_padding=PADDING),
    "causal band padding": Mask(causal=True, band=5, key_padding=PADDING),
    "groups": Mask(groups=(GROUPS, GROUPS)),
    "causal groups": Mask(causal=True, groups=(GROUPS, GROUPS)),
    "keep": Mask(keep=KEEP),
}


def pairs(mask: Mask, queries: int = COUNT) -> torch.Tensor:
    """Every pair [1 1 query key]."""
    found = mask.rows([0], list(range(queries)), queries, COUNT)
    return found.reshape(1, 1, queries, COUNT)


@pytest.mark.parametrize("name", CASES)
def test_a_mask_is_reduced_to_itself(name: str) -> None:
    mask = CASES[name]
    found = reduced(pairs(mask))
    assert found is not None
    assert found.kinds == mask.kinds
    assert torch.equal(pairs(found), pairs(mask))
    assert found.band == mask.band


def test_no_pair_closed_is_no_mask() -> None:
    assert reduced(torch.ones(1, 1, COUNT, COUNT, dtype=torch.bool)) is None


def test_fewer_queries_than_keys() -> None:
    found = reduced(pairs(Mask(causal=True), 40))
    assert found is not None
    assert found.kinds == {"causal"}
    one = reduced(torch.ones(1, 1, 1, COUNT, dtype=torch.bool))
    assert one is None


def test_one_wrong_pair_is_seen() -> None:
    wrong = pairs(Mask(causal=True)).clone()
    wrong[0, 0, 200, 100] = False
    found = reduced(wrong)
    assert found is not None
    assert torch.equal(pairs(found), wrong)


def test_each_item_of_a_batch_has_its_padding() -> None:
    padding = torch.stack([PADDING, torch.arange(COUNT) < 100])
    found = reduced(padding[:, None, None].expand(2, 1, COUNT, COUNT))
    assert found is not None
    assert found.kinds == {"key_padding"}
    assert torch.equal(found.key_padding, padding)  # type: ignore[arg-type]


def test_only_blocks_of_rows_are_asked_for() -> None:
    asked: list[int] = []

    def rows(start: int, stop: int) -> torch.Tensor:
        asked.append(stop - start)
        return pairs(Mask(causal=True))[:, :, start:stop]

    assert smallest(rows, COUNT, COUNT) is not None
    assert max(asked) <= 128


def test_numbers_fall_apart_into_a_mask_and_a_bias() -> None:
    bias = torch.randn(1, 4, COUNT, COUNT, generator=torch.Generator().manual_seed(0))
    added = bias.masked_fill(~pairs(Mask(causal=True)), torch.finfo(torch.float32).min)
    mask, rest = split(added)
    assert mask is not None
    assert mask.kinds == {"causal"}
    assert rest is not None
    assert torch.equal(rest, bias.masked_fill(~pairs(mask), 0))
    assert split(torch.zeros(1, 1, COUNT, COUNT)) == (None, None)


def test_a_reduced_mask_becomes_its_pairs_where_somebody_computes_with_it() -> None:
    whole = pairs(Mask(causal=True))
    carried = ReducedMask(Mask(causal=True), lambda start, stop: whole[:, :, start:stop], (1, COUNT, COUNT), "cpu")
    assert carried.shape == whole.shape
    assert carried.dtype == torch.bool
    assert torch.equal(~carried, ~whole)
    assert torch.equal(carried[..., :7], whole[..., :7])
    assert torch.equal(torch.where(carried, 1.0, 2.0), torch.where(whole, 1.0, 2.0))


def test_windows_and_back() -> None:
    windows = windows_of((4, 6), 2, 1, torch.device("cpu"))
    tensor = torch.arange(2 * 3 * 24 * 5).reshape(2, 3, 24, 5).float()
    assert torch.equal(windows.to_raster(windows.to_windows(tensor)), tensor)
    assert windows.order[0].tolist() == [7, 8, 13, 14]  # rolled by one row and one column
