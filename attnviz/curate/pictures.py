"""Sample photographs: named right by the model, with attention rollout on the object."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import lru_cache
from typing import Any, cast

import numpy as np
import torch
from jaxtyping import Bool, Float
from PIL import Image, ImageDraw
from torch import Tensor

from attnviz.measures.heads import measure_heads
from attnviz.measures.localisation import pointing
from attnviz.methods import rollout
from attnviz.models import ImageModel, load
from attnviz.models.pictures import picture_from
from attnviz.paths import SAMPLES

MODEL = "vit"
FOLDER = SAMPLES / MODEL
PHOTOGRAPHS = SAMPLES / "photographs.json"  # whose they are, what they show, the outline of the object by hand
MOST_LOCAL = 6  # heads
SPREAD = 4.0  # patches: the standard deviation of the middle that a map is held against


def candidates() -> Iterator[dict[str, Any]]:
    """Every photograph with an outline."""
    for photograph in photographs():
        if photograph["outline"]:
            yield {"model": MODEL, "picture": photograph["name"]}


def wrong_candidates() -> Iterator[dict[str, Any]]:
    """Photographs without an outline: kept because the model names them wrongly."""
    for photograph in photographs():
        if not photograph["outline"]:
            yield {"model": MODEL, "picture": photograph["name"]}


def photographs() -> list[dict[str, Any]]:
    """What is recorded of each photograph."""
    return json.loads(PHOTOGRAPHS.read_text(encoding="utf-8"))


def measure(example: dict[str, Any]) -> dict[str, float]:
    """How sure the model is of the right class, and how far the rollout of the answer lies on the object.

    `on_object` is the share of pairs, one patch on the object and one beside it, of which the one on the object has
    more relevance (the area under the ROC curve); 0.5 is chance. `over_centre` is what it has over a Gaussian in the
    middle of the picture. `pointing` says whether the most relevant patch lies on the object.
    """
    photograph, model = photograph_of(example), opened()
    image = picture_from(FOLDER / f"{photograph['name']}.jpg")
    sample = model.prepare(image)
    trace = model(sample)
    shares = trace.logits["class"].flatten().softmax(-1)
    right = model.outputs["class"].index(photograph["class"])
    others = torch.cat([shares[:right], shares[right + 1 :]])
    tokens = sample.tokens["main"]
    relevance = rollout.explain(model, sample, trace=trace)[tokens.prefix :]
    mask = object_patches(photograph["outline"], image.size, tokens.grid or (1, 1))
    lies = above(relevance, mask)
    return {
        "probability": float(shares[right]),
        "margin": float(shares[right] - others.max()),
        "on_object": lies,
        "over_centre": lies - above(middle(tokens.grid or (1, 1)), mask),
        "pointing": float(pointing(relevance, mask)),
    }


def measure_wrong(example: dict[str, Any]) -> dict[str, float]:
    """Whether the model knows the class of a picture, and whether it answers another one."""
    photograph, model = photograph_of(example), opened()
    classes = model.outputs["class"]
    shares = model(model.prepare(FOLDER / f"{photograph['name']}.jpg")).logits["class"].flatten().softmax(-1)
    known = photograph["class"] in classes
    right = float(shares[classes.index(photograph["class"])]) if known else 0.0
    return {"probability": right, "known": float(known), "wrong": float(float(shares.max()) > right)}


def lone_heads() -> Iterator[dict[str, Any]]:
    """The first photograph, for what its heads do."""
    yield {"model": MODEL, "picture": photographs()[0]["name"], "heads": MOST_LOCAL}


def measure_local(example: dict[str, Any]) -> dict[str, float]:
    """How many of the heads that attend nearest by sit in the first half of the layers."""
    model = opened()
    calls = model(model.prepare(FOLDER / f"{example['picture']}.jpg")).calls
    distance = measure_heads(calls)["distance"]
    nearest = np.argsort(distance, axis=None)[: example["heads"]] // distance.shape[1]
    return {"early": float((nearest < len(calls) / 2).mean())}


def objects() -> Iterator[dict[str, Any]]:
    """The first photograph, for how alike the patches of its object become."""
    yield {"model": MODEL, "picture": photographs()[0]["name"]}


def measure_objects(example: dict[str, Any]) -> dict[str, float]:
    """How far patches of the object are more alike than those beside it, before the layers and after them.

    Cosines to the patch in the middle of the object's patches; shares of pairs as in `above`.
    """
    photograph, model = photograph_of(example), opened()
    image = picture_from(FOLDER / f"{photograph['name']}.jpg")
    sample = model.prepare(image)
    tokens, residuals = sample.tokens["main"], model(sample).residuals["main"]
    mask = object_patches(photograph["outline"], image.size, tokens.grid or (1, 1))
    places = mask.nonzero()[:, 0]
    own = int(places[len(places) // 2])
    found = []
    for residual in (residuals[0], residuals[-1]):
        vectors = residual[tokens.prefix :].float()
        found.append(above(torch.cosine_similarity(vectors, vectors[own][None], dim=-1), mask))
    return {"before": found[0], "after": found[1], "gained": found[1] - found[0]}


def photograph_of(example: dict[str, Any]) -> dict[str, Any]:
    """What is recorded of the picture of an example."""
    (found,) = [one for one in photographs() if one["name"] == example["picture"]]
    return found


@lru_cache(maxsize=1)
def opened() -> ImageModel:
    """The model, opened once."""
    return cast(ImageModel, load(MODEL))


def object_patches(
    outline: list[list[list[float]]], size: tuple[int, int], grid: tuple[int, int]
) -> Bool[Tensor, " patch"]:
    """The patches of which at least half lies within polygons [polygon corner 2] in pixels of a square picture."""
    area = Image.new("L", size)
    for polygon in outline:
        ImageDraw.Draw(area).polygon([(x, y) for x, y in polygon], fill=255)
    rows, columns = grid
    return torch.from_numpy(np.asarray(area.resize((columns, rows), Image.Resampling.BOX)) >= 128).flatten()


def middle(grid: tuple[int, int]) -> Float[Tensor, " patch"]:
    """A Gaussian in the middle of the picture: what a map that knows nothing of it is held against."""
    down, across = (torch.arange(side) - (side - 1) / 2 for side in grid)
    return torch.exp(-(down[:, None] ** 2 + across[None] ** 2) / (2 * SPREAD**2)).flatten()


def above(relevance: Float[Tensor, " patch"], mask: Bool[Tensor, " patch"]) -> float:
    """The share of pairs in which the patch inside has more relevance than the one outside; a tie counts half."""
    inside, outside = relevance[mask][:, None], relevance[~mask][None]
    return float(((inside > outside).float() + 0.5 * (inside == outside).float()).mean())
