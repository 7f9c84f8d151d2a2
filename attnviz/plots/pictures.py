"""Small pictures as PNG bytes, pixel by pixel: no smoothing, no JPEG."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from PIL import Image

WIDEST = 1460  # Streamlit resamples anything wider


def mosaic(tiles: Any, *, columns: int, tile: int = 64, gap: int = 4) -> bytes:
    """The same as `tiled`, as PNG."""
    return png(tiled(tiles, columns=columns, tile=tile, gap=gap))


def tiled(tiles: Any, *, columns: int, tile: int = 64, gap: int = 4) -> np.ndarray:
    """Tiles uint8 [tile height width channel] or [tile height width] in a grid with see-through gaps, as pixels.

    Returns uint8 [row column 4]. One channel is grey, three are colour; `tile` is about how many pixels wide each
    becomes.
    """
    found = np.asarray(tiles)
    found = found[..., None] if found.ndim == 3 else found
    if found.dtype != np.uint8 or found.ndim != 4 or found.shape[-1] not in (1, 3) or not len(found):
        raise ValueError(f"tiles are {found.dtype} {found.shape}, expected uint8 [tile height width 1 or 3]")
    if columns < 1:
        raise ValueError(f"columns is {columns}; a mosaic needs at least one")
    colour = found if found.shape[-1] == 3 else np.repeat(found, 3, -1)
    count, height, width, _ = colour.shape
    columns = min(columns, count)
    zoom = max(1, min(tile // width, (WIDEST - gap * columns) // (columns * width)))
    rows = -(-count // columns)
    high, wide = height * zoom, width * zoom
    canvas = np.zeros((rows * (high + gap) - gap, columns * (wide + gap) - gap, 4), np.uint8)
    for index, one in enumerate(colour.repeat(zoom, 1).repeat(zoom, 2)):
        top, left = index // columns * (high + gap), index % columns * (wide + gap)
        canvas[top : top + high, left : left + wide] = np.concatenate(
            [one, np.full((high, wide, 1), 255, np.uint8)], -1
        )
    return canvas


def png(pixels: np.ndarray) -> bytes:
    """Pixels as PNG bytes."""
    target = io.BytesIO()
    Image.fromarray(pixels).save(target, "PNG", compress_level=1)
    return target.getvalue()
