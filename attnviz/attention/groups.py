"""Tokens folded by group, so that attention inside groups costs what the groups cost.

Columns and rows of a grid, tiles and phases are groups of equal size: the group becomes one more batch axis, and
nothing as large as n x n is made. Unequal groups are not folded.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from attnviz.types import AttentionCall, Bias, Mask


@runtime_checkable
class PairBias(Protocol):
    """A bias that also knows its values between the members of each group, without the pairs outside."""

    def __call__(self, call: AttentionCall, heads: list[int], rows: list[int]) -> Tensor: ...
    def inside(self, call: AttentionCall, queries: Tensor, keys: Tensor) -> Tensor: ...  # -> [*batch group head q k]


@dataclass(frozen=True, eq=False)
class Fold:
    """Which tokens stand in which group; every group has as many."""

    queries: Int[Tensor, "group member"]
    keys: Int[Tensor, "group key_member"]

    def query(self, tensor: Float[Tensor, "*batch head query dim"]) -> Float[Tensor, "*batch group head member dim"]:
        """Vectors of the queries by group."""
        return tensor[..., self.queries, :].movedim(-3, -4)

    def key(self, tensor: Float[Tensor, "*batch head key dim"]) -> Float[Tensor, "*batch group head key_member dim"]:
        """Vectors of the keys by group."""
        return tensor[..., self.keys, :].movedim(-3, -4)

    def unfold(self, tensor: Float[Tensor, "*batch group head member dim"]) -> Float[Tensor, "*batch head query dim"]:
        """Back to raster order: the inverse of `query`."""
        return tensor.movedim(-4, -3).flatten(-3, -2)[..., self.queries.flatten().argsort(), :]

    def allowed(self, call: AttentionCall, biases: list[PairBias], dtype: torch.dtype) -> Tensor | None:
        """What the kernel adds to the scores inside groups, [*batch group head|1 member|1 key_member].

        Bool (True = may attend) where there is only key padding.
        """
        allowed = None
        if call.mask is not None and call.mask.key_keep is not None:
            allowed = call.mask.key_keep[..., self.keys][..., None, None, :]
        if not biases:
            return allowed
        added = torch.stack([bias.inside(call, self.queries, self.keys).to(dtype) for bias in biases]).sum(0)
        return added if allowed is None else added.masked_fill(~allowed, float("-inf"))


def fold_of(mask: Mask | None, device: torch.device) -> Fold | None:
    """The fold of a mask of equal groups and key padding; None where it says more or groups are unequal."""
    if mask is None or mask.groups is None or mask.kinds - {"groups", "key_keep"}:
        return None
    groups = mask.groups
    return mask.remembered("fold", str(device), lambda: folded(*groups, device))


def folded(query_groups: Tensor, key_groups: Tensor, device: torch.device) -> Fold | None:
    """The fold of these ids; None where groups are unequal or differ by head."""
    if query_groups.ndim > 1 or key_groups.ndim > 1:
        return None
    ids, sizes = query_groups.unique(return_counts=True)
    key_ids, key_sizes = key_groups.unique(return_counts=True)
    if not torch.equal(ids, key_ids) or len(sizes.unique()) > 1 or len(key_sizes.unique()) > 1:
        return None
    orders = (g.argsort(stable=True).to(device).unflatten(0, (len(ids), -1)) for g in (query_groups, key_groups))
    return Fold(*orders)


def pair_biases(biases: tuple[tuple[str, Bias], ...]) -> list[PairBias] | None:
    """The biases as those that know groups; None where one does not."""
    found: list[PairBias] = [bias for _, bias in biases if isinstance(bias, PairBias)]
    return found if len(found) == len(biases) else None
