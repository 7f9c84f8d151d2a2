"""How often a model is right on pictures it has never been trained or tuned on."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from scipy.stats import binomtest
from torch import Tensor

from attnviz.models.files import as_shipped
from attnviz.models.image import Classifier, Preparation, opened_as
from attnviz.models.nets import Network
from attnviz.training.images.data import JPEG, Pictures, numbered
from attnviz.training.images.loop import statistics
from attnviz.training.images.recipes import Recipe


def opened_model(recipe: Recipe, network: Network, pictures: Pictures) -> Classifier:
    """The trained network with its preparation and class names, its weights as rounded as they will be shipped."""
    as_shipped(network)
    mean, deviation = (tuple(round(v, 4) for v in t.flatten().tolist()) for t in statistics(recipe.data))
    digits, jpeg = recipe.data == "digits", JPEG if recipe.data == "photos" else None
    preparation = Preparation(recipe.config.size, mean, deviation, invert=digits, jpeg=jpeg)
    kind = opened_as(network)
    return kind(recipe.name, network, preparation, pictures.classes, pictures.superclasses, title=recipe.title)


def evaluate(model: Classifier, pictures: Pictures, batch: int = 128, *, removed: bool = True) -> dict[str, Any]:
    """Top-1, top-5 and shares of right groups, in percent of the held-out pictures; names with "by_group" say of which.

    "group": the group of the class it names; "group_summed": the group whose classes are likeliest together, as the app
    shows it; "group_among_3": the right one is among the three likeliest.

    With `removed`, for a model with many patches also top-1 with random halves and quarters of the patches removed.
    """
    logits = torch.cat([answers(model, pictures, start, batch) for start in range(0, len(pictures), batch)])
    labels = torch.from_numpy(np.asarray(pictures.labels)).long()
    guess = logits.argmax(-1)
    order, group_of = list(dict.fromkeys(pictures.superclasses)), numbered(pictures.superclasses)
    right, right_group = guess == labels, group_of[guess] == group_of[labels]

    def by_group(hits: Tensor) -> dict[str, float]:
        return {name: percent(hits[group_of[labels] == number]) for number, name in enumerate(order)}

    facts: dict[str, Any] = {
        "held_out": len(pictures),
        "top1": percent(right),
        "top5": percent((logits.topk(5).indices == labels[:, None]).any(-1)),
        "group": percent(right_group),
        "top1_by_group": by_group(right) if len(order) > 1 else {},
    }
    if len(order) > 1:
        summed = torch.zeros(len(logits), len(order)).index_add_(1, group_of, logits.softmax(-1))
        likely = summed.topk(min(3, len(order))).indices == group_of[labels][:, None]
        first, three = likely[:, 0], likely.any(-1)
        facts |= {"group_summed": percent(first), "group_among_3": percent(three)}
        facts |= {"group_summed_by_group": by_group(first), "group_among_3_by_group": by_group(three)}
    patches = (model.config.size // model.config.patch) ** 2
    if removed and patches >= 64 and model.network.removable:
        facts["top1_with_patches"] = {str(patches): facts["top1"]}
        for count in (patches // 2, patches // 4):
            guesses = [answers(model, pictures, s, batch, count).argmax(-1) for s in range(0, len(pictures), batch)]
            facts["top1_with_patches"][str(count)] = percent(torch.cat(guesses) == labels)
    return facts


def answers(model: Classifier, pictures: Pictures, start: int, count: int, visible: int | None = None) -> Tensor:
    """Logits [picture class] of one batch, with all or `visible` randomly chosen patches."""
    images = torch.from_numpy(pictures.images[start : start + count]).permute(0, 3, 1, 2).float() / 255
    mean, deviation = (torch.tensor(v)[:, None, None] for v in (model.preparation.mean, model.preparation.std))
    subset = None
    if visible is not None:
        patches = (model.config.size // model.config.patch) ** 2
        random = torch.Generator().manual_seed(start)
        subset = torch.rand(len(images), patches, generator=random).argsort(1)[:, :visible].to(model.device)
    with torch.no_grad():
        trace = model.network(((images - mean) / deviation).to(model.device), visible=subset)
    return trace.logits["class"][..., 0, :].float().cpu()


def interval(top1: float, count: int) -> list[float]:
    """95 % interval of a share in percent found on `count` pictures (Wilson 1927): other pictures, the same network."""
    found = binomtest(round(top1 * count / 100), count).proportion_ci(method="wilson")
    return [round(100 * found.low, 2), round(100 * found.high, 2)]


def percent(hits: Tensor) -> float:
    """The share of True, in percent with two decimals."""
    return round(100 * hits.double().mean().item(), 2)
