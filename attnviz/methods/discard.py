"""Fused attention maps of one call, row block by row block, with the smallest entries left out where asked.

The tie rule: of m entries that may be dropped, floor(share * m) are to go, smallest first; equal entries stay
together, so all that equal the smallest kept one are kept. Entries that may be dropped are above zero, lie neither in a
row nor in a column of a token that is no patch and no word of a text, and are not a token's weight on itself.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from attnviz.methods.base import Option, outside
from attnviz.types import AttentionCall

FUSIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "mean": lambda maps: maps.mean(-3),
    "max": lambda maps: maps.amax(-3),
    "min": lambda maps: maps.amin(-3),
}
FUSION = Option(
    "fusion",
    "Head fusion",
    "choice",
    "mean",
    "How the heads of a layer become one map. Maximum keeps what any head attends to, minimum only what all attend to.",
    {"mean": "Mean", "max": "Maximum", "min": "Minimum"},
)
BY_ROW = Option(
    "by_row", "Per row", "toggle", False, "Discard from every row by itself instead of from the whole layer."
)
HELD = 1 << 23  # entries of one fused map that are held at once for a discard over the whole layer
Blocks = Callable[[list[int]], Tensor]  # query rows -> fused map [*batch row key]


def fused_blocks(call: AttentionCall, fusion: str = "mean", discard: float = 0.0, by_row: bool = False) -> Blocks:
    """How to get row blocks of a call's fused map, some of its entries discarded."""
    return thinned(call, lambda rows: FUSIONS[fusion](call.token_map(rows=rows)), discard, by_row)


def thinned(call: AttentionCall, fused: Blocks, discard: float, by_row: bool) -> Blocks:
    """Row blocks of a map of a call without its smallest entries.

    A discard over the whole layer depends on every entry: it holds all [query key] at once where they are at most
    HELD, and goes through the blocks twice more where they are not.
    """
    if discard == 0:
        return fused
    if by_row:
        return lambda rows: thin(fused(rows), droppable(call, rows), discard)
    if call.query.ndim == 3 and call.query.dtype == torch.float32 and len(call.queries) * len(call.keys) > HELD:
        least = smallest_kept(fused, call, discard)

        def thinned(rows: list[int]) -> Tensor:
            block = fused(rows)
            return block.masked_fill(droppable(call, rows) & (block < least), 0)

        return thinned
    whole = torch.cat([fused(rows) for rows in call.blocks()], -2)
    free = droppable(call, list(range(len(call.queries))))
    whole = thin(whole.flatten(-2), free.flatten(-2), discard).unflatten(-1, free.shape)
    return lambda rows: whole[..., rows[0] : rows[-1] + 1, :]  # neighbours, as `blocks` gives them: no copy


def smallest_kept(fused: Blocks, call: AttentionCall, share: float) -> float:
    """The smallest entry that a discard over a whole layer keeps, exactly, and never more than a block at a time.

    Positive floats are in the order of their bits: the upper half of the bits is found by counting, then the lower.
    """
    upper = torch.zeros(1 << 16, dtype=torch.long)
    for bits in droppable_bits(fused, call):
        upper += torch.bincount(bits >> 16, minlength=1 << 16)
    place = math.floor(share * int(upper.sum()) + 1e-9)
    if not upper.any():
        return 0.0
    half = int(torch.searchsorted(upper.cumsum(0), place, right=True))
    place -= int(upper[:half].sum())
    lower = torch.zeros(1 << 16, dtype=torch.long)
    for bits in droppable_bits(fused, call):
        lower += torch.bincount(bits[bits >> 16 == half] & 0xFFFF, minlength=1 << 16)
    found = half << 16 | int(torch.searchsorted(lower.cumsum(0), place, right=True))
    return float(torch.tensor(found, dtype=torch.int32).view(torch.float32))


def droppable_bits(fused: Blocks, call: AttentionCall) -> Iterator[Int[Tensor, " entry"]]:
    """The bits of the entries above zero that may be dropped, a block of rows at a time."""
    for rows in call.blocks():
        block = fused(rows)
        entries = block[droppable(call, rows) & (block > 0)]
        yield entries.cpu().view(torch.int32).long()


def droppable(call: AttentionCall, rows: list[int]) -> Bool[Tensor, "row key"]:
    """Which entries a discard may touch: no row or column of CLS or its like, no token's weight on itself."""
    queries = torch.as_tensor(rows, device=call.query.device)
    inside = [~outside(tokens).to(queries.device) for tokens in (call.queries, call.keys)]
    free = inside[0][queries, None] & inside[1]
    if call.queries.stream == call.keys.stream:
        free[torch.arange(len(rows), device=free.device), queries] = False
    return free


def thin(
    entries: Float[Tensor, "*batch entry"], free: Bool[Tensor, "*#batch entry"], share: float
) -> Float[Tensor, "*batch entry"]:
    """The entries with the smallest `share` of the free ones set to zero, along the last axis."""
    free = free & (entries > 0)
    flat, mask = (t.reshape(-1, entries.shape[-1]) for t in (entries, free))
    smallest = selected(flat, mask, share) if len(flat) == 1 else sorted_out(flat, mask, share)
    return entries.masked_fill(free & (entries < smallest.view(*entries.shape[:-1], 1)), 0)


def selected(entries: Tensor, free: Tensor, share: float) -> Tensor:
    """The smallest kept entry of one long row, by selection: no sort of the whole map; the others come last."""
    count = int(free.sum())
    if not count:
        return entries.new_zeros(1)
    values, place = entries.masked_fill(~free, float("inf"))[0], math.floor(share * count + 1e-9)
    if values.device.type != "cpu":
        return values.kthvalue(place + 1).values[None]
    return torch.from_numpy(np.partition(values.numpy(), place)[place, None])  # many times as fast as kthvalue


def sorted_out(entries: Tensor, free: Tensor, share: float) -> Tensor:
    """The smallest kept entry of every row, by sorting each; entries that are not free sort last."""
    count = (free.sum(-1, keepdim=True).double() * share + 1e-9).floor().long()
    ordered = entries.masked_fill(~free, float("inf")).sort(-1).values
    return ordered.gather(-1, count)
