"""How far training pictures are changed: crops read off a ramp, light off two greys, by the numbers of the recipe."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from attnviz.training.images.augment import Augmentation, augment

STILL = Augmentation(min_area=1.0, max_aspect_ratio=1.0, horizontal_flip=False, brightness=0.0)
SIDE = 64


def ramp(count: int = 400) -> Tensor:
    """Pictures whose two channels say how far to the right and how far down a pixel lies, in 0..1."""
    line = (torch.arange(SIDE) + 0.5) / SIDE
    return torch.stack([line.expand(SIDE, SIDE), line[:, None].expand(SIDE, SIDE)]).expand(count, -1, -1, -1)


def changed(pixels: Tensor, how: Augmentation) -> Tensor:
    """The pixels augmented with a fixed seed."""
    return augment(pixels, how, torch.Generator().manual_seed(0))


def crops(how: Augmentation) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Width, height, and middle of the part of each picture that is left, as shares of its sides."""
    found = changed(ramp(), how)
    across, down = found[:, 0, SIDE // 2], found[:, 1, :, SIDE // 2]
    width, height = (line[:, -1] - line[:, 0] for line in (across, down))
    scale = SIDE / (SIDE - 1)  # from the middle of the first pixel to that of the last
    return width.abs() * scale, height.abs() * scale, across.mean(1), down.mean(1)


def test_a_crop_keeps_the_area_it_must_and_no_more_than_it_may() -> None:
    width, height, _, _ = crops(replace(STILL, min_area=0.5, max_aspect_ratio=1.2))
    area = width * height
    assert 0.5 - 1e-3 <= area.min() < 0.52
    assert 0.95 < area.max() <= 1 + 1e-3


def test_a_crop_may_be_wider_than_high_or_higher_than_wide() -> None:
    width, height, _, _ = crops(replace(STILL, min_area=0.3, max_aspect_ratio=1.5))
    ratio = width / height
    assert 1 / 1.5 - 1e-3 <= ratio.min() < 0.72
    assert 1.4 < ratio.max() <= 1.5 + 1e-3
    assert ratio.log().mean().abs() < 0.05


def test_a_crop_lies_anywhere_inside_the_picture() -> None:
    width, height, right, down = crops(replace(STILL, min_area=0.3, max_aspect_ratio=1.5))
    for size, middle in ((width, right), (height, down)):
        begin, end = middle - size / 2, middle + size / 2
        assert begin.min() >= -1e-3
        assert end.max() <= 1 + 1e-3
        place = (begin / (1 - size))[size < 0.9]  # 0 = at the left or upper edge, 1 = at the other
        assert place.min() < 0.05
        assert place.max() > 0.95
        assert place.mean() == pytest.approx(0.5, abs=0.05)


def test_a_shift_is_a_share_of_the_side_and_leaves_black_behind() -> None:
    found = changed(ramp() + 1, replace(STILL, shift=0.25))
    middle = found[:, :, SIDE // 2, SIDE // 2] - 1
    for moved in middle.unbind(1):
        assert 0.25 <= moved.min() < 0.28
        assert 0.73 < moved.max() <= 0.76
    edges = torch.stack([found[:, 0, :, 0].amax(-1), found[:, 0, :, -1].amax(-1)])
    assert (edges.amin(0) == 0).double().mean() > 0.9, "on one side there is nothing any more"


def test_a_crop_at_the_edge_has_no_dark_border() -> None:
    found = changed(torch.ones(200, 1, 16, 16), replace(STILL, min_area=0.3, max_aspect_ratio=1.5))
    torch.testing.assert_close(found, torch.ones_like(found))


def test_light_changes_brightness_contrast_and_colour_by_so_much() -> None:
    """All three lie between 1 - light and 1 + light, to both sides alike."""
    how = replace(STILL, brightness=0.2)
    two = torch.tensor([0.3, 0.6])[None, None, None, :].expand(900, 3, 1, 2)
    dark, bright = changed(two, how)[:, 0, 0].unbind(-1)
    brightness, contrast = (dark + bright) / 0.9, (bright - dark) / (dark + bright) / (0.3 / 0.9)
    # One colour whose mean is that of a grey pixel beside it: colour fades or glows, and contrast does the same to it.
    pixels = torch.full((900, 3, 1, 2), 0.4)
    pixels[:, :, 0, 0] = torch.tensor([0.6, 0.4, 0.2])
    found = changed(pixels, how)
    colour = (found[:, 0, 0, 0] - found[:, 2, 0, 0]) / 0.4 / (found.mean((1, 2, 3)) / 0.4)
    colour = colour / contrast  # drawn by the same seed
    for factor in (brightness, contrast, colour):
        assert 0.8 - 1e-3 <= factor.min() < 0.82
        assert 1.18 < factor.max() <= 1.2 + 1e-3
        assert factor.mean() == pytest.approx(1, abs=0.02)
    together = torch.corrcoef(torch.stack([brightness, contrast, colour]))
    assert (together - torch.eye(3)).abs().max() < 0.15, "each by itself"


def test_what_is_changed_unless_a_recipe_says_otherwise() -> None:
    how = Augmentation()
    assert (how.min_area, how.max_aspect_ratio, how.horizontal_flip, how.brightness, how.blur, how.shift) == (
        0.35,
        1.33,
        True,
        0.3,
        0.0,
        0.0,
    )
