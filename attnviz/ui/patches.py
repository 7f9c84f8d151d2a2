"""What the Embeddings page shows, worked out for one visit: a patch from pixels to vector, and vectors by stage."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from torch import Tensor

from attnviz.measures import embeddings as measures
from attnviz.models.vit import patchify
from attnviz.types import Tokens
from attnviz.ui.state import layer_name, token_name
from attnviz.ui.visit import Visit

CHANNELS = {1: ("light",), 3: ("red", "green", "blue")}


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


def patch_of(visit: Visit, token: int) -> Patch:
    """One token's pixels, content and position, as the model has them."""
    tokens = visit.sample.tokens["main"]
    picture, pixels = None, None
    if token >= tokens.prefix:
        index, side = token - tokens.prefix, visit.model.config.patch
        pixels = patchify(visit.sample.inputs["main"], side)[index].numpy()
        image = np.asarray(visit.sample.image)
        row, column = divmod(index, grid_of(tokens)[1])
        picture = image[row * side : (row + 1) * side, column * side : (column + 1) * side]
        picture = picture[..., None] if picture.ndim == 2 else picture
    content, position = known(visit.trace.content["main"]), known(visit.trace.position["main"])
    return Patch(token_name(tokens, token), picture, pixels, content[token], position[token])


def known(tensor: Tensor | None) -> np.ndarray:
    """A part every vision transformer records, as an array."""
    if tensor is None:
        raise ValueError("this model records no content or position vectors")
    return tensor.detach().cpu().numpy()


def grid_of(tokens: Tokens) -> tuple[int, int]:
    """Rows and columns of the patch grid. Raises ValueError where there is none."""
    if tokens.grid is None:
        raise ValueError("these tokens have no patch grid")
    return tokens.grid


def enlarged(picture: np.ndarray) -> np.ndarray:
    """A patch and, in colour, each of its channels alone: uint8 [tile patch patch 3]."""
    if picture.shape[-1] == 1:
        return np.repeat(picture[None], 3, -1)
    alone = [picture * np.eye(3, dtype=np.uint8)[channel] for channel in range(3)]
    return np.stack([picture, *alone])


def stages(visit: Visit) -> list[str]:
    """The places where a token's vector can be looked at, by their names on screen."""
    return ["Content", "With position", *(f"After {layer_name(i).lower()}" for i in range(visit.model.config.layers))]


def vectors_at(visit: Visit, stage: int) -> np.ndarray:
    """Every token's vector [token feature] at a stage: 0 content, 1 what enters layer 1, 2 after layer 1 ..."""
    return known(visit.trace.content["main"] if stage == 0 else visit.trace.residuals["main"][stage - 1])


@dataclass(frozen=True, eq=False)
class Feature:
    """How one number of a patch's content comes about."""

    filter: np.ndarray  # uint8 [1 patch patch channel]: the row of the projection, stretched
    weights: np.ndarray  # [pixel]
    products: np.ndarray | None  # pixel times weight [pixel]; None for prefix tokens
    bias: float


def feature_of(visit: Visit, patch: Patch, feature: int) -> Feature:
    """Number `feature` of the patch's content, taken apart into pixels times weights plus bias."""
    embed = visit.model.network.embed
    weights = known(embed.weight[feature])
    products = None if patch.pixels is None else patch.pixels * weights
    tile = measures.tiles_of(weights[None], visit.model.config.channels)
    return Feature(tile, weights, products, float(embed.bias[feature]))


def pixel_names(channels: int, count: int) -> list[str]:
    """What each flattened pixel is: "red, row 1, column 2"."""
    side = round((count // channels) ** 0.5)
    named = CHANNELS.get(channels, tuple(f"channel {c + 1}" for c in range(channels)))
    return [f"{c}, row {r + 1}, column {k + 1}" for c in named for r in range(side) for k in range(side)]


def filters_of(visit: Visit) -> tuple[np.ndarray, np.ndarray]:
    """The projection's principal filters, uint8 [filter patch patch channel], and their shares of variance."""
    return measures.filters(known(visit.model.network.embed.weight), visit.model.config.channels)


def cosines(visit: Visit, stage: int) -> np.ndarray:
    """Cosine of every two tokens' vectors at a stage [token token]."""
    return measures.cosine(vectors_at(visit, stage))


def colours(visit: Visit, stage: int) -> tuple[np.ndarray, np.ndarray]:
    """Principal colours uint8 [token 3] of the vectors at a stage and the three components' shares of variance."""
    return measures.principal_colours(vectors_at(visit, stage), visit.sample.tokens["main"].prefix)
