"""What methods that multiply attention by its gradients share: one backward pass for all layers, maps by row blocks.

d(weights) = d(output) valueᵀ, a block of rows at a time: no map and no gradient of one is kept for a whole network.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from attnviz.methods.base import outside, tokens_of
from attnviz.targets import score_of
from attnviz.types import AttentionCall, NoTokenMap, Target, Trace, unrounded

Slopes = Mapping[AttentionCall, Tensor]  # d score / d output of every call [*batch head query value_dim]


def output_gradients(trace: Trace, target: Target | None = None) -> Slopes:
    """d score / d output of every call, by one backward pass; zero for a call that the score does not depend on.

    The graph stays for whoever made the trace. Items of a batch do not meet in a network, so the sum of their scores
    has the gradient of each. Raises as `base.asked`, ValueError for a call that recorded no output, NoTokenMap
    for one outside of the graph.
    """
    graphs = list[Tensor]()
    for call in trace.calls:
        graph = call.output if call.graph is None else call.graph
        if graph is None:
            raise ValueError(f"{call.name} recorded no output, so there is no gradient to take")
        if not graph.requires_grad:
            raise NoTokenMap(f"{call.name} does not depend on what gradients were asked for, so its map has none")
        graphs.append(graph)
    with torch.enable_grad(), unrounded(trace.calls[0].query.device):
        score = score_of(trace, target).sum()
        found = torch.autograd.grad(score, graphs, retain_graph=True, allow_unused=True, materialize_grads=True)
    return {call: call.arrange(slope) for call, slope in zip(trace.calls, found, strict=True)}


@torch.no_grad()
def weighted(
    call: AttentionCall, slope: Float[Tensor, "*batch head query value_dim"], rows: list[int]
) -> Float[Tensor, "*batch head row key"]:
    """A block of rows of the map times its gradient, entry by entry. Raises NoTokenMap where there is no map."""
    with unrounded(call.query.device):
        return call.token_map(rows=rows) * call.map_gradient(slope, rows=rows)


def source_of(trace: Trace) -> str:
    """The stream that an answer's relevance ends in: the keys of the earliest call that the answer depends on."""
    read = next(iter(trace.pooling))
    reached, source = {read}, read
    for call in reversed(trace.calls):
        if call.queries.stream in reached:
            reached.add(call.keys.stream)
            source = call.keys.stream
    return source


def kept_inside(trace: Trace, stream: str) -> Bool[Tensor, "*batch token"]:
    """Which tokens are patches or words that were not removed."""
    inside = ~outside(tokens_of(trace, stream))
    for call in trace.calls:
        if call.keys.stream == stream and call.mask is not None and call.mask.key_padding is not None:
            kept = call.mask.key_padding
            return inside.to(kept.device) & kept
    return inside.to(trace.calls[0].query.device)


def shares_of(kept: Bool[Tensor, "*batch token"], like: Tensor) -> Float[Tensor, "*batch token"]:
    """An equal share of each of these tokens; zero where there is none."""
    return kept.to(like) / kept.sum(-1, keepdim=True).clamp_min(1)
