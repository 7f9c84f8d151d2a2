"""Separable attention (MobileViT v2): Hugging Face's layer, the formula written out, its maps, numbers, refusals."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from transformers import MobileViTV2Config
from transformers.models.mobilevitv2.modeling_mobilevitv2 import MobileViTV2LinearSelfAttention

from attnviz.attention.variants.mobilevit import ContextScores, Separable, phase_ids, unfold
from attnviz.types import Mask, Tokens, UnsupportedMask

WIDTH = 24


def noise(*shape: int, seed: int = 0) -> Tensor:
    """Standard normal numbers, the same for the same seed."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def made(patch: tuple[int, int] = (1, 1)) -> Separable:
    """A module from a fixed seed, its small initial values enlarged so that differences show."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        module = Separable(WIDTH, patch=patch)
        for parameter in module.parameters():
            torch.nn.init.normal_(parameter, std=0.5)
    return module.double()


def hugging_face_twin(module: Separable) -> MobileViTV2LinearSelfAttention:
    """transformers' layer with our parameters; one 1 x 1 convolution makes score, K and V there."""
    theirs = MobileViTV2LinearSelfAttention(MobileViTV2Config(), WIDTH).double().eval()
    inner = (module.score, module.key, module.value)
    theirs.load_state_dict(
        {
            "qkv_proj.convolution.weight": torch.cat([m.weight for m in inner])[..., None, None],
            "qkv_proj.convolution.bias": torch.cat([m.bias for m in inner]),
            "out_proj.convolution.weight": module.out.weight[..., None, None],
            "out_proj.convolution.bias": module.out.bias,
        }
    )
    return theirs


@pytest.mark.parametrize(("grid", "patch"), [((4, 4), (2, 2)), ((4, 6), (2, 2)), ((6, 4), (3, 1)), ((3, 5), (1, 1))])
def test_hugging_face_separable_attention(grid: tuple[int, int], patch: tuple[int, int]) -> None:
    module, x = made(patch), noise(2, grid[0] * grid[1], WIDTH)
    with torch.no_grad():
        expected = hugging_face_twin(module)(unfold(x, grid, patch).movedim(-1, 1))  # [batch channel phase patch]
        y, _ = module(x, queries=Tokens.patches(*grid))
    torch.testing.assert_close(unfold(y, grid, patch).movedim(-1, 1), expected, atol=1e-12, rtol=0)


def test_the_formula_written_out() -> None:
    """y_i = W_O (ReLU(V_i) * sum over j of softmax_j(x w) K_j)."""
    module, x = made(), noise(7, WIDTH)
    y, _ = module(x, queries=Tokens.patches(1, 7))
    exponentials = [module.score(row).exp() for row in x]
    context = sum(e / sum(exponentials) * module.key(row) for e, row in zip(exponentials, x, strict=True))
    expected = torch.stack([module.out(module.value(row).clamp_min(0) * context) for row in x])
    torch.testing.assert_close(y, expected)


def test_what_the_call_records() -> None:
    module, x = made(), noise(7, WIDTH)
    _, (call,) = module(x, queries=Tokens.patches(1, 7))
    assert torch.equal(call.query, torch.ones(1, 7, 1, dtype=torch.float64))
    torch.testing.assert_close(call.key[0], module.score(x))
    torch.testing.assert_close(call.value[0], module.key(x))
    torch.testing.assert_close(call.gate[0], module.value(x).relu())


def test_every_query_shares_one_row() -> None:
    module, x = made(), noise(7, WIDTH)
    _, (call,) = module(x, queries=Tokens.patches(1, 7))
    row = module.score(x)[:, 0].softmax(-1)
    torch.testing.assert_close(call.token_map(), row.expand(1, 7, 7))
    found = call.maps()
    assert [(m.axes, m.map_type, m.stochastic) for m in found.values()] == [
        (("head", "phase", "key"), "context scores", True),
        (("head", "query", "dim"), "channel", False),
    ]
    torch.testing.assert_close(found["context scores"].array, row[None, None])
    torch.testing.assert_close(found["gate"].array, module.value(x).relu()[None])
    assert call.rule.caveat == ContextScores.caveat


def test_one_row_for_each_phase() -> None:
    module, x, tokens = made((2, 2)), noise(24, WIDTH), Tokens.patches(4, 6)
    keep = torch.arange(24) % 5 > 0
    _, (call,) = module(x, queries=tokens, mask=Mask(key_padding=keep))
    rows, whole, ids = call.maps()["context scores"].array[0], call.token_map()[0], phase_ids((4, 6), (2, 2))
    assert rows.shape == (4, 24)
    torch.testing.assert_close(rows[ids], whole)
    assert ((whole > 0) == ((ids[:, None] == ids) & keep)).all()


def test_a_phase_with_nothing_to_attend_to_is_zero() -> None:
    module, tokens, ids = made((2, 2)), Tokens.patches(4, 6), phase_ids((4, 6), (2, 2))
    y, (call,) = module(noise(24, WIDTH), queries=tokens, mask=Mask(key_padding=ids != 2))
    assert torch.equal(call.empty[0], ids == 2)
    assert (call.output[0, ids == 2] == 0).all()
    assert (call.output[0, ids != 2] != 0).any(-1).all()
    torch.testing.assert_close(y[ids == 2], module.out.bias.expand(6, -1))


def test_tokens_without_phases_are_a_bag() -> None:
    """Shuffling the tokens shuffles the output; with phases, only whole patches can be shuffled."""
    x, tokens = noise(24, WIDTH), Tokens.patches(4, 6)
    order = torch.randperm(24, generator=torch.Generator().manual_seed(1))
    for module, same in ((made(), True), (made((2, 2)), False)):
        y, _ = module(x, queries=tokens)
        shuffled, _ = module(x[order], queries=tokens)
        assert torch.allclose(shuffled, y[order], atol=1e-12) == same


def test_memory_is_linear_in_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    """Mixing asks for no rows of a mask and makes no tensor of n x n."""
    tokens = Tokens.patches(64, 64)
    monkeypatch.setattr(Mask, "rows", lambda *_: pytest.fail("n x n rows were made"))
    module = made((2, 2))
    with torch.autograd.graph.saved_tensors_hooks(lambda t: sizes.append(t.numel()) or t, lambda t: t):
        sizes: list[int] = []
        module(noise(4096, WIDTH), queries=tokens)
    assert max(sizes) <= 4096 * WIDTH


def test_values_below_zero_do_not_pass() -> None:
    """Some code leaves the ReLU out: here a closed gate gives exactly zero, and no gradient."""
    module, x = made(), noise(7, WIDTH)
    _, (call,) = module(x, queries=Tokens.patches(1, 7))
    closed = module.value(x)[None] <= 0
    assert closed.any()
    assert (call.output[closed] == 0).all()
    assert (call.output[~closed] != 0).all()


def test_cost_in_numbers() -> None:
    """Width 256, 1,024 tokens, no biases: 3 d² + d parameters, n (3 d² + d) + 2 n d multiply-adds."""
    cost = Separable(256, 8, bias=False).cost(1024, 1024)
    assert (cost.parameters, cost.multiply_adds) == (196_864, 1024 * 196_864 + 2 * 1024 * 256)
    assert (cost.map_bytes, cost.state_bytes) == (4 * 1024 * 257, 0)
    assert Separable(256).cost(1, 1).parameters == 196_864 + 3 * 256 + 1


def test_it_has_one_head_whatever_is_asked() -> None:
    assert Separable(24, 4).heads == Separable(25, 4).heads == 1


def test_what_does_not_fit_is_refused_in_words() -> None:
    phases, x = made((2, 2)), noise(9, WIDTH)
    with pytest.raises(UnsupportedMask, match="grid of 3 x 3 into whole patches of 2 x 2"):
        phases(x, queries=Tokens.patches(3, 3))
    with pytest.raises(UnsupportedMask, match="support CLS"):
        phases(x, queries=Tokens.patches(2, 4, ["CLS"]))
    with pytest.raises(UnsupportedMask, match="rows and columns"):
        phases(x, queries=Tokens(tuple("abcdefghi")))
    y, _ = made()(x, queries=Tokens.patches(2, 4, ["CLS"]))  # without phases there is a place for it
    assert y.shape == (9, WIDTH)
    with pytest.raises(UnsupportedMask, match="the mask keep"):
        made()(x, queries=Tokens.patches(3, 3), mask=Mask(keep=torch.ones(1, 9, 9, dtype=torch.bool)))
    with pytest.raises(ValueError, match="give its rows and columns"):
        Separable(WIDTH, patch=4)
