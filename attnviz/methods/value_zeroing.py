"""Value zeroing: how much a layer's output turns when one token's value is set to zero.

Attention is not computed again: without the value of t the sum of i lacks sum_h A^h_it u^h_t, and only what follows,
norm and MLP, is run for every pair of query and key, many pairs at a time.
"""

from __future__ import annotations

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from attnviz.methods.base import Progress, Start, traced
from attnviz.methods.contributions import Blocks, Vectors, added, residual_before, rolled_out
from attnviz.types import AttentionCall, Model, Sample, Target, Trace


def explain(
    model: Model,
    sample: Sample,
    target: Target | None = None,
    *,
    trace: Trace | None = None,
    start: Start = "answer",
    progress: Progress | None = None,
) -> Float[Tensor, "*batch token"]:
    """Value zeroing asks how much a layer's output of one token turns when the value of another is set to zero.

    A layer's share of token t in token i is 1 - cos of the outputs of i with and without the value of t; weights and
    residual stay as they are, and the value's bias goes with it. A row is divided by its sum and the layers are
    multiplied (Mohebbi et al. 2023, arXiv 2301.12971). Unlike lengths of vectors it sees the MLP.
    It is class-agnostic, and slow: one pass of every layer's MLP for each token.
    """
    trace = traced(model, sample, trace)
    return rolled_out(trace, start, target, lambda call: changes(model, trace, call), progress)


def changes(model: Model, trace: Trace, call: AttentionCall) -> Blocks:
    """How to get row blocks of 1 - cos(layer(x)_i, layer(x, value of j zero)_i) [*batch row key] of one call.

    Raises UnsupportedMask for a model that does not say what its layers are made of.
    """
    parts, before, sums, vectors = (
        model.layer_parts(call.layer),
        residual_before(trace, call),
        added(call),
        Vectors(call),
    )
    precision = trace.residuals[call.queries.stream][0].dtype

    def directions(sums: Tensor, before: Tensor) -> Tensor:
        attended = parts.after_attention(before, sums).to(model.device, precision)
        return F.normalize(parts.feed_forward(attended).to(sums), dim=-1)

    whole = directions(sums, before)

    def shares(rows: list[int]) -> Tensor:
        given, reached = vectors.rows(rows)
        without = directions(sums[..., rows, None, :] - given, before[..., rows, None, :])
        turned = (without - whole[..., rows, None, :]).square().sum(-1) / 2  # 1 - cos, without its cancellation
        return turned.masked_fill(~reached, 0)

    return vectors.pieces(shares)
