"""Windows against dense references in float64, local-attention, FlexAttention and Swin."""

from __future__ import annotations

import itertools

import pytest
import torch
from local_attention import LocalAttention
from torch import Tensor
from torch.nn.attention.flex_attention import create_block_mask, flex_attention
from transformers import SwinConfig
from transformers.models.swin.modeling_swin import SwinLayer

from attnviz.attention import MultiHead
from attnviz.attention.variants.window import Window, Window2d, tiles
from attnviz.models import ViT, ViTConfig
from attnviz.types import AttentionCall, Mask, Tokens, UnsupportedMask
from tests.counting import Largest
from tests.variants import GRID, HEADS, WIDTH, features, plain, randomised


def as_mha(module: MultiHead) -> MultiHead:
    """Multi-head attention with the same projections."""
    twin = MultiHead(WIDTH, HEADS).double()
    twin.load_state_dict({n: p for n, p in module.state_dict().items() if n in twin.state_dict()})
    return twin


def dense(call: AttentionCall, keep: Tensor, bias: Tensor | float = 0.0) -> Tensor:
    """Softmax over the pairs kept, the long way."""
    scores = call.query @ call.key.transpose(-1, -2) / call.query.shape[-1] ** 0.5 + bias
    return scores.masked_fill(~keep, float("-inf")).softmax(-1)


# Bands


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("radius", [0, 1, 5, 30])
def test_a_band_against_a_dense_mask(radius: int, causal: bool) -> None:
    module = randomised(Window(WIDTH, HEADS, radius=radius))
    _, (call,) = module(features(2, 17), queries=plain(17), mask=Mask(causal=True) if causal else None)
    i, j = torch.arange(17)[:, None], torch.arange(17)
    keep = ((i - j).abs() <= radius) & ((j <= i) if causal else torch.tensor(True))
    torch.testing.assert_close(call.token_map(), dense(call, keep), atol=1e-12, rtol=0)
    torch.testing.assert_close(call.output, dense(call, keep) @ call.value, atol=1e-12, rtol=0)
    assert call.mask.band == radius


def test_a_window_as_wide_as_the_sequence_is_full_attention() -> None:
    module, x = randomised(Window(WIDTH, HEADS, radius=17)), features(17)
    y, _ = module(x, queries=plain(17))
    torch.testing.assert_close(y, as_mha(module)(x, queries=plain(17))[0], atol=1e-12, rtol=0)


# Looking forward, the package leaves the keys it padded with open, so a length its windows do not divide is left out.
@pytest.mark.parametrize(("causal", "count"), [(False, 20), (True, 20), (True, 23)])
def test_local_attention(causal: bool, count: int) -> None:
    _, (call,) = randomised(Window(WIDTH, HEADS, radius=5))(
        features(2, count), queries=plain(count), mask=Mask(causal=True) if causal else None
    )
    look = {} if causal else {"look_forward": 1}
    oracle = LocalAttention(5, causal=causal, exact_windowsize=True, autopad=count % 5 > 0, **look)
    torch.testing.assert_close(call.output, oracle(call.query, call.key, call.value), atol=1e-10, rtol=0)


@pytest.mark.filterwarnings("ignore:flex_attention called without:UserWarning")
def test_flex_attention() -> None:
    with torch.no_grad():
        _, (call,) = randomised(Window(WIDTH, HEADS, radius=3))(features(2, 24), queries=plain(24))
    near = create_block_mask(lambda b, h, i, j: (i - j).abs() <= 3, None, None, 24, 24, device="cpu")
    expected = flex_attention(call.query, call.key, call.value, block_mask=near)
    torch.testing.assert_close(call.output, expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize("steps", [[4, 1, 1, 1, 1, 1], [1, 3, 5], [9]])
def test_decoding_keeps_only_the_window(steps: list[int]) -> None:
    module, x, past, at = randomised(Window(WIDTH, HEADS, radius=2)), features(9), None, 0
    whole, (full,) = module(x, queries=plain(9), mask=Mask(causal=True))
    for new in steps:
        named = Tokens(plain(9).labels[at : at + new])
        y, (call,), past = module.decode(x[at : at + new], past, queries=named, keys=plain(at + new))
        torch.testing.assert_close(y, whole[at : at + new], atol=1e-12, rtol=0)
        seen = len(call.keys)
        assert call.keys.labels == plain(9).labels[at + new - seen : at + new]
        rows = full.token_map()[:, at : at + new, at + new - seen : at + new]
        torch.testing.assert_close(call.token_map(), rows, atol=1e-12, rtol=0)
        at += new
        assert past[0].shape[-2] == past[1].shape[-2] == min(at, 2)


def test_prefix_tokens_are_refused_or_global() -> None:
    tokens = Tokens.patches(3, 3, ("CLS",))
    with pytest.raises(UnsupportedMask, match="CLS"):
        Window(WIDTH, HEADS)(features(10).float(), queries=tokens)
    module = randomised(Window(WIDTH, HEADS, radius=1, global_prefix=True))
    _, (call,) = module(features(10), queries=tokens)
    i, j = torch.arange(10)[:, None], torch.arange(10)
    keep = ((i - j).abs() <= 1) | (i == 0) | (j == 0)
    torch.testing.assert_close(call.token_map(), dense(call, keep), atol=1e-12, rtol=0)
    torch.testing.assert_close(call.output, dense(call, keep) @ call.value, atol=1e-12, rtol=0)
    with pytest.raises(UnsupportedMask, match="band"):
        module(features(10), queries=tokens, mask=Mask(band=2))
    with pytest.raises(UnsupportedMask, match="CLS"):
        module.decode(features(10), queries=tokens, keys=tokens)


def test_a_callers_band_and_the_own_one() -> None:
    module = randomised(Window(WIDTH, HEADS, radius=3))
    for band in (1, 5):
        _, (call,) = module(features(12), queries=plain(12), mask=Mask(band=band))
        assert call.mask.band == min(3, band)


# Tiles


def picture(tile: tuple[int, int], shift: tuple[int, int], grid: tuple[int, int] = (4, 6)) -> list[str]:
    """The tile of every patch, as letters in order of appearance."""
    ids = tiles(Tokens.patches(*grid), tile, shift, torch.device("cpu")).tolist()
    names = {number: chr(97 + at) for at, number in enumerate(dict.fromkeys(ids))}
    letters = "".join(names[number] for number in ids)
    return [letters[at : at + grid[1]] for at in range(0, len(letters), grid[1])]


def test_tiles_are_cut_and_never_reach_round_an_edge() -> None:
    assert picture((2, 3), (0, 0)) == ["aaabbb", "aaabbb", "cccddd", "cccddd"]
    assert picture((2, 3), (1, 1)) == ["abbbcc", "deeeff", "deeeff", "ghhhii"]
    assert picture((3, 4), (0, 0)) == ["aaaabb", "aaaabb", "aaaabb", "ccccdd"]
    assert picture((9, 9), (0, 0)) == ["aaaaaa"] * 4


def reference(call: AttentionCall, module: Window2d) -> Tensor:
    """The map by a loop over pairs: same tile, bias by offset key - query."""
    (height, width), (down, along) = module.tile, module.shift
    cells = list(itertools.product(range(4), range(6)))
    keep, bias = torch.zeros(24, 24, dtype=torch.bool), torch.zeros(HEADS, 24, 24, dtype=torch.float64)
    for (i, (r, c)), (j, (s, d)) in itertools.product(enumerate(cells), repeat=2):
        same = (r - down) // height == (s - down) // height and (c - along) // width == (d - along) // width
        if same:
            keep[i, j] = True
            bias[:, i, j] = module.offsets[:, s - r + height - 1, d - c + width - 1].detach()
    return dense(call, keep, bias)


@pytest.mark.parametrize(("tile", "shift"), [((2, 3), (0, 0)), ((2, 3), (1, 2)), ((3, 4), (0, 0)), ((4, 6), (0, 0))])
def test_tiles_against_a_loop(tile: tuple[int, int], shift: tuple[int, int]) -> None:
    """Whole tiles, and tiles that the edge of the grid cuts."""
    module = randomised(Window2d(WIDTH, HEADS, tile=tile, shift=shift))
    _, (call,) = module(features(2, 24), queries=GRID)
    expected = reference(call, module)
    torch.testing.assert_close(call.token_map(), expected, atol=1e-12, rtol=0)
    torch.testing.assert_close(call.output, expected @ call.value, atol=1e-12, rtol=0)
    torch.testing.assert_close(call.token_map([3, 1], [7, 2]), expected[:, [3, 1]][:, :, [7, 2]], atol=1e-12, rtol=0)
    (offsets,) = torch.autograd.grad(call.output.square().sum(), module.offsets, retain_graph=True)
    (again,) = torch.autograd.grad((call.token_map() @ call.value).square().sum(), module.offsets)
    torch.testing.assert_close(offsets, again, atol=1e-10, rtol=0)


@pytest.mark.parametrize("tile", [(2, 3), (3, 4)])
def test_key_padding_inside_tiles(tile: tuple[int, int]) -> None:
    """A tile without any key is empty; a batch may have a mask for each picture."""
    module = randomised(Window2d(WIDTH, HEADS, tile=tile))
    key_padding = torch.rand(2, 24, generator=torch.Generator().manual_seed(4)) > 0.4
    key_padding[
        1, tiles(GRID, tile, (0, 0), torch.device("cpu")) == tiles(GRID, tile, (0, 0), torch.device("cpu"))[0]
    ] = False
    x = features(2, 24).requires_grad_()
    y, (call,) = module(x, queries=GRID, mask=Mask(key_padding=key_padding))
    assert call.empty[1].any()
    torch.testing.assert_close(call.token_map() @ call.value, call.output, atol=1e-12, rtol=0)
    y.sum().backward()
    assert x.grad.isfinite().all()


def test_one_tile_and_a_zero_table_is_full_attention() -> None:
    module, x = randomised(Window2d(WIDTH, HEADS, tile=(4, 6))), features(24)
    module.offsets.data.zero_()
    y, _ = module(x, queries=GRID)
    torch.testing.assert_close(y, as_mha(module)(x, queries=GRID)[0], atol=1e-12, rtol=0)


@pytest.mark.parametrize("shift", [0, 1, 3])
def test_swin(shift: int) -> None:
    """A Swin layer rolls and masks; ours cuts. Its table runs by query - key, ours by key - query."""
    config = SwinConfig(embed_dim=WIDTH, window_size=4, attn_implementation="eager")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        layer = SwinLayer(config, WIDTH, (8, 12), HEADS, shift_size=shift).eval()
    swin, ours = layer.attention, Window2d(WIDTH, HEADS, tile=(4, 4), shift=(shift, shift))
    with torch.no_grad():
        table = swin.relative_position_bias.relative_position_bias_table.normal_()
        for last in [m for m in layer.mlp.modules() if isinstance(m, torch.nn.Linear)][-1:]:
            last.weight.zero_()
            last.bias.zero_()
        for mine, theirs in (("query", "q_proj"), ("key", "k_proj"), ("value", "v_proj"), ("out", "o_proj")):
            getattr(ours, mine).load_state_dict(getattr(swin, theirs).state_dict())
        ours.offsets.copy_(table.T.reshape(HEADS, 7, 7).flip(-1, -2))
        x = features(2, 96).float()
        expected, _ = layer(x, (8, 12))
        y, _ = ours(layer.layernorm_before(x), queries=Tokens.patches(8, 12))
    torch.testing.assert_close(x + y, expected, atol=1e-5, rtol=0)


def test_pairs_beyond_the_tile_have_no_offset() -> None:
    """What is drawn of the scores before the mask: a number for each offset of the table, nothing for farther pairs."""
    module = randomised(Window2d(WIDTH, HEADS, tile=(2, 3)))
    _, (call,) = module(features(24), queries=GRID)
    added = (call.scores(stage="biased") - call.scores(stage="scaled")).detach()
    cells = list(itertools.product(range(4), range(6)))
    for (i, (r, c)), (j, (s, d)) in itertools.product(enumerate(cells), repeat=2):
        inside = abs(s - r) < 2 and abs(d - c) < 3
        expected = module.offsets[:, s - r + 1, d - c + 2].detach() if inside else torch.zeros(HEADS).double()
        torch.testing.assert_close(added[:, i, j], expected, atol=1e-12, rtol=0)


# Costs and refusals


def test_nothing_as_large_as_all_pairs_is_made() -> None:
    tokens = Tokens.patches(40, 40)
    for module, mask in ((Window(WIDTH, HEADS), Mask(causal=True)), (Window2d(WIDTH, HEADS), None)):
        with Largest() as seen, torch.no_grad():
            module(features(1600).float(), queries=tokens, mask=mask)
        assert seen.entries < 1600 * 1600 / 4


def test_cost_in_numbers() -> None:
    """Width 256, 8 heads, 1,024 tokens: windows of 64 patches."""
    cost = Window2d(256, 8, tile=(8, 8), bias=False).cost(1024, 1024)
    assert (cost.parameters, cost.multiply_adds) == (262_144 + 8 * 15 * 15, 301_989_888)
    assert cost.map_bytes == 4 * 8 * 1024 * 64
    band = Window(256, 8, radius=31, bias=False).cost(1024, 1024)
    assert (band.parameters, band.multiply_adds) == (262_144, 268_435_456 + 2 * 1024 * 63 * 256)
    assert band.state_bytes == 4 * 2 * 32 * 256
    shared = Window(256, 8, radius=31, kv_heads=2, bias=False)  # keys and values of two heads of 32 features
    assert shared.cost(1024, 1024).state_bytes == 4 * 2 * 32 * 2 * 32
    assert Window(256, 8, radius=2000, bias=False).cost(1024, 1024) == MultiHead(256, 8, bias=False).cost(1024, 1024)


def test_offsets_start_small() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        table = Window2d(64, 64, tile=(8, 6)).offsets
    assert table.shape == (64, 15, 11)
    assert table.std().item() == pytest.approx(0.02, rel=0.03)


def test_sizes_that_make_no_sense() -> None:
    with pytest.raises(ValueError, match="radius is -1"):
        Window(WIDTH, HEADS, radius=-1)
    for tile, shift in (((0, 2), (0, 0)), ((2, 2), (2, 0)), ((2, 2), (0, -1))):
        with pytest.raises(ValueError, match="shifted by"):
            Window2d(WIDTH, HEADS, tile=tile, shift=shift)


def test_every_other_layer_of_a_network_is_shifted() -> None:
    """What two neighbours in different tiles cannot tell each other in one layer, they can in the next."""
    network = ViT(
        ViTConfig(size=32, patch=4, width=16, layers=3, heads=2, cls=False, pooling="mean", variant="window2d")
    )
    assert [block.attention.shift for block in network.blocks] == [(0, 0), (2, 2), (0, 0)]
    calls = network(torch.zeros(3, 32, 32)).calls
    seen = [call.token_map()[0, 3 * 8 + 3] > 0 for call in calls]  # row 4, column 4: the last of its tile
    neighbour = 3 * 8 + 4  # right of it, in the next tile
    assert [bool(one[neighbour]) for one in seen] == [False, True, False]
    assert Window2d.options_for_layer(1, Tokens.patches(4, 8), {}) == {
        "shift": (0, 2)
    }  # one tile is as high as the picture
    assert Window2d.options_for_layer(1, Tokens.patches(8, 8), {"tile": (2, 6)}) == {"tile": (2, 6), "shift": (1, 3)}
    assert Window2d.options_for_layer(1, Tokens.patches(8, 8), {"shift": (0, 0)}) == {"shift": (0, 0)}
