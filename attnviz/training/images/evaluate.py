"""Evaluation of image classifiers on held-out pictures."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from scipy.stats import binomtest
from torch import Tensor

from attnviz.models.files import as_shipped
from attnviz.models.image import Classifier, Preparation, opened_as
from attnviz.models.nets import Network
from attnviz.training.images.data import JPEG, Pictures, superclass_indices
from attnviz.training.images.loop import statistics
from attnviz.training.images.recipes import Recipe


def open_trained(recipe: Recipe, network: Network, pictures: Pictures) -> Classifier:
    """A trained network as a model with preparation and class names, its parameters rounded as they will be shipped."""
    as_shipped(network)
    mean, std = (tuple(round(v, 4) for v in t.flatten().tolist()) for t in statistics(recipe.data))
    digits, jpeg = recipe.data == "digits", JPEG if recipe.data == "photos" else None
    preparation = Preparation(recipe.config.size, mean, std, invert=digits, jpeg=jpeg)
    model_class = opened_as(network)
    return model_class(recipe.name, network, preparation, pictures.classes, pictures.superclasses, title=recipe.title)


def evaluate(model: Classifier, pictures: Pictures, batch: int = 128, *, drop_patches: bool = True) -> dict[str, Any]:
    """Top-1, top-5 and superclass accuracy, in percent of the held-out pictures; "..._by_superclass" of its pictures.

    "superclass_top1": the superclass of the top-1 class is right; "superclass_summed": the superclass with the largest
    summed probability, as the app shows it, is right; "superclass_summed_top3": the right one is among the three
    largest.

    With `drop_patches`, for a model with many patches also top-1 with random halves and quarters of the patches.
    """
    logits = torch.cat([predict_logits(model, pictures, start, batch) for start in range(0, len(pictures), batch)])
    labels = torch.from_numpy(np.asarray(pictures.labels)).long()
    predicted = logits.argmax(-1)
    order, superclass_of = list(dict.fromkeys(pictures.superclasses)), superclass_indices(pictures.superclasses)
    right = predicted == labels

    def by_superclass(hits: Tensor) -> dict[str, float]:
        return {name: percent(hits[superclass_of[labels] == number]) for number, name in enumerate(order)}

    facts: dict[str, Any] = {
        "held_out": len(pictures),
        "top1": percent(right),
        "top5": percent((logits.topk(5).indices == labels[:, None]).any(-1)),
        "superclass_top1": percent(superclass_of[predicted] == superclass_of[labels]),
        "top1_by_superclass": by_superclass(right) if len(order) > 1 else {},
    }
    if len(order) > 1:
        summed = torch.zeros(len(logits), len(order)).index_add_(1, superclass_of, logits.softmax(-1))
        hits = summed.topk(min(3, len(order))).indices == superclass_of[labels][:, None]
        first, three = hits[:, 0], hits.any(-1)
        facts |= {"superclass_summed": percent(first), "superclass_summed_top3": percent(three)}
        facts |= {"superclass_summed_by_superclass": by_superclass(first)}
        facts |= {"superclass_summed_top3_by_superclass": by_superclass(three)}
    patches = (model.config.size // model.config.patch) ** 2
    if drop_patches and patches >= 64 and model.network.removable:
        facts["top1_with_patches"] = {str(patches): facts["top1"]}
        for count in (patches // 2, patches // 4):
            parts = [predict_logits(model, pictures, s, batch, count) for s in range(0, len(pictures), batch)]
            facts["top1_with_patches"][str(count)] = percent(torch.cat(parts).argmax(-1) == labels)
    return facts


def predict_logits(model: Classifier, pictures: Pictures, start: int, count: int, visible: int | None = None) -> Tensor:
    """Logits [picture class] of one batch, with all patches or a random subset of `visible` patches."""
    images = torch.from_numpy(pictures.images[start : start + count]).permute(0, 3, 1, 2).float() / 255
    mean, std = (torch.tensor(v)[:, None, None] for v in (model.preparation.mean, model.preparation.std))
    subset = None
    if visible is not None:
        patches = (model.config.size // model.config.patch) ** 2
        random = torch.Generator().manual_seed(start)
        subset = torch.rand(len(images), patches, generator=random).argsort(1)[:, :visible].to(model.device)
    with torch.no_grad():
        trace = model.network(((images - mean) / std).to(model.device), visible=subset)
    return trace.logits["class"][..., 0, :].float().cpu()


def interval(top1: float, count: int) -> list[float]:
    """95 % interval (Wilson 1927) of an accuracy in percent on `count` pictures: other pictures, the same network."""
    found = binomtest(round(top1 * count / 100), count).proportion_ci(method="wilson")
    return [round(100 * found.low, 2), round(100 * found.high, 2)]


def percent(hits: Tensor) -> float:
    """The share of True in percent, with two decimals."""
    return round(100 * hits.double().mean().item(), 2)
