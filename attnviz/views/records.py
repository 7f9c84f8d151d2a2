"""What crosses the wire: arrays packed small, with the true peaks of every row beside them.

A record is `uint32 head length | JSON head | zlib(payload)`, little-endian. A row of a square map is kept in one byte
a cell, in two parts: the keys that can be left out (CLS, registers, special tokens) and the others, each scaled by its
own largest value. The browser multiplies back by that peak, so a cell is off by at most half a step: peak / 510, or
peak / 508 where one byte marks what is masked, or peak / 254 around zero. Where keys are left out, the rest and its
error grow by the same factor. Which key is the largest is said apart, because two may share a byte. Maps of a single
row are few numbers and travel as float32.
To add a kind of record, write one function here and one branch in record.js.
"""

from __future__ import annotations

import io
import json
import struct
import zlib
from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float32, Num, Shaped, UInt8
from PIL import Image

Box = tuple[int, int, int, int]  # left, top, right, bottom, in pixels
MOST_KEYS = 1 << 16  # of a row: which of them is the largest is said in two bytes
LONGEST = 1024  # pixels of the longer side of a picture that is sent
AROUND = 1.6  # of a picture much larger than what the network sees, only this much around that is shown
SMALL = 128  # pixels of the longer side below which a picture is sent as it is: JPEG would blur what little there is


@runtime_checkable
class TokensLike(Protocol):
    """What a record needs to know of `attnviz.types.Tokens`."""

    @property
    def labels(self) -> tuple[str, ...]: ...
    @property
    def grid(self) -> tuple[int, int] | None: ...
    @property
    def prefix(self) -> int: ...
    @property
    def stream(self) -> str: ...
    @property
    def words(self) -> tuple[int, ...] | None: ...


def quantise(
    values: Num[np.ndarray, "*row cell"], signed: bool = False, masked: Bool[np.ndarray, "*row cell"] | None = None
) -> tuple[UInt8[np.ndarray, "*row cell"], Float32[np.ndarray, "*row"]]:
    """Cells uint8 of the same shape and float32 peaks without the last axis; zeros stay zero.

    With `masked`, 0 marks what is masked, 1 is zero and 255 the peak. Signed: 128 is zero, 1 and 255 are minus and plus
    the peak of |row|, and 0 marks what is masked or not finite.
    """
    values = np.asarray(values, dtype=np.float32)
    if masked is not None:
        values = np.where(masked, np.float32(np.nan if signed else 0), values)
    finite = np.isfinite(values)
    if not signed:
        if not finite.all() or (values < 0).any():
            raise ValueError("maps hold negative or non-finite numbers; pass signed=True")
        peaks = values.max(-1, initial=0)
        if masked is None:
            return np.rint(255 * _scaled(values, peaks)).astype(np.uint8), peaks
        cells = np.rint(254 * _scaled(values, peaks)) + 1
        return np.where(masked, 0, cells).astype(np.uint8), peaks
    known = np.where(finite, values, 0)
    peaks = np.abs(known).max(-1, initial=0)
    cells = np.rint(127 * _scaled(known, peaks)) + 128
    return np.where(finite, cells, 0).astype(np.uint8), peaks


def restore(
    cells: UInt8[np.ndarray, "*row cell"],
    peaks: Float32[np.ndarray, "*row"],
    signed: bool = False,
    masked: bool = False,
) -> Float32[np.ndarray, "*row cell"]:
    """What the browser makes of quantised cells; masked entries are NaN."""
    if not signed and not masked:
        return cells.astype(np.float32) * (peaks / 255)[..., None]
    zero, top = (128, 127) if signed else (1, 254)
    values = (cells.astype(np.float32) - zero) * (peaks / top)[..., None]
    return np.where(cells == 0, np.nan, values)


def _scaled(values: np.ndarray, peaks: np.ndarray) -> np.ndarray:
    """Values as fractions of the peak of their row; 0 where that is 0."""
    below = peaks[..., None]
    return np.divide(values, below, out=np.zeros_like(values), where=below > 0)


def block_means(weights: Num[np.ndarray, "*map query key"], size: int = 32) -> Float32[np.ndarray, "*map t s"]:
    """Maps [.. query key] as the means of at most size x size blocks: the overview of a big map."""
    weights = np.asarray(weights, dtype=np.float32)
    for axis in (-2, -1):
        count = weights.shape[axis]
        if count > size:
            edges = np.linspace(0, count, size + 1).round().astype(int)
            sums = np.add.reduceat(weights, edges[:-1], axis=axis)
            shape = [1] * weights.ndim
            shape[axis] = size
            weights = sums / np.diff(edges).reshape(shape).astype(np.float32)
    return weights


def pack_maps(
    name: str,
    maps: Num[np.ndarray, "map *query key"],
    *,
    titles: Sequence[str],
    keys: TokensLike,
    queries: TokensLike | None = None,
    signed: bool = False,
    map_type: str = "weights",
    unit: str = "percent",
    axes: tuple[str, str] | None = None,
    masked: Bool[np.ndarray, "..."] | None = None,
) -> bytes:
    """Maps [map query key], or one row of numbers a map [map key], as one record; `axes` where they are no tokens.

    `masked`, for all maps or for each: True = the query may not attend to the key.
    """
    maps = np.asarray(maps, dtype=np.float32)
    queries = queries or keys
    shape = (len(titles), len(keys.labels)) if maps.ndim == 2 else (len(titles), len(queries.labels), len(keys.labels))
    if maps.shape != shape:
        raise ValueError(f"maps are {maps.shape} but titles, queries and keys ask for {shape}")
    if maps.shape[-1] > MOST_KEYS:
        raise ValueError(f"maps have {maps.shape[-1]:,} keys, expected at most {MOST_KEYS:,}: send a part of them")
    mask = None if masked is None else _whole_mask(masked, maps, signed)
    known = np.isfinite(maps) if mask is None else np.isfinite(maps) & ~mask
    special = special_tokens(keys)
    cells, *peaks = _in_parts(maps, special, signed, mask)  # refuses what could not be shown, single rows too
    if maps.ndim == 2:  # exact: one outlier would leave only a few steps to the rest
        cells = np.where(known, maps, np.float32(np.nan))
    counted = (known, known & ~special)  # all keys, and those that cannot be left out
    sums = [np.where(part, maps, 0).sum(-1) for part in counted]
    best = [np.where(part, maps, -np.inf).argmax(-1).astype("uint16") for part in counted]
    head = {
        "name": name,
        "type": "maps",
        "shape": list(maps.shape),
        "titles": list(titles),
        "signed": signed,
        "map_type": map_type,
        "unit": unit,
        "keys": describe(keys),
        "queries": describe(queries),
        "masked": mask is not None,
    }
    if axes is not None:
        head["axes"] = list(axes)
    return pack(head, *peaks, *sums, *best, cells)


def _in_parts(
    maps: np.ndarray, out: np.ndarray, signed: bool, mask: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Cells as bytes, the peaks of the keys that stay and those of the keys that can be left out, each part by its own.

    With one peak for both, a row with nearly all its weight on CLS would leave no steps to the rest.
    """
    cells, peaks = np.empty(maps.shape, dtype=np.uint8), []
    for part in (~out, out):
        cells[..., part], peak = quantise(maps[..., part], signed, None if mask is None else mask[..., part])
        peaks.append(peak)
    return cells, peaks[0], peaks[1]


def _whole_mask(masked: np.ndarray, maps: np.ndarray, signed: bool) -> np.ndarray | None:
    """The mask of every cell; None where nothing is masked."""
    masked = np.asarray(masked, dtype=bool)
    if masked.shape not in (maps.shape, maps.shape[1:]):
        raise ValueError(f"masked is {masked.shape} but maps are {maps.shape}")
    masked = np.broadcast_to(masked, maps.shape)
    given = np.abs(np.where(masked & np.isfinite(maps), maps, 0)).max(initial=0)
    if not signed and given > 1e-4:  # scores may be anything under a mask, weights may not
        raise ValueError(
            f"masked is True where maps hold up to {given:.3g}; True means: the query may not attend to the key"
        )
    return masked if masked.any() else None


def special_tokens(tokens: TokensLike) -> Bool[np.ndarray, " token"]:
    """Which tokens are left out on request: the prefix, and special tokens of a text (CLS, SEP)."""
    apart = np.arange(len(tokens.labels)) < tokens.prefix
    return apart if tokens.words is None else apart | (np.array(tokens.words) < 0)


def pack_tiles(name: str, tiles: Num[np.ndarray, "layer head t t"]) -> bytes:
    """Overview tiles [layer head t t], each scaled by its own peak."""
    tiles = np.asarray(tiles, dtype=np.float32)
    if tiles.ndim != 4 or max(tiles.shape[2:]) > 64:
        raise ValueError(f"tiles are {tiles.shape}, expected [layer head t t] with t at most 64 (see block_means)")
    cells, peaks = quantise(tiles.reshape(*tiles.shape[:2], -1))
    return pack({"name": name, "type": "tiles", "shape": list(tiles.shape)}, peaks, cells)


def pack_colours(
    name: str, rgb: Shaped[np.ndarray, "map token 3"], *, titles: Sequence[str], keys: TokensLike
) -> bytes:
    """Colours uint8 [map token 3] as one record."""
    rgb = np.asarray(rgb)
    if rgb.dtype != np.uint8 or rgb.shape != (len(titles), len(keys.labels), 3):
        raise ValueError(f"colours are {rgb.dtype} {rgb.shape}, expected uint8 {(len(titles), len(keys.labels), 3)}")
    head = {"name": name, "type": "colours", "shape": list(rgb.shape), "titles": list(titles), "keys": describe(keys)}
    return pack(head, rgb)


def surroundings(picture: Image.Image, crop: Box) -> tuple[Image.Image, Box]:
    """The picture around the crop, at most AROUND times its size, and where the crop lies in it."""
    left, top, right, bottom = crop
    longest = round(AROUND * max(right - left, bottom - top))
    width, height = min(picture.width, longest), min(picture.height, longest)
    x = min(max(0, (left + right - width) // 2), picture.width - width)
    y = min(max(0, (top + bottom - height) // 2), picture.height - height)
    return picture.crop((x, y, x + width, y + height)), (left - x, top - y, right - x, bottom - y)


def pack_picture(name: str, picture: Image.Image, network: Image.Image, crop: Box, tokens: TokensLike) -> bytes:
    """The user's picture as JPEG (PNG if it is small), the network's own as PNG, and the box the network saw."""
    width, height = picture.size
    large = picture.convert("RGB")
    large.thumbnail((LONGEST, LONGEST))
    form = "PNG" if max(large.size) < SMALL else "JPEG"
    own, seen = _encoded(large, form), _encoded(network.convert("RGB"), "PNG")
    left, top, right, bottom = crop
    head = {
        "name": name,
        "type": "picture",
        "size": list(large.size),
        "keys": describe(tokens),
        "crop": [left / width, top / height, right / width, bottom / height],
        "parts": [len(own), len(seen)],
        "types": [f"image/{form.lower()}", "image/png"],
    }
    return pack(head, own, seen, level=0)  # they are compressed already


def _encoded(picture: Image.Image, form: str) -> bytes:
    file = io.BytesIO()
    picture.save(file, form, quality=88)  # which PNG has no use for
    return file.getvalue()


def describe(tokens: TokensLike) -> dict[str, Any]:
    """Tokens as JSON; labels only where they cannot be worked out from the grid."""
    labels = tokens.labels[: tokens.prefix] if tokens.grid else tokens.labels
    grid = list(tokens.grid) if tokens.grid else None
    words = {} if tokens.words is None else {"words": list(tokens.words)}
    return {
        "count": len(tokens.labels),
        "labels": list(labels),
        "grid": grid,
        "prefix": tokens.prefix,
        "stream": tokens.stream,
        **words,
    }


def pack(head: dict[str, Any], *parts: np.ndarray | bytes, level: int = 6) -> bytes:
    """Head and parts as one message."""
    payload = b"".join(part if isinstance(part, bytes) else np.ascontiguousarray(part).tobytes() for part in parts)
    text = json.dumps(head).encode()
    text += b" " * (-len(text) % 4)
    return struct.pack("<I", len(text)) + text + zlib.compress(payload, level)
