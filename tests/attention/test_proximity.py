"""Attention by place alone: the numbers of the study notes, limits, places on a grid, and what is refused."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from attnviz.attention import MultiHead
from attnviz.attention.variants.proximity import ContentFree, Proximity, Uniform, squared_distances
from attnviz.attention.variants.window import Window
from attnviz.models import ViT, ViTConfig
from attnviz.types import AttentionCall, Mask, Tokens, UnsupportedMask

WIDTH, HEADS = 8, 2
SENTENCE = ["Tommy", "can", "be", "annoying", "but", "he", "is", "a", "good", "dog"]
WORDS = Tokens(tuple(SENTENCE))
HE, ANNOYING, DOG = (SENTENCE.index(word) for word in ("he", "annoying", "dog"))


def noise(*shape: int, seed: int = 0) -> Tensor:
    """Standard normal numbers."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def call_of(tokens: Tokens, sigma: float | tuple[float, ...], mask: Mask | None = None) -> AttentionCall:
    """The call of a layer over random features."""
    layer = Proximity(WIDTH, HEADS, tokens=tokens, sigma=sigma).double()
    return layer(noise(len(tokens), WIDTH), queries=tokens, mask=mask)[1][0]


def test_the_row_of_he() -> None:
    """Distance is not linguistics: with sigma 2, "he" gives "annoying" 4.5 times the weight of "dog"."""
    row = call_of(WORDS, 2.0).token_map([0], [HE])[0, 0].detach()
    expected = [0.0089, 0.0274, 0.0657, 0.1227, 0.1786, 0.2023, 0.1786, 0.1227, 0.0657, 0.0274]
    torch.testing.assert_close(row, torch.tensor(expected, dtype=torch.float64), atol=5e-5, rtol=0)
    assert float(row[ANNOYING] / row[DOG]) == pytest.approx(4.48, abs=0.005)


@pytest.mark.parametrize(("sigma", "annoying", "dog"), [(1.0, 0.0540, 0.0001), (4.0, 0.1119, 0.0769)])
def test_other_widths_of_the_curve(sigma: float, annoying: float, dog: float) -> None:
    row = call_of(WORDS, sigma).token_map([0], [HE])[0, 0].detach()
    assert float(row[ANNOYING]) == pytest.approx(annoying, abs=5e-5)
    assert float(row[DOG]) == pytest.approx(dog, abs=5e-5)


@pytest.mark.parametrize("mask", [None, Mask(causal=True), Mask(key_padding=torch.arange(10) % 3 != 1)])
def test_double_loop(mask: Mask | None) -> None:
    """softmax(-(i - j)² / 2 σ²) V, written out."""
    call = call_of(WORDS, 1.5, mask)
    keep = torch.ones(10, 10) if mask is None else mask.rows([0], list(range(10)), 10, 10)[0]
    for i in range(10):
        bell = torch.stack([keep[i, j] * torch.tensor(-((i - j) ** 2) / 4.5).double().exp() for j in range(10)])
        expected = sum(bell[j] / bell.sum() * call.value[:, j] for j in range(10))
        torch.testing.assert_close(call.output[:, i], expected)


def test_no_width_is_the_identity_and_endless_width_the_mean() -> None:
    near, far = call_of(WORDS, 1e-3), call_of(WORDS, float("inf"))
    torch.testing.assert_close(near.token_map()[0], torch.eye(10, dtype=torch.float64))
    torch.testing.assert_close(near.output, near.value)
    torch.testing.assert_close(far.token_map(), torch.full((HEADS, 10, 10), 0.1, dtype=torch.float64))
    torch.testing.assert_close(far.output, far.value.mean(-2, keepdim=True).expand_as(far.output))
    wide = call_of(WORDS, 1e6)
    torch.testing.assert_close(wide.token_map(), far.token_map())


def test_places_of_a_picture_are_rows_and_columns() -> None:
    """On a 2 x 3 grid the patch below is as near as the patch beside, though three numbers further on."""
    grid = Tokens.patches(2, 3)
    assert squared_distances(grid, [0, 4]).tolist() == [[0, 1, 4, 1, 2, 5], [2, 1, 2, 1, 0, 1]]
    row = call_of(grid, 1.0).token_map([0], [0])[0, 0]
    torch.testing.assert_close(row[1], row[3])
    assert row[2] < row[4] < row[1] < row[0]
    torch.testing.assert_close(row[5] / row[0], torch.tensor(-2.5, dtype=torch.float64).exp())


def test_a_width_for_each_head() -> None:
    both = call_of(WORDS, (1.0, 4.0))
    for head, sigma in enumerate((1.0, 4.0)):
        torch.testing.assert_close(both.token_map([head]), call_of(WORDS, sigma).token_map([0]))


def test_the_map_is_the_same_for_every_input() -> None:
    layer = Proximity(WIDTH, HEADS).double()
    (first,), (second,) = (layer(noise(10, WIDTH, seed=s), queries=WORDS)[1] for s in (1, 2))
    assert torch.equal(first.token_map(), second.token_map())
    assert not torch.equal(first.output, second.output)
    assert first.rule.caveat == ContentFree.caveat
    assert (first.scores(stage="raw") == 0).all()
    assert [name for name, _ in first.biases] == ["distance"]


def test_more_tokens_than_one_block_of_a_batch() -> None:
    many = Tokens.patches(15, 20)
    layer = Proximity(WIDTH, HEADS, sigma=3.0).double()
    _, (call,) = layer(noise(2, 300, WIDTH), queries=many, mask=Mask(band=40))
    torch.testing.assert_close(call.output, call.token_map() @ call.value)


def test_the_mean_of_what_may_be_seen() -> None:
    layer, x = Uniform(WIDTH, HEADS).double(), noise(3, 4, WIDTH)
    keep = torch.tensor([[True, True, False, False], [True, False, False, True], [False] * 4])
    four = Tokens(tuple("abcd"))
    _, (call,) = layer(x, queries=four, mask=Mask(key_padding=keep))
    for sample in range(3):
        kept = call.value[sample][:, keep[sample]]
        expected = kept.mean(-2) if keep[sample].any() else torch.zeros(HEADS, WIDTH // HEADS).double()
        for query in range(4):
            torch.testing.assert_close(call.output[sample, :, query], expected)
    _, (causal,) = layer(x[0], queries=four, mask=Mask(causal=True))
    torch.testing.assert_close(causal.output[:, 2], causal.value[:, :3].mean(-2))


def test_the_mean_of_another_stream_and_of_cls() -> None:
    layer, context = Uniform(WIDTH, HEADS).double(), noise(5, WIDTH, seed=1)
    _, (call,) = layer(noise(3, WIDTH), context, queries=Tokens(tuple("abc")), keys=Tokens(tuple("vwxyz")))
    torch.testing.assert_close(call.output, call.value.mean(-2, keepdim=True).expand(HEADS, 3, -1))
    with_cls = Tokens.patches(2, 2, ["CLS"])
    assert (layer(noise(5, WIDTH), queries=with_cls)[1][0].token_map() == 0.2).all()


def test_what_lies_nowhere_is_refused() -> None:
    layer = Proximity(WIDTH, HEADS).double()
    with pytest.raises(UnsupportedMask, match="CLS, which is not a patch"):
        layer(noise(5, WIDTH), queries=Tokens.patches(2, 2, ["CLS"]))
    with pytest.raises(UnsupportedMask, match="the same tokens"):
        layer(noise(3, WIDTH), noise(5, WIDTH), queries=Tokens(tuple("abc")), keys=Tokens(tuple("vwxyz")))


@pytest.mark.parametrize("sigma", [0.0, -1.0, (1.0,), (1.0, 0.0)])
def test_a_curve_without_width_is_refused(sigma: float | tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="one number above zero, or 2, one for each head"):
        Proximity(WIDTH, HEADS, sigma=sigma)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
def test_distances_reach_the_device_in_the_precision_of_the_scores(dtype: torch.dtype) -> None:
    """Distances are counted in float64, which a processor for graphics may not have."""
    layer = Proximity(WIDTH, HEADS).to(dtype)
    _, (call,) = layer(noise(10, WIDTH).to(dtype), queries=WORDS)
    ((_, place),) = call.biases
    assert place(call, [0], [HE]).dtype == torch.promote_types(dtype, torch.float32)


def test_under_this_formula_queries_and_keys_say_nothing() -> None:
    """A call with the rule ContentFree: every row of the map is uniform, and the output is the plain mean."""
    _, (call,) = MultiHead(WIDTH, HEADS).double()(noise(2, 10, WIDTH), queries=WORDS)
    even = call.with_rule(ContentFree())
    torch.testing.assert_close(even.token_map(), torch.full((2, HEADS, 10, 10), 0.1, dtype=torch.float64))
    torch.testing.assert_close(even.output, even.token_map() @ call.value)
    causal = replace(call, mask=Mask(causal=True)).with_rule(ContentFree())
    torch.testing.assert_close(causal.output, causal.token_map() @ call.value)


def test_patches_that_have_lost_their_place_are_refused() -> None:
    """A vision transformer that sees some of the patches has no grid: their numbers in line are not their places."""
    lost = Tokens(tuple(f"patch {i}" for i in range(6)))
    for kind in (Proximity, Window):
        layer = kind(WIDTH, HEADS, tokens=Tokens.patches(3, 4)).double()
        assert layer(noise(12, WIDTH), queries=Tokens.patches(3, 4))[0].isfinite().all()
        with pytest.raises(UnsupportedMask, match="the position of every patch"):
            layer(noise(6, WIDTH), queries=lost)
        assert kind(WIDTH, HEADS, tokens=lost).double()(noise(6, WIDTH), queries=lost)[0].isfinite().all()
    assert Uniform(WIDTH, HEADS, tokens=Tokens.patches(3, 4)).double()(noise(6, WIDTH), queries=lost)[0].shape == (6, 8)
    network = ViT(ViTConfig(size=8, patch=2, width=8, layers=1, heads=2, cls=False, pooling="mean", variant="window"))
    with pytest.raises(UnsupportedMask, match="no grid"):
        network(torch.zeros(1, 3, 8, 8), visible=torch.tensor([[0, 5, 9]]))


def test_decoding_on_a_grid_knows_the_places_of_new_patches() -> None:
    layer, grid = Proximity(WIDTH, HEADS, sigma=1.0).double(), Tokens.patches(4, 2)
    x = noise(8, WIDTH)
    whole, (call,) = layer(x, queries=grid, mask=Mask(causal=True))
    _, _, past = layer.decode(x[:2], queries=Tokens.patches(1, 2), keys=Tokens.patches(1, 2))
    y, (new,), _ = layer.decode(x[2:], past, queries=Tokens.patches(3, 2), keys=grid)
    torch.testing.assert_close(y, whole[2:])
    torch.testing.assert_close(new.token_map(), call.token_map()[:, 2:])


def test_cost_of_two_lengths() -> None:
    """Two projections; a curve mixes n_q x n_k pairs, and where there is no curve all queries share one mean."""
    for bias in (False, True):
        parameters = 2 * WIDTH**2 + 2 * WIDTH * bias
        curve, even = Proximity(WIDTH, HEADS, bias=bias).cost(3, 8), Uniform(WIDTH, HEADS, bias=bias).cost(3, 8)
        assert curve.parameters == even.parameters == parameters
        assert curve.multiply_adds == (3 + 8) * WIDTH**2 + 3 * 8 * WIDTH
        assert even.multiply_adds == (3 + 8) * WIDTH**2 + 8 * WIDTH
        for cost in (curve, even):
            assert (cost.map_bytes, cost.state_bytes) == (4 * HEADS * 3 * 8, 4 * 8 * WIDTH)
