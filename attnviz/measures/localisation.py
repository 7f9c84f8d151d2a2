"""Agreement of maps with a mask of what is known to decide the answer, part by part.

It is evidence only where the mask is the sole cause: scenes say so, and tests remove it and swap it. A box around the
object of a photograph is no such mask, and the middle of the picture lies in most of them: read it beside the controls.
An input whose mask is empty scores "not a number"; `intervals.summarise` leaves it out and counts it.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from attnviz.measures.faithfulness import order_of, parts_of
from attnviz.types import Tokens


def mask_of_parts(mask: Bool[Tensor, "row column"], patch: int) -> Bool[Tensor, " part"]:
    """Which patches hold any pixel of a mask, in raster order. Raises ValueError where patches do not divide it."""
    if mask.shape[0] % patch or mask.shape[1] % patch:
        raise ValueError(f"a mask of {tuple(mask.shape)} does not divide into patches of {patch} px")
    return mask.unflatten(1, (-1, patch)).unflatten(0, (-1, patch)).any(3).any(1).flatten()


def quarter(mask: Bool[Tensor, "row column"]) -> Bool[Tensor, "row column"]:
    """The quarters of a picture that hold any pixel of a mask: the cells of a 2 x 2 grid."""
    rows, columns = mask.shape[0] // 2, mask.shape[1] // 2
    cells = mask.unflatten(1, (2, columns)).unflatten(0, (2, rows)).any(3).any(1)  # [2 2]
    return cells.repeat_interleave(rows, 0).repeat_interleave(columns, 1)


def pointing(
    relevance: Float[Tensor, "*map part"], mask: Bool[Tensor, "*input part"], seed: int = 0
) -> Float[Tensor, "*both"]:
    """Pointing game (Zhang et al. 2018): 1 where the most relevant part lies in the mask, else 0, without tolerance.

    Of equally relevant parts the seed chooses one. Chance is the share of the parts that the mask holds.
    """
    top = order_of(relevance, seed)[..., :1]
    shape = torch.broadcast_shapes(top.shape[:-1], mask.shape[:-1])
    hit = mask.expand(*shape, mask.shape[-1]).gather(-1, top.expand(*shape, 1))[..., 0].to(torch.float64)
    return unless_empty(hit, mask)


def mass(relevance: Float[Tensor, "*map part"], mask: Bool[Tensor, "*input part"]) -> Float[Tensor, "*both"]:
    """Share of the positive relevance that lies in the mask (Arras et al. 2022); of a quarter, grid pointing.

    With `quarter(mask)` it is the grid pointing game (Boehle et al. 2021). A map without positive relevance has none
    of it in the mask: 0.
    """
    positive = relevance.to(torch.float64).clamp_min(0)
    total = positive.sum(-1)
    return unless_empty((positive * mask).sum(-1) / total.masked_fill(total == 0, 1), mask)


def rank_accuracy(
    relevance: Float[Tensor, "*map part"], mask: Bool[Tensor, "*input part"], seed: int = 0
) -> Float[Tensor, "*both"]:
    """Relevance rank accuracy (Arras et al. 2022): how many of the K most relevant parts lie in a mask of K parts."""
    rank = order_of(relevance, seed).argsort(-1)
    size = mask.sum(-1, keepdim=True)
    return unless_empty((mask & (rank < size)).sum(-1) / size[..., 0].clamp_min(1).to(torch.float64), mask)


def unless_empty(score: Float[Tensor, "*both"], mask: Bool[Tensor, "*input part"]) -> Float[Tensor, "*both"]:
    """The score, and not a number where there is nothing to find."""
    return torch.where(mask.any(-1), score, torch.nan)


def word_mask(tokens: Tokens, word: int) -> Bool[Tensor, " part"]:
    """The one word of a text that decides, as a mask of its parts; `word` counts words of the text from 0.

    Raises ValueError for a word that the text does not have.
    """
    parts = parts_of(tokens)
    count = int(parts.max()) + 1
    if not 0 <= word < count:
        raise ValueError(f"word {word} was asked for, but the text has words 0 to {count - 1}")
    return torch.arange(count) == word
