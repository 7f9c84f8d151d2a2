"""Numbers that describe and compare maps: by hand, against scipy, and with maps that have nothing in common."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from scipy.spatial.distance import jensenshannon
from torch import Tensor

from attnviz.attention import VARIANTS
from attnviz.attention.rules.softmax import Softmax
from attnviz.measures.compare import (
    assign_heads,
    describe,
    difference,
    effective_rank,
    head_diversity,
    match_heads,
    overlap,
    relative_error,
    resample,
    row_distance,
    similarities,
)
from attnviz.types import AttentionCall, Mask, Tokens
from tests.variants import COUNT, GRID, features, variant


def noise(*shape: int, seed: int = 0) -> Tensor:
    """Standard normal numbers."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def weights(*shape: int, seed: int = 0, sharp: float = 3.0) -> Tensor:
    """Random maps whose rows sum to one."""
    return (sharp * noise(*shape, seed=seed)).softmax(-1)


def call_of(**fields: Any) -> AttentionCall:
    """A softmax call made by hand."""
    query, key, value = (noise(3, 6, 4, seed=s) for s in (1, 2, 3))
    made = {"query": query, "key": key, "value": value, "queries": SIX, "keys": SIX} | fields
    call = AttentionCall(name="by hand", layer=0, rule=Softmax(), **made)
    return replace(call, output=call.rule.mix(call))


SIX = Tokens.patches(2, 3)


def test_effective_rank_by_hand() -> None:
    """Singular values 3 and 1: shares 3/4 and 1/4, entropy 0.5623 nats, rank 1.7548."""
    assert effective_rank(torch.diag(torch.tensor([3.0, 1.0]))).item() == pytest.approx(1.7548, abs=1e-4)
    assert effective_rank(torch.eye(5)).item() == pytest.approx(5)
    assert effective_rank(torch.full((7, 7), 1 / 7)).item() == pytest.approx(1)
    assert effective_rank(torch.zeros(2, 3, 3)).tolist() == [0, 0]
    one_row = torch.outer(torch.ones(6), weights(6).float())
    assert effective_rank(one_row).item() == pytest.approx(1, abs=1e-5)


def test_effective_rank_does_not_change_with_scale_or_order() -> None:
    maps = weights(2, 6, 6)
    torch.testing.assert_close(effective_rank(5 * maps), effective_rank(maps))
    torch.testing.assert_close(effective_rank(maps[:, [3, 1, 0, 5, 4, 2]]), effective_rank(maps))


def test_distance_of_rows_is_scipys() -> None:
    one, other = weights(4, 9), weights(4, 9, seed=1)
    expected = [jensenshannon(a, b, base=2) for a, b in zip(one.numpy(), other.numpy(), strict=True)]
    np.testing.assert_allclose(row_distance(one, other).numpy(), expected, rtol=1e-12)


def test_rows_of_several_heads_and_empty_ones() -> None:
    """A row is empty by its own sum, whatever stands in the rows beside it."""
    one, other = weights(2, 4, 6), weights(2, 4, 6, seed=1)
    one[0, 1], other[1, 3] = 0, 0
    found = row_distance(one, other)
    assert found.isnan().nonzero().tolist() == [[0, 1], [1, 3]]
    for head, row in ((0, 0), (1, 1), (1, 2)):
        expected = jensenshannon(one[head, row].numpy(), other[head, row].numpy(), base=2)
        assert found[head, row].item() == pytest.approx(expected)


def test_diversity_of_heads() -> None:
    eye, shifted = torch.eye(4), torch.eye(4).roll(1, 1)
    assert head_diversity(torch.stack([eye, eye, eye])) == 0
    assert head_diversity(torch.stack([eye, shifted])) == 1
    assert head_diversity(torch.stack([eye, eye, shifted])) == pytest.approx(2 / 3)
    assert math.isnan(head_diversity(eye[None]))
    assert 0 < head_diversity(weights(3, 6, 6, sharp=0.5)) < head_diversity(weights(3, 6, 6, sharp=5.0)) < 1


def test_diversity_leaves_out_rows_with_nothing_to_attend_to() -> None:
    eye, shifted = torch.eye(4), torch.eye(4).roll(1, 1)
    eye[0] = 0
    assert head_diversity(torch.stack([eye, shifted])) == 1


@pytest.mark.parametrize("wrong", [-0.5, 0.5])
def test_diversity_is_for_weights_only(wrong: float) -> None:
    with pytest.raises(ValueError, match="must sum to 1"):
        head_diversity(torch.stack([torch.eye(3), torch.eye(3) + wrong]))


def test_shared_lengths() -> None:
    assert overlap(2, 4).tolist() == [[1, 1, 0, 0], [0, 0, 1, 1]]
    torch.testing.assert_close(overlap(2, 3), torch.tensor([[1, 0.5, 0], [0, 0.5, 1]]).double())
    torch.testing.assert_close(overlap(5, 7).sum(0), torch.ones(7).double())


def test_a_map_on_a_finer_grid_by_hand() -> None:
    """Two tokens become four: each row is doubled, each weight halved."""
    two = Tokens(("a", "b"))
    found = resample(torch.tensor([[[0.2, 0.8], [1.0, 0.0]]]), two, (1, 4))
    expected = [[0.1, 0.1, 0.4, 0.4]] * 2 + [[0.5, 0.5, 0.0, 0.0]] * 2
    torch.testing.assert_close(found, torch.tensor([expected]))


@pytest.mark.parametrize("grid", [(4, 6), (3, 5), (2, 7), (2, 3)])
def test_resampling_keeps_the_sums_of_rows(grid: tuple[int, int]) -> None:
    found = resample(weights(3, 6, 6), SIX, grid)
    assert found.shape == (3, grid[0] * grid[1], grid[0] * grid[1])
    torch.testing.assert_close(found.sum(-1), torch.ones(found.shape[:2]).double())


def test_resampling_to_twice_the_size_is_repeating_each_patch() -> None:
    maps = weights(2, 6, 6)
    found = resample(maps, SIX, (4, 6)).unflatten(-1, (4, 6)).unflatten(-3, (4, 6))
    for r, c, k, l in ((0, 0, 0, 0), (3, 5, 1, 4), (2, 1, 3, 3)):
        own, other = r // 2 * 3 + c // 2, k // 2 * 3 + l // 2
        torch.testing.assert_close(found[:, r, c, k, l], maps[:, own, other] / 4)


def test_the_prefix_lies_nowhere() -> None:
    with_cls = Tokens.patches(2, 3, ["CLS"])
    maps = weights(2, 7, 7)
    torch.testing.assert_close(resample(maps, with_cls, (2, 3)), maps[:, 1:, 1:])
    with pytest.raises(ValueError, match="there are 6 tokens"):
        resample(maps, SIX, (4, 6))


def test_similarity_by_hand() -> None:
    eye, shifted = torch.eye(3), torch.eye(3).roll(1, 1)
    flat = torch.full((3, 3), 1 / 3)
    found = similarities(torch.stack([eye, flat]), torch.stack([eye, 2 * eye, -eye, shifted, flat]))
    np.testing.assert_allclose(found, [[1, 1, -1, -0.5, 0], [0, 0, 0, 0, 1]], atol=1e-7)
    half = (eye + shifted) / 2  # rows (1/6, 1/6, -2/6) against (2/3, -1/3, -1/3)
    np.testing.assert_allclose(similarities(eye[None], half[None]), [[0.5]], atol=1e-7)


def test_similarity_is_the_correlation_of_numpy() -> None:
    one, other = weights(2, 6, 6), weights(3, 6, 6, seed=5)
    expected = np.corrcoef(np.concatenate([one.flatten(1), other.flatten(1)]))[:2, 2:]
    np.testing.assert_allclose(similarities(one, other), expected, atol=1e-12)


def test_shuffled_heads_are_found_again() -> None:
    maps, order = weights(6, 24, 24), [4, 2, 0, 5, 1, 3]
    blurred = 0.7 * maps[order] + 0.3 * weights(6, 24, 24, seed=9)
    found = match_heads(maps, blurred, GRID, GRID)
    assert [head for head, _ in found] == [order.index(head) for head in range(6)]
    assert min(similarity for _, similarity in found) > 0.8
    assigned = assign_heads(maps, blurred)
    assert [(a, b) for a, b, _ in assigned] == [(head, order.index(head)) for head in range(6)]
    unrelated = match_heads(maps, weights(6, 24, 24, seed=20))
    assert max(similarity for _, similarity in unrelated) < 0.3


def test_shuffled_heads_are_found_again_on_a_finer_grid() -> None:
    order = [2, 0, 3, 1]
    maps = weights(4, 6, 6)
    finer = resample(maps[order], SIX, (4, 6)) * (1 + 0.2 * noise(4, 24, 24, seed=3))
    found = match_heads(maps, finer, SIX, GRID)
    assert [head for head, _ in found] == [order.index(head) for head in range(4)]
    assert min(similarity for _, similarity in found) > 0.9


def test_a_head_is_matched_twice_but_assigned_once() -> None:
    maps = weights(2, 6, 6)
    alike = torch.stack([maps[0], 0.9 * maps[0] + 0.1 * maps[1]])
    assert [head for head, _ in match_heads(alike, maps)] == [0, 0]
    assert [(a, b) for a, b, _ in assign_heads(alike, maps)] == [(0, 0), (1, 1)]
    assert len(assign_heads(weights(4, 6, 6), maps)) == 2


def test_maps_without_common_places() -> None:
    with pytest.raises(ValueError, match="need their tokens"):
        similarities(weights(1, 6, 6), weights(1, 24, 24))
    with pytest.raises(ValueError, match="no common positions"):
        similarities(weights(1, 6, 6), weights(1, 6, 6), SIX, Tokens(tuple("abcdef")))


def test_difference_of_maps() -> None:
    one, other = weights(2, 6, 6), weights(2, 24, 24, seed=1)
    found = difference(one, other, SIX, GRID)
    torch.testing.assert_close(found, resample(one, SIX, (4, 6)) - other)
    torch.testing.assert_close(found.sum(-1), torch.zeros(2, 24).double(), atol=1e-12, rtol=0)
    assert (difference(one, one) == 0).all()


def test_error_by_hand() -> None:
    exact = call_of()
    same = relative_error(exact, exact.with_rule(Softmax()))
    np.testing.assert_allclose(same.output, 0, atol=1e-12)
    assert same.map is not None
    np.testing.assert_allclose(same.map, 0, atol=1e-12)
    flat = call_of(scale=0.0)
    error = relative_error(flat, exact)
    a, b = flat.token_map(), exact.token_map()
    assert error.map is not None
    np.testing.assert_allclose(error.map, ((a - b).flatten(1).norm(dim=1) / b.flatten(1).norm(dim=1)).numpy())
    y, z = a @ flat.value, b @ exact.value
    np.testing.assert_allclose(error.output, ((y - z).flatten(1).norm(dim=1) / z.flatten(1).norm(dim=1)).numpy())


def test_a_formula_without_a_token_map_has_only_an_error_of_its_output() -> None:
    _, (call,) = variant("xca")(features(COUNT), queries=GRID)
    error = relative_error(call, call)
    assert error.map is None
    assert (error.output == 0).all()


@pytest.mark.parametrize("name", VARIANTS)
def test_every_variant_can_be_described(name: str) -> None:
    """Defined where the map says it is: no entropy of a signed map, nothing at all without a map."""
    for call in variant(name)(features(COUNT), queries=GRID)[1]:
        found = describe(call)
        shares = call.rule.stochastic
        assert all((found[key] is not None) == shares for key in ("entropy", "distance"))
        assert (found["diversity"] is not None) == (shares and call.heads > 1)
        assert all(value is None or math.isfinite(value) for value in found.values())
        if found["rank"] is not None:
            assert 1 - 1e-9 <= found["rank"] <= COUNT + 1e-9


def test_description_of_a_uniform_map() -> None:
    """Everything evenly: entropy 1, the distance of two patches drawn at random, one direction, heads alike."""
    four = Tokens.patches(4, 4)
    found = describe(call_of(**{n: torch.zeros(2, 16, 3) for n in ("query", "key", "value")}, queries=four, keys=four))
    assert found == pytest.approx({"entropy": 1, "distance": 2.0080, "rank": 1, "diversity": 0}, abs=1e-4)


def test_description_of_attention_to_another_stream() -> None:
    words = Tokens(tuple("abcd"), stream="target")
    call = call_of(query=noise(3, 4, 4), queries=words, mask=Mask(key_padding=torch.arange(6) < 5))
    found = describe(call)
    assert found["distance"] is None
    assert found["entropy"] is not None
    assert 0 < found["entropy"] < 1
