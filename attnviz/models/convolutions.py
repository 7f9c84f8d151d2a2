"""Convolutions of the hybrid networks, on feature maps with any leading axes.

A feature map is [*batch channel row column]; as tokens it is [*batch token channel], in raster order.
"""

from __future__ import annotations

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn


class Convolution(nn.Module):
    """Convolution, batch norm, SiLU; the last two can be left out."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int,
        *,
        stride: int = 1,
        depthwise: bool = False,
        norm: bool = True,
        active: bool = True,
    ):
        super().__init__()
        groups = inputs if depthwise else 1
        self.convolution = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)
        self.norm = nn.BatchNorm2d(outputs) if norm else None
        self.active = active

    def forward(
        self, x: Float[Tensor, "*batch channel row column"]
    ) -> Float[Tensor, "*batch new_channel new_row new_column"]:
        """The new feature map; a stride of s leaves every s-th row and column."""
        y = self.convolution(x.reshape(-1, *x.shape[-3:]))  # torch wants exactly one batch axis here
        y = y if self.norm is None else self.norm(y)
        y = F.silu(y) if self.active else y
        return y.reshape(*x.shape[:-3], *y.shape[-3:])


class InvertedResidual(nn.Module):
    """Widen by 1 x 1, look around by a depthwise 3 x 3, narrow by 1 x 1 (Sandler et al. 2018, MobileNetV2).

    The input is added once, where it has the shape of the output.
    """

    def __init__(self, inputs: int, outputs: int, *, stride: int = 1, expansion: float = 4):
        super().__init__()
        wide = round_channels(round(inputs * expansion))
        self.adds = stride == 1 and inputs == outputs
        self.expand = Convolution(inputs, wide, 1)
        self.look = Convolution(wide, wide, 3, stride=stride, depthwise=True)
        self.reduce = Convolution(wide, outputs, 1, active=False)

    def forward(
        self, x: Float[Tensor, "*batch channel row column"]
    ) -> Float[Tensor, "*batch new_channel new_row new_column"]:
        """x + f(x), or f(x) where the shapes differ."""
        y = self.reduce(self.look(self.expand(x)))
        return x + y if self.adds else y


def round_channels(count: float, step: int = 8, least: int | None = None) -> int:
    """The nearest multiple of `step`, and never less than 90 % of what was asked (Sandler et al. 2018)."""
    rounded = max(step if least is None else least, int(count + step / 2) // step * step)
    return rounded + step if rounded < 0.9 * count else rounded


def to_tokens(features: Float[Tensor, "*batch channel row column"]) -> Float[Tensor, "*batch token channel"]:
    """Every pixel of a feature map as one token, in raster order."""
    return features.flatten(-2).transpose(-1, -2)


def to_map(
    tokens: Float[Tensor, "*batch token channel"], grid: tuple[int, int]
) -> Float[Tensor, "*batch channel row column"]:
    """The feature map of rows x columns tokens: the inverse of to_tokens."""
    return tokens.transpose(-1, -2).unflatten(-1, grid)
