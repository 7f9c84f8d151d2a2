"""Attention by place alone: near tokens count more than far ones, whatever they say; and the plain mean.

The formula softmax(-(i - j)² / 2 σ²) X has no parameters. So that it can be trained as a layer beside the others, X is
brought in by a value projection and handed on by an output projection; queries and keys have no dimension, and what
their dot product would say is said by a bias that only knows places. Tokens of a picture lie in rows and columns: their
distance is measured there, in patch widths; other tokens lie in a line.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import isinf
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from attnviz.attention.rules.softmax import Softmax, at_least_float32, expanded, full_precision
from attnviz.attention.variants.base import Cost, Variant, split_heads
from attnviz.types import AttentionCall, Stage, Tokens


@dataclass(frozen=True)
class Fixed(Softmax):
    """Softmax over scores that do not depend on the input, so one map serves every sample of a batch."""

    caveat: str = "The same for every input: only places count, not what the tokens are."

    def scores(self, call: AttentionCall, heads: list[int], rows: list[int], stage: Stage) -> Tensor:
        """[*batch head row key]: what biases and mask say; query and key are not read, whatever they are."""
        return super().scores(replace(call, query=call.query[..., :0], key=call.key[..., :0]), heads, rows, stage)

    @full_precision
    def mix(self, call: AttentionCall) -> Tensor:
        """gate * (weights @ value), a block of rows at a time."""
        heads = list(range(call.heads))
        value = at_least_float32(expanded(call.value, call, heads))
        query, key = (value.new_zeros(call.heads, len(tokens), 0) for tokens in (call.queries, call.keys))
        # One map serves every sample, so it is computed from vectors without a batch.
        alone = replace(call, query=query, key=key, value=key, projection=None)
        if not call.biases and (call.mask is None or call.mask.kinds == {"key_padding"}):
            row = self.weights(alone, heads, [0]) @ value  # without places all queries ask the same
            output = row.expand(*row.shape[:-2], len(call.queries), -1)
        else:
            output = torch.cat([self.weights(alone, heads, rows) @ value for rows in call.blocks()], -2)
        output = output.to(call.value.dtype)
        return output if call.gate is None else call.gate * output


@dataclass(frozen=True)
class Bell:
    """The bias that draws the curve."""

    sigma: tuple[float, ...]  # by head

    def __call__(self, call: AttentionCall, heads: list[int], rows: list[int]) -> Float[Tensor, "head row key"]:
        """-distance² / 2 σ² of the rows asked for. New tokens after a past are the last of the keys."""
        shift = len(call.keys) - len(call.queries)
        squares = squared_distances(call.keys, [row + shift for row in rows])
        squares = squares.to(at_least_float32(call.value).dtype).to(call.value.device)  # not every device has float64
        sigma = torch.tensor([self.sigma[head] for head in heads], dtype=squares.dtype, device=squares.device)
        return -squares / (2 * sigma**2)[:, None, None]


class Proximity(Variant):
    """Each token takes most from its neighbours, by a bell curve of their distance, and never looks at what they are.

    `sigma` is the width of the curve in tokens or patch widths, one number or one per head; it is not learned.
    """

    title = "Proximity"
    paper = "Content-free baseline; the curve is local-p's of Luong, Pham, Manning 2015, arXiv 1508.04025, eq. 10"
    formula = r"\mathrm{softmax}_j\!\left(-\frac{|p_i - p_j|^2}{2 \sigma^2}\right) V"
    meaning = (
        "Row i says how the place of token i shares out its attention over all places; it sums to one. "
        "The map is the same for every input, so it explains nothing about this one."
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
        self.rule = Fixed()
        self.value, self.out = (nn.Linear(width, width, bias=bias) for _ in range(2))

    def project_inputs(self, x: Tensor, context: Tensor, queries: Tokens, keys: Tokens) -> dict[str, Any]:
        """Value from the context; query and key of no dimension; a bias that knows the places."""
        value = split_heads(self.value(context), self.heads)
        return {
            "query": value.new_zeros(*value.shape[:-2], len(queries), 0),
            "key": value[..., :0],
            "value": value,
            "biases": () if all(map(isinf, self.sigma)) else (("place", Bell(self.sigma)),),
        }

    def cost(self, n_q: int, n_k: int) -> Cost:
        """2 d² parameters and biases (none without the projections); (n_q + n_k) d² + n² d multiply-adds."""
        d, even = self.width, all(map(isinf, self.sigma))
        return Cost(
            parameters=2 * d * d + (0 if self.out.bias is None else 2 * d),
            multiply_adds=(n_q + n_k) * d * d + (1 if even else n_q) * n_k * d,
            map_bytes=4 * self.heads * n_q * n_k,
            state_bytes=4 * n_k * d,
        )


class Uniform(Proximity):
    """Every token takes the plain mean of all tokens it may attend to: proximity with a curve of endless width."""

    title = "Uniform"
    paper = "Content-free baseline"
    formula = r"\frac{1}{n} \sum_j V_j"
    meaning = (
        "Every row is the same: one n-th for each token. "
        "What a network with this attention can do, it can do without choosing where to look."
    )
    supported_masks = Proximity.supported_masks | {
        "cross",
        "prefix",
    }  # a mean needs no places, so CLS and another stream fit
    requires_order = False

    def __init__(self, width: int, heads: int, *, tokens: Tokens | None = None, bias: bool = True):
        super().__init__(width, heads, tokens=tokens, sigma=float("inf"), bias=bias)


def squared_distances(tokens: Tokens, rows: Sequence[int]) -> Float[Tensor, "row key"]:
    """Squared distance from each row's token to every token: on the patch grid where there is one, else in line."""
    columns = tokens.grid[1] if tokens.grid else len(tokens)
    index = torch.arange(len(tokens), dtype=torch.float64)
    places = torch.stack([index // columns, index % columns], -1)  # [token axis]
    return (places[list(rows), None] - places[None]).square().sum(-1)
