"""What the Embeddings page of a picture shows of one patch: from its pixels to the vector that enters layer 1."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import streamlit as st

from attnviz import plots
from attnviz.measures import embeddings as measures
from attnviz.types import PatchProjection
from attnviz.ui.core.labels import token_name
from attnviz.ui.core.recorded import grid_of, known
from attnviz.ui.embeddings.stages import (
    PATCH,
    POSITION,
    STEP_COLOURS,
    TOKEN,
    all_numbers,
    as_sum,
    first_numbers,
    signed,
    steps_of,
)
from attnviz.ui.inputs.image_run import ImageRun
from attnviz.ui.widgets.output import dark

CHANNELS = {1: ("light",), 3: ("red", "green", "blue")}
PIXELS = "Pixels, normalised"


@dataclass(frozen=True, eq=False)
class Patch:
    """One token on its way from pixels to the vector that enters layer 1."""

    name: str  # "row 4, column 9"
    size: tuple[int, int, int] | None  # rows, columns and channels of its pixels; None for prefix tokens
    picture: np.ndarray | None  # uint8 [row column channel]; None where there is nothing to show
    pixels: np.ndarray | None  # normalised, flattened as channel, row, column; None where no linear map reads them
    steps: dict[str, np.ndarray]  # name on screen -> [feature]

    @property
    def series(self) -> dict[str, np.ndarray]:
        """Every step by its name on screen, pixels first."""
        return self.steps if self.pixels is None else {PIXELS: self.pixels, **self.steps}

    @property
    def sentence(self) -> str:
        """What the steps are, in words."""
        width = len(next(iter(self.steps.values())))
        if self.size is None:
            return f"**{self.name}** · no pixels → {width} numbers"
        height, across, channels = self.size
        pixels = f"{height} × {across} pixels" + (f" × {channels} channels" if channels > 1 else "")
        counted = "" if self.pixels is None else f" = {len(self.pixels)} numbers"
        return f"**Patch {self.name}** · {pixels}{counted} → {width} numbers"

    def table(self) -> dict[str, list[str]]:
        """The first numbers of every step, by column."""
        return first_numbers(self.series)

    def rows(self) -> tuple[list[str], list[list[str | float]]]:
        """All numbers of every step, for a file."""
        return all_numbers(self.series)


def patch_of(run: ImageRun, token: int) -> Patch:
    """One token's pixels and vectors, as the model has them."""
    tokens = run.sample.tokens["main"]
    name = token_name(tokens, token)
    if token < tokens.prefix:
        return Patch(name, None, None, None, steps_of(run, token, TOKEN))
    cell = divmod(token - tokens.prefix, grid_of(tokens)[1])
    pixels = cut(np.moveaxis(known(run.sample.inputs["main"]), 0, -1), cell, grid_of(tokens))
    height, width, channels = pixels.shape
    picture = None
    if run.sample.image is not None:
        image = np.asarray(run.sample.image)
        picture = cut(image[..., None] if image.ndim == 2 else image, cell, grid_of(tokens))
    flat = None if run.model.patch_projection is None else np.moveaxis(pixels, -1, 0).flatten()
    return Patch(name, (height, width, channels), picture, flat, steps_of(run, token, PATCH))


def cut(picture: np.ndarray, cell: tuple[int, int], grid: tuple[int, int]) -> np.ndarray:
    """The pixels of one cell of a grid over a picture [row column channel]."""
    height, width = picture.shape[0] // grid[0], picture.shape[1] // grid[1]
    top, left = cell[0] * height, cell[1] * width
    return picture[top : top + height, left : left + width]


def enlarged(picture: np.ndarray) -> np.ndarray:
    """A patch and, in colour, each of its channels alone: uint8 [tile row column 3]."""
    if picture.shape[-1] == 1:
        return np.repeat(picture[None], 3, -1)
    alone = [picture * np.eye(3, dtype=np.uint8)[channel] for channel in range(3)]
    return np.stack([picture, *alone])


@dataclass(frozen=True, eq=False)
class Feature:
    """How one number of a patch's embedding comes about."""

    tiles: np.ndarray  # uint8 [2 patch patch channel]: the patch and the row of the projection, both stretched
    products: np.ndarray  # pixel times weight [pixel]
    bias: float
    position: float | None  # None where no position embedding is added

    @property
    def embedding(self) -> float:
        """The sum of products and bias."""
        return float(self.products.sum()) + self.bias

    @property
    def sentence(self) -> str:
        """The sum in words."""
        said = (
            f"The {len(self.products)} products sum to {signed(float(self.products.sum()))}. With the bias, "
            f"{signed(self.bias)}, this number of the patch embedding is **{signed(self.embedding)}**."
        )
        if self.position is None:
            return said
        total = signed(self.embedding + self.position)
        return f"{said} The position embedding adds {signed(self.position)}: **{total}** enters layer 1."


def feature_of(projection: PatchProjection, patch: Patch, feature: int) -> Feature:
    """Number `feature` of the patch's embedding, taken apart into pixels times weights plus bias."""
    weights = known(projection.weight[feature].flatten())
    pixels = np.zeros_like(weights) if patch.pixels is None else patch.pixels
    tiles = measures.tiles_of(np.stack([pixels, weights]), projection.weight.shape[1])
    position = patch.steps.get(POSITION)
    added = None if position is None else float(position[feature])
    return Feature(tiles, pixels * weights, float(projection.bias[feature]), added)


def pixel_names(projection: PatchProjection) -> list[str]:
    """What each flattened pixel is: "red, row 1, column 2"."""
    _, channels, rows, columns = projection.weight.shape
    named = CHANNELS.get(channels, tuple(f"channel {c + 1}" for c in range(channels)))
    return [f"{c}, row {r + 1}, column {k + 1}" for c in named for r in range(rows) for k in range(columns)]


def pixel_colours(projection: PatchProjection) -> list[str]:
    """The channel of each flattened pixel, as a role of the theme."""
    channels = (name.split(",")[0] for name in pixel_names(projection))
    return [channel if channel in CHANNELS[3] else "light" for channel in channels]


def steps_figure(projection: PatchProjection | None, patch: Patch) -> Any:
    """Bars of every step, one under the other; the vectors share one range."""
    steps, coloured, names = as_sum(patch.steps), {**STEP_COLOURS}, None
    series = steps if patch.pixels is None else {PIXELS: patch.pixels, **steps}
    if projection is not None and patch.pixels is not None:
        coloured, names = {PIXELS: pixel_colours(projection), **coloured}, {PIXELS: pixel_names(projection)}
    return plots.stacked_bars(
        series, colours=coloured, names=names, shared=tuple(steps), dark=dark(), height=40 + 100 * len(series)
    )


def products_figure(projection: PatchProjection, feature: Feature) -> Any:
    """Bars of pixel times weight."""
    return plots.bars(
        feature.products,
        labels=pixel_names(projection),
        colours=pixel_colours(projection),
        x_title="Pixels, channel by channel",
        y_title="Pixel × weight",
        most_ticks=0,
        form="+.3f",
        dark=dark(),
        height=240,
    )


@st.cache_data(max_entries=16, show_spinner=False)
def filters_of(model_digest: str, _projection: PatchProjection) -> tuple[np.ndarray, np.ndarray]:
    """The projection's principal filters, uint8 [filter patch patch channel], and their shares of variance.

    Cached by the digest of the model whose projection it is.
    """
    return measures.filters(known(_projection.weight.flatten(1)), _projection.weight.shape[1])


def shares_figure(shares: np.ndarray) -> Any:
    """Bars of the share of variance of every principal filter."""
    return plots.bars(
        shares, colours="muted", form=".1%", x_title="Component", y_title="Share of variance", dark=dark(), height=260
    )
