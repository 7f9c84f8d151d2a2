"""Nyströmformer: softmax attention approximated by landmarks, the means of token segments (Xiong et al. 2021)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from attnviz.attention.rules.feature_maps import Error, clamp_positive, softmax_error
from attnviz.attention.rules.softmax import Softmax, full_precision
from attnviz.attention.variants.base import Cost
from attnviz.attention.variants.projections import Projected, key_padding, refuse_cross, refuse_unsupported, widen
from attnviz.types import AttentionCall, MapType, Mask, NamedMap, Stage, Tokens


class Factors(NamedTuple):
    """The three factors of the Nyström approximation."""

    to: AttentionCall  # queries to landmark keys
    inverse: Tensor  # [*batch head landmark landmark]
    of: AttentionCall  # landmark queries to keys


@dataclass(frozen=True)
class Nystrom:
    """softmax(Q K̃ᵀ) pinv(softmax(Q̃ K̃ᵀ)) softmax(Q̃ Kᵀ) V, each softmax of scaled scores (eq. 13 to 15).

    Segments are consecutive and differ by one token at most; with fewer tokens than landmarks each token is a landmark.
    Masked tokens are left out of the means, and a landmark without tokens is masked.
    """

    landmarks: int
    steps: int = 6

    title = "Nyströmformer"
    map_type: MapType = "effective"
    axes = ("head", "query", "key")
    stochastic = False
    exact = True
    caveat = (
        "Derived: a product of three maps. Rows sum to about 1, and entries can be negative. "
        "CLS, like any token before the patches, is averaged into the first landmark."
    )

    @full_precision
    def factors(self, call: AttentionCall) -> Factors:
        """The two calls and the pseudo-inverse from which maps and output are computed."""
        refuse_unsupported(call, self.title, {"key_padding"})
        refuse_cross(call, self.title)
        wide, keep = widen(call), key_padding(call)
        count = min(self.landmarks, len(call.keys))
        query, _ = segment_means(wide.query, count, keep)
        key, present = segment_means(wide.key, count, keep)
        mask = None if keep is None else Mask(key_padding=present)
        names = Tokens(tuple(f"landmark {i + 1}" for i in range(count)), stream=call.keys.stream)
        to = replace(wide, key=key, value=key, keys=names, mask=mask)
        between = replace(to, query=query, queries=names).weights()
        of = replace(wide, query=query, queries=names)
        return Factors(to, newton_inverse(zero_absent_rows(between, present, keep), self.steps), of)

    def scores(self, call: AttentionCall, heads: list[int], rows: list[int], stage: Stage) -> Tensor:
        """[*batch head row landmark]: dot products of each query with the mean key of each segment."""
        return self.factors(call).to.scores(heads, rows, stage)

    def weights(self, call: AttentionCall, heads: list[int], rows: list[int]) -> Tensor:
        """The first factor [*batch head row landmark]; zero where every key is masked."""
        return self.factors(call).to.weights(heads, rows)

    @full_precision
    def token_map(self, call: AttentionCall, heads: list[int], rows: list[int]) -> Tensor:
        """The product of the three factors [*batch head row key]."""
        to, inverse, of = self.factors(call)
        return to.weights(heads, rows) @ (inverse[..., heads, :, :] @ of.weights(heads))

    def maps(self, call: AttentionCall) -> dict[str, NamedMap]:
        """The three factors. Landmarks without tokens have rows of zero."""
        to, inverse, of = self.factors(call)
        keep = key_padding(call)
        present = None if to.mask is None else to.mask.key_padding
        last = zero_absent_rows(of.weights(), present, keep)
        return {
            "query to landmarks": NamedMap(to.weights(), ("head", "query", "landmark"), "landmarks", True),
            "inverse between landmarks": NamedMap(inverse, ("head", "landmark", "landmark"), "landmarks", False),
            "landmarks to keys": NamedMap(last, ("head", "landmark", "key"), "landmarks", True),
        }

    @full_precision
    def mix(self, call: AttentionCall) -> Tensor:
        """gate * (the three factors @ value) [*batch head query value_dim], from right to left."""
        to, inverse, of = self.factors(call)
        output = Softmax().mix(replace(to, value=inverse @ Softmax().mix(of)))
        return call.gated(output.to(call.value.dtype))

    def map_gradient(self, call: AttentionCall, d_output: Tensor, heads: list[int], rows: list[int]) -> Tensor:
        """d y / d token_map = (d y / d output * gate) valueᵀ; masked entries are 0."""
        return Softmax().map_gradient(call, d_output, heads, rows)

    def error(self, call: AttentionCall) -> Error:
        """How far this call is from softmax attention of the same query, key and value."""
        return softmax_error(call)


def zero_absent_rows(weights: Tensor, present: Tensor | None, keep: Tensor | None) -> Tensor:
    """Weights of landmarks, with rows of zero for those without tokens."""
    return weights if keep is None or present is None else weights.masked_fill(~present[..., None, :, None], 0)


def segment_means(
    x: Float[Tensor, "*batch head token dim"], count: int, keep: Tensor | None
) -> tuple[Float[Tensor, "*batch head landmark dim"], Tensor | None]:
    """Means of `count` segments over the unmasked tokens, and which segments have any [*batch landmark] (None = all).

    Token i of n is in segment floor(i count / n).
    """
    tokens = x.shape[-2]
    segment = torch.arange(tokens, device=x.device) * count // tokens
    members = x.new_ones(tokens) if keep is None else keep.to(x.dtype)
    sizes = members.new_zeros(*members.shape[:-1], count).index_add(-1, segment, members)
    x = x if keep is None else x.masked_fill(~keep[..., None, :, None], 0)
    sums = x.new_zeros(*x.shape[:-2], count, x.shape[-1]).index_add(-2, segment, x)
    return sums / sizes.clamp(min=1)[..., None, :, None], None if keep is None else sizes > 0


def newton_inverse(matrix: Float[Tensor, "*batch row row"], steps: int) -> Float[Tensor, "*batch row row"]:
    """The pseudo-inverse by `steps` of a third-order Newton iteration (Razavi et al. 2014; Xiong et al., eq. 11).

    It starts from the transpose divided by the largest row sum and the largest column sum, of each matrix by itself:
    examples of a batch do not influence each other.
    """
    largest = matrix.abs().sum(-1).amax(-1) * matrix.abs().sum(-2).amax(-1)
    inverse = matrix.transpose(-1, -2) / clamp_positive(largest)[..., None, None]
    one = torch.eye(matrix.shape[-1], dtype=matrix.dtype, device=matrix.device)
    for _ in range(steps):
        product = matrix @ inverse
        inverse = inverse @ (13 * one - product @ (15 * one - product @ (7 * one - product))) / 4
    return inverse


class NystromAttention(Projected):
    """Softmax attention is approximated through a few landmarks, each the mean of a segment of tokens.

    Where the landmarks do not divide the tokens, segments differ by one token; nothing is padded. `steps` of Newton's
    iteration approximate the pseudo-inverse.
    """

    title = "Nyströmformer"
    paper = "Xiong et al. 2021, arXiv 2102.03902"
    formula = (
        r"\sigma(Q\tilde K^\top)\,\sigma(\tilde Q\tilde K^\top)^{+}\sigma(\tilde QK^\top)V,\ \sigma=\mathrm{softmax}"
    )
    meaning = (
        "Row i of the first map holds the weights of token i over landmarks, each the mean of a segment of tokens. "
        "The product of the three maps approximates the weights of softmax attention."
    )
    supported_masks = frozenset({"key_padding", "prefix"})

    def __init__(
        self,
        width: int,
        heads: int,
        *,
        tokens: Tokens | None = None,
        landmarks: int = 16,
        steps: int = 6,
        bias: bool = True,
    ):
        super().__init__(width, heads, tokens=tokens, bias=bias)
        if landmarks < 1 or steps < 1:
            raise ValueError(f"{landmarks} landmarks and {steps} steps; expected at least one of each")
        self.landmarks, self.steps = landmarks, steps
        self.rule = Nystrom(landmarks, steps)

    def cost(self, n_q: int, n_k: int) -> Cost:
        """4 d² parameters; 4 n d² + 4 n m d + 2 m² d + 4 h m³ a step multiply-adds; h (2 n m + m²) entries."""
        m = min(self.landmarks, n_k)
        products = 2 * (n_q + n_k) * m * self.width + 2 * m * m * self.width + 4 * self.steps * self.heads * m**3
        return Cost(
            parameters=self.projection_parameters,
            multiply_adds=self.projection_products(n_q, n_k) + products,
            map_bytes=4 * self.heads * (n_q * m + m * m + m * n_k),
            state_bytes=0,  # it has no causal form to decode with
        )
