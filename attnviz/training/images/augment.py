"""Random crops, horizontal flips, and changes of sharpness, brightness, contrast and colour."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True)
class Augmentation:
    """The strength of each augmentation."""

    min_area: float = 0.35  # of a crop, as a share of the picture
    max_aspect_ratio: float = 1.33  # of a crop
    horizontal_flip: bool = True
    brightness: float = 0.3  # largest relative change of brightness, contrast and saturation
    blur: float = 0.0  # largest weight of a 3 x 3 mean; negative up to half as much, which sharpens
    shift: float = 0.0  # largest shift, as a share of the side


def augment(
    pixels: Float[Tensor, "batch channel height width"], settings: Augmentation, generator: torch.Generator
) -> Float[Tensor, "batch channel height width"]:
    """Augmented pictures of the same size; pixels lie in 0..1 before and may leave that range a little after."""
    count, device = len(pixels), pixels.device

    def between(low: float, high: float) -> Tensor:
        return (torch.rand(count, generator=generator) * (high - low) + low).to(device)

    area, ratio = between(settings.min_area, 1), between(-1, 1) * torch.tensor(settings.max_aspect_ratio).log()
    width = (area * ratio.exp()).sqrt().clamp(max=1)
    height = (area / ratio.exp()).sqrt().clamp(max=1)
    affine = torch.zeros(count, 2, 3, device=device)
    affine[:, 0, 0], affine[:, 1, 1] = width, height
    affine[:, 0, 2] = between(-1, 1) * (1 - width) + between(-1, 1) * 2 * settings.shift
    affine[:, 1, 2] = between(-1, 1) * (1 - height) + between(-1, 1) * 2 * settings.shift
    if settings.horizontal_flip:
        affine[:, 0, 0] *= between(0, 1).round() * 2 - 1
    grid = F.affine_grid(affine, list(pixels.shape), align_corners=False)
    edge = "zeros" if settings.shift else "reflection"
    changed = F.grid_sample(pixels, grid, padding_mode=edge, align_corners=False)
    if settings.blur:
        mean = F.avg_pool2d(changed, 3, stride=1, padding=1, count_include_pad=False)
        changed = changed + between(-settings.blur / 2, settings.blur)[:, None, None, None] * (mean - changed)
    if not settings.brightness:
        return changed
    bright, contrast, colour = (
        1 + between(-settings.brightness, settings.brightness)[:, None, None, None] for _ in range(3)
    )
    changed = changed * bright
    mean = changed.mean((1, 2, 3), keepdim=True)
    changed = mean + (changed - mean) * contrast
    grey = changed.mean(1, keepdim=True)
    return grey + (changed - grey) * colour
