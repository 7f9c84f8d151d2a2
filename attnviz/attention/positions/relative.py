"""Scores by relative position: small tables read by the offset key - query, never an n x n bias kept.

Biases are added after scaling, so those that are dot products bring the scale of their call with them.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from attnviz.attention.rules.softmax import at_least_float32
from attnviz.types import AttentionCall, Tokens, UnsupportedMask


def places(tokens: Tokens, device: torch.device) -> tuple[Int[Tensor, " token"], Int[Tensor, " token"]]:
    """Row and column of every patch. Raises ValueError without a grid."""
    if tokens.grid is None:
        raise ValueError("relative positions in two dimensions need a patch grid; these tokens have none")
    rows, columns = tokens.grid
    row = torch.arange(rows, device=device).repeat_interleave(columns)
    return row, torch.arange(columns, device=device).repeat(rows)


def offset_table(length: int, *features: int) -> nn.Parameter:
    """A table for the offsets -(length - 1) to length - 1, started small: the content decides first."""
    return nn.Parameter(torch.randn(2 * length - 1, *features) * 0.02)


def check_grid(title: str, built_for: Tokens | None, queries: Tokens) -> None:
    """Refuse a grid that reaches beyond the offsets the tables were made for; a smaller one is served by them."""
    if built_for is None or built_for.grid is None or queries.grid is None:
        raise UnsupportedMask(title, "has relative positions, made for a grid; name it: tokens=Tokens.patches(...)")
    if any(here > there for here, there in zip(queries.grid, built_for.grid, strict=True)):
        here, there = (" x ".join(map(str, grid)) for grid in (queries.grid, built_for.grid))
        raise UnsupportedMask(title, f"knows offsets inside a grid of {there} patches; {here} reaches further")


@dataclass(frozen=True, eq=False)
class Offsets:
    """Vectors by offset along one axis, and where the tokens stand on it."""

    table: Float[Tensor, "offset dim"]
    place: Int[Tensor, " token"]

    def between(self, queries: Int[Tensor, "*group query"], keys: Int[Tensor, "*group key"]) -> Tensor:
        """Which line of the table each pair reads: offset key - query, counted from the most negative one."""
        offset = self.place[keys][..., None, :] - self.place[queries][..., None]
        return offset + len(self.table) // 2  # [*group query key]


@dataclass(frozen=True, eq=False)
class PairTerm:
    """A bias from vectors and their offsets; subclasses say whose vectors."""

    offsets: Offsets

    def __call__(self, call: AttentionCall, heads: list[int], rows: list[int]) -> Tensor:
        """[*batch head row key]."""
        queries = torch.as_tensor(rows, device=call.query.device)
        keys = torch.arange(call.key.shape[-2], device=call.query.device)
        return self.terms(call, queries[None], keys[None], heads).squeeze(-3)

    def inside(self, call: AttentionCall, queries: Tensor, keys: Tensor) -> Tensor:
        """[*batch group head query key]."""
        return self.terms(call, queries, keys, list(range(call.heads))).movedim(-3, -4)

    def terms(self, call: AttentionCall, queries: Tensor, keys: Tensor, heads: list[int]) -> Tensor:
        """[*batch head group query key]."""
        raise NotImplementedError


@dataclass(frozen=True, eq=False)
class QueryTerm(PairTerm):
    """scale * query_i · table[place_j - place_i]."""

    def terms(self, call: AttentionCall, queries: Tensor, keys: Tensor, heads: list[int]) -> Tensor:
        """One product with the table, then each pair reads its own."""
        query = at_least_float32(call.query[..., heads, :, :][..., queries, :])
        scores = call.scale * query @ self.offsets.table.T.to(query.dtype)
        return scores.take_along_dim(spread(self.offsets.between(queries, keys), scores), -1)


@dataclass(frozen=True, eq=False)
class KeyTerm(PairTerm):
    """scale * key_j · table[place_j - place_i]."""

    def terms(self, call: AttentionCall, queries: Tensor, keys: Tensor, heads: list[int]) -> Tensor:
        """As for queries, with the pairs turned round: each key's vector, by the query that asks."""
        key = at_least_float32(call.key[..., heads, :, :][..., keys, :])
        scores = call.scale * key @ self.offsets.table.T.to(key.dtype)
        index = self.offsets.between(queries, keys).transpose(-1, -2)
        return scores.take_along_dim(spread(index, scores), -1).transpose(-1, -2)


@dataclass(frozen=True, eq=False)
class TileTerm:
    """One number for each head and each offset in rows and columns, as far as the table goes; 0 beyond it."""

    table: Float[Tensor, "head row_offset column_offset"]
    row: Int[Tensor, " token"]
    column: Int[Tensor, " token"]

    def __call__(self, call: AttentionCall, heads: list[int], rows: list[int]) -> Tensor:
        """[head row key]."""
        queries = torch.as_tensor(rows, device=self.row.device)
        keys = torch.arange(len(self.row), device=self.row.device)
        return self.read(self.table[heads], queries, keys)

    def inside(self, call: AttentionCall, queries: Tensor, keys: Tensor) -> Tensor:
        """[group head query key]."""
        return self.read(self.table, queries, keys).movedim(0, 1)

    def read(self, table: Tensor, queries: Tensor, keys: Tensor) -> Tensor:
        """[head *group query key]."""
        down, along = (p[keys][..., None, :] - p[queries][..., None] for p in (self.row, self.column))
        height, width = (length // 2 for length in table.shape[-2:])
        known = (down.abs() <= height) & (along.abs() <= width)
        values = table[:, down.clamp(-height, height) + height, along.clamp(-width, width) + width]
        return values.masked_fill(~known, 0)


def spread(index: Int[Tensor, "group query key"], scores: Tensor) -> Tensor:
    """An index of pairs for every batch item and head."""
    return index.expand(*scores.shape[:-3], *index.shape)
