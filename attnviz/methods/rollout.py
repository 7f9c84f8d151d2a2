"""Attention rollout (Abnar & Zuidema 2020) as a row vector walked through the layers, last layer first.

One layer's factor is alpha I + (1 - alpha) M, rows divided by their sums, where M is the attention map fused over
heads. The rollout of one target is row @ F_L @ ... @ F_1: n^2 work a layer instead of n^3, row blocks of M recomputed
from query and key, no map stored. A whole rollout matrix is the same walk with one row per target.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from attnviz.methods.base import NoRollout, Option, Rows, Start, start_rows, traced
from attnviz.methods.discard import BY_ROW, FUSION, FUSIONS, Blocks, fused_blocks
from attnviz.types import AttentionCall, Model, Sample, Target, Trace, unrounded

Open = Callable[[AttentionCall], Blocks]
FIRST = Option(
    "first",
    "From layer",
    "layer",
    0,
    "The first layer that is rolled out. A later start shows only what the upper layers did.",
)
OPTIONS = (
    FUSION,
    Option(
        "alpha",
        "Residual weight",
        "share",
        0.5,
        "How much of a token stays with itself in every layer, because the residual connection carries it past the "
        "attention. Half is the usual guess.",
    ),
    Option(
        "discard",
        "Discard ratio",
        "share",
        0.0,
        "Drop this share of each layer's smallest weights, never those of CLS or its like nor of a token on itself, "
        "and divide the rest so that rows sum to 1.",
        range=(0.0, 0.95),
    ),
    BY_ROW,
    FIRST,
)


class Step(NamedTuple):
    """Relevance of the tokens that enter one layer, for the target at the top."""

    layer: int
    stream: str  # whose layer it is
    rows: Rows


def explain(
    model: Model,
    sample: Sample,
    target: Target | None = None,
    *,
    trace: Trace | None = None,
    start: Start = "answer",
    fusion: str = "mean",
    alpha: float = 0.5,
    discard: float = 0.0,
    by_row: bool = False,
    first: int = 0,
    last: int | None = None,
    stream: str | None = None,
) -> Float[Tensor, "*batch token"]:
    """Attention rollout follows attention back through every layer, from the answer to the patches it came from.

    Each layer passes a token's relevance on by its attention weights (fused over heads) and keeps a share alpha for the
    token itself, because the residual connection carries it past the attention. It is class-agnostic: it says where
    information could have come from, not what spoke for the answer (Abnar & Zuidema 2020, section 3).
    """
    trace = traced(model, sample, trace)
    options = {"alpha": alpha, "fusion": fusion, "discard": discard, "by_row": by_row, "first": first, "last": last}
    rows = relevance(trace, start, target=target, **options)
    return rows[stream or source_of(trace, rows)]


def relevance(trace: Trace, start: Start = "answer", **options: Any) -> Rows:
    """Rollout of the start as {stream: row}; options as in `layers`."""
    return layers(trace, start, **options)[-1].rows


@torch.no_grad()
def layers(
    trace: Trace,
    start: Start = "answer",
    *,
    target: Target | None = None,
    alpha: float = 0.5,
    fusion: str = "mean",
    discard: float = 0.0,
    by_row: bool = False,
    first: int = 0,
    last: int | None = None,
    opened: Open | None = None,
) -> list[Step]:
    """The rollout after each layer, last layer first: the last step is the whole rollout, the others cost nothing more.

    `first` and `last` bound the layers used, both counted. `opened` hands over fused maps computed before (see
    `held`). Raises NoRollout where a call has no map that can be multiplied, ValueError for options out of range.
    """
    check(trace, alpha, fusion, discard, first, last)
    opened = opened or (lambda call: fused_blocks(stochastic(call), fusion, discard, by_row))
    rows, single = start_rows(trace, start, target)
    chosen = [c for c in trace.calls if first <= c.layer and (last is None or c.layer <= last)]
    with unrounded(trace.calls[0].query.device):
        steps = list(walk(branches(chosen), rows, opened, alpha))
    if not single:
        return steps
    return [step._replace(rows={stream: row[..., 0, :] for stream, row in step.rows.items()}) for step in steps]


@torch.no_grad()
def expanded(
    trace: Trace, start: Start = "answer", *, target: Target | None = None, opened: Open | None = None
) -> list[Float[Tensor, "*batch attended token"]]:
    """The rollout of one start after each layer, last layer first, for every residual weight at once.

    The product of alpha I + (1 - alpha) A over m layers is a polynomial in alpha. Row k follows attention in k of the
    layers and stays in place in the others, summed over the ways to choose them; `weighed` puts them together. Heads
    are fused by their mean, and nothing is discarded. Raises NoRollout unless the trace is `row_stochastic`.
    """
    if not row_stochastic(trace):
        raise NoRollout("these maps cannot be rolled out for every residual weight at once.")
    rows, _ = start_rows(trace, start, target)
    groups = branches(trace.calls)
    opened = opened or (lambda call: fused_blocks(stochastic(call)))
    row, steps = next(iter(rows.values()))[..., :1, :], []
    with unrounded(trace.calls[0].query.device):
        for branch in reversed(groups):
            _, moved = through(branch, row, opened, 0.0)
            nothing = torch.zeros_like(row[..., :1, :])
            row = torch.cat([row, nothing], -2) + torch.cat([nothing, moved], -2)
            steps.append(row)
    return steps


def row_stochastic(trace: Trace) -> bool:
    """Whether the mean map of every layer has rows that sum to 1, in one stream, of one call with a residual each."""
    streams = {tokens.stream for call in trace.calls for tokens in (call.queries, call.keys)}
    single = len(branches(trace.calls)) == len(trace.calls) and len(streams) == 1
    return single and all(call.mask is None and call.residual and call.rule.stochastic for call in trace.calls)


def weighed(step: Float[Tensor, "*batch attended token"], alpha: float) -> Float[Tensor, "*batch token"]:
    """The rollout with this residual weight, from one step of `expanded`."""
    powers = torch.arange(step.shape[-2], dtype=step.dtype, device=step.device)
    return ((alpha ** powers.flip(0) * (1 - alpha) ** powers)[:, None] * step).sum(-2)


@torch.no_grad()
def factors(
    trace: Trace, fusion: str = "mean", discard: float = 0.0, by_row: bool = False
) -> tuple[Float[Tensor, "*batch query key"], ...]:
    """Every call's fused map, in the order of the calls: worth keeping for networks of few tokens.

    With `held`, a change of alpha, target or layers then costs vector products only.
    """
    check(trace, 0.0, fusion, discard, 0, None)
    blocks = [fused_blocks(stochastic(call), fusion, discard, by_row) for call in trace.calls]
    return tuple(torch.cat([b(rows) for rows in c.blocks()], -2) for c, b in zip(trace.calls, blocks, strict=True))


def held(trace: Trace, maps: Sequence[Tensor]) -> Open:
    """Fused maps made by `factors`, for `layers` as `opened`."""
    kept = dict(zip(trace.calls, maps, strict=True))  # calls compare by identity
    return lambda call: lambda rows: kept[call][..., rows[0] : rows[-1] + 1, :]


def check(trace: Trace, alpha: float, fusion: str, discard: float, first: int, last: int | None) -> None:
    """Refuse options out of range and an empty choice of layers."""
    if fusion not in FUSIONS:
        raise ValueError(f"head fusion is {fusion!r}; known: {', '.join(FUSIONS)}")
    if not 0 <= alpha <= 1:
        raise ValueError(f"residual weight is {alpha}, expected 0 to 1")
    if not 0 <= discard < 1:
        raise ValueError(f"discard is {discard}, expected 0 or more and less than 1")
    depth = 1 + max(call.layer for call in trace.calls)
    if not 0 <= first <= (depth - 1 if last is None else last) < depth:
        raise ValueError(f"layers {first} to {last} asked of a network with layers 0 to {depth - 1}")


def stochastic(call: AttentionCall) -> AttentionCall:
    """The call, refused with NoRollout if its rows do not sum to one."""
    if not call.rule.stochastic:
        raise NoRollout(
            f"{call.name}: rows of these maps do not sum to one, so multiplying them along the layers has no meaning. "
            "Rollout is not defined here; the Compare page shows its own maps."
        )
    return call


def branches(calls: Sequence[AttentionCall]) -> list[list[AttentionCall]]:
    """Calls by residual branch: those of one branch are chained before the sum with its input."""
    return [list(group) for _, group in groupby(calls, lambda c: (c.queries.stream, c.layer, c.branch))]


def walk(groups: list[list[AttentionCall]], rows: Rows, opened: Open, alpha: float) -> Iterator[Step]:
    """The rows after each layer, walking backwards; a stream that no relevance has reached is left alone."""
    rows, pending = dict(rows), None
    for branch in reversed(groups):
        query, key, layer = branch[-1].queries.stream, branch[0].keys.stream, branch[0].layer
        if query not in rows:
            continue
        if pending and pending != (layer, query):
            yield Step(*pending, dict(rows))
        pending = (layer, query)
        rows[query], moved = through(branch, rows[query], opened, alpha if branch[-1].residual else 0.0)
        rows[key] = rows[key] + moved if key in rows else moved
    if pending is None:
        raise NoRollout("no attention call lies between the answer and the tokens, so there is nothing to roll out.")
    yield Step(*pending, dict(rows))


def through(
    branch: list[AttentionCall], row: Float[Tensor, "*batch target query"], opened: Open, alpha: float
) -> tuple[Float[Tensor, "*batch target query"], Float[Tensor, "*batch target key"]]:
    """What stays with the tokens and what moves to the keys of one residual branch; together they sum to the row.

    A query with nothing to attend to keeps all its relevance.
    """
    *earlier, call = branch
    reach = masses(earlier, opened, row) if earlier else None  # what is left of one unit at each key of `call`
    blocks, kept = opened(call), []
    moved = row.new_zeros(*row.shape[:-1], len(call.keys))
    for rows in call.blocks():
        if not row[..., rows].any():  # no relevance there, so nothing moves: a single start opens one block alone
            kept.append(row[..., rows])
            continue
        block = blocks(rows).to(row.dtype)
        sums = block.sum(-1) if reach is None else (block @ reach[..., None])[..., 0]
        total = (alpha + (1 - alpha) * sums)[..., None, :]  # [*batch 1 row]
        share = row[..., rows] / total.masked_fill(total == 0, 1)
        kept.append(torch.where(total == 0, row[..., rows], alpha * share))
        moved = moved + ((1 - alpha) * share).masked_fill(total == 0, 0) @ block
    for call in reversed(earlier):
        blocks = opened(call)
        parts = [moved[..., rows] @ blocks(rows).to(row.dtype) for rows in call.blocks()]
        moved = torch.stack(parts).sum(0)
    return torch.cat(kept, -1), moved


def masses(chain: list[AttentionCall], opened: Open, like: Tensor) -> Float[Tensor, "*batch query"]:
    """Row sums of the product of chained maps, by matrix-vector products."""
    reach = like.new_ones(len(chain[0].keys))
    for call in chain:
        blocks = opened(call)
        reach = torch.cat([(blocks(r).to(like.dtype) @ reach[..., None])[..., 0] for r in call.blocks()], -1)
    return reach


def source_of(trace: Trace, rows: Rows) -> str:
    """The stream relevance ends in: the keys of the earliest call that it reached."""
    return next((c.keys.stream for c in trace.calls if c.queries.stream in rows), next(iter(rows)))
