"""What surrounds the attention of one layer: its two normalisations, the bias of its output, the MLP behind it.

An attention call holds what attention computes; methods that follow vectors instead of weights need these too.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Norm:
    """A normalisation of each token's features: weight * (x - mean) / root(variance + eps) + bias.

    Layer norm (Ba et al. 2016); with `centred` False it is RMS norm (Zhang & Sennrich 2019), which subtracts no mean.
    """

    weight: Float[Tensor, " feature"]
    bias: Float[Tensor, " feature"] | None = None
    eps: float = 1e-6
    centred: bool = True

    def linear(self, x: Float[Tensor, "*batch feature"]) -> Float[Tensor, "*batch feature"]:
        """weight * (x - mean): all of the norm that is linear in x. Divide by `divisor`, add `bias`."""
        return self.weight.to(x) * self.centre(x)

    def divisor(self, x: Float[Tensor, "*batch feature"]) -> Float[Tensor, "*batch 1"]:
        """root(variance + eps) of each token [*batch 1]."""
        return (self.centre(x).square().mean(-1, keepdim=True) + self.eps).sqrt()

    def centre(self, x: Float[Tensor, "*batch feature"]) -> Float[Tensor, "*batch feature"]:
        """x without its mean, where the norm subtracts it."""
        return x - x.mean(-1, keepdim=True) if self.centred else x

    def __call__(self, x: Float[Tensor, "*batch feature"]) -> Float[Tensor, "*batch feature"]:
        """The normalised features."""
        normed = self.linear(x) / self.divisor(x)
        return normed if self.bias is None else normed + self.bias.to(x)


@dataclass(frozen=True, eq=False)
class LayerParts:
    """One layer without its mixing: x + f(norm(x)) for attention and for the MLP, or, post-norm, norm(x + f(x))."""

    norm_first: bool
    attention_norm: Norm
    mlp_norm: Norm
    output_bias: Float[Tensor, " feature"] | None  # of the output projection of attention
    project: Callable[[Tensor, Any], tuple[Tensor, Tensor]]  # what attention reads, its Tokens -> query, key
    feed_forward: Callable[[Tensor], Tensor]  # the residual after attention -> the residual after the layer

    def after_attention(
        self, residual: Float[Tensor, "*batch feature"], added: Float[Tensor, "*wider feature"]
    ) -> Float[Tensor, "*wider feature"]:
        """The residual after attention, given the one before it and the projected outputs, summed over heads.

        One residual may come with many outputs; their axes broadcast.
        """
        summed = residual + added if self.output_bias is None else residual + added + self.output_bias.to(added)
        return summed if self.norm_first else self.attention_norm(summed)

    def reads(self, residual: Float[Tensor, "*batch token feature"]) -> Float[Tensor, "*batch token feature"]:
        """What attention reads of the residual before it."""
        return self.attention_norm(residual) if self.norm_first else residual
