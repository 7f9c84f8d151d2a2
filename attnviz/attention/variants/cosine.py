"""Cosine attention: how alike query and key point, whatever their lengths (Liu et al. 2021, Swin v2, eq. 2)."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from attnviz.attention.rules.softmax import at_least_float32
from attnviz.attention.variants.base import Cost
from attnviz.attention.variants.multihead import MultiHead
from attnviz.types import Tokens

MOST = 100.0  # a learned scale stays below: sharper than this, training is no longer stable


class Cosine(MultiHead):
    """Compares the directions of query and key and ignores their lengths; each head learns how sharply to choose.

    `scale` is where the learned scale starts, or what it stays at when not `learned`.
    """

    title = "Cosine attention"
    log_scale: nn.Parameter | None
    paper = "Henry et al. 2020, arXiv 2010.04245; Liu et al. 2021, arXiv 2111.09883"
    formula = r"\mathrm{softmax}\!\left(s\, \hat{Q} \hat{K}^\top\right) V,\quad \hat{q} = q / \lVert q \rVert"
    meaning = "Row i says how token i shares out its attention by the angle between its query and every key."

    def __init__(
        self,
        width: int,
        heads: int,
        *,
        tokens: Tokens | None = None,
        scale: float = 10.0,
        learned: bool = True,
        **options: Any,
    ):
        super().__init__(width, heads, tokens=tokens, **options)
        if not 0 < scale <= MOST:
            raise ValueError(f"scale is {scale}; it must be above 0 and at most {MOST:g}")
        self.fixed = scale
        logs = torch.full((heads,), math.log(scale))
        self.register_parameter("log_scale", nn.Parameter(logs) if learned else None)

    def project_inputs(self, x: Tensor, context: Tensor, queries: Tokens, keys: Tokens) -> dict[str, Any]:
        """As for dot products, with query and key of length one and a scale for each head."""
        fields = super().project_inputs(x, context, queries, keys)
        fields |= {name: unit(fields[name]) for name in ("query", "key")}
        fields["scale"] = self.fixed if self.log_scale is None else self.log_scale.clamp(max=math.log(MOST)).exp()
        return fields

    def cost(self, n_q: int, n_k: int) -> Cost:
        """As for dot products, and one scale a head where it is learned."""
        cost = super().cost(n_q, n_k)
        return replace(cost, parameters=cost.parameters + (0 if self.log_scale is None else self.heads))


def unit(x: Tensor) -> Tensor:
    """Vectors of length one in the same directions."""
    return F.normalize(at_least_float32(x), dim=-1).to(x.dtype)
