"""What tokens hand over to each other as vectors, and how shares of it are chained along the layers.

A key j gives query i the vector T_i(x_j) = sum over heads h of A^h_ij u^h_j, plus x_i itself where i = j, with
u^h_j = value^h_j @ projection^h (Kobayashi et al. 2020, arXiv 2004.10102; with the residual 2021, arXiv 2109.07152).
The value holds its own bias; the bias of the output projection belongs to no token and is given to none.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from attnviz.methods.base import NoRollout, Progress, Start, start_rows
from attnviz.types import BLOCK, AttentionCall, Target, Trace, at_least_float32, unchanged, unrounded

Blocks = Callable[[list[int]], Tensor]  # query rows -> how much of each key [*batch row key]
Fold = Callable[[Tensor], Tensor]  # a linear map of features, such as that of a layer norm
PIECE = 2**22  # numbers of the largest array [row key feature] at a time


@torch.no_grad()
def rolled_out(
    trace: Trace,
    start: Start,
    target: Target | None,
    shares: Callable[[AttentionCall], Blocks],
    progress: Progress | None = None,
) -> Float[Tensor, "*batch token"]:
    """The start row times each layer's contributions, rows divided by their sums, last layer first; no identity added.

    Only rows that relevance has reached are asked for. A query that nothing contributes to keeps what it has. Several
    starts give [*batch target token]. Raises NoRollout where a layer has no single attention with exact contributions.
    """
    rows, single = start_rows(trace, start, target)
    stream, row = next(iter(rows.items()))
    calls = self_attention(trace, stream)
    with unrounded(row.device):
        for done, call in enumerate(reversed(calls)):
            blocks, moved = shares(call), torch.zeros_like(row)
            reached = row.flatten(0, -2).ne(0).any(0).nonzero()[:, 0].tolist()
            for begin in range(0, len(reached), BLOCK):
                moved = moved + passed_on(row, blocks, reached[begin : begin + BLOCK])
                if progress is not None:
                    progress((done + min(1, (begin + BLOCK) / len(reached))) / len(calls))
            row = moved
    return row[..., 0, :] if single else row


def passed_on(
    row: Float[Tensor, "*batch target token"], blocks: Blocks, rows: list[int]
) -> Float[Tensor, "*batch target token"]:
    """Where the relevance of these queries goes: to the keys, by their shares, or nowhere without any."""
    block = blocks(rows).to(row.dtype)
    total = block.sum(-1)[..., None, :]  # [*batch 1 row]
    share = (row[..., rows] / total.masked_fill(total == 0, 1)).masked_fill(total == 0, 0)
    stays = torch.zeros_like(row)
    stays[..., rows] = row[..., rows].masked_fill(total != 0, 0)
    return share @ block + stays


def self_attention(trace: Trace, stream: str) -> list[AttentionCall]:
    """The calls of one stream, first layer first. Raises NoRollout, in words, where vectors cannot be followed."""
    calls = [call for call in trace.calls if call.queries.stream == stream]
    if not calls:
        raise NoRollout("no attention call lies between the answer and the tokens, so there is nothing to follow.")
    for call, before in zip(calls, [None, *calls], strict=False):
        if call.keys.stream != stream:
            raise NoRollout(
                f"{call.name} attends to another sequence, whose vectors have no residual connection to this one, "
                "so shares of a layer are not defined."
            )
        if before is not None and before.layer == call.layer:
            raise NoRollout(
                f"{call.name} is chained to another attention in one layer: what a token hands over there is "
                "projected and mixed once more, so no vector belongs to one key."
            )
        if not call.rule.exact or call.projection is None or call.output is None:
            raise NoRollout(
                f"{call.name}: its output is not its map times its values alone, so no vector belongs to one key."
            )
    return calls


def residual_before(trace: Trace, call: AttentionCall) -> Float[Tensor, "*batch token feature"]:
    """The residual that enters the layer of a call. Raises NoRollout where attention writes into other features."""
    stream = call.queries.stream
    first = min(c.layer for c in trace.calls if c.queries.stream == stream)  # layers count on through the stages
    before = trace.residuals[stream][call.layer - first]
    if call.projection is None or call.projection.shape[-1] != before.shape[-1]:
        raise NoRollout(f"{call.name} does not write into the features it is added to.")
    return at_least_float32(before)


def added(call: AttentionCall) -> Float[Tensor, "*batch query feature"]:
    """What attention adds to the residual but for the bias of its output projection: the sum of what keys give."""
    if call.output is None or call.projection is None:
        raise NoRollout(f"{call.name} recorded no output or no projection.")
    output = at_least_float32(call.output)
    return torch.einsum("...hqd,hdf->...qf", output, call.projection.to(output))


class Vectors:
    """The vectors that keys of one call hand over, a few rows of queries at a time; float32 at least.

    `fold` is applied to each of them. With `residual` a query's own x_i is part of what it gives itself.
    """

    def __init__(self, call: AttentionCall, fold: Fold = unchanged, residual: Tensor | None = None):
        self.call, self.fold = call, fold
        heads = call.kv_heads_of(range(call.heads))
        value = call.value[..., heads, :, :]
        self.value = at_least_float32(value)
        self.projection = self.projected(call)
        self.residual = None if residual is None else fold(residual)
        gate = call.gate
        self.by_query = gate is not None and gate.ndim > 1 and gate.shape[-2] > 1
        if gate is not None and not self.by_query:
            self.value = self.value * gate.to(self.value)
        self.sources = None if self.by_query else self.value @ self.projection  # u [*batch head key feature]

    def projected(self, call: AttentionCall) -> Float[Tensor, "head value_dim feature"]:
        """The output projection by head, folded. Raises NoRollout for a call without one."""
        if call.projection is None:
            raise NoRollout(f"{call.name} recorded no projection.")
        return self.fold(call.projection.to(self.value))

    def weights(self, rows: list[int]) -> Float[Tensor, "*batch head row key"]:
        """The token map of these rows, as precise as the values."""
        return self.call.token_map(rows=rows).to(self.value.dtype)

    def own(self, rows: list[int]) -> Bool[Tensor, "row key"]:
        """Which key is the query itself."""
        keys = torch.arange(len(self.call.keys), device=self.value.device)
        return keys == torch.as_tensor(rows, device=keys.device)[:, None]

    def rows(self, rows: list[int]) -> tuple[Float[Tensor, "*batch row key feature"], Bool[Tensor, "*batch row key"]]:
        """T_i(x_j) of these queries, and which keys give them anything at all: those that any head attends to."""
        weights = self.weights(rows)
        reached = (weights != 0).any(-3)
        if self.sources is not None:
            given = weights[..., 0, :, :, None] * self.sources[..., 0, None, :, :]
            for head in range(1, self.call.heads):  # a product over so few heads is no work for a matrix kernel
                given.addcmul_(weights[..., head, :, :, None], self.sources[..., head, None, :, :])
        else:  # a gate for each query: its keys' values pass through it before they are projected
            given = torch.stack([self.gated(weights[..., i, :], row) for i, row in enumerate(rows)], -3)
        if self.residual is not None:
            at = torch.arange(len(rows), device=given.device), torch.as_tensor(rows, device=given.device)
            given[..., at[0], at[1], :] += self.residual[..., rows, :]
            reached = reached | self.own(rows)
        return given, reached

    def gated(self, weights: Float[Tensor, "*batch head key"], row: int) -> Float[Tensor, "*batch key feature"]:
        """What keys give one query through its own gate."""
        gate = torch.ones_like(self.value[..., :1, :]) if self.call.gate is None else self.call.gate
        return torch.einsum(
            "...hkd,hdf->...kf", weights[..., None] * self.value * gate[..., row, None, :].to(weights), self.projection
        )

    def pieces(self, shares: Callable[[list[int]], Tensor]) -> Blocks:
        """`shares` of rows, computed for so few at a time that [row key feature] stays below PIECE numbers."""
        batch = self.value.shape[:-3].numel() * len(self.call.keys) * self.projection.shape[-1]
        size = max(1, PIECE // batch)
        return lambda rows: torch.cat([shares(rows[i : i + size]) for i in range(0, len(rows), size)], -2)
