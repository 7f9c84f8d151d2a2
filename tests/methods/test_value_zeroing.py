"""Value zeroing against layers run once for every token, its value set to zero."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

import attnviz
from attnviz.methods import value_zeroing
from attnviz.types import AttentionCall, Mask
from tests.materialised import SHAPES, Opened, opened, rolled
from tests.methods.test_rollout import Fake, random_trace


@torch.no_grad()
def brute_force(block, x: torch.Tensor, call: AttentionCall) -> np.ndarray:
    """1 - cos(layer(x)_i, layer(x with value t zero)_i) [query key], one whole layer for each t."""
    normed = block.attention_norm(x) if block.norm_first else x
    heads = call.kv_heads_of(range(call.heads))
    maps = call.token_map()

    gated = call.gate is not None and call.gate.shape[-2] > 1  # separable attention: its keys are what is summed
    values = (block.attention.key if gated else block.attention.value)(normed)

    def layer(zeroed: int | None) -> torch.Tensor:
        value = values
        if zeroed is not None:
            value = torch.cat([value[:zeroed], torch.zeros_like(value[:1]), value[zeroed + 1 :]])
        output = maps @ value.unflatten(-1, (call.value.shape[-3], -1)).transpose(0, 1)[heads]
        output = output if call.gate is None else call.gate * output
        summed = x + block.attention.out(output.transpose(0, 1).flatten(-2))
        return block.feed_forward(summed if block.norm_first else block.attention_norm(summed))

    plain = layer(None)
    cosines = [torch.cosine_similarity(plain, layer(t), dim=-1) for t in range(len(x))]
    return (1 - torch.stack(cosines, -1)).double().numpy()


def factors(model: Opened, item: tuple[int, ...] = ()) -> list[np.ndarray]:
    """`brute_force` of every layer of one item of a batch."""
    return [
        brute_force(block, model.trace.residuals["main"][layer][item], call)
        for layer, (block, call) in enumerate(zip(model.network.blocks, model.trace.calls, strict=True))
    ]


@pytest.mark.parametrize("shape", SHAPES)
def test_changes_are_those_of_zeroed_layers(shape):
    model = opened(**SHAPES[shape])
    expected, count = factors(model), len(model.trace.calls[0].queries)
    for factor, call in zip(expected, model.trace.calls, strict=True):
        found = value_zeroing.changes(model, model.trace, call)(list(range(count)))
        assert np.abs(found.numpy() - factor).max() < 1e-10
        assert factor.max() > 1e-4
    for start, row in (("answer", model.trace.pooling["main"].numpy()), (3, np.eye(count)[3])):
        relevance = attnviz.explain("value zeroing", model, model.sample, start=start)
        assert np.abs(relevance.numpy() - rolled(expected, row)).max() < 1e-8


def test_a_shipped_network_in_single_precision():
    model = attnviz.load("vit-digits")
    sample = model.prepare(Image.linear_gradient("L"))
    trace = model(sample)
    for layer, call in enumerate(trace.calls):
        expected = brute_force(model.network.blocks[layer], trace.residuals["main"][layer], call)
        found = value_zeroing.changes(model, trace, call)(list(range(len(call.queries))))
        assert np.abs(found.detach().numpy() - expected).max() < 1e-6


def test_batches_removed_tokens_and_ablated_heads():
    keep = torch.ones(16, dtype=torch.bool)
    keep[[3, 8]] = False
    model = opened(
        batch=(2,), keep_tokens=keep, ablated_heads=torch.tensor([[0, 1, 0, 0], [0] * 4]).bool(), norm_first=False
    )
    together = attnviz.explain("value zeroing", model, model.sample)
    for item in range(2):
        alone = opened(batch=(2,), norm_first=False)  # the same network, opened to be asked for one item
        alone.trace = model.trace
        maps = [call.token_map()[item] for call in model.trace.calls]
        expected = [
            brute_force(block, x[item], One(call, one))
            for block, x, call, one in zip(
                model.network.blocks, model.trace.residuals["main"], model.trace.calls, maps, strict=False
            )
        ]
        expected = [np.where(np.abs(factor) < 1e-15, 0, factor) for factor in expected]
        row = model.trace.pooling["main"][item].numpy()
        assert np.abs(together[item].numpy() - rolled(expected, row)).max() < 1e-8
    assert (together[:, ~keep] == 0).all()
    causal = Fake(random_trace(mask=Mask(causal=True)))
    later = attnviz.explain("value zeroing", causal, causal.sample, start=6)
    assert (later[7:] == 0).all()
    assert (later[:7] > 0).all()


class One:
    """One item of a batched call, as far as `brute_force` asks."""

    def __init__(self, call: AttentionCall, maps: torch.Tensor):
        self.heads, self.gate, self.value, self.maps = call.heads, call.gate, call.value[0], maps
        self.kv_heads_of = call.kv_heads_of

    def token_map(self) -> torch.Tensor:
        """The map of the item."""
        return self.maps


def test_only_rows_that_relevance_has_reached_are_computed(monkeypatch):
    """The answer of CLS needs one row of the last layer."""
    model, asked = opened(), []
    plain = value_zeroing.changes

    def noting(model, trace, call):
        blocks = plain(model, trace, call)
        return lambda rows: asked.append((call.layer, rows)) or blocks(rows)

    monkeypatch.setattr(value_zeroing, "changes", noting)
    attnviz.explain("value zeroing", model, model.sample)
    assert asked == [(1, [0]), (0, list(range(16)))]


def test_it_sees_the_mlp_and_norms_do_not():
    """A network whose MLP throws away what attention brought differs by value zeroing alone."""
    model = opened()
    before = {name: attnviz.explain(name, model, model.sample) for name in ("value zeroing", "norm-based", "alti")}
    for block in model.network.blocks:
        block.mlp[2].weight.mul_(20)
    after = {name: attnviz.explain(name, model, model.sample) for name in before}
    assert (before["value zeroing"] - after["value zeroing"]).abs().max() > 1e-3
    assert torch.equal(before["norm-based"], after["norm-based"])
    assert torch.equal(before["alti"], after["alti"])
