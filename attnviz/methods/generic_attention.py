"""Generic attention explainability (Chefer, Gur & Wolf, ICCV 2021), as vectors walked through the layers.

One layer adds relevance along its map: R <- R + F R, with F = mean over heads of relu(A * dA) (eq. 5 and 6), from
R = I on. The row of the answer is row @ (I + F_L) ... (I + F_1), and what it started as is taken off in the end. Of an
encoder-decoder, cross-attention adds (S_t)ᵀ F S_s to the relevance of the source for the target (eq. 10), where
S = I + (R - I) divided by its row sums (eq. 8 and 9). A row of this needs products with vectors alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from attnviz.methods.base import Option, Rows, differentiable, start_rows
from attnviz.methods.gradients import Slopes, output_gradients, weighted
from attnviz.methods.rollout import branches, check, source_of
from attnviz.types import AttentionCall, Model, NoTokenMap, Sample, Target, Trace, unrounded

Branch = list[AttentionCall]
OPTIONS = (
    Option(
        "first",
        "From layer",
        "layer",
        0,
        "The first layer that adds relevance. The context spreads from layer to layer, so maps that start late are "
        "sharper and say less.",
    ),
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
    """Generic attention explainability adds up, layer after layer, the attention that speaks for the class.

    Each head's weights are multiplied by their gradients and what is negative is cut off, before heads are averaged.
    Each layer then adds relevance along this map, and nothing is divided by its sum. Of a network that reads one text
    and writes another, relevance of the text that is read comes through cross-attention (Chefer et al. 2021).
    """
    trace = differentiable(model, sample, trace)
    check(trace, 0.0, "mean", 0.0, first, None)
    slopes = output_gradients(trace, target)
    rows, _ = start_rows(trace, "answer", target)
    groups = [branch for branch in branches(trace.calls) if branch[0].layer >= first]
    with torch.no_grad(), unrounded(trace.calls[0].query.device):
        found = relevance(groups, rows, Factors(slopes))
    return found[stream or source_of(trace, found)][..., 0, :]


class Factors:
    """Products with the factor of one residual branch, the product of its chained calls, by row blocks."""

    def __init__(self, slopes: Slopes):
        self.slopes = slopes

    def blocks(self, call: AttentionCall, rows: list[int]) -> Float[Tensor, "*batch row key"]:
        """Rows of F: the mean over heads of what is positive in map times gradient."""
        return weighted(call, self.slopes[call], rows).relu().mean(-3)

    def moved(self, branch: Branch, row: Float[Tensor, "*batch target query"]) -> Float[Tensor, "*batch target key"]:
        """row @ F."""
        for call in reversed(branch):
            parts = [row[..., rows] @ self.blocks(call, rows).to(row.dtype) for rows in call.blocks()]
            row = torch.stack(parts).sum(0)
        return row

    def gathered(self, branch: Branch, column: Float[Tensor, "*batch target key"]) -> Tensor:
        """F @ column, as rows [*batch target query]."""
        for call in branch:
            parts = [column @ self.blocks(call, rows).to(column.dtype).mT for rows in call.blocks()]
            column = torch.cat(parts, -1)
        return column


def relevance(groups: Sequence[Branch], start: Rows, factors: Factors) -> Rows:
    """What the answer has of every token of its own stream, and of every stream that it attends to.

    Raises NoTokenMap where two streams attend to each other: only an encoder-decoder is defined here.
    """
    ((read, row),) = start.items()
    own = [branch for branch in groups if branch[-1].queries.stream == read]
    found, before = {read: row}, row
    for place, branch in reversed(list(enumerate(own))):
        other = branch[0].keys.stream
        if other == read:
            before = before + factors.moved(branch, before)
            continue
        below = [b for b in own[:place] if b[0].keys.stream == read]
        arrived = factors.moved(branch, divided(below, before, factors))
        found[other] = found[other] + arrived if other in found else arrived
    sources = {stream: from_source(groups, stream, found[stream], factors) for stream in found if stream != read}
    return {read: before - row} | sources


def divided(below: Sequence[Branch], row: Float[Tensor, "*batch target query"], factors: Factors) -> Tensor:
    """row @ (S_t)ᵀ for the layers of the target so far: R - I divided by its row sums, plus I."""
    context, mass = climb(below, row, factors.gathered), climb(below, torch.ones_like(row), factors.gathered)
    return row + fraction(context - row, mass - 1)


def from_source(groups: Sequence[Branch], stream: str, row: Tensor, factors: Factors) -> Tensor:
    """row @ S_s: relevance that arrived at the source's last tokens, taken back through its own layers."""
    own = [branch for branch in groups if branch[-1].queries.stream == stream]
    if any(branch[0].keys.stream != stream for branch in own):
        raise NoTokenMap(
            "its two sequences attend to each other, and relevance is defined for one that reads the other"
        )
    mass = climb(own, torch.ones_like(row), factors.gathered)
    share = fraction(row, mass - 1)
    return row + climb(own[::-1], share, factors.moved) - share


def climb(own: Sequence[Branch], vector: Tensor, product: Callable[[Branch, Tensor], Tensor]) -> Tensor:
    """A vector through I + F of every branch, in this order."""
    for branch in own:
        vector = vector + product(branch, vector)
    return vector


def fraction(part: Tensor, whole: Tensor) -> Tensor:
    """part / whole, 0 where the whole is 0: a row without relevance is not divided."""
    return torch.where(whole > 0, part / whole.masked_fill(whole <= 0, 1), 0)
