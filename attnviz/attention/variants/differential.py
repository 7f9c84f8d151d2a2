"""Differential attention: the weights are the difference of two softmax maps (Ye et al. 2024, eq. 1 to 3)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from attnviz.attention.rules.softmax import Softmax, at_least_float32, full_precision
from attnviz.attention.variants.base import Cost
from attnviz.attention.variants.projections import Projected
from attnviz.types import AttentionCall, MapType, NamedMap, NoTokenMap, Stage, Tokens, UnsupportedMask

TWO_MAPS = "it subtracts two softmax maps, so a pair of tokens has two scores and not one"


@dataclass(frozen=True, eq=False)
class Difference(Softmax):
    """weights = softmax(Q1 K1ᵀ scale) - strength softmax(Q2 K2ᵀ scale); the halves of query and key are Q1 and Q2."""

    map_type: MapType = "effective"
    stochastic: bool = False
    caveat: str = (
        "The difference of two softmax maps: entries can be negative, and rows sum to 1 less the learned factor of the "
        "second map. The output of each head is normalised afterwards, which counts here as a factor for each query."
    )
    strength: Tensor | float = 1.0  # lambda

    def halves(self, call: AttentionCall) -> list[AttentionCall]:
        """The softmax calls of both maps. Raises UnsupportedMask where query and key have no two halves."""
        if call.query.shape[-1] % 2:
            raise UnsupportedMask("Differential attention", f"{call.query.shape[-1]} channels have no two halves")
        pairs = zip(call.query.chunk(2, -1), call.key.chunk(2, -1), strict=True)
        return [replace(call, query=q, key=k, gate=None, output=None, graph=None, rule=Softmax()) for q, k in pairs]

    def scores(self, call: AttentionCall, heads: list[int], rows: list[int], stage: Stage) -> Tensor:
        """Raises NoTokenMap: there are two."""
        raise NoTokenMap(TWO_MAPS)

    @full_precision
    def weights(self, call: AttentionCall, heads: list[int], rows: list[int]) -> Tensor:
        """[*batch head row key], of either sign; a row without an allowed key is zero."""
        first, second = (half.weights(heads, rows) for half in self.halves(call))
        return first - self.strength * second

    def maps(self, call: AttentionCall) -> dict[str, NamedMap]:
        """Both softmax maps, and their difference."""
        first, second = (half.weights() for half in self.halves(call))
        return {
            "first map": NamedMap(first, self.axes, "weights", True),
            "second map": NamedMap(second, self.axes, "weights", True),
            "difference": NamedMap(first - self.strength * second, self.axes, self.map_type, False),
        }

    def mix(self, call: AttentionCall) -> Tensor:
        """gate * (weights @ value), by the fused kernel, once for each map."""
        first, second = (half.rule.mix(half) for half in self.halves(call))
        return call.gated((first - self.strength * second).to(first.dtype))


class Differential(Projected):
    """Each head subtracts a second softmax map from its first, which cancels what both attend to without need.

    A head's query and key are cut into halves, so it has the parameters of multi-head attention; the paper instead
    halves the number of heads. The factor of the second map is learned (eq. 2), equal for all heads, and starts at
    `initial`: 0.8 - 0.6 exp(-0.3 l) in layer l of a network, counted from 0. The output of each head is divided by its
    root mean square, with learned factors, and multiplied by 1 - `initial` (eq. 3).
    """

    title = "Differential attention"
    paper = "Ye et al. 2024, arXiv 2410.05258"
    formula = (
        r"\left(\mathrm{softmax}(s\,Q_1 K_1^\top) - \lambda\,\mathrm{softmax}(s\,Q_2 K_2^\top)\right) V,"
        r"\ s = \sqrt{2 / d_h}"
    )
    meaning = (
        "Row i holds the difference of two softmax rows of token i, the second times a learned factor: entries may be "
        "negative, and the row sums to 1 less that factor."
    )
    rule = Difference()  # describes the map; one with the learned factor is built for each call
    positions_reason = "the halves of its queries and keys belong to two maps, which a rotation would mix"

    def __init__(
        self, width: int, heads: int, *, tokens: Tokens | None = None, initial: float = 0.2, bias: bool = True
    ):
        super().__init__(width, heads, tokens=tokens, bias=bias)
        if self.dim % 2:
            raise ValueError(f"heads of {self.dim} channels do not split into two halves")
        if not 0 <= initial < 1:
            raise ValueError(f"the second map starts at a factor of {initial}; expected 0 or more, and less than 1")
        self.initial = initial
        self.vectors = nn.Parameter(torch.randn(2, 2, self.dim // 2) * 0.1)  # [exponent side channel], for all heads
        self.norm = nn.RMSNorm(self.dim, eps=1e-5)  # its factors; dividing is done in `mix`

    @classmethod
    def options_for_layer(cls, index: int, tokens: Tokens, options: Mapping[str, Any]) -> dict[str, Any]:
        """The factor a layer starts at grows with its depth (section 2.1 of the paper)."""
        return {"initial": 0.8 - 0.6 * math.exp(-0.3 * index), **options}

    @property
    def strength(self) -> Tensor:
        """The factor of the second map: exp(q1 . k1) - exp(q2 . k2) + initial (eq. 2)."""
        first, second = at_least_float32(self.vectors).prod(1).sum(-1).exp()
        return first - second + self.initial

    def project_inputs(self, x: Tensor, context: Tensor, queries: Tokens, keys: Tokens) -> dict[str, Any]:
        """As multi-head attention, scaled for half as many channels, with a rule built for this call."""
        fields = super().project_inputs(x, context, queries, keys)
        return {**fields, "scale": (self.dim // 2) ** -0.5, "rule": Difference(strength=self.strength)}

    def mix(self, call: AttentionCall) -> tuple[Tensor, Tensor | None]:
        """The normalised output, and its norm as a gate: (1 - initial) factor / root mean square of the head."""
        mixed = call.rule.mix(replace(call, gate=None))
        wide = at_least_float32(mixed)
        eps = 0.0 if self.norm.eps is None else self.norm.eps
        size = (wide.square().mean(-1, keepdim=True) + eps).rsqrt()
        gate = ((1 - self.initial) * self.norm.weight * size).to(mixed.dtype)
        gate = gate if call.gate is None else gate * call.gate
        return gate * mixed, gate

    def cost(self, n_q: int, n_k: int) -> Cost:
        """4 d² + 3 d_h parameters and biases; 4 n d² + 3 n² d multiply-adds; 2 h n² map entries; 2 n d of state.

        Each of the two maps takes n² d / 2 for its scores and n² d for its values.
        """
        return Cost(
            parameters=self.projection_parameters + 3 * self.dim,
            multiply_adds=self.projection_products(n_q, n_k) + 3 * n_q * n_k * self.width,
            map_bytes=2 * 4 * self.heads * n_q * n_k,
            state_bytes=4 * 2 * n_k * self.width,
        )
