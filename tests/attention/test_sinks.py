"""A sliding window with sinks: a double loop of the formula, Hugging Face's gpt-oss, its window, its cache."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from attnviz.attention.rules.normalisers import near_rows
from attnviz.attention.variants.sinks import SinkWindow
from attnviz.attention.variants.window import Window
from attnviz.types import Mask, Tokens, UnsupportedMask
from tests.variants import HEADS, WIDTH, features, plain, randomised

EAGER: dict[str, Any] = {"attn_implementation": "eager"}  # explicit weights, for comparison
DIM, COUNT, RADIUS = WIDTH // HEADS, 9, 2
BANDS = {"causal": Mask(causal=True), "symmetric": None}


def made(**options: object) -> SinkWindow:
    """The variant with large random parameters, the sinks among them."""
    return randomised(SinkWindow(WIDTH, HEADS, radius=RADIUS, **options))  # type: ignore[arg-type, return-value]


def by_hand(network: SinkWindow, x: Tensor, causal: bool) -> tuple[Tensor, Tensor]:
    """exp(score) over exp(sink) and those of the window: features [token feature] and weights [head query key]."""
    n, shared = len(x), HEADS // network.kv_heads
    query, key, value = (x @ part.weight.T + part.bias for part in (network.query, network.key, network.value))
    weights, heads = torch.zeros(HEADS, n, n, dtype=torch.float64), torch.zeros(n, WIDTH, dtype=torch.float64)
    for head in range(HEADS):
        own = slice(head * DIM, (head + 1) * DIM)
        read = slice(head // shared * DIM, (head // shared + 1) * DIM)
        sink = math.exp(float(network.normalisation.sink[head]))  # type: ignore[index]
        for i in range(n):
            near = range(max(0, i - RADIUS), i + 1 if causal else min(n, i + RADIUS + 1))
            grown = {j: math.exp(float(query[i, own] @ key[j, read]) / math.sqrt(DIM)) for j in near}
            for j, one in grown.items():
                weights[head, i, j] = one / (sink + sum(grown.values()))
                heads[i, own] += weights[head, i, j] * value[j, read]
    return heads @ network.out.weight.T + network.out.bias, weights


@pytest.mark.parametrize("band", BANDS)
@pytest.mark.parametrize("groups", [None, 2])
def test_the_formula(band: str, groups: int | None) -> None:
    network, x = made(groups=groups), features(COUNT)
    with torch.no_grad():
        expected, weights = by_hand(network, x, band == "causal")
    y, (call,) = network(x, queries=plain(COUNT), mask=BANDS[band])
    torch.testing.assert_close(y, expected, atol=1e-9, rtol=0)
    torch.testing.assert_close(call.token_map(), weights, atol=1e-9, rtol=0)


def test_hugging_faces_gpt_oss() -> None:
    """Their window counts the token itself, so it is one more than the radius; its mask is the caller's there."""
    from transformers import GptOssConfig
    from transformers.models.gpt_oss.modeling_gpt_oss import GptOssAttention

    config = GptOssConfig(
        hidden_size=WIDTH, num_attention_heads=HEADS, num_key_value_heads=2, head_dim=DIM, attention_bias=True, **EAGER
    )
    assert config.sliding_window == 128
    twin, network = GptOssAttention(config, 0).double().eval(), made(groups=2)
    with torch.no_grad():
        for theirs, ours in (("q", network.query), ("k", network.key), ("v", network.value), ("o", network.out)):
            getattr(twin, f"{theirs}_proj").load_state_dict(ours.state_dict())
        twin.sinks.copy_(network.normalisation.sink)  # type: ignore[arg-type]
        x, still = features(2, COUNT), torch.ones(2, COUNT, DIM // 2, dtype=torch.float64)
        distance = torch.arange(COUNT)[:, None] - torch.arange(COUNT)
        closed = torch.zeros(COUNT, COUNT).double().masked_fill((distance < 0) | (distance > RADIUS), float("-inf"))
        expected, weights = twin(x, position_embeddings=(still, 0 * still), attention_mask=closed)
    y, (call,) = network(x, queries=plain(COUNT), mask=Mask(causal=True))
    torch.testing.assert_close(y, expected, atol=1e-9, rtol=0)
    torch.testing.assert_close(call.token_map(), weights, atol=1e-9, rtol=0)


def test_rows_and_their_sink_sum_to_one() -> None:
    _, (call,) = made()(features(COUNT), queries=plain(COUNT))
    sums = call.token_map().sum(-1)
    assert (sums < 1).all()
    assert not call.rule.stochastic
    torch.testing.assert_close(sums + call.maps()["with the sink"].array[..., -1], torch.ones_like(sums))


def test_a_sink_far_below_all_scores_leaves_a_window() -> None:
    """And one far above them leaves nothing at all."""
    network, plain_window = made(), randomised(Window(WIDTH, HEADS, radius=RADIUS))
    assert network.normalisation.sink is not None
    plain_window.load_state_dict({k: v for k, v in network.state_dict().items() if "sink" not in k})
    with torch.no_grad():
        network.normalisation.sink.fill_(-60)
    x, tokens = features(COUNT), plain(COUNT)
    torch.testing.assert_close(network(x, queries=tokens)[0], plain_window(x, queries=tokens)[0])
    with torch.no_grad():
        network.normalisation.sink.fill_(60)
    torch.testing.assert_close(network(x, queries=tokens)[0], network.out.bias.expand(COUNT, -1))


def test_heads_have_sinks_of_their_own_that_learn() -> None:
    network = SinkWindow(WIDTH, HEADS, radius=RADIUS).double()
    sink = network.normalisation.sink
    assert sink is not None
    assert sink.shape == (HEADS,)
    y, _ = network(features(COUNT), queries=plain(COUNT))
    (gradient,) = torch.autograd.grad(y.square().sum(), sink)
    assert (gradient != 0).all()


@pytest.mark.parametrize("mask", [None, Mask(causal=True), Mask(causal=True, key_padding=torch.arange(300) % 7 != 0)])
def test_blocks_of_rows_read_the_keys_of_their_windows_alone(mask: Mask | None) -> None:
    """300 tokens are three blocks; the middle one reads 132 keys, or 130 where it is causal."""
    network, x = made(), features(300)
    _, (call,) = network(x, queries=plain(300), mask=mask)
    torch.testing.assert_close(call.token_map() @ call.value, call.output, atol=1e-12, rtol=0)
    near, within = near_rows(call, list(range(128, 256)))
    assert near.key.shape[-2] == near.value.shape[-2] == (132 if mask is None else 130)
    torch.testing.assert_close(
        call.rule.weights(near, [0, 3], within),
        call.token_map([0, 3], list(range(128, 256)))[..., 126:][..., : near.key.shape[-2]],
    )
    assert near_rows(call, list(range(300)))[0] is call


def test_the_cache_holds_a_window_of_the_keys_that_heads_share() -> None:
    network, x = made(groups=2), features(COUNT)
    _, _, past = network.decode(x, queries=plain(COUNT), keys=plain(COUNT))
    assert [tuple(part.shape) for part in past] == [(2, RADIUS, DIM)] * 2
    for count in (2, 3, 50):
        assert network.cost(count, count).state_bytes == 4 * 2 * min(count, RADIUS + 1) * 2 * DIM


def test_prefix_tokens_are_refused_unless_they_are_global() -> None:
    tokens = Tokens.patches(3, 3, ("CLS",))
    with pytest.raises(UnsupportedMask, match="CLS"):
        made()(features(10), queries=tokens)
    _, (call,) = made(global_prefix=True)(features(10), queries=tokens)
    assert (call.token_map()[:, 0] > 0).all()
    assert (call.token_map()[:, :, 0] > 0).all()
    assert (call.token_map()[:, 9, 1:7] == 0).all()


@pytest.mark.parametrize(("options", "message"), [({"radius": -1}, "radius is -1"), ({"groups": 3}, "do not share 3")])
def test_sizes_that_make_no_sense(options: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SinkWindow(WIDTH, HEADS, **options)  # type: ignore[arg-type]
