"""Attention by pixel phases (MobileViT v1): order of pixels, Hugging Face's block, identities, numbers, refusals."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor
from transformers import MobileViTConfig
from transformers.models.mobilevit.modeling_mobilevit import MobileViTAttention, MobileViTLayer

from attnviz.attention import MultiHead, Softmax
from attnviz.attention.variants.mobilevit import ContextScores, MobileViT2d, fold, phase_ids, unfold
from attnviz.types import AttentionCall, Mask, Tokens, UnsupportedMask

WIDTH, HEADS = 24, 4
GRIDS = [((4, 4), (2, 2)), ((4, 6), (2, 2)), ((4, 6), (2, 3)), ((6, 2), (3, 1)), ((3, 5), (1, 1)), ((2, 4), (2, 4))]


def noise(*shape: int, seed: int = 0) -> Tensor:
    """Standard normal numbers, the same for the same seed."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def made(patch: tuple[int, int] = (2, 2), kind: type[MultiHead] = MobileViT2d) -> MultiHead:
    """A module from a fixed seed, its small initial values enlarged so that differences show."""
    options = {"patch": patch} if kind is MobileViT2d else {}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        module = kind(WIDTH, HEADS, **options)
        for parameter in module.parameters():
            torch.nn.init.normal_(parameter, std=0.3)
    return module.double()


def their_layer() -> MobileViTLayer:
    """Hugging Face's block, for its unfolding and folding."""
    return MobileViTLayer(MobileViTConfig(), in_channels=8, out_channels=8, stride=1, hidden_size=8, num_stages=1)


def test_phases_by_hand() -> None:
    """4 x 4 pixels, numbered from 1 in raster order, in patches of 2 x 2."""
    phases = unfold(torch.arange(1.0, 17)[:, None], (4, 4), (2, 2))[..., 0]
    assert phases.tolist() == [[1, 3, 9, 11], [2, 4, 10, 12], [5, 7, 13, 15], [6, 8, 14, 16]]
    assert phase_ids((2, 4), (2, 2)).tolist() == [0, 1, 0, 1, 2, 3, 2, 3]


@pytest.mark.parametrize(("grid", "patch"), GRIDS)
def test_folding_undoes_unfolding(grid: tuple[int, int], patch: tuple[int, int]) -> None:
    pixels = noise(2, 3, grid[0] * grid[1], 5)
    phases, area = unfold(pixels, grid, patch), patch[0] * patch[1]
    assert phases.shape == (2, 3, area, grid[0] * grid[1] // area, 5)
    assert torch.equal(fold(phases, grid, patch), pixels)
    by_id = pixels[..., phase_ids(grid, patch).argsort(stable=True), :].unflatten(-2, (area, -1))
    assert torch.equal(phases, by_id)


@pytest.mark.parametrize("grid", [(4, 4), (4, 6), (8, 2)])
def test_the_order_of_hugging_face(grid: tuple[int, int]) -> None:
    layer, features = their_layer(), noise(2, 8, *grid)
    theirs, facts = layer.unfolding(features)  # [batch * phase, patch, channel]
    ours = unfold(features.flatten(-2).transpose(-1, -2), grid, (2, 2))
    assert torch.equal(ours.flatten(0, 1), theirs)
    back = fold(theirs.unflatten(0, (2, 4)), grid, (2, 2)).transpose(-1, -2).unflatten(-1, grid)
    assert torch.equal(back, layer.folding(theirs, facts))


@pytest.mark.parametrize("grid", [(4, 4), (4, 6), (8, 2)])
def test_hugging_face_attention(grid: tuple[int, int]) -> None:
    module, x = made(), noise(2, grid[0] * grid[1], WIDTH)
    theirs = MobileViTAttention(MobileViTConfig(num_attention_heads=HEADS), WIDTH).double().eval()
    names = {"query": "attention.query", "key": "attention.key", "value": "attention.value", "out": "output.dense"}
    state = module.state_dict()
    theirs.load_state_dict({f"{t}.{p}": state[f"{o}.{p}"] for o, t in names.items() for p in ("weight", "bias")})
    with torch.no_grad():
        expected = theirs(unfold(x, grid, (2, 2)).flatten(0, 1)).unflatten(0, (2, 4))
        y, _ = module(x, queries=Tokens.patches(*grid))
    torch.testing.assert_close(y, fold(expected, grid, (2, 2)), atol=1e-12, rtol=0)


@pytest.mark.parametrize("mask", [None, Mask(key_padding=torch.arange(24) % 5 > 0)])
def test_patches_of_one_pixel_are_multi_head_attention(mask: Mask | None) -> None:
    module, plain, grid, x = made((1, 1)), made(kind=MultiHead), Tokens.patches(4, 6), noise(24, WIDTH)
    y, (call,) = module(x, queries=grid, mask=mask)
    expected, (other,) = plain(x, queries=grid, mask=mask)
    assert torch.equal(y, expected)
    assert torch.equal(call.token_map(), other.token_map())


def test_one_patch_attends_to_itself_only() -> None:
    """As many phases as pixels: each is alone, so attention is the values."""
    grid, x = Tokens.patches(2, 4), noise(8, WIDTH)
    _, (call,) = made((2, 4))(x, queries=grid)
    assert torch.equal(call.token_map(), torch.eye(8, dtype=torch.float64).expand(HEADS, 8, 8))
    torch.testing.assert_close(call.output, call.value)


@pytest.mark.parametrize(("grid", "patch"), GRIDS)
def test_the_map_is_one_square_for_each_phase(grid: tuple[int, int], patch: tuple[int, int]) -> None:
    """The native maps put back in raster order are the token map, which is zero between phases."""
    module, tokens = made(patch), Tokens.patches(*grid)
    _, (call,) = module(noise(len(tokens), WIDTH), queries=tokens)
    ids, whole = phase_ids(grid, patch), call.token_map()
    assert ((whole > 0) == (ids[:, None] == ids)).all()
    ((name, found),) = call.maps().items()
    if patch == (1, 1):
        assert (name, found.array.shape) == ("weights", (HEADS, len(tokens), len(tokens)))
        return
    assert (name, found.axes) == ("weights by phase", ("head", "phase", "query patch", "key patch"))
    assert found.array.numel() == HEADS * len(tokens) ** 2 // (patch[0] * patch[1])
    for phase, square in enumerate(found.array.unbind(-3)):
        members = (ids == phase).nonzero().flatten()
        torch.testing.assert_close(square, whole[:, members][:, :, members])


def test_moving_patches_moves_the_output() -> None:
    """Whole patches in another order give the same output in that order; shuffled single pixels do not."""
    module, tokens, x = made(), Tokens.patches(4, 6), noise(24, WIDTH)
    y, _ = module(x, queries=tokens)
    order = torch.tensor([3, 0, 5, 1, 4, 2])

    def moved(pixels: Tensor) -> Tensor:
        return fold(unfold(pixels, (4, 6), (2, 2))[:, order], (4, 6), (2, 2))

    torch.testing.assert_close(module(moved(x), queries=tokens)[0], moved(y))
    shuffle = torch.randperm(24, generator=torch.Generator().manual_seed(1))
    assert (module(x[shuffle], queries=tokens)[0] - y[shuffle]).abs().max() > 1e-3


def test_padding_by_patches() -> None:
    """Patches that nobody may attend to change nothing for the others: as on a grid without them."""
    module, x = made(), noise(24, WIDTH)
    small = x.unflatten(0, (4, 6))[:, :4].flatten(0, 1)
    keep = (torch.arange(24) % 6) < 4
    y, _ = module(x, queries=Tokens.patches(4, 6), mask=Mask(key_padding=keep))
    expected, _ = module(small, queries=Tokens.patches(4, 4))
    torch.testing.assert_close(y[keep], expected, atol=1e-12, rtol=0)


def test_cost_in_numbers() -> None:
    """Width 256, 8 heads, 1,024 pixels, four phases, no biases."""
    cost = MobileViT2d(256, 8, bias=False).cost(1024, 1024)
    assert (cost.parameters, cost.multiply_adds) == (262_144, 402_653_184)
    assert (cost.map_bytes, cost.state_bytes) == (33_554_432 // 4, 0)


def test_what_does_not_fit_is_refused_in_words() -> None:
    module = made()
    for rows, columns in ((3, 4), (4, 5), (1, 1)):
        with pytest.raises(UnsupportedMask, match=f"grid of {rows} x {columns} into whole patches of 2 x 2"):
            module(noise(rows * columns, WIDTH), queries=Tokens.patches(rows, columns))
    with pytest.raises(UnsupportedMask, match="rows and columns"):
        module(noise(8, WIDTH), queries=replace(Tokens.patches(2, 4), grid=None))
    with pytest.raises(UnsupportedMask, match="support CLS"):
        module(noise(9, WIDTH), queries=Tokens.patches(2, 4, ["CLS"]))
    with pytest.raises(UnsupportedMask, match="the mask causal"):
        module(noise(8, WIDTH), queries=Tokens.patches(2, 4), mask=Mask(causal=True))


def test_one_shared_row_refuses_what_it_cannot_hold() -> None:
    """Same weights through context scores: output and map agree, or both are refused."""
    tokens, ids = Tokens.patches(2, 4), phase_ids((2, 4), (2, 2))
    query, key, value = noise(2, 8, 1), noise(2, 8, 1, seed=1), noise(2, 8, 3, seed=2)
    scale = torch.tensor([0.5, 2.0], dtype=torch.float64)
    plain = AttentionCall("by hand", 0, Softmax(), query, key, value, tokens, tokens, scale=scale)
    for mask in (None, Mask(key_padding=torch.arange(8) % 3 > 0), Mask(groups=(ids, ids))):
        call = replace(plain, mask=mask).with_rule(ContextScores())
        torch.testing.assert_close(call.output, call.token_map() @ value)
    shared = replace(plain, key=key[:1], value=value[:1]).with_rule(ContextScores())  # one head of keys for both
    torch.testing.assert_close(shared.output, shared.token_map() @ value[:1])
    by_head = torch.stack([ids, ids * 0])
    for fields, reason in (
        ({"mask": Mask(causal=True)}, "the mask causal"),
        ({"mask": Mask(band=2)}, "the mask band"),
        ({"mask": Mask(keep=torch.ones(1, 8, 8).bool())}, "the mask keep"),
        ({"mask": Mask(groups=(by_head, by_head))}, "equal groups for all heads"),
        ({"biases": (("near", lambda call, heads, rows: torch.zeros(())),)}, "support near"),
        ({"query": noise(2, 8, 3), "key": noise(2, 8, 3)}, "one score for each token, not 3 numbers"),
    ):
        call = replace(plain, rule=ContextScores(), **fields)
        for ask in (call.token_map, call.maps, lambda call=call: call.rule.mix(call)):
            with pytest.raises(UnsupportedMask, match=reason):
                ask()


@pytest.mark.parametrize("patch", [4, 2, (2,), (0, 2), (2.0, 2.0), "22"])
def test_a_patch_is_rows_and_columns(patch: object) -> None:
    """One number could be a side or an area: some code reads 4 as 2 x 2."""
    with pytest.raises(ValueError, match=r"give its rows and columns, such as \(2, 2\)"):
        MobileViT2d(WIDTH, HEADS, patch=patch)


def test_heads_that_do_not_divide_the_width_are_refused() -> None:
    """Some code shrinks 90 features to 88 for 4 heads, in silence."""
    with pytest.raises(ValueError, match="width 90 does not split into 4 heads"):
        MobileViT2d(90, 4)
