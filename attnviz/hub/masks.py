"""The masks of other people's models as the smallest `Mask` that says the same, found by blocks of rows.

A mask of n x n entries is never built here. What transformers asks of a mask function is answered by a `ReducedMask`:
to the layers a bool tensor of that shape, which is only built if one of them computes with it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from attnviz.types import BLOCK, Mask

Rows = Callable[[int, int], Tensor]  # first row, row after the last -> bool [batch head|1 row key], True = may attend
CLOSED = -1e4  # numbers this low are masks: their exponential is 0 in float32


def smallest(rows: Rows, queries: int, keys: int) -> Mask | None:
    """The smallest mask with these rows: none, causal, band, key padding, groups, all of them, else every pair.

    A batch of one has no axis. Memory stays linear in tokens, but for a mask that no condition describes.
    """
    blocks = [(start, min(start + BLOCK, queries)) for start in range(0, queries, BLOCK)]
    found = measured(rows, blocks, queries, keys)
    for candidate in (found, with_groups(found, rows, blocks, queries, keys)):
        if candidate is not None and all(same(candidate, rows(*b), b, queries, keys) for b in blocks):
            return candidate if candidate.kinds else None
    return Mask(keep=unbatched(torch.cat([rows(*block) for block in blocks], -2)))


def measured(rows: Rows, blocks: list[tuple[int, int]], queries: int, keys: int) -> Mask:
    """The conditions that a mask seems to have: how far its open pairs lie before and behind, and its open keys."""
    used, before, behind = None, 0, 0
    everything = True
    for start, stop in blocks:
        block = rows(start, stop)
        columns = block.flatten(1, 2).any(1)
        used = columns if used is None else used | columns
        if block.all():
            near = torch.ones(1, keys, dtype=torch.bool, device=block.device).expand(stop - start, keys)
        else:
            everything, near = False, block.flatten(0, 1).any(0)
        i = torch.arange(start, stop, device=block.device)[:, None] + keys - queries
        distance = torch.arange(keys, device=block.device)[None] - i
        behind = max(behind, int(distance.masked_fill(~near, 0).amax()))
        before = max(before, int((-distance).masked_fill(~near, 0).amax()))
    if everything or used is None:
        return Mask()
    causal = behind == 0 and queries > 1
    band = before if causal else max(before, behind)
    reach = max(queries, keys) - 1
    padding = None if used.all() else unbatched(used)
    return Mask(key_padding=padding, causal=causal, band=band if band < reach and queries > 1 else None)


def with_groups(mask: Mask, rows: Rows, blocks: list[tuple[int, int]], queries: int, keys: int) -> Mask | None:
    """The mask with groups besides: a query belongs to the first key it may attend to, a key to its first query."""
    ids, owners = [], torch.full((keys,), -1, dtype=torch.long)
    for start, stop in blocks:
        block = rows(start, stop)
        if len(block) > 1 or block.shape[1] > 1:
            return None
        block = block[0, 0].cpu()
        first = torch.where(block.any(-1), block.long().argmax(-1), -1 - torch.arange(start, stop))
        ids.append(first)
        owner = torch.where(block.any(0), first[block.long().argmax(0)], -1)
        owners = torch.where(owners < 0, owner, owners)
    return Mask(causal=mask.causal, key_padding=mask.key_padding, groups=(torch.cat(ids), owners))


def same(mask: Mask, block: Tensor, rows: tuple[int, int], queries: int, keys: int) -> bool:
    """Whether a mask has exactly these rows."""
    found = mask.rows([0], list(range(*rows)), queries, keys, block.device)
    while found.ndim < block.ndim:
        found = found[None]
    return bool((found == block).all())


def unbatched(tensor: Tensor) -> Tensor:
    """A tensor whose first axis is the batch, without it where that is one."""
    return tensor[0] if len(tensor) == 1 else tensor


class ReducedMask(Tensor):
    """What a model carries from its mask function to attention: the smallest mask, in the shape of all its pairs.

    Any computation with it happens on the pairs themselves, which are built then.
    """

    mask: Mask | None
    pairs: Rows

    @staticmethod
    def __new__(cls, mask: Mask | None, rows: Rows, shape: tuple[int, int, int], device: Any) -> ReducedMask:
        """One entry, stretched to [batch 1 query key]."""
        batch, queries, keys = shape
        self = torch.ones(1, 1, 1, 1, dtype=torch.bool, device=device).expand(batch, 1, queries, keys).as_subclass(cls)
        self.mask, self.pairs = mask, rows
        return self

    @classmethod
    def __torch_function__(
        cls, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Shape, type and device as they are; all else on the pairs themselves."""
        with torch._C.DisableTorchFunctionSubclass():
            if func in ASKED:
                return func(*args, **(kwargs or {}))
            return func(*built(args), **built(kwargs or {}))

    def whole(self) -> Tensor:
        """Every pair: bool [batch 1 query key]."""
        return self.pairs(0, self.size(-2))


ASKED = {
    getattr(Tensor, name).__get__ for name in ("shape", "dtype", "device", "ndim", "requires_grad", "is_cuda", "layout")
} | {Tensor.size, Tensor.dim, Tensor.ndimension, Tensor.is_floating_point, Tensor.__len__, Tensor.numel}


def built(value: Any) -> Any:
    """Arguments with plain tensors in place of reduced masks."""
    if isinstance(value, ReducedMask):
        return value.whole()
    if isinstance(value, tuple | list):
        return type(value)(built(part) for part in value)
    return {name: built(part) for name, part in value.items()} if isinstance(value, dict) else value


def reduced(tensor: Tensor) -> Mask | None:
    """A bool tensor [batch head|1 query key] as the smallest mask. Its rows may be fewer by broadcasting."""
    return smallest(lambda start, stop: tensor[..., start:stop, :], tensor.shape[-2], tensor.shape[-1])


def split(tensor: Tensor) -> tuple[Mask | None, Tensor | None]:
    """Numbers added to scores [batch head|1 query key] as a mask, of those that close a pair, and the rest; or None."""
    closed = tensor <= CLOSED
    rest = tensor.masked_fill(closed, 0) if closed.any() else tensor
    return (reduced(~closed) if closed.any() else None), (rest if rest.any() else None)
