"""Linformer: parity with the linformer package, identity with multi-head attention, its start, masks, memory."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from linformer.linformer import LinformerSelfAttention
from torch import Tensor

from attnviz.attention.variants.linformer import Linformer, LinformerAttention
from attnviz.types import AttentionCall, Mask, UnsupportedMask
from tests.counting import largest, multiply_adds
from tests.variants import HEADS, WIDTH, features, plain, variant

COUNT, SLOTS = 12, 5


def made(count: int = COUNT, **options: Any) -> LinformerAttention:
    """A module from a fixed seed, with parameters large enough for differences to show."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = LinformerAttention(WIDTH, HEADS, tokens=plain(count), **({"slots": SLOTS} | options))
        for parameter in network.parameters():
            torch.nn.init.normal_(parameter, std=0.3)
    return network.double()


def noise(*shape: int, seed: int = 0) -> Tensor:
    """Standard normal numbers."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_linformer_package() -> None:
    network, x = made(bias=False), features(3, COUNT)
    twin = LinformerSelfAttention(WIDTH, COUNT, k=SLOTS, heads=HEADS).double()
    with torch.no_grad():
        projections = (network.query, network.key, network.value, network.out)
        for theirs, ours in zip((twin.to_q, twin.to_k, twin.to_v, twin.to_out), projections, strict=True):
            theirs.weight.copy_(ours.weight)
        twin.to_out.bias.zero_()
        twin.proj_k.copy_(network.of_key)
        twin.proj_v.copy_(network.of_value)
    y, _ = network(x, queries=plain(COUNT))
    torch.testing.assert_close(y, twin(x), atol=1e-12, rtol=0)


@pytest.mark.parametrize("shared", [False, True])
def test_by_double_loop(shared: bool) -> None:
    """The map too: A Fᵀ, entry by entry."""
    network = made(shared=shared)
    rule = network.current()
    _, (call,) = network(features(COUNT), queries=plain(COUNT))
    for head in range(HEADS):
        keys = [sum(rule.of_key[j, s] * call.key[head, j] for j in range(COUNT)) for s in range(SLOTS)]
        for i in range(COUNT):
            exponentials = torch.stack([(call.query[head, i] @ key / math.sqrt(WIDTH / HEADS)).exp() for key in keys])
            weights = exponentials / exponentials.sum()
            torch.testing.assert_close(call.weights([head], [i])[0, 0], weights)
            row = torch.stack([(weights * rule.of_value[j]).sum() for j in range(COUNT)])
            torch.testing.assert_close(call.token_map([head], [i])[0, 0], row)
            torch.testing.assert_close(call.output[head, i], row @ call.value[head])


def test_identity_mixtures_are_multi_head_attention() -> None:
    mha, network = variant("mha"), made(slots=COUNT)
    network.load_state_dict(mha.state_dict(), strict=False)
    with torch.no_grad():
        network.of_key.copy_(torch.eye(COUNT))
        assert network.of_value is not None
        network.of_value.copy_(torch.eye(COUNT))
    (y, (call,)), (expected, (other,)) = (n(features(COUNT), queries=plain(COUNT)) for n in (network, mha))
    torch.testing.assert_close(y, expected, atol=1e-13, rtol=0)
    torch.testing.assert_close(call.token_map(), other.token_map(), atol=1e-13, rtol=0)


def test_at_the_start_no_query_looks_at_one_slot_alone() -> None:
    """Deviation 1 / √n: entropy above 85 % of log k. Mixtures of deviation one would be nearly one-hot."""
    count, slots, dim = 512, 128, 32
    network = LinformerAttention(HEADS * dim, HEADS, tokens=plain(count), slots=slots)
    query, key, value = (noise(HEADS, count, dim, seed=s).float() for s in (1, 2, 3))
    tokens = plain(count)

    def share(rule: Linformer) -> float:
        call = AttentionCall("", 0, rule, query, key, value, tokens, tokens, scale=dim**-0.5)
        return (torch.special.entr(call.weights()).sum(-1).mean() / math.log(slots)).item()

    rule = network.current()
    assert share(rule) > 0.85
    assert share(Linformer(rule.of_key * count**0.5, rule.of_value)) < 0.3
    x = torch.randn(count, HEADS * dim, generator=torch.Generator().manual_seed(4))
    _, (call,) = network(x, queries=tokens)
    assert torch.special.entr(call.weights()).sum(-1).mean() > 0.85 * math.log(slots)


@pytest.mark.parametrize("shared", [False, True])
def test_mixtures_are_learned(shared: bool) -> None:
    network = made(shared=shared)
    network(features(COUNT), queries=plain(COUNT))[0].square().sum().backward()
    names = {name for name, _ in network.named_parameters()} & {"of_key", "of_value"}
    assert names == ({"of_key"} if shared else {"of_key", "of_value"})
    for name in names:
        gradient = network.get_parameter(name).grad
        assert gradient is not None
        assert (gradient != 0).all()


def test_the_effective_map_is_signed_and_says_so() -> None:
    _, (call,) = made()(features(COUNT), queries=plain(COUNT))
    assert (call.token_map() < 0).any()
    assert (call.token_map().sum(-1) - 1).abs().max() > 0.1
    assert (call.rule.map_type, call.rule.stochastic, call.rule.exact) == ("effective", False, True)
    assert "do not sum to 1" in call.rule.caveat
    found = call.maps()
    assert {name: (m.map_type, m.stochastic) for name, m in found.items()} == {
        "weights over slots": ("slots", True),
        "keys in each slot": ("slots", False),
        "values in each slot": ("slots", False),
    }
    assert found["weights over slots"].array.shape == (HEADS, COUNT, SLOTS)
    assert call.scores(rows=[3]).shape == (HEADS, 1, SLOTS)
    assert call.key.shape == call.value.shape == (HEADS, COUNT, WIDTH // HEADS)


def test_masked_tokens_are_zero_before_they_are_mixed() -> None:
    """As if their rows of E and F were zero, whatever the tokens hold."""
    network, x = made(), features(COUNT)
    keep = torch.arange(COUNT) != 3
    y, (call,) = network(x, queries=plain(COUNT), mask=Mask(key_padding=keep))
    rule = network.current()
    cut = Linformer(rule.of_key * keep[:, None], rule.of_value * keep[:, None])
    torch.testing.assert_close(call.output, replace(call, mask=None).with_rule(cut).output)
    assert (call.token_map()[..., 3] == 0).all()
    x[3] *= 100
    others = torch.arange(COUNT) != 3
    again, _ = network(x, queries=plain(COUNT), mask=Mask(key_padding=keep))
    torch.testing.assert_close(again[others], y[others], atol=0, rtol=0)


def test_memory_grows_with_the_tokens() -> None:
    network = variant("linformer", torch.float32, plain(4096))
    x = features(4096, dtype=torch.float32)
    assert largest(lambda: network(x, queries=plain(4096))[0].sum().backward()) <= 4096 * HEADS * 16


def test_what_it_cannot_do_is_refused() -> None:
    with pytest.raises(ValueError, match="13 slots for 12 tokens"):
        made(slots=13)
    with pytest.raises(ValueError, match="0 slots for 12 tokens"):
        made(slots=0)
    with pytest.raises(UnsupportedMask, match="12 tokens and cannot read 13"):
        made()(features(13), queries=plain(13))
    _, (call,) = variant("mha")(features(COUNT), queries=plain(COUNT))
    assert call.with_rule(made().current()).token_map().shape == (HEADS, COUNT, COUNT)
    with pytest.raises(UnsupportedMask, match="13 tokens and cannot read 12"):
        call.with_rule(made(13).current())
    with pytest.raises(UnsupportedMask, match="the mask causal"):
        replace(call, mask=Mask(causal=True)).with_rule(made().current())


def test_cost_in_numbers() -> None:
    """Width 256, 8 heads, 1,024 tokens, 64 slots, no biases."""
    options = {"tokens": plain(1024), "slots": 64, "bias": False}
    cost = LinformerAttention(256, 8, **options).cost(1024, 1024)
    assert (cost.parameters, cost.multiply_adds) == (262_144 + 131_072, 335_544_320)
    assert cost.map_bytes == 4 * 8 * 1024 * 64
    assert LinformerAttention(256, 8, shared=True, **options).cost(1024, 1024).parameters == 262_144 + 65_536
    network, x = made(), features(COUNT)
    inside = 2 * COUNT * SLOTS * WIDTH  # scores and mixing, in the fused kernel
    counted = multiply_adds(lambda: network(x, queries=plain(COUNT)))
    assert network.cost(COUNT, COUNT).multiply_adds == counted + inside


@pytest.mark.parametrize("shared", [False, True])
def test_a_shorter_sequence_is_one_filled_up_with_masked_tokens(shared: bool) -> None:
    """So a network for texts reads short ones as the original does, which fills them up; longer ones are refused."""
    network, count = made(shared=shared, shorter=True), COUNT - 4
    x = features(2, COUNT)
    keep = torch.arange(COUNT) < count
    filled, (whole,) = network(x, queries=plain(COUNT), mask=Mask(key_padding=keep))
    y, (call,) = network(x[:, :count], queries=plain(count))
    torch.testing.assert_close(y, filled[:, :count], atol=1e-12, rtol=0)
    torch.testing.assert_close(call.token_map(), whole.token_map()[..., :count, :count], atol=1e-12, rtol=0)
    last, _ = network(x[:, -count:], queries=plain(count))
    assert not torch.allclose(last, y)  # it is the first rows that are used, whatever stands there
    with pytest.raises(UnsupportedMask):
        network(features(COUNT + 1), queries=plain(COUNT + 1))
    with pytest.raises(UnsupportedMask):
        made(shared=shared)(x[:, :count], queries=plain(count))
