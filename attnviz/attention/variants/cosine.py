"""Cosine attention: scores are cosines of query and key times a learned scale (Liu et al. 2021, Swin v2, eq. 2)."""

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

MAX_SCALE = 100.0  # upper bound of a learned scale: above it, training is no longer stable


class Cosine(MultiHead):
    """Scores are the cosine of query and key, independent of their lengths; each head learns its inverse temperature.

    `scale` is the initial scale, or the fixed one when not `learned`.
    """

    title = "Cosine attention"
    log_scale: nn.Parameter | None
    paper = "Henry et al. 2020, arXiv 2010.04245; Liu et al. 2021, arXiv 2111.09883"
    formula = r"\mathrm{softmax}\!\left(s\, \hat{Q} \hat{K}^\top\right) V,\quad \hat{q} = q / \lVert q \rVert"
    meaning = (
        "Row i holds the weights of token i over all tokens, from the cosine of its query and every key; it sums to 1."
    )

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
        if not 0 < scale <= MAX_SCALE:
            raise ValueError(f"scale is {scale}; it must be above 0 and at most {MAX_SCALE:g}")
        self.initial_scale = scale
        logs = torch.full((heads,), math.log(scale))
        self.register_parameter("log_scale", nn.Parameter(logs) if learned else None)

    def project_inputs(self, x: Tensor, context: Tensor, queries: Tokens, keys: Tokens) -> dict[str, Any]:
        """As multi-head attention, with unit-length query and key and a scale for each head."""
        fields = super().project_inputs(x, context, queries, keys)
        fields |= {name: unit(fields[name]) for name in ("query", "key")}
        fields["scale"] = self.initial_scale
        if self.log_scale is not None:
            fields["scale"] = self.log_scale.clamp(max=math.log(MAX_SCALE)).exp()
        return fields

    def cost(self, n_q: int, n_k: int) -> Cost:
        """As multi-head attention, and one scale for each head where it is learned."""
        cost = super().cost(n_q, n_k)
        return replace(cost, parameters=cost.parameters + (0 if self.log_scale is None else self.heads))


def unit(x: Tensor) -> Tensor:
    """The vectors divided by their lengths."""
    return F.normalize(at_least_float32(x), dim=-1).to(x.dtype)
