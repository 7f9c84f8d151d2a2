"""The kinds of examples, what each must reach, and how an example is told apart from one that shows nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from attnviz.curate import pictures

Example = dict[str, Any]  # what is shown, by name; with "kind", and "numbers" once it is measured


@dataclass(frozen=True)
class Kind:
    """One kind of example: its candidates, its numbers, and the least each number has to be."""

    candidates: Callable[[], Iterator[Example]]
    measure: Callable[[Example], dict[str, float]]
    least: Mapping[str, float]
    shows: str  # the effect, in one sentence


KINDS: dict[str, Kind] = {
    "picture": Kind(
        pictures.candidates,
        pictures.measure,
        {"probability": 0.6, "margin": 0.3, "on_object": 0.7, "over_centre": 0.0, "pointing": 1.0},
        "The model names the picture right by a margin, and its rollout lies on the object, more than the middle does.",
    ),
    "wrong picture": Kind(
        pictures.wrong_candidates,
        pictures.measure_wrong,
        {"wrong": 1.0, "known": 1.0},
        "The model knows the class of the picture and names another.",
    ),
}


def measured(example: Example) -> dict[str, float]:
    """The numbers of an example, computed with the shipped models."""
    return {name: round(value, 4) for name, value in KINDS[example["kind"]].measure(example).items()}


def lacking(example: Example) -> list[str]:
    """The numbers of a measured example that are below what its kind must reach; none where it shows its effect."""
    least = KINDS[example["kind"]].least
    return [name for name, bound in least.items() if not example["numbers"][name] >= bound]  # NaN is lacking too
