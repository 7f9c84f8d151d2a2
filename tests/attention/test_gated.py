"""Gated attention: a double loop of the formula, Hugging Face's Qwen3-Next, gates by channel and by head."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from attnviz.attention import MultiHead
from attnviz.attention.variants.gated import GATE, GatedAttention
from attnviz.types import Mask
from tests.variants import HEADS, WIDTH, features, plain, randomised

EAGER: dict[str, Any] = {"attn_implementation": "eager"}  # explicit weights, for comparison
DIM, COUNT = WIDTH // HEADS, 9


def made(**options: object) -> GatedAttention:
    """The variant with large random parameters."""
    return randomised(GatedAttention(WIDTH, HEADS, **options))  # type: ignore[arg-type, return-value]


def by_hand(network: GatedAttention, x: Tensor, context: Tensor, causal: bool) -> tuple[Tensor, Tensor]:
    """The gate of a query's own input times its weighted sum, one row at a time: features, and gates [token gate]."""
    query = x @ network.query.weight.T + network.query.bias
    key, value = (context @ part.weight.T + part.bias for part in (network.key, network.value))
    gates = 1 / (1 + (-(x @ network.gate.weight.T + network.gate.bias)).exp())
    heads = torch.zeros(len(x), WIDTH, dtype=torch.float64)
    for head in range(HEADS):
        own = slice(head * DIM, (head + 1) * DIM)
        for i in range(len(x)):
            keys = range(i + 1) if causal else range(len(context))
            grown = [math.exp(float(query[i, own] @ key[j, own]) / math.sqrt(DIM)) for j in keys]
            for j, one in zip(keys, grown, strict=True):
                heads[i, own] += one / sum(grown) * value[j, own]
            heads[i, own] *= gates[i, own] if gates.shape[-1] == WIDTH else gates[i, head]
    return heads @ network.out.weight.T + network.out.bias, gates


@pytest.mark.parametrize("gate", ["channel", "head"])
@pytest.mark.parametrize("causal", [False, True])
def test_the_formula(gate: str, causal: bool) -> None:
    network, x = made(gate=gate), features(COUNT)
    with torch.no_grad():
        expected, gates = by_hand(network, x, x, causal)
    y, (call,) = network(x, queries=plain(COUNT), mask=Mask(causal=True) if causal else None)
    torch.testing.assert_close(y, expected, atol=1e-9, rtol=0)
    assert call.gate is not None
    torch.testing.assert_close(call.gate.transpose(0, 1).flatten(1), gates, atol=1e-9, rtol=0)


@pytest.mark.parametrize("gate", ["channel", "head"])
def test_the_gate_is_of_the_query_and_not_of_the_keys(gate: str) -> None:
    network, x, context = made(gate=gate), features(4), features(6, seed=2)
    with torch.no_grad():
        expected, _ = by_hand(network, x, context, False)
    y, (call,) = network(x, context, queries=plain(4), keys=plain(6))
    torch.testing.assert_close(y, expected, atol=1e-9, rtol=0)
    _, (other,) = network(x, features(6, seed=3), queries=plain(4), keys=plain(6))
    assert call.gate is not None
    assert other.gate is not None
    assert torch.equal(call.gate, other.gate)


def test_hugging_faces_qwen() -> None:
    """Qwen3-Next: the gate's rows lie behind the query's, head by head; its norm is ours with factors less one."""
    from transformers import Qwen3NextConfig
    from transformers.models.qwen3_next.modeling_qwen3_next import Qwen3NextAttention

    config = Qwen3NextConfig(
        hidden_size=WIDTH, num_attention_heads=HEADS, num_key_value_heads=2, head_dim=DIM, rms_norm_eps=1e-6, **EAGER
    )
    twin, network = Qwen3NextAttention(config, 0).double().eval(), made(bias=False, qk_norm=True, kv_heads=2)
    with torch.no_grad():
        rows = [part.weight.unflatten(0, (HEADS, DIM)) for part in (network.query, network.gate)]
        twin.q_proj.weight.copy_(torch.cat(rows, 1).flatten(0, 1))
        for theirs, ours in ((twin.k_proj, network.key), (twin.v_proj, network.value), (twin.o_proj, network.out)):
            theirs.weight.copy_(ours.weight)
        for theirs, ours in ((twin.q_norm, network.norms[0]), (twin.k_norm, network.norms[1])):
            theirs.weight.copy_(ours.weight - 1)  # type: ignore[operator]
        x, still = features(2, COUNT), torch.ones(2, COUNT, DIM, dtype=torch.float64)
        closed = torch.full((COUNT, COUNT), float("-inf"), dtype=torch.float64).triu(1)
        expected, _ = twin(x, position_embeddings=(still, 0 * still), attention_mask=closed)
    y, _ = network(x, queries=plain(COUNT), mask=Mask(causal=True))
    torch.testing.assert_close(y, expected, atol=1e-5, rtol=0)  # their softmax is float32


def test_an_open_gate_is_multi_head_attention_and_a_closed_one_adds_nothing() -> None:
    network, twin, x = made(), MultiHead(WIDTH, HEADS).double(), features(COUNT)
    twin.load_state_dict({k: v for k, v in network.state_dict().items() if not k.startswith("gate.")})
    with torch.no_grad():
        network.gate.weight.zero_()
        network.gate.bias.fill_(60)
    y, (call,) = network(x, queries=plain(COUNT))
    torch.testing.assert_close(y, twin(x, queries=plain(COUNT))[0])
    with torch.no_grad():
        network.gate.bias.fill_(-60)
    closed, (shut,) = network(x, queries=plain(COUNT))
    torch.testing.assert_close(closed, network.out.bias.expand(COUNT, -1))
    assert torch.equal(shut.token_map(), call.token_map())  # the map does not show it, and says so
    assert call.rule.stochastic
    assert call.rule.caveat == GATE


@pytest.mark.parametrize("gate", ["channel", "head"])
def test_cost_of_the_gate(gate: str) -> None:
    numbers = WIDTH if gate == "channel" else HEADS
    ours, theirs = GatedAttention(WIDTH, HEADS, gate=gate).cost(5, 9), MultiHead(WIDTH, HEADS).cost(5, 9)
    assert ours.parameters - theirs.parameters == (WIDTH + 1) * numbers
    assert ours.multiply_adds - theirs.multiply_adds == 5 * WIDTH * numbers
    assert ours.map_bytes - theirs.map_bytes == 4 * 5 * numbers
    assert ours.state_bytes == theirs.state_bytes


def test_the_gate_is_a_native_map() -> None:
    _, (call,) = made(gate="head")(features(COUNT), queries=plain(COUNT))
    found = call.maps()["gate"]
    assert (found.axes, found.map_type, found.array.shape) == (("head", "query", "dim"), "channel", (HEADS, COUNT, 1))
    assert ((found.array > 0) & (found.array < 1)).all()


def test_options_keep_what_they_say() -> None:
    _, (call,) = made(sink="score")(features(COUNT), queries=plain(COUNT))
    assert GATE in call.rule.caveat
    assert not call.rule.stochastic
    assert len(call.rule.caveat) > len(GATE)
    _, (call,) = made(normaliser="entmax15")(features(COUNT), queries=plain(COUNT))
    assert call.rule.caveat == GATE
    assert call.rule.stochastic


def test_a_gate_of_something_else_is_refused() -> None:
    with pytest.raises(ValueError, match="gate is 'token'"):
        GatedAttention(WIDTH, HEADS, gate="token")
