"""Measures of heads against plain loops in float64, and against the reference numbers of even attention."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA

from attnviz.attention import VARIANTS, Softmax
from attnviz.measures import heads as measures
from attnviz.measures import pairs
from attnviz.models.vit import ViT, ViTConfig
from attnviz.types import AttentionCall, Mask, Tokens


def random_weights(tokens: Tokens, heads: int = 3, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    scores = 3 * torch.randn(heads, len(tokens), len(tokens), generator=generator, dtype=torch.float64)
    return scores.softmax(-1)


@pytest.fixture(scope="module")
def trace():
    torch.manual_seed(0)
    network = ViT(ViTConfig(size=20, patch=4, width=24, layers=2, heads=3, classes=4, registers=1)).eval()
    network.requires_grad_(False)
    return network(torch.randn(3, 20, 20))


def loops(weights: np.ndarray, tokens: Tokens) -> dict[str, np.ndarray]:
    """Every measure once more, entry by entry."""
    heads, count, _ = weights.shape
    _, columns = tokens.grid
    names = ("distance", "entropy", "prefix", "self", "neighbours")
    found = {name: np.zeros(heads) for name in names}
    patches = range(tokens.prefix, count)
    for h in range(heads):
        for i in patches:
            row = weights[h, i]
            on_patches = sum(row[j] for j in patches)
            at = divmod(i - tokens.prefix, columns)
            for j in range(count):
                found["entropy"][h] -= row[j] * math.log(row[j]) / math.log(count) if row[j] > 0 else 0.0
                if j < tokens.prefix:
                    found["prefix"][h] += row[j]
                    continue
                to = divmod(j - tokens.prefix, columns)
                found["distance"][h] += row[j] / on_patches * math.hypot(at[0] - to[0], at[1] - to[1])
                if i == j:
                    found["self"][h] += row[j]
                elif abs(at[0] - to[0]) <= 1 and abs(at[1] - to[1]) <= 1:
                    found["neighbours"][h] += row[j]
    return {name: total / len(patches) for name, total in found.items()}


@pytest.mark.parametrize("grid", [(3, 3), (2, 5), (4, 3)])
@pytest.mark.parametrize("prefix", [(), ("CLS",), ("CLS", "REG 1", "REG 2")])
def test_measures_equal_loops(grid, prefix):
    tokens = Tokens.patches(*grid, prefix)
    weights = random_weights(tokens)
    expected = loops(weights.numpy(), tokens)
    found = {
        "distance": measures.attention_distance(weights, tokens),
        "entropy": measures.entropy(weights, tokens),
        "prefix": measures.prefix_mass(weights, tokens),
        "self": measures.self_mass(weights, tokens),
        "neighbours": measures.neighbour_mass(weights, tokens),
    }
    for name, value in found.items():
        np.testing.assert_allclose(value.numpy(), expected[name], rtol=1e-12, atol=1e-14, err_msg=name)


@pytest.mark.parametrize(("side", "reference"), [(4, 2.0080), (8, 4.1365), (14, 7.2808)])
@pytest.mark.parametrize("share", [0.0, 0.3, 0.95])
def test_even_attention_has_the_reference_distance_whatever_cls_takes(side, reference, share):
    tokens = Tokens.patches(side, side, ("CLS",))
    weights = torch.full((1, len(tokens), len(tokens)), (1 - share) / side**2, dtype=torch.float64)
    weights[..., 0] = share
    assert measures.attention_distance(weights, tokens).item() == pytest.approx(reference, abs=5e-5)
    assert measures.uniform_distance((side, side)) == pytest.approx(reference, abs=5e-5)
    assert measures.prefix_mass(weights, tokens).item() == pytest.approx(share, abs=1e-12)


def test_distance_in_pixels_is_patches_times_patch_size():
    tokens = Tokens.patches(4, 4)
    weights = random_weights(tokens)
    in_pixels = measures.attention_distance(weights, tokens, patch=16.0)
    torch.testing.assert_close(in_pixels, 16 * measures.attention_distance(weights, tokens))


def test_columns_and_rows_are_not_exchanged():
    """One step down on a 2 x 3 grid is three tokens on: a measure that mixes up the axes gives another distance."""
    tokens = Tokens.patches(2, 3)
    weights = torch.eye(6, dtype=torch.float64).roll(3, 1)[None]  # every patch looks at the one below or above
    assert measures.attention_distance(weights, tokens).item() == 1.0
    assert measures.neighbour_mass(weights, tokens).item() == 1.0
    ahead = torch.eye(6, dtype=torch.float64).roll(1, 1)[None]  # every patch looks at the next in reading order
    expected = np.mean([1, 1, math.hypot(1, 2), 1, 1, math.hypot(1, 2)])
    assert measures.attention_distance(ahead, tokens).item() == pytest.approx(expected)


def test_known_heads():
    tokens = Tokens.patches(3, 3, ("CLS",))
    own = torch.eye(10, dtype=torch.float64)[None]
    assert measures.attention_distance(own, tokens).item() == 0
    assert measures.self_mass(own, tokens).item() == 1
    assert measures.entropy(own, tokens).item() == 0
    even = torch.full((1, 10, 10), 0.1, dtype=torch.float64)
    assert measures.entropy(even, tokens).item() == pytest.approx(1)
    assert measures.neighbour_mass(even, tokens).item() == pytest.approx((4 * 3 + 4 * 5 + 8) / 9 / 10)


def test_a_head_that_only_looks_at_cls_has_no_distance():
    tokens = Tokens.patches(2, 2, ("CLS",))
    weights = torch.zeros(1, 5, 5, dtype=torch.float64)
    weights[..., 0] = 1
    assert measures.attention_distance(weights, tokens).isnan().all()
    weights[0, 1] = torch.tensor([0, 0, 1, 0, 0])  # one patch looks at its neighbour, one step away
    assert measures.attention_distance(weights, tokens).item() == 1


def test_rows_of_cls_are_not_counted():
    tokens = Tokens.patches(2, 2, ("CLS",))
    weights = random_weights(tokens)
    changed = weights.clone()
    changed[:, 0] = torch.eye(5, dtype=torch.float64)[0]
    for name, measure in measures.MEASURES.items():
        before, after = (measures.mean_of_patch_rows(measure.rows, w, tokens) for w in (weights, changed))
        torch.testing.assert_close(before, after, msg=name)


def test_tokens_without_a_grid_lie_on_a_line():
    tokens = Tokens(("the", "dog", "ran"))
    weights = torch.full((1, 3, 3), 1 / 3, dtype=torch.float64)
    assert measures.attention_distance(weights, tokens).item() == pytest.approx((1 + 2 / 3 + 1) / 3)


def test_weights_of_another_size_are_refused():
    with pytest.raises(ValueError, match="there are 4 tokens"):
        measures.entropy(torch.zeros(1, 5, 5), Tokens.patches(2, 2))


def test_a_trace_is_measured_by_blocks_as_by_whole_matrices(trace):
    table = measures.measure_heads(trace.calls)
    for layer, call in enumerate(trace.calls):
        whole = call.weights().double()
        for name, measure in measures.MEASURES.items():
            expected = measures.mean_of_patch_rows(measure.rows, whole, call.keys)
            np.testing.assert_allclose(table[name][layer], expected.numpy(), rtol=1e-9, err_msg=name)


def test_blocks_smaller_than_the_map_change_nothing(trace, monkeypatch):
    before = measures.measure_call(trace.calls[0])
    monkeypatch.setattr(type(trace.calls[0]), "blocks", lambda self: [[0, 1], [2], list(range(3, 27))])
    after = measures.measure_call(trace.calls[0])
    for name, value in before.items():
        np.testing.assert_allclose(value, after[name], rtol=1e-6, err_msg=name)


def test_ranking_orders_heads_and_leaves_out_missing_ones():
    values = np.array([[3.0, 1.0], [np.nan, 2.0]])
    assert measures.ranking(values) == [(0, 1), (1, 1), (0, 0)]
    assert measures.ranking(values, descending=True) == [(0, 0), (1, 1), (0, 1)]
    assert measures.ranking(np.zeros((2, 2))) == [(0, 0), (0, 1), (1, 0), (1, 1)]


def test_value_weighted_rows_are_weights_times_what_is_handed_over(trace):
    call = trace.calls[1]
    found = measures.value_weighted(call, [2], [7, 0])
    weights = call.weights([2], [7, 0])[0].double()
    handed = (call.value[2].double() @ call.projection[2].double()).norm(dim=-1)
    for row in range(2):
        expected = [w * v for w, v in zip(weights[row].tolist(), handed.tolist(), strict=True)]
        np.testing.assert_allclose(found[0, row].numpy(), np.array(expected) / sum(expected), rtol=1e-4)


def test_a_key_without_value_gets_no_value_weighted_attention(trace):
    value = trace.calls[0].value.clone()
    value[:, 5] = 0
    call = replace(trace.calls[0], value=value)
    assert measures.value_weighted(call, [0], [3])[0, 0, 5] == 0
    assert call.weights([0], [3])[0, 0, 5] > 0


def test_dropping_the_prefix_renormalises_and_reports():
    row = torch.tensor([0.6, 0.1, 0.3])
    kept, dropped = measures.drop_prefix(row, 1)
    torch.testing.assert_close(kept, torch.tensor([0.25, 0.75]))
    assert dropped.item() == pytest.approx(0.6)
    all_gone, _ = measures.drop_prefix(torch.tensor([1.0, 0.0, 0.0]), 1)
    assert all_gone.tolist() == [0, 0]


def test_a_pair_is_made_of_its_own_products(trace):
    call = trace.calls[1]
    found = pairs.pair(call, 1, 9, 4)
    total = sum(a * b for a, b in zip(found.query.tolist(), found.key.tolist(), strict=True))
    assert found.dot == pytest.approx(total)
    assert found.product.sum() == pytest.approx(total)
    assert found.scaled == pytest.approx(total * call.scale, rel=1e-4)
    assert found.cosine == pytest.approx(total / math.hypot(*found.query) / math.hypot(*found.key))
    assert found.cosine == pytest.approx(pairs.cosines(call, 1)[9, 4], abs=1e-5)
    scaled = call.scores([1], [9], "scaled")[0, 0].double()
    assert found.weight == pytest.approx(scaled.softmax(0)[4].item(), rel=1e-4)


def test_a_pair_knows_what_softmax_gets():
    tokens = Tokens.patches(4, 4)
    window = VARIANTS["window2d"](16, 2, tokens=tokens, tile=(2, 2))
    with torch.no_grad():
        _, (call,) = window(torch.randn(16, 16), queries=tokens)
    near, far = pairs.pair(call, 1, 0, 5), pairs.pair(call, 1, 0, 15)
    assert near.biased == pytest.approx(near.scaled + window.offsets[1, 2, 2].item(), abs=1e-6)
    assert near.score == near.biased
    assert near.weight == pytest.approx(math.exp(near.score) / near.total, rel=1e-5)
    assert near.plain
    assert near.open == far.open == 4
    row = call.scores([1], [0])[0, 0]
    assert near.place == 1 + int((row > row[5]).sum())
    assert (far.score, far.weight) == (-math.inf, 0)


def test_a_weight_by_another_normaliser_is_no_plain_share():
    tokens = Tokens.patches(4, 4)
    attention = VARIANTS["mha"](16, 2, tokens=tokens, normaliser="entmax15")
    with torch.no_grad():
        _, (call,) = attention(torch.randn(16, 16), queries=tokens)
    assert not pairs.pair(call, 0, 0, int(call.token_map([0], [0]).argmax())).plain


def test_stages_lead_from_dot_products_to_weights(trace):
    call = trace.calls[0]
    found = pairs.stages(call, 2)
    assert list(found) == ["raw", "scaled", "weights"]
    np.testing.assert_allclose(found["scaled"], found["raw"] * call.scale, rtol=1e-5)
    exponential = np.exp(found["scaled"].astype(np.float64))
    np.testing.assert_allclose(found["weights"], exponential / exponential.sum(-1, keepdims=True), rtol=1e-4)
    masked = replace(call, mask=Mask(causal=True))
    assert list(pairs.stages(masked, 0)) == ["raw", "scaled", "masked", "weights"]
    assert np.isneginf(pairs.stages(masked, 0)["masked"][0, 1:]).all()


def test_cosine_forgets_lengths_and_the_dot_product_does_not(trace):
    call = trace.calls[0]
    longer = replace(call, key=call.key * 3)
    np.testing.assert_allclose(pairs.cosines(longer, 0), pairs.cosines(call, 0), atol=1e-6)
    np.testing.assert_allclose(pairs.stages(longer, 0)["raw"], 3 * pairs.stages(call, 0)["raw"], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(pairs.lengths(longer, 0)[1], 3 * pairs.lengths(call, 0)[1], rtol=1e-5)


def test_aligning_queries_and_keys_changes_no_weight():
    generator = torch.Generator().manual_seed(1)
    query, key = (torch.randn(11, 6, generator=generator, dtype=torch.float64) + shift for shift in (1.0, -2.0))
    moved_query, moved_key = pairs.aligned(query, key)
    torch.testing.assert_close((query @ key.T).softmax(-1), (moved_query @ moved_key.T).softmax(-1))
    assert moved_query.norm(dim=-1).mean().item() == pytest.approx(moved_key.norm(dim=-1).mean().item())
    assert (query @ query.T).softmax(-1).sub((moved_query @ moved_key.T).softmax(-1)).abs().max() > 0.1


def test_the_joint_map_keeps_distances_of_a_plane():
    """Points that already lie in a plane keep their distances under PCA."""
    generator = torch.Generator().manual_seed(2)
    flat = torch.randn(20, 2, generator=generator) @ torch.linalg.qr(torch.randn(8, 2, generator=generator))[0].T
    queries, keys = pairs.joint_map(flat[:10], flat[10:])
    moved = torch.cat(pairs.aligned(flat[:10], flat[10:]))
    together = torch.from_numpy(np.concatenate([queries, keys]))
    torch.testing.assert_close(torch.cdist(moved, moved), torch.cdist(together, together).float(), atol=1e-4, rtol=1e-4)


def test_t_sne_is_repeatable():
    generator = torch.Generator().manual_seed(3)
    query, key = torch.randn(12, 5, generator=generator), torch.randn(12, 5, generator=generator)
    first, second = (pairs.joint_map(query, key, "t-SNE") for _ in range(2))
    np.testing.assert_array_equal(first[0], second[0])
    assert first[1].shape == (12, 2)
    assert np.isfinite(first[0]).all()


def test_colours_of_tokens_tell_places_and_pixels():
    tokens = Tokens.patches(2, 3, ("CLS",))
    requires_order = pairs.position_colours(tokens)
    assert requires_order.shape == (7, 3)
    assert len({tuple(c) for c in requires_order.tolist()}) == 7
    assert (requires_order[4:, 0] > requires_order[1:4, 0]).all()  # redder below
    picture = np.zeros((4, 6, 3), np.uint8)
    picture[2:, 4:] = (200, 100, 50)
    by_pixel = pairs.pixel_colours(picture, tokens)
    assert by_pixel[-1].tolist() == [200, 100, 50]
    assert by_pixel[1:-1].max() == 0
    grey = pairs.pixel_colours(np.full((4, 6), 9, np.uint8), tokens)
    assert (grey[1:] == 9).all()


def test_shares_are_printed_as_shares():
    units = {name: measure.unit for name, measure in measures.MEASURES.items()}
    assert units == {"distance": "patches", "entropy": "", "prefix": "%", "self": "%", "neighbours": "%"}


def test_what_lies_on_registers_is_said_to():
    """The share counts registers too, so its name and its button name them beside CLS."""
    tokens = Tokens.patches(2, 2, ("CLS", "REG 1"))
    weights = torch.zeros(1, 6, 6, dtype=torch.float64)
    weights[..., 0], weights[..., 1], weights[..., 3] = 0.25, 0.5, 0.25
    assert measures.prefix_mass(weights, tokens).item() == 0.75
    for said in (measures.MEASURES["prefix"].title, measures.MEASURES["prefix"].high):
        assert "CLS and registers" in said


@pytest.mark.parametrize("projected", [False, True])
def test_value_weighted_rows_of_heads_that_share_values(projected):
    """Heads 0 and 1 read the first value head, 2 and 3 the second; a projection changes how long values are."""
    tokens, generator = Tokens.patches(2, 3), torch.Generator().manual_seed(0)
    query, key, value = (torch.randn(h, 6, 4, generator=generator, dtype=torch.float64) for h in (4, 2, 2))
    value[1] *= torch.arange(1, 7)[:, None]
    projection = torch.randn(4, 4, 5, generator=generator, dtype=torch.float64) if projected else None
    call = AttentionCall("x", 0, Softmax(), query, key, value, tokens, tokens, 0.5, projection=projection)
    heads, rows = [3, 0, 1], [5, 2]
    found = measures.value_weighted(call, heads, rows)
    for place, head in enumerate(heads):
        kv = head // 2
        handed = value[kv] if projection is None else value[kv] @ projection[head]
        for at, row in enumerate(rows):
            expected = (query[head, row] @ key[kv].T * 0.5).softmax(-1) * handed.norm(dim=-1)
            torch.testing.assert_close(found[place, at], expected / expected.sum())


def test_keys_are_aligned_around_nothing():
    """Their mean is taken off; queries keep theirs. Any other shift of the keys changes no weight either."""
    generator = torch.Generator().manual_seed(1)
    query, key = (torch.randn(9, 4, generator=generator, dtype=torch.float64) + shift for shift in (1.0, -2.0))
    moved_query, moved_key = pairs.aligned(query, key)
    assert moved_key.mean(0).abs().max() < 1e-12
    torch.testing.assert_close(moved_query / moved_query.norm() * query.norm(), query)


def test_t_sne_looks_at_a_third_of_the_points_and_at_most_at_thirty(monkeypatch):
    import sklearn.manifold

    asked = []

    class Fake:
        def __init__(self, components, **options):
            asked.append((components, options["perplexity"], options["random_state"], options["init"]))

        def fit_transform(self, points):
            return points[:, :2]

    monkeypatch.setattr(sklearn.manifold, "TSNE", Fake)
    for count in (2, 5, 45, 46, 200):
        pairs.joint_map(torch.randn(count, 4), torch.randn(count, 4), "t-SNE")
    assert asked == [(2, min(30, (2 * count - 1) / 3), 0, "pca") for count in (2, 5, 45, 46, 200)]
    with pytest.raises(ValueError, match="known: PCA, t-SNE"):
        pairs.joint_map(torch.randn(3, 4), torch.randn(3, 4), "pca")


def test_the_joint_map_is_that_of_scikit_learn():
    """Queries and keys around their common mean; each axis is turned so that its numbers sum to more than zero."""
    generator = torch.Generator().manual_seed(4)
    query, key = torch.randn(11, 5, generator=generator) + 2, torch.randn(7, 5, generator=generator)
    both = torch.cat(pairs.aligned(query, key)).double().numpy()
    oracle = PCA(2).fit(both)
    expected = oracle.transform(both) * np.sign(oracle.components_.sum(1))
    queries, keys = pairs.joint_map(query, key)
    np.testing.assert_allclose(np.concatenate([queries, keys]), expected, atol=1e-4)
    assert (len(queries), len(keys)) == (11, 7)


def test_colours_of_places_by_hand():
    """Corners of a grid: red grows downwards and blue to the right, both from 40 to 240, while green falls."""
    tokens = Tokens.patches(3, 5, ("CLS",))
    found = pairs.position_colours(tokens).tolist()
    assert found[0] == [128] * 3
    corners = {1: (40, 150, 40), 5: (40, 120, 240), 11: (240, 120, 40), 15: (240, 90, 240), 8: (140, 120, 140)}
    assert {place: tuple(found[place]) for place in corners} == corners
    assert pairs.position_colours(Tokens(("a", "b", "c"))).tolist() == [[40, 150, 40], [40, 135, 140], [40, 120, 240]]
    assert pairs.position_colours(Tokens.patches(1, 1)).tolist() == [[40, 150, 40]]


def test_colours_of_patches_are_means_of_their_pixels():
    """Of 3 x 2 patches of a picture whose last row and column are left over."""
    picture = np.random.default_rng(0).integers(0, 256, (10, 7, 3), np.uint8)
    assert pairs.pixel_colours(picture, Tokens.patches(3, 2, ("CLS", "REG 1")))[:2].tolist() == [[128] * 3] * 2
    found = pairs.pixel_colours(picture, Tokens.patches(3, 2))
    for row in range(3):
        for column in range(2):
            cut = picture[3 * row : 3 * row + 3, 3 * column : 3 * column + 3].reshape(-1, 3).astype(float)
            assert found[2 * row + column].tolist() == cut.mean(0).round().tolist()
    with pytest.raises(ValueError, match="no patch grid"):
        pairs.pixel_colours(picture, Tokens(("a", "b")))


def test_a_weight_is_plain_up_to_rounding(trace):
    """A thousandth of the weight, or a hundred-thousandth where it is small."""
    found = pairs.pair(trace.calls[0], 0, 9, 4)._replace(score=math.log(0.5), total=1.0)
    for weight, plain in ((0.5, True), (0.5004, True), (0.4996, True), (0.502, False), (0.498, False)):
        assert found._replace(weight=weight).plain is plain
    small = found._replace(score=math.log(1e-3))
    assert small._replace(weight=1e-3 + 1.05e-5).plain
    assert not small._replace(weight=1e-3 + 2e-5).plain
    assert not found._replace(total=math.inf, weight=0.5).plain
    assert not found._replace(total=0.0, weight=0.5).plain


def test_a_pair_whose_scores_are_beyond_numbers_has_an_endless_total(trace):
    call = trace.calls[0]
    for factor, endless in ((1.0, False), (1e4, True)):
        found = pairs.pair(replace(call, query=call.query.abs() * factor, key=call.key.abs()), 1, 9, 4)
        assert (found.total == math.inf) is endless
    scores = call.scores([1], [9])[0, 0].double()
    found = pairs.pair(call, 1, 9, 4)
    assert found.total == pytest.approx(scores.exp().sum().item())
    assert found.place == 1 + sum(score > scores[4] for score in scores)
    best = pairs.pair(call, 1, 9, int(scores.argmax()))
    assert (best.place, best.open) == (1, len(scores))
    assert found.scale == call.scale
    by_head = replace(call, scale=torch.tensor([1.0, 2.0, 3.0]))
    assert pairs.pair(by_head, 1, 9, 4).scale == 2


def test_distances_in_a_row_are_steps():
    """Tokens without a grid lie in a line, also behind a prefix; a patch of a column has two neighbours at most."""
    tokens = Tokens(("CLS", "a", "b", "c"), None, 1)
    weights = torch.tensor([[[1, 0, 0, 0], [0, 0.5, 0, 0.5], [0.5, 0.25, 0, 0.25], [0, 0, 0, 1]]]).double()
    assert measures.attention_distance(weights, tokens).item() == pytest.approx((1 + 1 + 0) / 3)
    assert measures.neighbour_mass(weights, tokens).item() == pytest.approx((0 + 0.5 + 0) / 3)
    assert measures.uniform_distance((1, 3)) == pytest.approx((1 + 2 + 1 + 1 + 2 + 1) / 9)


def test_tables_of_layers_with_different_heads():
    tokens, generator = Tokens.patches(2, 2), torch.Generator().manual_seed(0)
    calls = []
    for layer, heads in enumerate((1, 3)):
        query, key, value = torch.randn(3, heads, 4, 4, generator=generator)
        calls.append(AttentionCall("x", layer, Softmax(), query, key, value, tokens, tokens))
    for name, values in measures.measure_heads(calls).items():
        assert values.shape == (2, 3)
        assert np.isnan(values).tolist() == [[False, True, True], [False] * 3], name
        assert measures.ranking(values)[0] in [(0, 0), (1, 0), (1, 1), (1, 2)]
        assert len(measures.ranking(values)) == 4
