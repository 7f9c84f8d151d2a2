"""Attention in windows of a grid, one window an item of the batch, as one call in the order of the grid (Swin).

Swin rolls the grid by its shift, cuts it into windows and masks pairs that were not neighbours before. In raster order
that is one call with groups: only tokens of one window and one region attend to each other.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from attnviz.hub.biases import SlotBias
from attnviz.hub.errors import CannotRecord
from attnviz.types import Mask

SEPARATE = -50.0  # Swin masks by -100


@dataclass(frozen=True, eq=False)
class Windows:
    """Which token of the grid stands where in the windows."""

    order: Int[Tensor, "window place"]  # the token, in raster order, at each place of each window
    grid: tuple[int, int]

    @property
    def inverse(self) -> Int[Tensor, " token"]:
        """The index of each token among all places of all windows."""
        return self.order.flatten().argsort()

    def to_raster(self, tensor: Float[Tensor, "item head place dim"]) -> Float[Tensor, "batch head token dim"]:
        """Vectors by window, in the order of the grid."""
        by_item = tensor.unflatten(0, (-1, len(self.order))).transpose(1, 2).flatten(2, 3)
        return by_item[:, :, self.inverse]

    def to_windows(self, tensor: Float[Tensor, "batch head token dim"]) -> Float[Tensor, "item head place dim"]:
        """Vectors in the order of the grid, by window."""
        return tensor[:, :, self.order].transpose(1, 2).flatten(0, 1)

    def conditions(self, added: Float[Tensor, "items head place place"], batch: int) -> tuple[Mask, SlotBias]:
        """The mask and the bias that Swin adds as one tensor. Raises CannotRecord where it is not the sum of two."""
        count, places = self.order.shape
        added = added.detach().expand(count * batch, *added.shape[1:])[:count]  # every item has the same windows
        values = added[0]
        closed = (added - values) < SEPARATE
        # Within a window, places with one region see the same places; the first of them names the region.
        region = (~closed[:, 0]).long().argmax(-1) + places * torch.arange(count, device=added.device)[:, None]
        apart = region[:, :, None] != region[:, None, :]
        if not torch.equal(closed, apart[:, None].expand_as(closed)) or not close(added, values, closed):
            raise CannotRecord("its windows add to the scores what is neither one table nor a mask of regions")
        place = torch.arange(places, device=added.device).repeat(count)[self.inverse]
        ids = region.flatten()[self.inverse]
        return Mask(groups=(ids, ids)), SlotBias(values, place)


def close(added: Tensor, values: Tensor, closed: Tensor) -> bool:
    """Whether what is added to open pairs is the same in every window."""
    return bool(((added - values).masked_fill(closed, 0).abs() < 1e-5).all())


def windows_of(grid: tuple[int, int], side: int, shift: int, device: torch.device) -> Windows:
    """Windows of so many places a side, cut after the grid was rolled. Raises CannotRecord where they do not fit."""
    rows, columns = grid
    if rows % side or columns % side:
        raise CannotRecord(f"its windows of {side} do not divide a grid of {rows} x {columns}, so it fills the grid up")
    tokens = torch.arange(rows * columns, device=device).view(rows, columns)
    rolled = torch.roll(tokens, (-shift, -shift), (0, 1)) if shift > 0 else tokens
    cut = rolled.view(rows // side, side, columns // side, side).transpose(1, 2)
    return Windows(cut.reshape(-1, side * side), (rows, columns))
