"""What the Embeddings page shows, worked out for one visit: a patch from pixels to vector, and vectors by stage."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from attnviz import plots
from attnviz.measures import embeddings as measures
from attnviz.models.vit import patchify
from attnviz.types import PatchProjection
from attnviz.ui.core.labels import layer_name, token_name
from attnviz.ui.core.recorded import grid_of, known
from attnviz.ui.inputs.image_run import ImageRun
from attnviz.ui.widgets.output import dark

CHANNELS = {1: ("light",), 3: ("red", "green", "blue")}
PIXELS, CONTENT, POSITION, VECTOR = "Pixels, normalised", "Content", "+ Position", "= Vector"


@dataclass(frozen=True, eq=False)
class Patch:
    """One token on its way from pixels to the vector that enters layer 1."""

    name: str  # "row 4, column 9"
    picture: np.ndarray | None  # uint8 [patch patch channel]; None for prefix tokens, which have no pixels
    pixels: np.ndarray | None  # normalised, flattened as channel, row, column
    content: np.ndarray  # [feature]
    position: np.ndarray  # [feature]

    @property
    def vector(self) -> np.ndarray:
        """What enters layer 1."""
        return self.content + self.position

    @property
    def series(self) -> dict[str, np.ndarray]:
        """Every step by its name on screen."""
        steps = {CONTENT: self.content, POSITION: self.position, VECTOR: self.vector}
        return steps if self.pixels is None else {PIXELS: self.pixels, **steps}

    @property
    def sentence(self) -> str:
        """What the steps are, in words."""
        if self.picture is None:
            return f"**{self.name}** · no pixels → {len(self.content)} numbers"
        height, width, channels = self.picture.shape
        pixels = f"{height} × {width} pixels" + (f" × {channels} channels" if channels > 1 else "")
        return f"**Patch {self.name}** · {pixels} = {self.picture.size} numbers → {len(self.content)} numbers"

    def table(self, count: int = 8) -> dict[str, list[str]]:
        """The first numbers of every step, by column."""
        steps = {name.split(",")[0].strip("+= "): values for name, values in self.series.items()}
        cells = {str(k + 1): [signed(float(v[k])) if k < len(v) else "" for v in steps.values()] for k in range(count)}
        return {"First numbers": list(steps), **cells}

    def rows(self) -> tuple[list[str], list[list[str | float]]]:
        """All numbers of every step, for a file."""
        steps = self.series.values()
        longest = max(map(len, steps))
        header = ["number", *(("pixel",) if self.pixels is not None else ()), "content", "position", "vector"]
        return header, [[k + 1, *(float(v[k]) if k < len(v) else "" for v in steps)] for k in range(longest)]


def signed(number: float) -> str:
    """A number with its sign, as on screen."""
    return f"{number:+.3f}".replace("-", "−")


def patch_of(visit: ImageRun, token: int) -> Patch:
    """One token's pixels, content and position, as the model has them."""
    tokens = visit.sample.tokens["main"]
    picture, pixels = None, None
    if token >= tokens.prefix:
        index, side = token - tokens.prefix, projection_of(visit).weight.shape[-1]
        pixels = known(patchify(visit.sample.inputs["main"], side)[index])
        image = np.asarray(visit.sample.image)
        row, column = divmod(index, grid_of(tokens)[1])
        picture = image[row * side : (row + 1) * side, column * side : (column + 1) * side]
        picture = picture[..., None] if picture.ndim == 2 else picture
    content, position = known(visit.trace.token_embeddings["main"]), known(visit.trace.position_embeddings["main"])
    return Patch(token_name(tokens, token), picture, pixels, content[token], position[token])


def enlarged(picture: np.ndarray) -> np.ndarray:
    """A patch and, in colour, each of its channels alone: uint8 [tile patch patch 3]."""
    if picture.shape[-1] == 1:
        return np.repeat(picture[None], 3, -1)
    alone = [picture * np.eye(3, dtype=np.uint8)[channel] for channel in range(3)]
    return np.stack([picture, *alone])


def stages(visit: ImageRun) -> list[str]:
    """The places where a token's vector can be looked at, by their names on screen."""
    return ["Content", "With position", *(f"After {layer_name(i).lower()}" for i in range(visit.model.spec.layers))]


def vectors_at(visit: ImageRun, stage: int) -> np.ndarray:
    """Every token's vector [token feature] at a stage: 0 content, 1 what enters layer 1, 2 after layer 1 ..."""
    return known(visit.trace.token_embeddings["main"] if stage == 0 else visit.trace.residuals["main"][stage - 1])


@dataclass(frozen=True, eq=False)
class Feature:
    """How one number of a patch's content comes about."""

    tiles: np.ndarray  # uint8 [2 patch patch channel]: the patch and the row of the projection, both stretched
    products: np.ndarray  # pixel times weight [pixel]
    bias: float
    position: float

    @property
    def sentence(self) -> str:
        """The sum in words."""
        total = float(self.products.sum())
        content = total + self.bias
        return (
            f"The {len(self.products)} products add up to {signed(total)}. The bias, {signed(self.bias)}, makes the "
            f"content **{signed(content)}**. Position adds {signed(self.position)}, so that "
            f"**{signed(content + self.position)}** enters layer 1."
        )


def feature_of(visit: ImageRun, patch: Patch, feature: int) -> Feature:
    """Number `feature` of the patch's content, taken apart into pixels times weights plus bias."""
    projection = projection_of(visit)
    weights = known(projection.weight[feature].flatten())
    pixels = np.zeros_like(weights) if patch.pixels is None else patch.pixels
    tiles = measures.tiles_of(np.stack([pixels, weights]), projection.weight.shape[1])
    return Feature(tiles, pixels * weights, float(projection.bias[feature]), float(patch.position[feature]))


def projection_of(visit: ImageRun) -> PatchProjection:
    """The linear map from pixels to embeddings. Raises ValueError where the model has none."""
    if visit.model.patch_projection is None:
        raise ValueError("this model has no linear map from the pixels of a patch to its embedding")
    return visit.model.patch_projection


def pixel_names(visit: ImageRun) -> list[str]:
    """What each flattened pixel is: "red, row 1, column 2"."""
    _, channels, side, _ = projection_of(visit).weight.shape
    side = range(side)
    named = CHANNELS.get(channels, tuple(f"channel {c + 1}" for c in range(channels)))
    return [f"{c}, row {r + 1}, column {k + 1}" for c in named for r in side for k in side]


def pixel_colours(visit: ImageRun) -> list[str]:
    """The channel of each flattened pixel, as a role of the theme."""
    return [name.split(",")[0] if name.split(",")[0] in CHANNELS[3] else "light" for name in pixel_names(visit)]


def steps_figure(visit: ImageRun, patch: Patch) -> Any:
    """Bars of every step, one under the other; the last three share one range."""
    return plots.stacked_bars(
        patch.series,
        colours={PIXELS: pixel_colours(visit), POSITION: "position"},
        names={PIXELS: pixel_names(visit)},
        shared=(CONTENT, POSITION, VECTOR),
        dark=dark(),
        height=110 * len(patch.series),
    )


def products_figure(visit: ImageRun, feature: Feature) -> Any:
    """Bars of pixel times weight."""
    names, paint = pixel_names(visit), pixel_colours(visit)
    return plots.bars(
        feature.products,
        labels=names,
        colours=paint,
        x_title="Pixels, channel by channel",
        y_title="Pixel × weight",
        most_ticks=0,
        form="+.3f",
        dark=dark(),
        height=240,
    )


def filters_of(visit: ImageRun) -> tuple[np.ndarray, np.ndarray]:
    """The projection's principal filters, uint8 [filter patch patch channel], and their shares of variance."""
    weight = projection_of(visit).weight
    return measures.filters(known(weight.flatten(1)), weight.shape[1])


def shares_figure(shares: np.ndarray) -> Any:
    """Bars of the share of variance of every principal filter."""
    return plots.bars(
        shares, colours="muted", form=".1%", x_title="Component", y_title="Share of variance", dark=dark(), height=260
    )


def cosines(visit: ImageRun, stage: int) -> np.ndarray:
    """Cosine of every two tokens' vectors at a stage [token token]."""
    return measures.cosine(vectors_at(visit, stage))


def colours(visit: ImageRun, stage: int) -> tuple[np.ndarray, np.ndarray]:
    """Principal colours uint8 [token 3] of the vectors at a stage and the three components' shares of variance."""
    return measures.principal_colours(vectors_at(visit, stage), visit.sample.tokens["main"].prefix)
