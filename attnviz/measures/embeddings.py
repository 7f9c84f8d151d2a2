"""Numbers about vectors: how alike they are, their principal components, the waves of a position table.

Everything here is numpy in, numpy out. To add a similarity: a function [token feature] -> [token token] and one line in
SIMILARITIES.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from jaxtyping import Float, UInt8


def cosine(vectors: Float[np.ndarray, "token feature"]) -> Float[np.ndarray, "token token"]:
    """Cosine of every two vectors, -1 to 1: direction alone; a vector of length zero is like nothing (0)."""
    lengths = np.linalg.norm(vectors, axis=-1, keepdims=True)
    units = np.divide(vectors, lengths, out=np.zeros_like(vectors), where=lengths > 0)
    return units @ units.T


def cosine_with(vectors: Float[np.ndarray, "token feature"], one: int) -> Float[np.ndarray, " token"]:
    """Cosine of every vector with one of them: a row of `cosine`, without the others."""
    lengths = np.linalg.norm(vectors, axis=-1, keepdims=True)
    units = np.divide(vectors, lengths, out=np.zeros_like(vectors), where=lengths > 0)
    return units @ units[one]


def dot_product(vectors: Float[np.ndarray, "token feature"]) -> Float[np.ndarray, "token token"]:
    """Dot product of every two vectors: direction and length."""
    return vectors @ vectors.T


def centred_cosine(vectors: Float[np.ndarray, "token feature"]) -> Float[np.ndarray, "token token"]:
    """Cosine after the mean of all vectors is taken off: what they all share tells none of them apart."""
    return cosine(vectors - vectors.mean(0))


SIMILARITIES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "centred cosine": centred_cosine,
    "cosine": cosine,
    "dot product": dot_product,
}


def smallest_distance(vectors: Float[np.ndarray, "token feature"]) -> float:
    """The Euclidean distance of the two vectors that are closest to each other; 0 where two are the same."""
    if len(vectors) < 2:
        raise ValueError(f"a smallest distance needs two vectors, got {len(vectors)}")
    squares = (vectors**2).sum(-1)
    distances = squares[:, None] + squares[None] - 2 * dot_product(vectors)
    np.fill_diagonal(distances, np.inf)
    return float(np.sqrt(max(distances.min(), 0)))


def principal(rows: Float[np.ndarray, "row column"], count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The first principal components of centred rows.

    Returns directions [k column], coordinates [row k] and shares of variance [k]. A component's sign is arbitrary; here
    the coordinate farthest from zero is positive, so that pictures do not flip. Where there are
    fewer than `count`, all come back.
    """
    centred = rows - rows.mean(0)
    left, lengths, directions = np.linalg.svd(centred, full_matrices=False)
    coordinates = left * lengths
    farthest = np.take_along_axis(coordinates, np.abs(coordinates).argmax(0)[None], 0)
    signs = np.where(farthest < 0, -1.0, 1.0).astype(rows.dtype)  # [1 k]
    total = (lengths**2).sum()
    shares = lengths**2 / total if total > 0 else np.zeros_like(lengths)
    return (directions * signs.T)[:count], (coordinates * signs)[:, :count], shares[:count]


def filters(
    weight: Float[np.ndarray, "feature pixel"], channels: int, count: int = 28
) -> tuple[UInt8[np.ndarray, "filter patch patch channel"], Float[np.ndarray, " filter"]]:
    """Principal components of a patch projection as small pictures, each from its least (0) to its most (255).

    Also the share of variance of each (Dosovitskiy et al. 2021, figure 7 left). Pixels are flattened as channel, row,
    column.
    """
    directions, _, shares = principal(weight, count)
    return tiles_of(directions, channels), shares


def tiles_of(rows: Float[np.ndarray, "tile pixel"], channels: int) -> UInt8[np.ndarray, "tile patch patch channel"]:
    """Flattened patches (channel, row, column) as pictures, each stretched from its own least to its own most."""
    side = round((rows.shape[1] / channels) ** 0.5)
    if channels * side**2 != rows.shape[1]:
        raise ValueError(f"{rows.shape[1]} pixels are not {channels} channels of a square patch")
    return stretch(rows).reshape(len(rows), channels, side, side).transpose(0, 2, 3, 1)


def stretch(rows: Float[np.ndarray, "row column"]) -> UInt8[np.ndarray, "row column"]:
    """Each row from its least (0) to its most (255); a constant row is 0."""
    low = rows.min(1, keepdims=True)
    width = rows.max(1, keepdims=True) - low
    return np.rint((rows - low) / np.where(width > 0, width, 1) * 255).astype(np.uint8)


def principal_colours(
    vectors: Float[np.ndarray, "token feature"], prefix: int = 0
) -> tuple[UInt8[np.ndarray, "token 3"], Float[np.ndarray, " component"]]:
    """The first three principal components of the patches' vectors as red, green and blue, with shares of variance.

    Each colour runs from the 1st to the 99th percentile of the patches, so that one outlier does not grey the rest.
    Prefix tokens do not take part and are grey.
    """
    _, coordinates, shares = principal(vectors[prefix:], 3)
    found = np.zeros((len(coordinates), 3), coordinates.dtype)
    found[:, : coordinates.shape[1]] = coordinates
    low, high = np.percentile(found, [1, 99], axis=0)
    places = ((found - low) / np.where(high > low, high - low, 1)).clip(0, 1)
    colours = np.full((len(vectors), 3), 128, np.uint8)
    colours[prefix:] = np.rint(places * 255).astype(np.uint8)
    return colours, shares


def wavelengths(waves: int, base: float) -> Float[np.ndarray, " wave"]:
    """After how many positions each wave of a sine-cosine table repeats: 2 pi base^(i / waves)."""
    return 2 * np.pi * base ** (np.arange(waves) / waves)


def by_offset(table: Float[np.ndarray, "token feature"], most: int) -> Float[np.ndarray, " offset"]:
    """Mean dot product of two positions that are 0, 1, 2 ... `most` apart."""
    products = dot_product(table)
    return np.array([np.diagonal(products, k).mean() for k in range(min(most + 1, len(table)))])


def moved(before: Float[np.ndarray, "*row key"], after: Float[np.ndarray, "*row key"]) -> float:
    """The share of weight that lies elsewhere after a change: half the summed difference, averaged over rows."""
    return float(np.abs(before - after).sum(-1).mean() / 2)
