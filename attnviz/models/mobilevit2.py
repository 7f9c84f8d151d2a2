"""MobileViT v2 (Mehta & Rastegari 2022, arXiv 2206.02680): the same stages with separable attention, linear in pixels.

Against v1: the 3 x 3 convolution looks at each channel alone, the norm is over all pixels and features of a stage, what
comes back from the attention replaces the feature map (no skip, no fusion), and there is no last 1 x 1 convolution.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from attnviz.attention.variants.mobilevit import Separable
from attnviz.models.convolutions import round_channels
from attnviz.models.mobilevit import Hybrid, HybridStage, MobileViTConfig, TransformerLayer


@dataclass(frozen=True)
class MobileViT2Config(MobileViTConfig):
    """The shape of a MobileViT v2; as it stands, the one with width multiplier 0.5. See `mobilevit2` for others."""

    channels: Sequence[int] = (16, 32, 64, 128, 192, 256)
    final: int = 0
    widths: Sequence[int] = (64, 96, 128)
    depths: Sequence[int] = (1, 2)
    heads: int = 1  # separable attention has no heads
    dropout: float = 0.0


def mobilevit2(alpha: float, **options: Any) -> MobileViT2Config:
    """The shape of MobileViT v2 with every channel count multiplied by alpha (paper: 0.5 to 2)."""
    channels = (
        round_channels(min(max(32 * alpha, 16), 64), least=16),
        round_channels(64 * alpha, 16),
        *(round_channels(count * alpha) for count in (128, 256, 384, 512)),
    )
    widths = tuple(round_channels(width * alpha) for width in (128, 192, 256))
    return MobileViT2Config(channels=channels, widths=widths, **options)


class JointNorm(nn.Module):
    """One mean and deviation over all tokens and features together, a gain and a shift per feature.

    The same as a group norm of one group. Unlike a layer norm it tells the tokens of a picture about each other.
    """

    def __init__(self, width: int, eps: float = 1e-5):
        super().__init__()
        self.eps = eps
        self.weight, self.bias = nn.Parameter(torch.ones(width)), nn.Parameter(torch.zeros(width))

    def forward(self, x: Float[Tensor, "*batch token feature"]) -> Float[Tensor, "*batch token feature"]:
        """The normalised tokens of each picture."""
        return F.layer_norm(x, x.shape[-2:], eps=self.eps) * self.weight + self.bias


class MobileViT2Stage(HybridStage):
    """Separable attention over the pixels of each phase; what it returns is the new feature map."""

    depthwise, active = True, False

    def layer(self, config: MobileViTConfig, width: int) -> TransformerLayer:
        """Separable attention and an MLP, whose hidden features are a multiple of 16."""
        attention = Separable(width, patch=tuple(config.patch))
        hidden = int(config.mlp * width) // 16 * 16
        return TransformerLayer(attention, (self.norm_of(width), self.norm_of(width)), hidden, config.dropout)

    def norm_of(self, width: int) -> nn.Module:
        """All tokens and features together."""
        return JointNorm(width)

    def joined(self, before: Tensor, far: Tensor) -> Tensor:
        """What came back from the attention; the map before it is not used again."""
        return far


class MobileViT2(Hybrid):
    """As MobileViT, but all pixels of a phase share one row of context scores: twice the pixels, twice the cost."""

    stage = MobileViT2Stage
