"""Random crops, mirror images, changes of sharpness and light: the same picture never looks quite the same twice."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True)
class Augmentation:
    """How far a training picture may be changed."""

    min_area: float = 0.35  # smallest share of the picture a crop may keep
    max_aspect_ratio: float = 1.33  # widest aspect ratio of a crop
    horizontal_flip: bool = True
    brightness: float = 0.3  # largest relative change of brightness, contrast and colour
    blur: float = 0.0  # most of a 3 x 3 mean mixed in, to soften; half as much is taken away, to sharpen
    shift: float = 0.0  # largest shift, as a share of the side


def augment(
    pixels: Float[Tensor, "batch channel height width"], how: Augmentation, generator: torch.Generator
) -> Float[Tensor, "batch channel height width"]:
    """Changed pictures of the same size; pixels lie in 0..1 before and may leave it a little after."""
    count, device = len(pixels), pixels.device

    def between(low: float, high: float) -> Tensor:
        return (torch.rand(count, generator=generator) * (high - low) + low).to(device)

    area, ratio = between(how.min_area, 1), between(-1, 1) * torch.tensor(how.max_aspect_ratio).log()
    width = (area * ratio.exp()).sqrt().clamp(max=1)
    height = (area / ratio.exp()).sqrt().clamp(max=1)
    place = torch.zeros(count, 2, 3, device=device)
    place[:, 0, 0], place[:, 1, 1] = width, height
    place[:, 0, 2] = between(-1, 1) * (1 - width) + between(-1, 1) * 2 * how.shift
    place[:, 1, 2] = between(-1, 1) * (1 - height) + between(-1, 1) * 2 * how.shift
    if how.horizontal_flip:
        place[:, 0, 0] *= between(0, 1).round() * 2 - 1
    grid = F.affine_grid(place, list(pixels.shape), align_corners=False)
    edge = "zeros" if how.shift else "reflection"
    changed = F.grid_sample(pixels, grid, padding_mode=edge, align_corners=False)
    if how.blur:
        mean = F.avg_pool2d(changed, 3, stride=1, padding=1, count_include_pad=False)
        changed = changed + between(-how.blur / 2, how.blur)[:, None, None, None] * (mean - changed)
    if not how.brightness:
        return changed
    bright, contrast, colour = (1 + between(-how.brightness, how.brightness)[:, None, None, None] for _ in range(3))
    changed = changed * bright
    mean = changed.mean((1, 2, 3), keepdim=True)
    changed = mean + (changed - mean) * contrast
    grey = changed.mean(1, keepdim=True)
    return grey + (changed - grey) * colour
