"""Which tokens hold most of a map: what the figures of DINO show of an attention map, and hide of it."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

ROUNDING = 1e-9  # of the sum: what a set may lack of its share and still hold it


def mass_mask(
    relevance: Float[Tensor, "*map token"], share: float, special: Bool[Tensor, " token"] | None = None
) -> Bool[Tensor, "*map token"]:
    """The fewest tokens that together hold `share` of a map's mass (Caron et al. 2021, arXiv 2104.14294).

    Mass is the sum of absolute values: a signed map keeps what speaks for the answer and what speaks against it. Of
    equal tokens the first is taken first. Tokens in `special` neither count nor are in the mask, and one without any
    relevance never is. Raises ValueError for a share that is not between 0 and 1.
    """
    if not 0 <= share <= 1:
        raise ValueError(f"share is {share}; expected 0 to 1")
    mass = relevance.to(torch.float64).abs()
    if special is not None:
        mass = mass * ~special.to(mass.device)
    order = mass.argsort(dim=-1, descending=True, stable=True)
    sorted_mass = mass.gather(-1, order)
    before = sorted_mass.cumsum(-1) - sorted_mass  # held by those that come earlier
    total = mass.sum(-1, keepdim=True)
    kept = (before < share * total - ROUNDING * total) & (sorted_mass > 0)
    return torch.zeros_like(kept).scatter(-1, order, kept)
