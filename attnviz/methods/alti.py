"""ALTI: how much nearer each token's vector brings a layer's output, measured by the sum of absolute differences.

There is no Gram form of that distance, so a few rows of queries are worked on at a time: memory n x features.
"""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from attnviz.methods.base import Progress, Start, traced
from attnviz.methods.contributions import Blocks, Vectors, added, residual_before, rolled_out
from attnviz.types import AttentionCall, Model, Sample, Target, Trace, unchanged


def explain(
    model: Model,
    sample: Sample,
    target: Target | None = None,
    *,
    trace: Trace | None = None,
    start: Start = "answer",
    progress: Progress | None = None,
) -> Float[Tensor, "*batch token"]:
    """ALTI asks how far a token's output would be from what it is without the vector of one other token.

    The output of attention with its residual, y_i, is a sum of vectors T_i(x_j). Token j counts max(0, |y_i| - |y_i -
    T_i(x_j)|), lengths as sums of absolute values; a row is divided by its sum and the layers are multiplied (Ferrando,
    Gállego, Costa-jussà 2022, arXiv 2203.04212). In a post-norm network y_i is what its layer norm gives.
    It is class-agnostic.
    """
    trace = traced(model, sample, trace)
    return rolled_out(trace, start, target, lambda call: contributions(model, trace, call), progress)


def contributions(model: Model, trace: Trace, call: AttentionCall) -> Blocks:
    """How to get row blocks of max(0, |y_i| - |y_i - T_i(x_j)|) [*batch row key] of one call.

    Raises UnsupportedMask for a model that does not say what its layers are made of.
    """
    parts, before = model.layer_parts(call.layer), residual_before(trace, call)
    norm, sums = parts.attention_norm, added(call)
    after = parts.after_attention(before, sums)
    vectors = Vectors(call, unchanged if parts.norm_first else norm.linear, before)
    bias = 0 if parts.output_bias is None else parts.output_bias.to(sums)
    divisor = None if parts.norm_first else norm.divisor(before + sums + bias)

    def shares(rows: list[int]) -> Tensor:
        (given, reached), whole = vectors.rows(rows), after[..., rows, None, :]
        if divisor is not None:
            given = given / divisor[..., rows, None, :]
        nearer = whole.abs().sum(-1) - (whole - given).abs().sum(-1)
        return nearer.clamp_min(0).masked_fill(~reached, 0)  # sums of equal numbers may be rounded apart

    return vectors.pieces(shares)
