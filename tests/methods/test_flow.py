"""Attention flow against networkx, by hand, and under its bound."""

from __future__ import annotations

from dataclasses import replace

import networkx
import numpy as np
import pytest
import torch

import attnviz
from attnviz.methods import NoRollout, flow
from attnviz.methods.flow import UNIT, Levels, bound, edges, is_bound, searched
from attnviz.types import Mask, Tokens
from tests.methods.test_rollout import FIRST, SECOND, TWO, Fake, random_trace, reference_fused, stored_call, trace_of


def factors(trace, alpha=0.5, fusion="mean") -> list[np.ndarray]:
    """alpha I + (1 - alpha) M of every layer, rows divided by their sums, first layer first."""
    found = []
    for call in trace.calls:
        fused = reference_fused(call.token_map().numpy(), call.queries.prefix, fusion, 0.0, False)
        factor = alpha * np.eye(len(fused)) + (1 - alpha) * fused
        found.append(factor / factor.sum(-1, keepdims=True))
    return found


def by_networkx(layers: list[np.ndarray], start: np.ndarray) -> np.ndarray:
    """The maximum flow to every token, by another library and another algorithm."""
    graph = networkx.DiGraph()
    for i, share in enumerate(start):
        graph.add_edge("start", (len(layers), i), capacity=float(share))
    for l, layer in enumerate(layers):
        for i, j in np.ndindex(*layer.shape):
            graph.add_edge((l + 1, i), (l, j), capacity=float(layer[i, j]))
    return np.array([networkx.maximum_flow_value(graph, "start", (0, v)) for v in range(len(start))])


@pytest.mark.parametrize(
    ("prefix", "grid", "depth"), [(0, (2, 3), 3), (1, (4, 4), 2), (1, (4, 4), 6), (5, (2, 3), 4), (0, (1, 5), 1)]
)
@pytest.mark.parametrize(("alpha", "fusion"), [(0.5, "mean"), (0.1, "max"), (0.0, "min"), (1.0, "mean")])
def test_flow_is_that_of_networkx(prefix, grid, depth, alpha, fusion):
    trace = random_trace(prefix, grid, depth, seed=depth)
    options, layers = {"alpha": alpha, "fusion": fusion}, factors(trace, alpha, fusion)
    for start in ("answer", "mean", 2):
        row = flow.opened(trace, start, None, fusion, alpha)[0][0].numpy()
        found, most = flow.flow(trace, start, **options), bound(trace, start, **options)
        assert np.abs(found.numpy() - by_networkx(layers, row)).max() < 1e-4
        assert (found <= most + 1e-4).all()
        assert np.allclose(most, np.minimum(row.sum(), layers[0].sum(0)), atol=1e-12)


def test_two_layers_by_hand():
    """From a: .75 leaves for a and .25 for b; the first layer lets .8 + .1 into a and .2 + .9 into b."""
    trace = trace_of([stored_call(m, TWO, i) for i, m in enumerate((FIRST, SECOND))], [1.0, 0.0])
    expected = [min(0.75, 0.8) + min(0.25, 0.1), min(0.75, 0.2) + min(0.25, 0.9)]
    assert flow.flow(trace).tolist() == pytest.approx(expected, abs=1e-6)
    assert bound(trace).tolist() == pytest.approx([0.9, 1.0], abs=1e-6)  # of so few layers the bound is above the flow
    model = Fake(trace)
    shares = torch.tensor(expected) / sum(expected)
    assert torch.allclose(attnviz.explain("attention flow", model, model.sample).float(), shares, atol=1e-6)


def test_one_layer_is_its_edge():
    trace = random_trace(depth=1)
    (layer,) = factors(trace)
    assert np.abs(flow.flow(trace, 4).numpy() - layer[4]).max() < 1e-6
    several = flow.flow(trace, [4, 0])
    assert np.abs(several.numpy() - layer[[4, 0]]).max() < 1e-6


def test_flow_of_a_deep_network_is_its_bound():
    """What is documented nowhere: middle layers do not matter. On three tokens and layers of these weights they do."""
    deep = random_trace(1, (4, 4), 8)
    assert torch.allclose(flow.flow(deep, "cls"), bound(deep, "cls"), atol=1e-5)
    narrow = [[0.9, 0.1, 0.0], [0.0, 1.0, 0.0], [0.0, 0.05, 0.95]]
    trace = trace_of([stored_call(narrow, Tokens(("a", "b", "c")), i) for i in range(3)], [1.0, 0.0, 0.0])
    assert (bound(trace) - flow.flow(trace)).max() > 0.5


def test_a_part_of_the_edges_is_only_trusted_where_it_reaches_the_bound():
    """The search of a part finds less here; what comes out is the flow over all edges."""
    generator = np.random.default_rng(0)
    layers = [generator.dirichlet(np.full(40, 0.05), 40) for _ in range(4)]
    levels = Levels(np.eye(40, dtype=np.int32)[0] * UNIT, [np.rint(layer * UNIT).astype(np.int32) for layer in layers])
    everything = edges(levels, [layer > 0 for layer in levels.layers[1:-1]])
    full = [searched(levels, everything, sink) for sink in range(40)]
    part = edges(levels, [np.eye(40, dtype=bool) & (layer > 0) for layer in levels.layers[1:-1]])
    assert any(searched(levels, part, sink) < full[sink] for sink in range(40))
    assert list(flow.values(levels)) == full
    assert np.abs(np.array(full[:6]) / UNIT - by_networkx(layers, np.eye(40)[0])[:6]).max() < 1e-4


def test_removed_and_later_tokens_get_nothing():
    keep = torch.ones(17, dtype=torch.bool)
    keep[[3, 8]] = False
    found = flow.flow(random_trace(mask=Mask(key_padding=keep)), 0)
    assert (found[[3, 8]] == 0).all()
    assert (found[keep] > 0).all()
    causal = flow.flow(random_trace(mask=Mask(causal=True)), 6)
    assert (causal[7:] == 0).all()
    assert (causal[:7] > 0).all()


def test_batch_items_are_independent():
    trace = random_trace(batch=(2,), seed=5)
    together, several = flow.flow(trace), flow.flow(trace, [0, 3])
    assert several.shape == (2, 2, 17)
    for item in range(2):
        calls = [replace(c, query=c.query[item], key=c.key[item], value=c.value[item]) for c in trace.calls]
        alone = trace_of(calls, trace.pooling["main"][item])
        assert torch.equal(together[item], flow.flow(alone))
        assert torch.equal(several[item], flow.flow(alone, [0, 3]))
        assert torch.allclose(bound(trace)[item], bound(alone))


def test_what_is_no_pipe_is_refused():
    call = stored_call(FIRST, TWO, 0)
    signed = replace(call, rule=replace(call.rule, stochastic=False))
    over = Tokens(("un", "chien"), stream="source")
    for wrong in (signed, replace(call, keys=over)):
        for run in (flow.flow, bound):
            with pytest.raises(NoRollout, match="layer 1"):
                run(trace_of([wrong], [1.0, 0.0]))
    trace = trace_of([call], [1.0, 0.0])
    for start in (torch.tensor([-1.0, 1.0]), torch.tensor([100.0, 0.0])):
        with pytest.raises(ValueError, match="shares"):
            flow.flow(trace, start)
    for options in ({"alpha": 1.5}, {"fusion": "sum"}):
        with pytest.raises(ValueError, match=r"residual weight|fusion"):
            flow.flow(trace, **options)


def test_of_many_tokens_the_bound_is_given_and_that_is_said(monkeypatch):
    trace = random_trace(depth=2)
    model = Fake(trace)
    exact = attnviz.explain("attention flow", model, model.sample, trace=trace, start="mean")
    assert not is_bound(trace)
    monkeypatch.setattr(flow, "SEARCHED", 16)
    assert is_bound(trace)
    most = bound(trace, "mean")
    found = attnviz.explain("attention flow", model, model.sample, trace=trace, start="mean")
    assert torch.allclose(found, most / most.sum())
    assert (found - exact).abs().max() > 1e-4


def test_progress_rises_to_one():
    trace, told = random_trace(batch=(2,)), []
    flow.flow(trace, [0, 1], progress=told.append)
    assert told == sorted(told)
    assert told[-1] == pytest.approx(1)
    assert len(told) == 2 * 2 * 17
