"""Relative position biases: small tables indexed by the offset key - query; no n x n bias is stored.

Biases are added after scaling, so those that are dot products apply the scale of their call themselves.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from attnviz.attention.rules.softmax import at_least_float32
from attnviz.types import AttentionCall, Tokens, UnsupportedMask


def patch_coordinates(tokens: Tokens, device: torch.device) -> tuple[Int[Tensor, " token"], Int[Tensor, " token"]]:
    """Row and column of every patch. Raises ValueError without a grid."""
    if tokens.grid is None:
        raise ValueError("relative positions in two dimensions need a patch grid; these tokens have none")
    rows, columns = tokens.grid
    row = torch.arange(rows, device=device).repeat_interleave(columns)
    return row, torch.arange(columns, device=device).repeat(rows)


def offset_table(length: int, *features: int) -> nn.Parameter:
    """A table for the offsets -(length - 1) to length - 1, initialised small, so that content dominates at first."""
    return nn.Parameter(torch.randn(2 * length - 1, *features) * 0.02)


def check_grid(title: str, built_for: Tokens | None, queries: Tokens) -> None:
    """Refuse a grid with larger offsets than the tables hold; a smaller one reads the same tables."""
    if built_for is None or built_for.grid is None or queries.grid is None:
        raise UnsupportedMask(title, "it has relative positions, built for a grid; name it: tokens=Tokens.patches(...)")
    if any(here > there for here, there in zip(queries.grid, built_for.grid, strict=True)):
        here, there = (" x ".join(map(str, grid)) for grid in (queries.grid, built_for.grid))
        raise UnsupportedMask(title, f"it has offsets for a grid of {there} patches; {here} needs larger ones")


@dataclass(frozen=True, eq=False)
class Offsets:
    """Vectors by offset along one axis, and the coordinate of each token on it."""

    table: Float[Tensor, "offset dim"]
    coordinate: Int[Tensor, " token"]

    def between(self, queries: Int[Tensor, "*group query"], keys: Int[Tensor, "*group key"]) -> Tensor:
        """The row of the table for each pair: offset key - query, counted from the most negative one."""
        offset = self.coordinate[keys][..., None, :] - self.coordinate[queries][..., None]
        return offset + len(self.table) // 2  # [*group query key]


@dataclass(frozen=True, eq=False)
class OffsetBias:
    """A bias from the dot products of one side's vectors with those of offsets; subclasses choose the side."""

    offsets: Offsets

    def __call__(self, call: AttentionCall, heads: list[int], rows: list[int]) -> Tensor:
        """[*batch head row key]."""
        queries = torch.as_tensor(rows, device=call.query.device)
        keys = torch.arange(call.key.shape[-2], device=call.query.device)
        return self.terms(call, queries[None], keys[None], heads).squeeze(-3)

    def within_groups(self, call: AttentionCall, queries: Tensor, keys: Tensor) -> Tensor:
        """[*batch group head query key]."""
        return self.terms(call, queries, keys, list(range(call.heads))).movedim(-3, -4)

    def terms(self, call: AttentionCall, queries: Tensor, keys: Tensor, heads: list[int]) -> Tensor:
        """[*batch head group query key]."""
        raise NotImplementedError


@dataclass(frozen=True, eq=False)
class QueryOffsetBias(OffsetBias):
    """scale * query_i · table[x_j - x_i], with the coordinates x."""

    def terms(self, call: AttentionCall, queries: Tensor, keys: Tensor, heads: list[int]) -> Tensor:
        """One product of the queries with the table, from which each pair takes its entry."""
        query = call.scale_of(heads) * at_least_float32(call.query[..., heads, :, :])
        scores = query[..., queries, :] @ self.offsets.table.T.to(query.dtype)
        return scores.take_along_dim(expand_index(self.offsets.between(queries, keys), scores), -1)


@dataclass(frozen=True, eq=False)
class KeyOffsetBias(OffsetBias):
    """scale * key_j · table[x_j - x_i], with the coordinates x."""

    def terms(self, call: AttentionCall, queries: Tensor, keys: Tensor, heads: list[int]) -> Tensor:
        """One product of the keys with the table, from which each pair takes its entry."""
        key = call.scale_of(heads) * at_least_float32(call.key[..., heads, :, :])
        scores = key[..., keys, :] @ self.offsets.table.T.to(key.dtype)
        index = self.offsets.between(queries, keys).transpose(-1, -2)
        return scores.take_along_dim(expand_index(index, scores), -1).transpose(-1, -2)


@dataclass(frozen=True, eq=False)
class WindowBias:
    """One number for each head and each offset in rows and columns; 0 for offsets beyond the table (Swin)."""

    table: Float[Tensor, "head row_offset column_offset"]
    row: Int[Tensor, " token"]
    column: Int[Tensor, " token"]

    def __call__(self, call: AttentionCall, heads: list[int], rows: list[int]) -> Tensor:
        """[head row key]."""
        queries = torch.as_tensor(rows, device=self.row.device)
        keys = torch.arange(len(self.row), device=self.row.device)
        return self.read(self.table[heads], queries, keys)

    def within_groups(self, call: AttentionCall, queries: Tensor, keys: Tensor) -> Tensor:
        """[group head query key]."""
        return self.read(self.table, queries, keys).movedim(0, 1)

    def read(self, table: Tensor, queries: Tensor, keys: Tensor) -> Tensor:
        """[head *group query key]."""
        down, along = (x[keys][..., None, :] - x[queries][..., None] for x in (self.row, self.column))
        height, width = (length // 2 for length in table.shape[-2:])
        inside = (down.abs() <= height) & (along.abs() <= width)
        values = table[:, down.clamp(-height, height) + height, along.clamp(-width, width) + width]
        return values.masked_fill(~inside, 0)


def expand_index(index: Int[Tensor, "group query key"], scores: Tensor) -> Tensor:
    """An index of pairs, for every batch item and head."""
    return index.expand(*scores.shape[:-3], *index.shape)
