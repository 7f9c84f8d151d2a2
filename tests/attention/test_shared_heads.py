"""Shared keys and values: multi-query and grouped-query attention against multi-head, torch and worked numbers."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from attnviz.attention import MultiHead, Variant
from attnviz.attention.variants.multihead import GroupedQuery, MultiQuery
from attnviz.types import Mask, Tokens

WIDTH, HEADS, COUNT = 24, 4, 7
ROW = Tokens(tuple(f"t{i}" for i in range(COUNT)))


def noise(*shape: int, seed: int = 0) -> Tensor:
    """Standard normal numbers, the same for the same seed."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def same_parameters(*networks: Variant) -> None:
    """The parameters of the first in all of them."""
    for network in networks:
        network.double().load_state_dict(networks[0].double().state_dict())


def shared(made: type[MultiHead], **options: int) -> MultiHead:
    """A variant with the same large random parameters each time."""
    network = made(WIDTH, HEADS, **options).double()
    for seed, parameter in enumerate(network.parameters()):
        parameter.data = noise(*parameter.shape, seed=seed) * 0.3
    return network


def answers(network: Variant, mask: Mask | None = None) -> tuple[Tensor, Tensor]:
    """Output and map of one pass over two sequences."""
    y, (call,) = network(noise(2, COUNT, WIDTH, seed=40), queries=ROW, mask=mask)
    return y, call.token_map()


@pytest.mark.parametrize("mask", [None, Mask(causal=True), Mask(key_padding=torch.arange(COUNT) < 4)])
@pytest.mark.parametrize(("groups", "twin"), [(HEADS, MultiHead), (1, MultiQuery)])
def test_groups_at_both_ends(groups: int, twin: type[MultiHead], mask: Mask | None) -> None:
    """As many groups as heads is multi-head attention, one group is multi-query attention."""
    grouped, other = GroupedQuery(WIDTH, HEADS, groups=groups), twin(WIDTH, HEADS)
    same_parameters(grouped, other)
    for ours, theirs in zip(answers(grouped, mask), answers(other, mask), strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize(("made", "options"), [(MultiQuery, {}), (GroupedQuery, {}), (GroupedQuery, {"groups": 1})])
def test_torch_with_tied_rows(made: type[MultiHead], options: dict[str, int]) -> None:
    """nn.MultiheadAttention whose heads of one group have equal rows of keys and values; its padding mask is turned."""
    network = shared(made, **options)
    twin = nn.MultiheadAttention(WIDTH, HEADS, batch_first=True, dtype=torch.float64)

    def tied(parameter: Tensor) -> Tensor:
        groups = parameter.unflatten(0, (network.kv_heads, -1))
        return groups.repeat_interleave(HEADS // network.kv_heads, 0).flatten(0, 1)

    with torch.no_grad():
        for name in ("weight", "bias"):
            query, key, value = (getattr(part, name) for part in (network.query, network.key, network.value))
            getattr(twin, f"in_proj_{name}").copy_(torch.cat([query, tied(key), tied(value)]))
            getattr(twin.out_proj, name).copy_(getattr(network.out, name))
    x, keep = noise(2, COUNT, WIDTH, seed=40), torch.arange(COUNT) < torch.tensor([[5], [COUNT]])
    y, (call,) = network(x, queries=ROW, mask=Mask(key_padding=keep))
    expected, weights = twin(x, x, x, key_padding_mask=~keep, average_attn_weights=False)
    torch.testing.assert_close(y, expected)
    torch.testing.assert_close(call.token_map(), weights)


@pytest.mark.parametrize("groups", [1, 2, 4])
def test_kernel_with_shared_heads(groups: int) -> None:
    _, (call,) = shared(GroupedQuery, groups=groups)(noise(2, COUNT, WIDTH), queries=ROW)
    expected = F.scaled_dot_product_attention(call.query, call.key, call.value, enable_gqa=True)
    torch.testing.assert_close(call.output, expected)
    assert call.key.shape[-3] == call.value.shape[-3] == groups


def test_heads_of_a_group_differ_by_their_queries_only() -> None:
    """With equal queries, heads 0 and 1 share a map, and so do 2 and 3, but not 1 and 2."""
    network = shared(GroupedQuery, groups=2)
    with torch.no_grad():
        network.query.weight.copy_(network.query.weight[:6].repeat(4, 1))
        network.query.bias.copy_(network.query.bias[:6].repeat(4))
    _, (call,) = network(noise(COUNT, WIDTH), queries=ROW)
    first, second, third, fourth = call.token_map()
    assert torch.equal(first, second)
    assert torch.equal(third, fourth)
    assert (second - third).abs().max() > 1e-3


@pytest.mark.parametrize(("heads", "groups"), [(1, 1), (2, 1), (3, 1), (4, 2), (6, 3), (8, 4), (9, 3)])
def test_groups_nobody_chose_divide_the_heads(heads: int, groups: int) -> None:
    assert GroupedQuery(6 * heads, heads).kv_heads == groups


@pytest.mark.parametrize("groups", [0, 3, 5, 8, -1])
def test_groups_that_do_not_divide_are_refused(groups: int) -> None:
    with pytest.raises(ValueError, match=f"4 heads do not share {groups} key-value heads"):
        GroupedQuery(WIDTH, HEADS, groups=groups)


@pytest.mark.parametrize(
    ("made", "options", "parameters", "multiply_adds", "cache"),
    [
        (MultiHead, {}, 262_144, 805.3, 6_291_456),
        (GroupedQuery, {"groups": 2}, 163_840, 704.6, 1_572_864),
        (MultiQuery, {}, 147_456, 687.9, 786_432),
    ],
)
def test_worked_numbers(
    made: type[MultiHead], options: dict[str, int], parameters: int, multiply_adds: float, cache: int
) -> None:
    """Width 256, 8 heads, 1,024 tokens, no biases; the cache of six layers in half precision."""
    network = made(256, 8, bias=False, **options)
    cost = network.cost(1024, 1024)
    assert cost.parameters == parameters == sum(p.numel() for p in network.parameters())
    assert cost.multiply_adds / 1e6 == pytest.approx(multiply_adds, abs=0.05)
    assert 6 * cost.state_bytes // 2 == cache


def test_the_cache_holds_what_is_shared() -> None:
    network = shared(MultiQuery)
    _, _, past = network.decode(noise(COUNT, WIDTH), queries=ROW, keys=ROW)
    assert [tuple(part.shape) for part in past] == [(1, COUNT, 6), (1, COUNT, 6)]
    assert sum(4 * part.numel() for part in past) == network.cost(COUNT, COUNT).state_bytes


@pytest.mark.parametrize(("made", "shared_by"), [(MultiHead, 4), (GroupedQuery, 2), (MultiQuery, 1)])
def test_the_cache_grows_with_the_keys_and_not_with_the_queries(made: type[MultiHead], shared_by: int) -> None:
    network = made(WIDTH, HEADS)
    for n_q, n_k in ((3, 8), (8, 3), (1, 5)):
        assert network.cost(n_q, n_k).state_bytes == 4 * 2 * n_k * shared_by * 6
        assert network.cost(n_q, n_k).map_bytes == 4 * HEADS * n_q * n_k
