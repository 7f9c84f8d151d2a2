"""Grad-CAM (Selvaraju et al. 2017) for tokens: on the features of one layer, and on the attention of one layer.

A gradient says how much each feature, or each head, matters to the class; the map is their weighted sum, what is
negative cut off.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from attnviz.methods.base import Option, differentiable, start_rows, tokens_of
from attnviz.methods.gradients import kept_inside, shares_of, source_of
from attnviz.methods.raw import last_branch
from attnviz.methods.rollout import check
from attnviz.targets import score_of
from attnviz.types import AttentionCall, Model, NoTokenMap, Sample, Target, Trace, unrounded

TOKEN_OPTIONS = (
    Option("layer", "Layer", "layer", None, "The layer whose input is weighted: the tokens before its first norm."),
)
ATTENTION_OPTIONS = (
    Option("layer", "Layer", "layer", None, "The layer whose weights are shown; no other has a part."),
)


def explain_tokens(
    model: Model,
    sample: Sample,
    target: Target | None = None,
    *,
    trace: Trace | None = None,
    layer: int | None = None,
    after: bool = False,
    stream: str | None = None,
) -> Float[Tensor, "*batch token"]:
    """Grad-CAM weighs every feature of a layer by its mean gradient and shows where features that matter are large.

    The features are those of the patches or words that enter the layer; CLS and its like are left out and get zero. The
    map is the sum over features of weight times value, and what is negative is cut off (Selvaraju et al. 2017, eq. 1
    and 2).
    """
    trace = differentiable(model, sample, trace)
    check(trace, 0.0, "mean", 0.0, layer or 0, layer)
    rows, _ = start_rows(trace, "answer", target)
    stream = stream or source_of(trace)
    residual = residual_of(trace, stream, layer, after)
    if residual is trace.residuals[stream][-1] and stream in rows:
        check_spread(trace, stream, rows[stream])
    with torch.enable_grad(), unrounded(residual.device):
        (slope,) = torch.autograd.grad(score_of(trace, target).sum(), residual, retain_graph=True, allow_unused=True)
    if slope is None:
        raise NoTokenMap("the answer does not depend on the tokens of this layer as they were recorded")
    with torch.no_grad(), unrounded(residual.device):
        kept = kept_inside(trace, stream)
        precise = torch.promote_types(residual.dtype, torch.float32)
        weight = shares_of(kept, slope.to(precise))[..., None, :] @ slope.to(precise)  # [*batch 1 feature]
        return (weight * residual.to(precise)).sum(-1).relu() * kept


def residual_of(trace: Trace, stream: str, layer: int | None, after: bool) -> Float[Tensor, "*batch token feature"]:
    """The tokens of one stream that enter a layer (None = its last), or that leave it."""
    own = sorted({call.layer for call in trace.calls if call.queries.stream == stream})
    if not own or stream not in trace.residuals:
        raise NoTokenMap(f"no attention has its queries in the stream {stream!r}, so there is no layer to take")
    layer = own[-1] if layer is None else layer
    if layer not in own:
        raise ValueError(f"no attention of layer {layer} has its queries in the stream {stream!r}")
    residuals, index = trace.residuals[stream], own.index(layer) + after
    if index >= len(residuals):
        raise NoTokenMap(f"layer {layer + 1} gives its tokens to another stream, and this method stays in {stream!r}")
    return residuals[index]


def check_spread(trace: Trace, stream: str, row: Float[Tensor, "*batch 1 token"]) -> None:
    """Raise NoTokenMap where the answer is read from one of these tokens: no gradient reaches the others."""
    read = row.reshape(-1, row.shape[-1]).any(0)
    if int(read.sum()) < 2 or not (read & kept_inside(trace, stream).reshape(-1, read.shape[-1]).any(0)).any():
        names = ", ".join(tokens_of(trace, stream).labels[int(i)] for i in read.nonzero())
        raise NoTokenMap(
            f"after the last attention the answer is read from {names} alone, so the gradient of every other token is "
            "zero; take the tokens that enter a layer"
        )


def explain_attention(
    model: Model, sample: Sample, target: Target | None = None, *, trace: Trace | None = None, layer: int | None = None
) -> Float[Tensor, "*batch token"]:
    """Grad-CAM on attention weighs the heads of one layer by their gradients and shows what they attend to.

    It takes the weights of what the answer is read from. A head counts by the mean gradient of its weights on patches
    or words; the map is the mean over heads of weight times attention, and what is negative is cut off.
    """
    trace = differentiable(model, sample, trace)
    check(trace, 0.0, "mean", 0.0, layer or 0, layer)
    rows, _ = start_rows(trace, "answer", target)
    ((stream, row),) = rows.items()
    *earlier, call = last_branch(trace, stream, layer)
    with torch.enable_grad(), unrounded(call.query.device):
        slope = call.gradient(score_of(trace, target).sum())
    with torch.no_grad(), unrounded(call.query.device):
        weights, slopes = read_rows(call, slope, row)
        kept = kept_inside(trace, call.keys.stream)
        heads = (slopes * shares_of(kept, slopes)[..., None, :]).sum(-1, keepdim=True)
        found = (heads * weights).mean(-2).relu()
        for before in reversed(earlier):  # of calls chained in one branch, on to where they took their content
            found = before.propagate(found)
        return found


def read_rows(
    call: AttentionCall, slope: Float[Tensor, "*batch head query value_dim"], row: Float[Tensor, "*batch 1 query"]
) -> tuple[Float[Tensor, "*batch head key"], Float[Tensor, "*batch head key"]]:
    """Every head's map and its gradient, both read by a row over the queries."""
    total: list[Tensor] = []
    for rows in call.blocks():
        start = row[..., None, :, rows]
        pair = call.token_map(rows=rows), call.map_gradient(slope, rows=rows)
        parts = [(start.to(block.dtype) @ block)[..., 0, :] for block in pair]
        total = [a + b for a, b in zip(total, parts, strict=True)] if total else parts
    return total[0], total[1]
