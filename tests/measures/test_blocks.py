"""Means over blocks, columns and spread rows of maps that are computed a block at a time."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from attnviz.attention import Softmax
from attnviz.measures import blocks
from attnviz.measures.heads import measure_call, patch_offsets, uniform_distance
from attnviz.methods import discard, rollout
from attnviz.types import AttentionCall, Tokens, Trace
from tests.counting import largest


def call_of(tokens: Tokens, heads: int = 3, seed: int = 0) -> AttentionCall:
    """A call of random numbers over these tokens."""
    generator = torch.Generator().manual_seed(seed)
    q, k, v = (torch.randn(heads, len(tokens), 8, generator=generator) for _ in range(3))
    return AttentionCall("layer 1", 0, Softmax(), q, k, v, tokens, tokens, 8**-0.5)


GRID = call_of(Tokens.patches(5, 7, ["CLS", "REG 1"]))


@pytest.mark.parametrize("rescaled", [False, True])
def test_block_means_are_means(rescaled: bool) -> None:
    rows, columns = blocks.edges_of(GRID.queries), [2, 5, 6, 37] if rescaled else blocks.edges_of(GRID.keys)
    maps = GRID.token_map().double().numpy()
    if rescaled:
        maps = maps / maps[..., 2:].sum(-1, keepdims=True)
    found = blocks.block_means(GRID, rows, columns, rescaled=rescaled)
    assert found.shape == (3, 6, len(columns) - 1)
    for i in range(len(rows) - 1):
        for j in range(len(columns) - 1):
            block = maps[:, rows[i] : rows[i + 1], columns[j] : columns[j + 1]]
            np.testing.assert_allclose(found[:, i, j], block.mean((1, 2)), rtol=1e-5)


def test_blocks_are_rows_of_the_picture() -> None:
    assert blocks.edges_of(Tokens.patches(3, 4)) == [0, 4, 8, 12]
    assert blocks.edges_of(Tokens.patches(3, 4, ["CLS"])) == [0, 1, 5, 9, 13]
    assert blocks.edges_of(Tokens(tuple(map(str, range(130))))) == [0, 64, 128, 130]
    edges = blocks.edges_of(Tokens.patches(3, 4, ["CLS"]))
    assert [blocks.block_of(edges, token) for token in (0, 1, 4, 5, 12)] == [0, 1, 1, 2, 3]


def test_blocks_never_hold_a_whole_map() -> None:
    call = call_of(Tokens.patches(40, 40, ["CLS"]))
    edges = blocks.edges_of(call.queries)
    made = largest(lambda: blocks.block_means(call, edges, edges, [1]))
    assert made <= 128 * 1601  # a block of rows; the map has 1601 of them


def test_a_column_is_a_column() -> None:
    found = blocks.column(GRID, 11, lambda rows: GRID.token_map([2], rows)[0])
    np.testing.assert_allclose(found, GRID.token_map([2])[0, :, 11].numpy(), rtol=1e-6)


def test_rows_are_spread_without_a_period() -> None:
    assert blocks.spread(1, 10, 20) == list(range(1, 10))
    found = np.array(blocks.spread(1, 16385, 512))
    assert found.min() >= 1
    assert found.max() < 16385
    assert 500 <= len(found) <= 512
    for part in (found - 1 < 8192, (found - 1) % 128 < 64):  # upper half, left half
        assert part.mean() == pytest.approx(0.5, abs=0.02)
    assert len({int(one) for one in (found - 1) % 128}) > 100  # nearly every column


def test_measures_of_spread_rows_are_near_those_of_all() -> None:
    call = call_of(Tokens.patches(24, 24, ["CLS"]))
    some, every = measure_call(call, 128), measure_call(call)
    for name in ("distance", "entropy"):  # means of numbers that hardly differ between rows of random maps
        np.testing.assert_allclose(some[name], every[name], rtol=0.02)
        assert (some[name] != every[name]).all()
    assert measure_call(call, 10_000)["entropy"] == pytest.approx(every["entropy"])


@pytest.mark.parametrize("grid", [(1, 1), (1, 5), (6, 4), (16, 16)])
def test_the_even_distance_is_that_of_all_pairs(grid: tuple[int, int]) -> None:
    pairs = patch_offsets(Tokens.patches(*grid)).norm(dim=-1)
    assert uniform_distance(grid) == pytest.approx(float(pairs.mean()))


@pytest.mark.parametrize("share", [0.05, 0.5, 0.9])
@pytest.mark.parametrize("ties", [False, True])
def test_a_discard_by_counting_is_that_by_selection(share: float, ties: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    tokens = Tokens.patches(13, 13, ["CLS"])
    call = call_of(tokens)
    if ties:  # equal keys get equal weights
        call.key[:, 5:60] = call.key[:, 4:5]
    rows = list(range(len(tokens)))
    whole = discard.fused_blocks(call, "mean", share)(rows)
    monkeypatch.setattr(discard, "HELD", 1)
    made = largest(lambda: discard.fused_blocks(call, "mean", share)([0]))
    counted = torch.cat([discard.fused_blocks(call, "mean", share)(block) for block in call.blocks()])
    torch.testing.assert_close(counted, whole, rtol=0, atol=0)
    assert (counted == 0).any()
    assert made <= max(1 << 16, 128 * 3 * 170)


def test_a_walk_opens_only_blocks_with_relevance() -> None:
    tokens = Tokens.patches(20, 20, ["CLS"])
    first, last = call_of(tokens), call_of(tokens, seed=1)
    calls = (first, AttentionCall("layer 2", 1, Softmax(), last.query, last.key, last.value, tokens, tokens, 8**-0.5))
    pooling = {"main": torch.nn.functional.one_hot(torch.tensor(0), 401).float()}
    trace = Trace(None, {}, {}, calls, {"main": ()}, pooling, {})
    asked: list[tuple[int, int]] = []

    def opened(call: AttentionCall) -> discard.Blocks:
        blocks_of = discard.fused_blocks(call)

        def counted(rows: list[int]) -> torch.Tensor:
            asked.append((call.layer, rows[0]))
            return blocks_of(rows)

        return counted

    found = rollout.layers(trace, opened=opened)[-1].rows["main"]
    assert asked == [(1, 0), (0, 0), (0, 128), (0, 256), (0, 384)]
    factors = [0.5 * torch.eye(401) + 0.5 * call.token_map().mean(0) for call in calls]
    torch.testing.assert_close(found, (factors[1] @ factors[0])[0])
