"""Masks by hand: True = may attend, and all given conditions must hold."""

from __future__ import annotations

import itertools
from dataclasses import fields, replace

import pytest
import torch

from attnviz.attention import Softmax
from attnviz.attention.rules.groups import pack_groups, packing_of
from attnviz.types import AttentionCall, Mask, Tokens

EVERY = list(range(4))
RANGES = [
    Mask(causal=True),
    Mask(band=1),
    Mask(band=2, causal=True),
    Mask(),
    Mask(band=0),
    Mask(band=1, global_tokens=2),
]


def picture(mask: Mask, queries: int = 4, keys: int = 4, heads: tuple[int, ...] = (0,)) -> list[str]:
    """The first head's rows as text: x may attend, . may not."""
    rows = mask.rows(list(heads), list(range(queries)), queries, keys)[0]
    return ["".join("x" if open_ else "." for open_ in row) for row in rows]


def test_causal_is_bottom_right_aligned() -> None:
    assert picture(Mask(causal=True)) == ["x...", "xx..", "xxx.", "xxxx"]
    assert picture(Mask(causal=True), queries=2) == ["xxx.", "xxxx"]
    assert picture(Mask(causal=True), queries=3, keys=2) == ["..", "x.", "xx"]


def test_band() -> None:
    assert picture(Mask(band=1)) == ["xx..", "xxx.", ".xxx", "..xx"]
    assert picture(Mask(band=1), queries=2) == [".xxx", "..xx"]
    assert picture(Mask(band=0)) == ["x...", ".x..", "..x.", "...x"]


def test_groups() -> None:
    ids = torch.tensor([0, 1, 0, 2])
    assert picture(Mask(groups=(ids, ids))) == ["x.x.", ".x..", "x.x.", "...x"]


def test_conditions_are_anded() -> None:
    keep = torch.ones(1, 4, 4, dtype=torch.bool)
    keep[0, 2, 1] = False
    mask = Mask(causal=True, key_padding=torch.tensor([False, True, True, True]), keep=keep)
    assert picture(mask) == ["....", ".x..", "..x.", ".xxx"]
    assert mask.kinds == {"causal", "key_padding", "keep"}


CONDITIONS = {
    "causal": Mask(causal=True),
    "narrow": Mask(band=1),
    "wide": Mask(band=2),
    "global tokens": Mask(band=1, global_tokens=1),
    "halves": Mask(groups=(torch.tensor([7, 7, -2, -2]), torch.tensor([7, 7, -2, -2]))),
    "parity": Mask(groups=(torch.tensor([0, 1, 0, 1]), torch.tensor([0, 1, 0, 1]))),
    "by head": Mask(groups=(torch.tensor([[0, 0, 1, 1], [0, 1, 1, 0]]), torch.tensor([[0, 0, 1, 1], [0, 1, 1, 0]]))),
    "keys": Mask(key_padding=torch.tensor([True, False, True, True])),
    "keys of a batch": Mask(key_padding=torch.tensor([[True, True, True, False], [False, True, True, True]])),
    "pairs": Mask(keep=torch.rand(1, 4, 4, generator=torch.Generator().manual_seed(1)) > 0.4),
    "pairs by head": Mask(keep=torch.rand(2, 2, 4, 4, generator=torch.Generator().manual_seed(2)) > 0.4),
}


@pytest.mark.parametrize(("one", "other"), [*itertools.combinations_with_replacement(CONDITIONS, 2)])
def test_two_masks_are_anded(one: str, other: str) -> None:
    """The combined mask allows what both allow: all pairs of conditions, in either order."""
    first, second = CONDITIONS[one], CONDITIONS[other]
    if "global tokens" in (one, other) and {"narrow", "wide"} & {one, other}:
        with pytest.raises(ValueError, match="two bands with"):
            first & second
        return
    expected = first.rows([0, 1], EVERY, 4, 4) & second.rows([0, 1], EVERY, 4, 4)
    for mask in (first & second, second & first):
        mask.check(2, 4, 4)
        assert (mask.rows([0, 1], EVERY, 4, 4) == expected).all()
        assert mask.kinds == first.kinds | second.kinds


def test_a_mask_and_none_is_the_mask() -> None:
    mask = Mask(band=1)
    assert (mask & None) is mask
    assert (None & mask) is mask


def test_global_tokens_attend_and_are_attended_past_the_band() -> None:
    assert picture(Mask(band=1, global_tokens=1)) == ["xxxx", "xxx.", "xxxx", "x.xx"]
    assert picture(Mask(band=0, global_tokens=1, causal=True)) == ["x...", "xx..", "x.x.", "x..x"]


def test_groups_of_each_head() -> None:
    ids = torch.tensor([[0, 0, 1, 1], [0, 1, 0, 1]])
    mask = Mask(groups=(ids, ids))
    assert picture(mask, heads=(0,)) == ["xx..", "xx..", "..xx", "..xx"]
    assert picture(mask, heads=(1,)) == ["x.x.", ".x.x", "x.x.", ".x.x"]
    with pytest.raises(ValueError, match="for all heads or for each of 3"):
        mask.check(3, 4, 4)


def test_rows_and_heads_asked_for() -> None:
    keep = torch.rand(3, 4, 4, generator=torch.Generator().manual_seed(0)) > 0.5
    assert torch.equal(Mask(keep=keep).rows([2, 0], [3, 1], 4, 4), keep[[2, 0]][:, [3, 1]])
    assert Mask(keep=keep[:1]).rows([2, 0], [3, 1], 4, 4).shape == (1, 2, 4)


def test_a_batch_of_key_masks() -> None:
    key_padding = torch.tensor([[True, True, False, False], [True, True, True, True]])
    block = Mask(key_padding=key_padding, causal=True).rows([0, 1], EVERY, 4, 4)
    assert block.shape == (2, 1, 4, 4)
    assert block[0, 0, 3].tolist() == [True, True, False, False]


@pytest.mark.parametrize("mask", RANGES)
@pytest.mark.parametrize(("queries", "keys"), [(6, 6), (3, 8), (8, 3)])
def test_the_key_range_holds_every_allowed_key(mask: Mask, queries: int, keys: int) -> None:
    whole = mask.rows([0], list(range(queries)), queries, keys)[0]
    for rows in ([0, 1], [2], list(range(queries))):
        start, stop = mask.key_range(rows, queries, keys)
        assert 0 <= start < stop <= keys
        assert not whole[rows][:, :start].any()
        assert not whole[rows][:, stop:].any()
        open_ = whole[rows].any(0).nonzero()[:, 0].tolist()
        if open_ and not mask.global_tokens:
            assert (start, stop) == (open_[0], open_[-1] + 1)  # and no key more


def test_what_is_not_a_mask() -> None:
    with pytest.raises(TypeError, match="must be bool"):
        Mask(keep=torch.ones(1, 4, 4))
    with pytest.raises(ValueError, match=r"needs \[head\|1 query key\]"):
        Mask(keep=torch.ones(4, 4, dtype=torch.bool))


def test_sizes_are_checked() -> None:
    for mask in (
        Mask(keep=torch.ones(1, 4, 5, dtype=torch.bool)),
        Mask(keep=torch.ones(3, 4, 4, dtype=torch.bool)),
        Mask(key_padding=torch.ones(5, dtype=torch.bool)),
        Mask(groups=(torch.arange(4), torch.arange(5))),
    ):
        with pytest.raises(ValueError, match="expected"):
            mask.check(heads=2, queries=4, keys=4)


def test_labels_must_fill_the_grid() -> None:
    assert Tokens.patches(2, 2, ("CLS",)).labels == ("CLS", "r0c0", "r0c1", "r1c0", "r1c1")
    with pytest.raises(ValueError, match="5 labels but prefix 0"):
        Tokens(("a", "b", "c", "d", "e"), grid=(2, 2))


def test_the_rows_of_a_short_mask_are_cached_and_true() -> None:
    """Every layer asks for the same rows; other heads, sizes or masks are computed anew, and the mask is unchanged."""
    mask = Mask(band=1, groups=(torch.arange(8).view(2, 4) % 2, torch.arange(8).view(2, 4) % 2))
    kept = mask.all_rows([0, 1], 4, 4)
    assert mask.all_rows([0, 1], 4, 4) is kept
    assert set(vars(mask)) == {field.name for field in fields(mask)}
    assert torch.equal(kept, mask.rows([0, 1], [0, 1, 2, 3], 4, 4))
    assert torch.equal(mask.all_rows([1], 4, 4), mask.rows([1], [0, 1, 2, 3], 4, 4))
    wider = replace(mask, band=2)
    assert torch.equal(wider.all_rows([1], 4, 4), wider.rows([1], [0, 1, 2, 3], 4, 4))


@pytest.mark.parametrize("ids", [[0, 1, 2] * 4, [3, 3, 0, 0, 0, 9, 3, 9], [5], [1, 0, 0, 1, 1]])
def test_tokens_packed_by_group_come_back_in_their_order(ids: list[int]) -> None:
    """Every token stands once in its own group, padding is marked, and unpacking is the inverse."""
    groups = torch.tensor(ids)
    packing = pack_groups(groups, groups, torch.device("cpu"))
    assert packing is not None
    padding = torch.zeros_like(packing.keys, dtype=torch.bool) if packing.padding is None else packing.padding
    assert sorted(packing.keys[~padding].tolist()) == list(range(len(ids)))
    for members, unused in zip(packing.keys, padding, strict=True):
        assert len(set(groups[members[~unused]].tolist())) == 1
        assert members[~unused].tolist() == sorted(members[~unused].tolist())
    vectors = torch.randn(2, 3, len(ids), 4)
    assert torch.equal(packing.unpack(packing.pack_queries(vectors)), vectors)


def test_packing_pays_up_to_two_slots_a_token() -> None:
    """Four groups padded to five are twenty slots: too many for eight tokens, not for ten."""
    cpu = torch.device("cpu")
    few, many, more = (torch.tensor(ids) for ids in ([0, 1, 2, 3], [0] * 5 + [1, 2, 3], [0] * 5 + [1, 2, 3, 1, 2]))
    assert pack_groups(many, many, cpu) is None
    assert pack_groups(more, more, cpu) is not None
    assert pack_groups(few, many, cpu) is pack_groups(many, few, cpu) is None  # keys count as queries do


@pytest.mark.parametrize(
    ("queries", "keys"),
    [
        ([0] * 20 + list(range(1, 21)), [0] * 20 + list(range(1, 21))),  # twenty groups of one padded to twenty
        ([0, 0, 1, 1], [0, 0, 2, 2]),  # queries of group 1 have no key
        ([[0, 1], [1, 0]], [[0, 1], [1, 0]]),  # each head has its own groups
    ],
)
def test_groups_that_are_not_packed(queries: list, keys: list) -> None:
    assert pack_groups(torch.tensor(queries), torch.tensor(keys), torch.device("cpu")) is None


@pytest.mark.parametrize("batch", [(), (3,)])
def test_keys_are_kept_by_the_numbers_of_keys_where_queries_are_others(batch: tuple[int, ...]) -> None:
    """Four queries and six keys in two groups: what is mixed group by group is what the mask says, pair by pair."""
    generator = torch.Generator().manual_seed(0)
    query, key, value = (torch.randn(2, n, 3, generator=generator, dtype=torch.float64) for n in (4, 6, 6))
    query_ids, key_ids = torch.tensor([0, 0, 1, 1]), torch.tensor([1, 0, 1, 0, 1, 0])
    key_padding = torch.rand(*batch, 6, generator=generator) > 0.3
    mask = Mask(groups=(query_ids, key_ids), key_padding=key_padding)
    assert packing_of(mask, query.device) is not None
    queries, keys = (Tokens(tuple(map(str, range(n))), stream=s) for n, s in ((4, "here"), (6, "there")))
    call = AttentionCall("cross", 0, Softmax(), query, key, value, queries, keys, mask=mask)
    open_ = (query_ids[:, None] == key_ids) & key_padding[..., None, None, :]
    exponentials = (query @ key.transpose(-1, -2)).exp() * open_
    expected = exponentials @ value / exponentials.sum(-1, keepdim=True).clamp_min(1e-300)
    torch.testing.assert_close(call.rule.mix(call), expected)
