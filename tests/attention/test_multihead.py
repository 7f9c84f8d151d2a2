"""Multi-head attention by hand, and against torch's own."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from attnviz.attention import MultiHead
from attnviz.attention.rules.softmax import Softmax
from attnviz.types import AttentionCall, Mask, Tokens

WIDTH, HEADS, COUNT = 24, 4, 7


def tokens(count: int) -> Tokens:
    """Tokens named by their number."""
    return Tokens(tuple(str(i) for i in range(count)))


def made(kv_heads: int | None = None, dtype: torch.dtype = torch.float32, bias: bool = True) -> MultiHead:
    """A module from a fixed seed."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        module = MultiHead(WIDTH, HEADS, kv_heads=kv_heads, bias=bias)
        for parameter in module.parameters():
            nn.init.normal_(parameter, std=0.3)
    return module.to(dtype)


def noise(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    """Standard normal numbers."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def torch_twin(module: MultiHead) -> nn.MultiheadAttention:
    """nn.MultiheadAttention with our parameters; shared keys and values repeated for each head."""
    twin = nn.MultiheadAttention(WIDTH, HEADS, batch_first=True, dtype=module.out.weight.dtype)
    repeats = HEADS // module.kv_heads

    def every_head(parameter: Tensor) -> Tensor:
        return parameter.unflatten(0, (module.kv_heads, -1)).repeat_interleave(repeats, 0).flatten(0, 1)

    with torch.no_grad():
        rows = [(m.weight, m.bias) for m in (module.query, module.key, module.value)]
        for k in (1, 2):
            rows[k] = (every_head(rows[k][0]), every_head(rows[k][1]))
        twin.in_proj_weight.copy_(torch.cat([weight for weight, _ in rows]))
        twin.in_proj_bias.copy_(torch.cat([bias for _, bias in rows]))
        twin.out_proj.weight.copy_(module.out.weight)
        twin.out_proj.bias.copy_(module.out.bias)
    return twin


def test_two_tokens_by_hand() -> None:
    """Scores [[0, ln 3], [ln 1, 0]] give weights [[1/4, 3/4], [1/2, 1/2]]."""
    query, key = torch.tensor([[[1.0, 0.0], [0.0, 1.0]]]), torch.tensor([[[0.0, 0.0], [math.log(3), 0.0]]])
    value = torch.tensor([[[4.0], [8.0]]])
    call = AttentionCall(
        name="by hand", layer=0, rule=Softmax(), query=query, key=key, value=value, queries=tokens(2), keys=tokens(2)
    )
    torch.testing.assert_close(call.token_map(), torch.tensor([[[0.25, 0.75], [0.5, 0.5]]]))
    torch.testing.assert_close(call.rule.mix(call), torch.tensor([[[7.0], [6.0]]]))


@pytest.mark.parametrize("kv_heads", [4, 2, 1])
def test_torch_multihead_attention(kv_heads: int) -> None:
    module = made(kv_heads, torch.float64)
    x, context = noise(3, COUNT, WIDTH, dtype=torch.float64), noise(3, 5, WIDTH, seed=1, dtype=torch.float64)
    y, (call,) = module(x, context, queries=tokens(COUNT), keys=tokens(5))
    expected, weights = torch_twin(module)(x, context, context, average_attn_weights=False)
    torch.testing.assert_close(y, expected)
    torch.testing.assert_close(call.token_map(), weights)


def test_torch_multihead_attention_masked() -> None:
    """torch's key padding mask means the opposite: True = blocked."""
    module, x = made(), noise(2, COUNT, WIDTH)
    keep = torch.arange(COUNT) < torch.tensor([[COUNT], [4]])
    y, _ = module(x, queries=tokens(COUNT), mask=Mask(key_padding=keep))
    expected, _ = torch_twin(module)(x, x, x, key_padding_mask=~keep)
    torch.testing.assert_close(y, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("kv_heads", [4, 2, 1])
def test_scaled_dot_product_attention_with_shared_heads(kv_heads: int) -> None:
    _, (call,) = made(kv_heads)(noise(2, COUNT, WIDTH), queries=tokens(COUNT))
    expected = F.scaled_dot_product_attention(call.query, call.key, call.value, enable_gqa=True)
    torch.testing.assert_close(call.output, expected, atol=1e-5, rtol=0)


def test_shared_heads_by_double_loop() -> None:
    """Head q uses key-value head floor(q g / h), in float64 and written out."""
    module = made(2, torch.float64)
    x = noise(COUNT, WIDTH, dtype=torch.float64)
    y, _ = module(x, queries=tokens(COUNT))
    dim, mixed = WIDTH // HEADS, []
    for head in range(HEADS):
        own, shared = slice(head * dim, (head + 1) * dim), slice(head // 2 * dim, (head // 2 + 1) * dim)
        query, key, value = module.query(x)[:, own], module.key(x)[:, shared], module.value(x)[:, shared]
        rows = []
        for i in range(COUNT):
            exponentials = torch.stack([(query[i] @ key[j] / math.sqrt(dim)).exp() for j in range(COUNT)])
            rows.append(exponentials / exponentials.sum() @ value)
        mixed.append(torch.stack(rows))
    torch.testing.assert_close(y, module.out(torch.cat(mixed, -1)))


def test_keys_and_values_are_recorded_unexpanded() -> None:
    _, (call,) = made(2)(noise(COUNT, WIDTH), queries=tokens(COUNT))
    assert call.key.shape == call.value.shape == (2, COUNT, 6)
    assert call.query.shape == call.output.shape == (HEADS, COUNT, 6)
    assert call.kv_heads_of(range(HEADS)) == [0, 0, 1, 1]


def test_tokens_without_positions_are_a_bag() -> None:
    """Shuffling the tokens shuffles the output, and nothing else happens."""
    module, x = made(dtype=torch.float64), noise(COUNT, WIDTH, dtype=torch.float64)
    order = torch.tensor([3, 0, 6, 1, 5, 2, 4])
    y, (call,) = module(x, queries=tokens(COUNT))
    shuffled, (other,) = module(x[order], queries=tokens(COUNT))
    torch.testing.assert_close(shuffled, y[order])
    torch.testing.assert_close(other.token_map(), call.token_map()[:, order][:, :, order])


@pytest.mark.parametrize(
    ("kv_heads", "parameters", "multiply_adds"),
    [(8, 262_144, 805_306_368), (2, 163_840, 704_643_072), (1, 147_456, 687_865_856)],
)
def test_cost_in_numbers(kv_heads: int, parameters: int, multiply_adds: int) -> None:
    """Width 256, 8 heads, 1,024 tokens, no biases: 4 d² and 4 n d² + 2 n² d for heads of their own."""
    cost = MultiHead(256, 8, kv_heads=kv_heads, bias=False).cost(1024, 1024)
    assert (cost.parameters, cost.multiply_adds) == (parameters, multiply_adds)
    assert cost.map_bytes == 33_554_432
    assert cost.state_bytes == 4 * 2 * 1024 * kv_heads * 32


@pytest.mark.parametrize(("talking", "times"), [("", 0), ("before", 1), ("after", 1), ("both", 2)])
def test_talking_costs_a_product_of_heads_for_each_pair(talking: str, times: int) -> None:
    plain, talks = MultiHead(WIDTH, HEADS).cost(3, 8), MultiHead(WIDTH, HEADS, talking=talking).cost(3, 8)
    assert talks.multiply_adds - plain.multiply_adds == times * HEADS**2 * 3 * 8
    assert talks.parameters - plain.parameters == times * HEADS**2
    normed = MultiHead(WIDTH, HEADS, qk_norm=True, sink="score").cost(3, 8)
    assert normed.parameters - plain.parameters == 2 * WIDTH // HEADS + HEADS


def test_sizes_that_do_not_divide() -> None:
    with pytest.raises(ValueError, match="width 25 does not split into 4 heads"):
        MultiHead(25, 4)
    with pytest.raises(ValueError, match="4 heads do not share 3 key-value heads"):
        MultiHead(24, 4, kv_heads=3)


@pytest.mark.parametrize("size", [1e-3, 1.0, 1e3])
def test_normalised_queries_and_keys_of_any_size(size: float) -> None:
    """Their root mean square is one, whether they come large or small."""
    module = MultiHead(WIDTH, HEADS, qk_norm=True, bias=False).double()
    assert [tuple(norm.weight.shape) for norm in module.norms] == [(WIDTH // HEADS,)] * 2
    for part in (module.query, module.key):
        part.weight.data = torch.eye(WIDTH, dtype=torch.float64)
    spread = noise(COUNT, WIDTH, dtype=torch.float64).unflatten(-1, (HEADS, -1))
    x = (spread / spread.square().mean(-1, keepdim=True).sqrt()).flatten(-2) * size
    _, (call,) = module(x, queries=tokens(COUNT))
    for vectors in (call.query, call.key):
        lengths = vectors.square().mean(-1).sqrt()
        # 1e-6 is added to the mean square: at 1e-3 that is as much as is there
        torch.testing.assert_close(lengths, torch.full_like(lengths, size / math.sqrt(size**2 + 1e-6)))


def test_cost_of_two_lengths() -> None:
    """Three queries and eight keys; keys and values of two heads of six features are kept of the eight."""
    cost = MultiHead(WIDTH, HEADS, kv_heads=2).cost(3, 8)
    assert cost.parameters == 2 * WIDTH * WIDTH + 2 * WIDTH * 12 + 2 * WIDTH + 2 * 12
    assert cost.multiply_adds == 2 * 3 * WIDTH**2 + 2 * 8 * WIDTH * 12 + 2 * 3 * 8 * WIDTH
    assert cost.map_bytes == 4 * HEADS * 3 * 8
    assert cost.state_bytes == 4 * 2 * 8 * 12


def test_learned_options_are_read_anew_in_every_pass() -> None:
    """Other parameters for one pass, as averages of training have them, are those the pass goes by."""
    module, x = MultiHead(WIDTH, HEADS, sink="score"), noise(COUNT, WIDTH)
    usual, _ = module(x, queries=tokens(COUNT))
    given = {"normalisation.sink": torch.full((HEADS,), 50.0)}
    drained, _ = torch.func.functional_call(module, given, (x,), {"queries": tokens(COUNT)})
    torch.testing.assert_close(drained, module.out.bias.expand_as(drained))
    assert not torch.allclose(usual, drained)
