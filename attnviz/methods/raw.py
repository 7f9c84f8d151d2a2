"""The attention of a single layer, as a baseline beside every method that chains layers."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from attnviz.methods.base import Option, Start, start_rows, traced
from attnviz.methods.discard import FUSION, fused_blocks
from attnviz.methods.rollout import Open, branches, check, stochastic, through
from attnviz.types import AttentionCall, Model, Sample, Target, Trace, unrounded

OPTIONS = (FUSION, Option("layer", "Layer", "layer", None, "The layer whose weights are shown; no other has a part."))


def explain(
    model: Model,
    sample: Sample,
    target: Target | None = None,
    *,
    trace: Trace | None = None,
    start: Start = "answer",
    fusion: str = "mean",
    layer: int | None = None,
) -> Float[Tensor, "*batch token"]:
    """Raw attention is one layer's weights for the target, fused over heads: where the last layer attends, no more.

    Earlier layers have mixed the tokens already, so a patch that is attended to here may carry what others held.
    """
    trace = traced(model, sample, trace)
    return attention(trace, start, target=target, fusion=fusion, layer=layer)


@torch.no_grad()
def attention(
    trace: Trace,
    start: Start = "answer",
    *,
    target: Target | None = None,
    fusion: str = "mean",
    layer: int | None = None,
    opened: Open | None = None,
) -> Tensor:
    """The start row times one layer's fused map [*batch token], or [*batch target token]; no share stays in place.

    Rows of a max or min over heads are divided by their sums. It is the layer's last residual branch: in a decoder that
    reads another sequence the cross-attention alone; of calls chained in one branch, their product.
    """
    check(trace, 0.0, fusion, 0.0, layer or 0, layer)
    rows, single = start_rows(trace, start, target)
    stream = next(iter(rows))
    branch = last_branch(trace, stream, layer)
    with unrounded(trace.calls[0].query.device):
        kept, moved = through(
            branch, rows[stream], opened or (lambda call: fused_blocks(stochastic(call), fusion)), 0.0
        )
    itself = branch[0].keys.stream == stream
    result = kept + moved if itself else moved  # a token with nothing to attend to keeps what it has
    return result[..., 0, :] if single else result


def last_branch(trace: Trace, stream: str, layer: int | None) -> list[AttentionCall]:
    """The last residual branch of a layer (None = the last one) whose queries are in a stream. Raises ValueError."""
    mine = [b for b in branches(trace.calls) if b[-1].queries.stream == stream]
    mine = [b for b in mine if b[0].layer == layer] if layer is not None else mine
    if not mine:
        raise ValueError(f"no attention of layer {layer} has its queries in the stream {stream!r}")
    return mine[-1]
