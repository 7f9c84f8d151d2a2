"""Tokens folded by group, so that attention inside groups costs what the groups cost.

Columns and rows of a grid, tiles and phases: the group becomes one more batch axis, and nothing as large as n x n is
made. Smaller groups, such as the cut tiles of shifted windows, are filled up to the size of the largest.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from attnviz.types import AttentionCall, Bias, Mask

MAX_PADDING = 2  # places a token, above which blocks of rows are as good


@runtime_checkable
class PairBias(Protocol):
    """A bias that also knows its values between the members of each group, without the pairs outside."""

    def __call__(self, call: AttentionCall, heads: list[int], rows: list[int]) -> Tensor: ...
    def inside(self, call: AttentionCall, queries: Tensor, keys: Tensor) -> Tensor: ...  # -> [*batch group head q k]


@dataclass(frozen=True, eq=False)
class GroupPacking:
    """Which tokens stand in which group; smaller groups end in places that are filled with token 0."""

    queries: Int[Tensor, "group member"]
    keys: Int[Tensor, "group key_member"]
    inverse: Int[Tensor, " query"]  # where each query stands in `queries`, flattened
    padding: Bool[Tensor, "group key_member"] | None  # keys that only fill up; None where every group has as many

    def query(self, tensor: Float[Tensor, "*batch head query dim"]) -> Float[Tensor, "*batch group head member dim"]:
        """Vectors of the queries by group."""
        return tensor[..., self.queries, :].movedim(-3, -4)

    def key(self, tensor: Float[Tensor, "*batch head key dim"]) -> Float[Tensor, "*batch group head key_member dim"]:
        """Vectors of the keys by group."""
        return tensor[..., self.keys, :].movedim(-3, -4)

    def unfold(self, tensor: Float[Tensor, "*batch group head member dim"]) -> Float[Tensor, "*batch head query dim"]:
        """Back to raster order: the inverse of `query`."""
        return tensor.movedim(-4, -3).flatten(-3, -2)[..., self.inverse, :]

    def allowed(self, call: AttentionCall, biases: list[PairBias], dtype: torch.dtype) -> Tensor | None:
        """What the kernel adds to the scores inside groups, [*batch group head|1 member|1 key_member].

        Bool (True = may attend) where there is only key padding.
        """
        allowed = None if self.padding is None else ~self.padding[:, None, None, :]
        if call.mask is not None and call.mask.key_padding is not None:
            kept = call.mask.key_padding[..., self.keys][..., None, None, :]
            allowed = kept if allowed is None else kept & allowed
        if not biases:
            return allowed
        added = torch.stack([bias.inside(call, self.queries, self.keys).to(dtype) for bias in biases]).sum(0)
        return added if allowed is None else added.masked_fill(~allowed, float("-inf"))


def fold_of(mask: Mask | None, device: torch.device) -> GroupPacking | None:
    """The fold of a mask of groups and key padding; None where it says more, or folding would not pay."""
    if mask is None or mask.groups is None or mask.kinds - {"groups", "key_padding"}:
        return None
    groups = mask.groups
    return mask.remembered("fold", str(device), lambda: folded(*groups, device))


def folded(query_groups: Tensor, key_groups: Tensor, device: torch.device) -> GroupPacking | None:
    """The fold of these ids; None where they differ by head, a group lacks queries or keys, or most would be filler."""
    if query_groups.ndim > 1 or key_groups.ndim > 1:
        return None
    if not torch.equal(query_groups.unique(), key_groups.unique()):
        return None
    (queries, empty), (keys, filled) = (members(ids, device) for ids in (query_groups, key_groups))
    if queries.numel() > MAX_PADDING * len(query_groups) or keys.numel() > MAX_PADDING * len(key_groups):
        return None
    there = (~empty).flatten().nonzero()[:, 0]
    return GroupPacking(queries, keys, there[queries.flatten()[there].argsort()], filled if filled.any() else None)


def members(ids: Int[Tensor, " token"], device: torch.device) -> tuple[Tensor, Tensor]:
    """Tokens of each group [group member] in their own order, and which places are left over."""
    names, which, sizes = ids.unique(return_inverse=True, return_counts=True)
    order = which.argsort(stable=True)
    place = torch.arange(len(ids), device=ids.device) - (sizes.cumsum(0) - sizes)[which[order]]
    tokens = ids.new_zeros((len(names), int(sizes.max())), dtype=torch.long)
    free = torch.ones_like(tokens, dtype=torch.bool)
    tokens[which[order], place], free[which[order], place] = order, False
    return tokens.to(device), free.to(device)


def pair_biases(biases: tuple[tuple[str, Bias], ...]) -> list[PairBias] | None:
    """The biases as those that know groups; None where one does not."""
    found: list[PairBias] = [bias for _, bias in biases if isinstance(bias, PairBias)]
    return found if len(found) == len(biases) else None
