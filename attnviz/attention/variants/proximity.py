"""Content-free attention: a Gaussian of the distance between positions, and the plain mean.

The formula softmax(-(i - j)² / 2 σ²) X has no parameters. To train it as a layer like the others, a value projection
comes before it and an output projection after it. Queries and keys have dimension 0, and the scores are a bias of the
distance alone: on the grid, in patch widths, for patches; in positions of the sequence for other tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import isinf
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from attnviz.attention.rules.softmax import Softmax, at_least_float32, expand_kv, full_precision
from attnviz.attention.variants.base import Cost, Variant, split_heads
from attnviz.types import AttentionCall, Stage, Tokens


@dataclass(frozen=True)
class ContentFree(Softmax):
    """Softmax over scores that do not depend on the input, so one map holds for every sample of a batch."""

    caveat: str = "Equal for every input: the weights depend on positions only, not on content."

    def scores(self, call: AttentionCall, heads: list[int], rows: list[int], stage: Stage) -> Tensor:
        """[*batch head row key]: biases and mask alone; query and key are ignored."""
        return super().scores(replace(call, query=call.query[..., :0], key=call.key[..., :0]), heads, rows, stage)

    @full_precision
    def mix(self, call: AttentionCall) -> Tensor:
        """gate * (weights @ value), a block of rows at a time."""
        heads = list(range(call.heads))
        value = at_least_float32(expand_kv(call.value, call, heads))
        query, key = (value.new_zeros(call.heads, len(tokens), 0) for tokens in (call.queries, call.keys))
        # One map holds for every sample, so it is computed from vectors without a batch.
        single = replace(call, query=query, key=key, value=key, projection=None)
        if not call.biases and (call.mask is None or call.mask.kinds == {"key_padding"}):
            row = self.weights(single, heads, [0]) @ value  # without biases all rows are equal
            output = row.expand(*row.shape[:-2], len(call.queries), -1)
        else:
            output = torch.cat([self.weights(single, heads, rows) @ value for rows in call.blocks()], -2)
        return call.gated(output.to(call.value.dtype))


@dataclass(frozen=True)
class GaussianBias:
    """The logarithm of a Gaussian of the distance between query and key."""

    sigma: tuple[float, ...]  # by head

    def __call__(self, call: AttentionCall, heads: list[int], rows: list[int]) -> Float[Tensor, "head row key"]:
        """-distance² / 2 σ² of the requested rows. New tokens after a cached past are the last of the keys."""
        shift = len(call.keys) - len(call.queries)
        squares = squared_distances(call.keys, [row + shift for row in rows])
        squares = squares.to(at_least_float32(call.value).dtype).to(call.value.device)  # not every device has float64
        sigma = torch.tensor([self.sigma[head] for head in heads], dtype=squares.dtype, device=squares.device)
        return -squares / (2 * sigma**2)[:, None, None]


class Proximity(Variant):
    """Weights are a Gaussian of the distance between positions, independent of content.

    `sigma` is its width in tokens or patch widths, one number or one per head; it is not learned.
    """

    title = "Proximity"
    paper = "Content-free baseline; the Gaussian is from local-p of Luong, Pham, Manning 2015, arXiv 1508.04025, eq. 10"
    formula = r"\mathrm{softmax}_j\!\left(-\frac{|p_i - p_j|^2}{2 \sigma^2}\right) V"
    meaning = (
        "Row i holds the weights of position i over all positions; it sums to 1. "
        "The map is equal for every input, so it explains nothing about this one."
    )
    supported_masks = frozenset({"keep", "key_padding", "causal", "band", "groups"})
    requires_order = True

    def __init__(
        self,
        width: int,
        heads: int,
        *,
        tokens: Tokens | None = None,
        sigma: float | Sequence[float] = 2.0,
        bias: bool = True,
    ):
        super().__init__(width, heads, tokens=tokens)
        self.sigma = tuple(map(float, sigma)) if isinstance(sigma, Sequence) else (float(sigma),) * heads
        if len(self.sigma) != heads or min(self.sigma) <= 0:
            raise ValueError(f"sigma is {sigma}; it needs one number above zero, or {heads}, one for each head")
        self.rule = ContentFree()
        self.value, self.out = (nn.Linear(width, width, bias=bias) for _ in range(2))

    def project_inputs(self, x: Tensor, context: Tensor, queries: Tokens, keys: Tokens) -> dict[str, Any]:
        """Value from the context, query and key of dimension 0, and a bias of the distance."""
        value = split_heads(self.value(context), self.heads)
        return {
            "query": value.new_zeros(*value.shape[:-2], len(queries), 0),
            "key": value[..., :0],
            "value": value,
            "biases": () if all(map(isinf, self.sigma)) else (("distance", GaussianBias(self.sigma)),),
        }

    def cost(self, n_q: int, n_k: int) -> Cost:
        """2 d² parameters and biases (none without the projections); (n_q + n_k) d² + n² d multiply-adds."""
        d, uniform = self.width, all(map(isinf, self.sigma))
        return Cost(
            parameters=2 * d * d + (0 if self.out.bias is None else 2 * d),
            multiply_adds=(n_q + n_k) * d * d + (1 if uniform else n_q) * n_k * d,
            map_bytes=4 * self.heads * n_q * n_k,
            state_bytes=4 * n_k * d,
        )


class Uniform(Proximity):
    """Every token receives the mean of all tokens it may attend to: proximity with infinite sigma."""

    title = "Uniform"
    paper = "Content-free baseline"
    formula = r"\frac{1}{n} \sum_j V_j"
    meaning = (
        "All rows are equal: a weight of 1/n for each token. "
        "It shows what a network achieves without content-dependent attention."
    )
    supported_masks = Proximity.supported_masks | {"cross", "prefix"}  # a mean needs no positions
    requires_order = False

    def __init__(self, width: int, heads: int, *, tokens: Tokens | None = None, bias: bool = True):
        super().__init__(width, heads, tokens=tokens, sigma=float("inf"), bias=bias)


def squared_distances(tokens: Tokens, rows: Sequence[int]) -> Float[Tensor, "row key"]:
    """Squared distance from each row's token to every token: on the patch grid, else in the sequence."""
    columns = tokens.grid[1] if tokens.grid else len(tokens)
    index = torch.arange(len(tokens), dtype=torch.float64)
    coordinates = torch.stack([index // columns, index % columns], -1)  # [token axis]
    return (coordinates[list(rows), None] - coordinates[None]).square().sum(-1)
