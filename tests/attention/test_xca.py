"""Cross-covariance attention: the closed form, what it has no map of, masks, memory."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from attnviz.attention.variants.xca import Channel, CrossCovariance
from attnviz.types import AttentionCall, Mask, NoTokenMap, Tokens, UnsupportedMask
from tests.counting import largest, multiply_adds
from tests.variants import HEADS, WIDTH, features, plain, variant

COUNT, DIM = 9, WIDTH // HEADS


def made(temperatures: tuple[float, ...] = (1.0, 0.5, 0.1, 2.0)) -> CrossCovariance:
    """A module from a fixed seed; each head has its own temperature."""
    network = variant("xca")
    assert isinstance(network, CrossCovariance)
    with torch.no_grad():
        network.log_temperature.copy_(torch.tensor(temperatures).log())
    return network


def by_loops(call: AttentionCall, temperatures: tuple[float, ...], kept: list[int]) -> Tensor:
    """y_ic = sum over c' of softmax_c'(q̂_c . k̂_c' / τ) v_ic', the columns q̂_c, k̂_c' of length one over kept tokens."""
    output = torch.zeros_like(call.value)
    for head in range(HEADS):
        query, key, value = call.query[head], call.key[head], call.value[head]
        for c in range(DIM):
            length = math.sqrt(sum(query[i, c].item() ** 2 for i in kept))
            scores = []
            for other in range(DIM):
                other_length = math.sqrt(sum(key[i, other].item() ** 2 for i in kept))
                product = sum((query[i, c] * key[i, other]).item() for i in kept)
                scores.append(product / length / other_length / temperatures[head])
            exponentials = [math.exp(score) for score in scores]
            for i in range(COUNT):
                mixed = sum(e * value[i, other].item() for other, e in enumerate(exponentials))
                output[head, i, c] = mixed / sum(exponentials)
    return output


@pytest.mark.parametrize("masked", [[], [2, 5, 8]])
def test_closed_form(masked: list[int]) -> None:
    kept = [i for i in range(COUNT) if i not in masked]
    keep = torch.tensor([i in kept for i in range(COUNT)])
    temperatures = (1.0, 0.5, 0.1, 2.0)
    with torch.no_grad():
        _, (call,) = made()(features(COUNT), queries=plain(COUNT), mask=Mask(key_padding=keep) if masked else None)
    torch.testing.assert_close(call.output, by_loops(call, temperatures, kept), atol=1e-6, rtol=0)  # τ in float32
    torch.testing.assert_close(call.value @ call.weights().transpose(-1, -2), call.output)


def test_closed_form_to_the_last_digit() -> None:
    """Temperature one, as at the start."""
    with torch.no_grad():
        _, (call,) = made((1.0,) * 4)(features(COUNT), queries=plain(COUNT))
    torch.testing.assert_close(call.output, by_loops(call, (1.0,) * 4, list(range(COUNT))), atol=1e-13, rtol=0)


def test_there_is_no_token_map_and_it_says_why() -> None:
    _, (call,) = made()(features(COUNT), queries=plain(COUNT))
    for asked in (call.token_map, call.scores, lambda: call.weights(rows=[1, 2])):
        with pytest.raises(NoTokenMap, match="attends over channels"):
            asked()
    with pytest.raises(NoTokenMap, match="attends over channels"):
        call.propagate(torch.ones(COUNT, dtype=torch.float64))
    with pytest.raises(NoTokenMap, match="attends over channels"):
        call.map_gradient(call.output)
    assert not call.rule.exact
    assert call.weights([2, 0]).shape == (2, DIM, DIM)
    assert torch.equal(call.weights([2, 0]), call.weights()[[2, 0]])
    (found,) = call.maps().values()
    assert (found.map_type, found.stochastic) == ("channel", True)
    torch.testing.assert_close(found.array.sum(-1), torch.ones(HEADS, DIM, dtype=torch.float64))


def test_padding_changes_nothing() -> None:
    network, x = made(), features(COUNT)
    padded = torch.cat([x, 100 * features(4, seed=8)])
    y, _ = network(padded, queries=plain(COUNT + 4), mask=Mask(key_padding=torch.arange(COUNT + 4) < COUNT))
    torch.testing.assert_close(y[:COUNT], network(x, queries=plain(COUNT))[0], atol=1e-12, rtol=0)


def test_tokens_without_positions_are_a_bag() -> None:
    network, x = made(), features(COUNT)
    order = torch.randperm(COUNT, generator=torch.Generator().manual_seed(2))
    (y, (call,)), (shuffled, (other,)) = (network(each, queries=plain(COUNT)) for each in (x, x[order]))
    torch.testing.assert_close(shuffled, y[order], atol=1e-13, rtol=0)
    torch.testing.assert_close(other.weights(), call.weights(), atol=1e-13, rtol=0)


def test_temperatures_are_learned_and_stay_positive() -> None:
    network = made((1.0,) * 4)
    network(features(COUNT), queries=plain(COUNT))[0].square().sum().backward()
    assert network.log_temperature.grad is not None
    assert (network.log_temperature.grad != 0).all()
    cold, warm = made((0.01,) * 4), made((100.0,) * 4)
    sharp, even = (n(features(COUNT), queries=plain(COUNT))[1][0].weights() for n in (cold, warm))
    assert sharp.amax(-1).mean() > 0.9
    torch.testing.assert_close(even, torch.full_like(even, 1 / DIM), atol=1e-2, rtol=0)


def test_memory_does_not_hold_token_pairs() -> None:
    network, x, tokens = variant("xca", torch.float32), features(4096, dtype=torch.float32), plain(4096)
    assert largest(lambda: network(x, queries=tokens)[0].sum().backward()) <= 4096 * WIDTH


def test_the_layer_of_another_variant() -> None:
    """Temperature one and no scale; a cross call has no tokens in common."""
    _, (call,) = variant("mha")(features(COUNT), queries=plain(COUNT))
    scores = F.normalize(call.query, dim=-2).transpose(-1, -2) @ F.normalize(call.key, dim=-2)
    under = call.with_rule(Channel())
    torch.testing.assert_close(under.output, call.value @ scores.softmax(-1).transpose(-1, -2))
    with pytest.raises(UnsupportedMask, match="the mask causal"):
        replace(call, mask=Mask(causal=True)).with_rule(Channel())
    with pytest.raises(UnsupportedMask, match="from the same tokens"):
        replace(call, keys=Tokens(call.keys.labels, stream="source")).with_rule(Channel())


def test_cost_in_numbers() -> None:
    """Width 256, 8 heads, 1,024 tokens, no biases."""
    cost = CrossCovariance(256, 8, bias=False).cost(1024, 1024)
    assert (cost.parameters, cost.multiply_adds) == (262_152, 285_212_672)
    assert cost.map_bytes == 4 * 8 * 32 * 32
    network, x = variant("xca"), features(COUNT)
    assert network.cost(COUNT, COUNT).multiply_adds == multiply_adds(lambda: network(x, queries=plain(COUNT)))
