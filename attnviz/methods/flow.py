"""Attention flow (Abnar & Zuidema 2020, section 3.2): the layers as a network of pipes, and how much reaches a token.

An edge from token i after a layer to token j before it has the capacity of the rollout's factor, alpha I + (1 - alpha)
M. The value of token j is the maximum flow from the start, through all layers, to j.

In a deep network two cuts alone decide it: what leaves the start, and what the first layer lets into j. That bound is
`bound`, and a flow that reaches it is the maximum. A search therefore tries a small part of the edges first: all flow
in a part is flow in the whole.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from scipy.sparse import csr_array
from scipy.sparse.csgraph import maximum_flow
from torch import Tensor

from attnviz.methods.base import NoRollout, Option, Progress, Start, start_rows, traced
from attnviz.methods.discard import FUSION, fused_blocks
from attnviz.methods.rollout import branches, check, stochastic, through
from attnviz.types import AttentionCall, Model, Sample, Target, Trace, unrounded

UNIT = 2**24  # a capacity of 1 as a whole number
SEARCHED = 785  # tokens; of more, the bound is given
HEAVY, LARGEST = 4, 4  # tokens whose rows are in the part searched first; edges of every token that are
Edges = tuple[Int[np.ndarray, " edge"], Int[np.ndarray, " edge"], Int[np.ndarray, " edge"]]  # from, to, capacity
OPTIONS = (
    FUSION,
    Option(
        "alpha",
        "Residual weight",
        "share",
        0.5,
        "How wide the pipe of a token to itself is in every layer, because the residual connection carries it past the "
        "attention. Half is the usual guess.",
    ),
)


class Levels(NamedTuple):
    """The network of pipes of one start, in whole numbers."""

    start: Int[np.ndarray, " token"]
    layers: list[Int[np.ndarray, "query key"]]  # first layer first


def explain(
    model: Model,
    sample: Sample,
    target: Target | None = None,
    *,
    trace: Trace | None = None,
    start: Start = "answer",
    fusion: str = "mean",
    alpha: float = 0.5,
    progress: Progress | None = None,
) -> Float[Tensor, "*batch token"]:
    """Attention flow takes the layers for a network of pipes and asks how much could flow from the answer to a token.

    A pipe is as wide as attention (fused over heads) and the residual share make it; the values are divided by their
    sum. Unlike rollout nothing is split: each token has all pipes to itself. In a deep network the middle layers are so
    wide together that only the first layer decides, and with it the bound min(1, column sum of the first layer). Of
    more than 785 tokens that bound is given instead of the flow. It is class-agnostic (Abnar & Zuidema 2020, section
    3.2).
    """
    trace = traced(model, sample, trace)
    if is_bound(trace):
        found = bound(trace, start, target=target, fusion=fusion, alpha=alpha)
    else:
        found = flow(trace, start, target=target, fusion=fusion, alpha=alpha, progress=progress)
    return found / found.sum(-1, keepdim=True).clamp_min(1e-12)


def is_bound(trace: Trace) -> bool:
    """Whether the bound is what `explain` gives for this trace, since the flow would take too long."""
    return any(len(call.queries) > SEARCHED for call in trace.calls)


@torch.no_grad()
def bound(
    trace: Trace, start: Start = "answer", *, target: Target | None = None, fusion: str = "mean", alpha: float = 0.5
) -> Float[Tensor, "*batch token"]:
    """What no flow exceeds: all that starts, and what the first layer lets into a token; n² work.

    Several starts give [*batch target token]. Raises NoRollout where flow is not defined, ValueError for options out of
    range.
    """
    rows, single, layers = opened(trace, start, target, fusion, alpha)
    with unrounded(rows.device):
        columns = layers[0](torch.ones_like(rows))
    least = torch.minimum(columns, rows.sum(-1, keepdim=True))
    return least[..., 0, :] if single else least


@torch.no_grad()
def flow(
    trace: Trace,
    start: Start = "answer",
    *,
    target: Target | None = None,
    fusion: str = "mean",
    alpha: float = 0.5,
    progress: Progress | None = None,
) -> Float[Tensor, "*batch token"]:
    """The maximum flow from the start to every token, exact for capacities rounded to 2**-24.

    Several starts give [*batch target token]. Raises NoRollout where flow is not defined, ValueError for options out of
    range and for a start that has negative or many shares.
    """
    rows, single, layers = opened(trace, start, target, fusion, alpha)
    if rows.min() < 0 or rows.sum(-1).max() > 64:
        raise ValueError("flow starts from shares of at most 64 together, none of them negative")
    with unrounded(rows.device):
        one = torch.eye(rows.shape[-1], dtype=rows.dtype, device=rows.device).expand(*rows.shape[:-2], -1, -1)
        pipes = [whole(layer(one)) for layer in layers]
    starts, found = whole(rows), np.zeros(tuple(rows.shape))
    pipes = [np.broadcast_to(pipe, (*rows.shape[:-2], *pipe.shape[-2:])) for pipe in pipes]
    places = list(np.ndindex(*rows.shape[:-1]))  # (*batch, target)
    for done, at in enumerate(places):
        levels = Levels(starts[at], [pipe[at[:-1]] for pipe in pipes])
        for sink, value in enumerate(values(levels)):
            found[(*at, sink)] = value / UNIT
            if progress is not None:
                progress((done + (sink + 1) / rows.shape[-1]) / len(places))
    result = torch.from_numpy(found).to(rows)
    return result[..., 0, :] if single else result


def opened(
    trace: Trace, start: Start, target: Target | None, fusion: str, alpha: float
) -> tuple[Float[Tensor, "*batch target token"], bool, list[Callable[[Tensor], Tensor]]]:
    """The start rows, whether there is one, and a function rows -> rows @ factor for each layer, first layer first.

    Raises NoRollout where maps cannot be pipes.
    """
    check(trace, alpha, fusion, 0.0, 0, None)
    rows, single = start_rows(trace, start, target)
    stream, row = next(iter(rows.items()))
    mine = [branch for branch in branches(trace.calls) if branch[-1].queries.stream == stream]
    if not mine:
        raise NoRollout("no attention call lies between the answer and the tokens, so nothing can flow.")
    for branch in mine:
        if branch[0].keys.stream != stream:
            raise NoRollout(
                f"{branch[0].name} attends to another sequence. How wide pipes of two sequences are beside each other "
                "depends on how they are normalised, so flow is not defined here."
            )

    def factor(branch: list[AttentionCall]) -> Callable[[Tensor], Tensor]:
        share = alpha if branch[-1].residual else 0.0
        return lambda row: sum(through(branch, row, lambda call: fused_blocks(stochastic(call), fusion), share))  # type: ignore

    return row, single, [factor(branch) for branch in mine]


def whole(capacities: Tensor) -> Int[np.ndarray, "*shape"]:
    """Capacities as whole numbers, 2**24 for 1."""
    return (capacities.double() * UNIT).round().to(torch.int32).cpu().numpy()


def values(levels: Levels) -> Iterator[int]:
    """The maximum flow to each token, in units; a search ends where a part of the edges reaches the bound."""
    start, layers = levels
    leaves = int(np.minimum(start, layers[-1].sum(-1, dtype=np.int64)).sum())
    enters = layers[0].sum(0, dtype=np.int64)
    part, rest = edges(levels, [kept(layer, levels) for layer in layers[1:-1]]), None
    for sink in range(len(start)):
        most = min(leaves, int(enters[sink]))
        value = most and searched(levels, part, sink)
        if value < most:
            rest = rest or edges(levels, [layer > 0 for layer in layers[1:-1]])
            value = searched(levels, rest, sink)
        yield value


def kept(layer: Int[np.ndarray, "query key"], levels: Levels) -> Bool[np.ndarray, "query key"]:
    """The edges of a middle layer searched first: to oneself, from where most flow is, the largest of every token."""
    keep = np.eye(len(layer), dtype=bool)
    keep[np.argsort(levels.start.astype(float) @ levels.layers[-1])[-HEAVY:]] = True
    many = min(LARGEST, len(layer))
    for axis in (0, 1):
        np.put_along_axis(keep, np.argpartition(layer, -many, axis).take(range(-many, 0), axis), True, axis)
    return keep & (layer > 0)


def edges(levels: Levels, middle: list[Bool[np.ndarray, "query key"]]) -> Edges:
    """All edges of a network but those of the first layer: token i after layer l is node l n + i, the start is last."""
    start, layers = levels
    count, at = len(start), start.nonzero()[0]
    found = [(np.full(len(at), (len(layers) + 1) * count), len(layers) * count + at, start[at])]
    for number in range(1, len(layers)):
        last = number == len(layers) - 1
        query, key = ((layers[number] > 0) & (start > 0)[:, None] if last else middle[number - 1]).nonzero()
        found.append(((number + 1) * count + query, number * count + key, layers[number][query, key]))
    source, end, capacity = (np.concatenate(part) for part in zip(*found, strict=True))
    return source, end, capacity


def searched(levels: Levels, part: Edges, sink: int) -> int:
    """The maximum flow to a token over these edges, and over all that lead to it in the first and the middle layers."""
    start, layers = levels
    count, source = len(start), (len(layers) + 1) * len(start)
    others = (part[1] % count != sink) | (part[1] >= (len(layers) - 1) * count)  # its own are added below, all of them
    more = []
    for number, layer in enumerate(layers[: max(1, len(layers) - 1)]):
        query = layer[:, sink].nonzero()[0]
        more.append(((number + 1) * count + query, np.full(len(query), number * count + sink), layer[query, sink]))
    rows, columns, capacity = (np.concatenate([part[i][others], *(m[i] for m in more)]) for i in range(3))
    graph = csr_array((capacity.astype(np.int32), (rows.astype(np.int32), columns.astype(np.int32))), (source + 1,) * 2)
    return int(maximum_flow(graph, source, sink, method="dinic").flow_value)
