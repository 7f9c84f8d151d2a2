"""LeGrad (Bousselham et al. 2024, arXiv 2404.03214): the gradients of every layer's own class score.

s_l is the score that the final norm and the output give to the tokens after layer l, pooled as the answer is. The map
of a layer is the mean over heads and queries of relu(d s_l / d A_l); the map is their mean over layers. That takes L
backward passes of one layer each.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from attnviz.methods.base import Option, differentiable
from attnviz.methods.gradients import source_of
from attnviz.methods.rollout import check
from attnviz.targets import Score, asked
from attnviz.types import AttentionCall, Model, NoTokenMap, Sample, Target, Trace, unrounded

OPTIONS = (
    Option("first", "From layer", "layer", 0, "The first layer that counts; the map is the mean of it and all later."),
)


def explain(
    model: Model,
    sample: Sample,
    target: Target | None = None,
    *,
    trace: Trace | None = None,
    first: int = 0,
    stream: str | None = None,
) -> Float[Tensor, "*batch token"]:
    """LeGrad asks every layer for its own class score, and which attention weights would raise that score.

    The score of a layer is what the model would answer from its tokens, read as the final ones are. The gradient of
    that score by the layer's weights, without what is negative, is averaged over heads, queries and layers; the weights
    themselves are not multiplied in (Bousselham et al. 2024).
    """
    trace = differentiable(model, sample, trace)
    check(trace, 0.0, "mean", 0.0, first, None)
    score, (read,) = asked(trace, target), trace.pooling
    keys = stream or source_of(trace)
    own = [call for call in trace.calls if call.queries.stream == read]
    chosen = [call for call in own if call.layer >= first and call.keys.stream == keys]
    if not chosen:
        raise NoTokenMap(f"no attention reads the stream {keys!r} for the answer, so no layer has a score of its own")
    begin = own[0].layer
    maps = [layer_map(call, early_score(model, trace, score, read, call.layer - begin + 1)) for call in chosen]
    return torch.stack(maps).mean(0)


def early_score(model: Model, trace: Trace, score: Score, stream: str, index: int) -> Float[Tensor, ""]:
    """The score of the tokens after so many layers, summed over a batch."""
    residual = trace.residuals[stream][index]
    with torch.enable_grad(), unrounded(residual.device):
        logits = model.logits_from(residual, output=score.output, pooling=trace.pooling[stream])
        return score.of(logits).sum()


@torch.no_grad()
def layer_map(call: AttentionCall, y: Float[Tensor, ""]) -> Float[Tensor, "*batch key"]:
    """The mean over heads and queries of the positive part of d y / d map, a block of rows at a time."""
    with unrounded(call.query.device):
        slope = call.gradient(y)
        call.token_map(heads=[0], rows=[0])  # says it where there is no map: only its gradient would be asked for
        parts = [call.map_gradient(slope, rows=rows).relu().sum((-3, -2)) for rows in call.blocks()]
        return torch.stack(parts).sum(0) / (call.heads * len(call.queries))
