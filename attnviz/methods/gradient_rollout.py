"""Gradient rollout: attention rollout through maps that are weighted by their gradients (vit-explain, Gildenblat 2020).

One layer's factor is (F + I) / 2, rows divided by their sums, where F = relu(mean over heads of A * dA). The gradients
of every layer come from one backward pass and stand beside the map of their own layer.
"""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from attnviz.methods.base import Option, differentiable
from attnviz.methods.discard import BY_ROW, Blocks, thinned
from attnviz.methods.gradients import output_gradients, weighted
from attnviz.methods.rollout import FIRST, layers, source_of
from attnviz.types import AttentionCall, Model, Sample, Target, Trace

OPTIONS = (
    Option(
        "discard",
        "Discard ratio",
        "share",
        0.0,
        "Drop this share of each layer's smallest positive entries, never those of CLS or its like nor of a token on "
        "itself.",
        range=(0.0, 0.95),
    ),
    BY_ROW,
    FIRST,
)


def explain(
    model: Model,
    sample: Sample,
    target: Target | None = None,
    *,
    trace: Trace | None = None,
    discard: float = 0.0,
    by_row: bool = False,
    first: int = 0,
    stream: str | None = None,
) -> Float[Tensor, "*batch token"]:
    """Gradient rollout is attention rollout that follows only the weights that speak for the class.

    Each layer's weights are multiplied by their gradients, averaged over heads, and what is negative is cut off; half
    of a token's relevance stays with it, as in rollout. Gradients are small numbers, so most of a token's relevance
    stays where it is: compare patches with each other and not with rollout.
    """
    trace = differentiable(model, sample, trace)
    slopes = output_gradients(trace, target)

    def opened(call: AttentionCall) -> Blocks:
        return thinned(call, lambda rows: weighted(call, slopes[call], rows).mean(-3).relu(), discard, by_row)

    rows = layers(trace, target=target, discard=discard, first=first, opened=opened)[-1].rows
    return rows[stream or source_of(trace, rows)]
