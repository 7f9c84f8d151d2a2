"""Faithfulness of one map of one input, beside random orders of its parts: a score alone says nothing.

The answer is watched while parts are removed in the order of the map, and in random orders that a seed draws. Edits
that are alike are computed once, and in small batches: a language model's logits of all of them would fill the memory.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from attnviz.interventions import Progress
from attnviz.measures.faithfulness import (
    SHARES,
    STEPS,
    Curve,
    Perturbation,
    Rationale,
    area,
    curve,
    order_of,
    rationale,
    single_deletion,
    single_drops,
)

SEEDS = 8  # random orders
CHUNK = 16  # edits in one forward pass
FEW = 64  # parts; of more, curves take half as many steps
MOST = 1024  # parts; of more, none is removed alone


class Beside(NamedTuple):
    """One score of a map, and the mean and standard deviation of the same score of random orders."""

    value: float
    mean: float
    spread: float


@dataclass(frozen=True, eq=False)
class MapScores:
    """Scores of a map and of random ones; along `map`, the first one is the map."""

    curves: Curve  # [order map step]: the most relevant first (MoRF), then the least relevant first (LeRF)
    single_deletion: Float[Tensor, " map"] | None  # None where there are too many parts
    rationale: Rationale | None = None  # of texts: [map]

    def abpc(self, of: str) -> Float[Tensor, " map"]:
        """Area between the curves of "logit" or "probability", LeRF - MoRF."""
        most, least = area(self.curves.removed, getattr(self.curves, of))
        return least - most

    def table(self) -> dict[str, Beside]:
        """Every score that there is, by its name."""
        found = {f"abpc/{of}": self.abpc(of) for of in ("probability", "logit")}
        if self.single_deletion is not None:
            found["single deletion"] = self.single_deletion
        if self.rationale is not None:
            found |= self.rationale._asdict()
        return {name: beside(values) for name, values in found.items()}


def beside(values: Float[Tensor, " map"]) -> Beside:
    """The first of these values, and the mean and standard deviation (n - 1) of the others."""
    others = values[1:]
    return Beside(float(values[0]), float(others.mean()), float(others.std()))


def without(parts: Int[Tensor, " token"], stay: Collection[int]) -> Int[Tensor, " token"]:
    """The parts of an input but for those of the tokens in `stay`, which then always stay, as special tokens do."""
    held = {int(parts[token]) for token in stay}
    left = [part for part in range(int(parts.max()) + 1) if part not in held]
    number = {part: place for place, part in enumerate(left)}
    return torch.tensor([number.get(int(part), -1) for part in parts])


def random_maps(count: int, seeds: int = SEEDS) -> Float[Tensor, "seed part"]:
    """Random relevance of so many parts, one row for each seed."""
    drawn = [torch.rand(count, generator=torch.Generator().manual_seed(seed)) for seed in range(seeds)]
    return torch.stack(drawn).to(torch.float64)


def steps_of(count: int) -> int:
    """How many steps the curves of so many parts take."""
    return min(count, STEPS if count <= FEW else STEPS // 2)


def edits(count: int, *, text: bool, seeds: int = SEEDS) -> int:
    """How many edits `score_map` asks for at most."""
    singles = count + 1 if count <= MOST else 0
    return (1 + seeds) * (2 * (steps_of(count) + 1) + 2 * len(SHARES) * text) + singles + text


def score_map(
    perturbation: Perturbation,
    relevance: Float[Tensor, " part"],
    *,
    text: bool = False,
    seeds: int = SEEDS,
    progress: Progress | None = None,
) -> MapScores:
    """The scores of a map and of `seeds` random ones; sufficiency and comprehensiveness of a `text` only.

    Raises ValueError for fewer than two parts, and for a map of other parts than those that can be removed.
    """
    count = perturbation.count
    if count < 2 or relevance.shape != (count,):
        raise ValueError(f"a map {list(relevance.shape)} cannot be tested on {count} parts; at least 2 are needed")
    watched = told(perturbation, edits(count, text=text, seeds=seeds), progress)
    maps = torch.cat([relevance.cpu().to(torch.float64)[None], random_maps(count, seeds)])
    order = order_of(maps)
    curves = curve(watched, torch.stack([order, order.flip(-1)]), steps_of(count))
    singles = single_deletion(maps, single_drops(watched)) if count <= MOST else None
    return MapScores(curves, singles, rationale(watched, maps) if text else None)


def told(perturbation: Perturbation, total: int, progress: Progress | None) -> Perturbation:
    """The same perturbation, which computes like edits of a question once and tells which share of `total` is done."""
    done = 0

    def logits(keep: Tensor) -> Tensor:
        nonlocal done
        distinct, places = keep.unique(dim=0, return_inverse=True)
        found = []
        batches = distinct.split(CHUNK)
        for number, some in enumerate(batches, 1):
            found.append(perturbation.logits(some))
            if progress is not None:
                progress(min(1.0, (done + len(keep) * number / len(batches)) / total))
        done += len(keep)
        return torch.cat(found)[places]

    return replace(perturbation, logits=logits)
