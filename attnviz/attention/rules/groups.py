"""Tokens packed by group, so that attention within groups costs what the groups cost.

Columns and rows of a grid, windows and phases: the group becomes one more batch axis, and nothing as large as n x n is
computed. Smaller groups, such as the cut windows at an edge, are padded to the size of the largest.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from attnviz.types import AttentionCall, Bias, Mask

MAX_PADDING = 2  # packed slots for each token; above it, blocks of rows are as fast


@runtime_checkable
class PairBias(Protocol):
    """A bias that can also be computed for the pairs within each group alone."""

    def __call__(self, call: AttentionCall, heads: list[int], rows: list[int]) -> Tensor: ...
    def within_groups(
        self, call: AttentionCall, queries: Tensor, keys: Tensor
    ) -> Tensor: ...  # [*batch group head q k]


@dataclass(frozen=True, eq=False)
class GroupPacking:
    """Which tokens are in which group; smaller groups are padded with token 0 at their end."""

    queries: Int[Tensor, "group member"]
    keys: Int[Tensor, "group key_member"]
    inverse: Int[Tensor, " query"]  # index of each query in the flattened `queries`
    padding: Bool[Tensor, "group key_member"] | None  # True = padding; None where all groups are equally large

    def pack_queries(
        self, tensor: Float[Tensor, "*batch head query dim"]
    ) -> Float[Tensor, "*batch group head member dim"]:
        """Vectors of the queries, by group."""
        return tensor[..., self.queries, :].movedim(-3, -4)

    def pack_keys(
        self, tensor: Float[Tensor, "*batch head key dim"]
    ) -> Float[Tensor, "*batch group head key_member dim"]:
        """Vectors of the keys, by group."""
        return tensor[..., self.keys, :].movedim(-3, -4)

    def unpack(self, tensor: Float[Tensor, "*batch group head member dim"]) -> Float[Tensor, "*batch head query dim"]:
        """Vectors of the queries in token order: the inverse of `pack_queries`."""
        return tensor.movedim(-4, -3).flatten(-3, -2)[..., self.inverse, :]

    def allowed(self, call: AttentionCall, biases: list[PairBias], dtype: torch.dtype) -> Tensor | None:
        """Biases and mask within groups, as the kernel takes them: [*batch group head|1 member|1 key_member].

        Numbers added to the scores, or bool (True = may attend) without biases.
        """
        allowed = None if self.padding is None else ~self.padding[:, None, None, :]
        if call.mask is not None and call.mask.key_padding is not None:
            keep = call.mask.key_padding[..., self.keys][..., None, None, :]
            allowed = keep if allowed is None else keep & allowed
        if not biases:
            return allowed
        added = torch.stack([bias.within_groups(call, self.queries, self.keys).to(dtype) for bias in biases]).sum(0)
        return added if allowed is None else added.masked_fill(~allowed, float("-inf"))


def packing_of(mask: Mask | None, device: torch.device) -> GroupPacking | None:
    """The packing of a mask of groups and key padding; None where it has other conditions, or packing does not pay."""
    if mask is None or mask.groups is None or mask.kinds - {"groups", "key_padding"}:
        return None
    return pack_groups(*mask.groups, device)


@lru_cache(maxsize=16)
def pack_groups(query_groups: Tensor, key_groups: Tensor, device: torch.device) -> GroupPacking | None:
    """The packing of group ids, cached by tensor because every layer with one mask asks for the same.

    None where the ids differ by head, a group lacks queries or keys, or most slots would be padding.
    """
    if query_groups.ndim > 1 or key_groups.ndim > 1:
        return None
    if not torch.equal(query_groups.unique(), key_groups.unique()):
        return None
    (queries, query_padding), (keys, padding) = (members(ids, device) for ids in (query_groups, key_groups))
    if queries.numel() > MAX_PADDING * len(query_groups) or keys.numel() > MAX_PADDING * len(key_groups):
        return None
    slots = (~query_padding).flatten().nonzero()[:, 0]
    return GroupPacking(queries, keys, slots[queries.flatten()[slots].argsort()], padding if padding.any() else None)


def members(ids: Int[Tensor, " token"], device: torch.device) -> tuple[Tensor, Tensor]:
    """Tokens of each group [group member], in token order, and which slots are padding."""
    names, group, sizes = ids.unique(return_inverse=True, return_counts=True)
    order = group.argsort(stable=True)
    slot = torch.arange(len(ids), device=ids.device) - (sizes.cumsum(0) - sizes)[group[order]]
    tokens = ids.new_zeros((len(names), int(sizes.max())), dtype=torch.long)
    padding = torch.ones_like(tokens, dtype=torch.bool)
    tokens[group[order], slot], padding[group[order], slot] = order, False
    return tokens.to(device), padding.to(device)


def pair_biases(biases: tuple[tuple[str, Bias], ...]) -> list[PairBias] | None:
    """The biases, if all can be computed within groups; else None."""
    found: list[PairBias] = [bias for _, bias in biases if isinstance(bias, PairBias)]
    return found if len(found) == len(biases) else None
