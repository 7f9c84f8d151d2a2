"""Scenes drawn from a seed, in which it is known exactly which pixels decide the answer.

A scene is noise, grey discs and bars that mean nothing, and what its kind adds. Everything but the object is drawn
before the object and from the seed alone, so the same seed with another label is the same scene with the object
swapped. To add a kind: a function of (seed's generator, label, canvas) and one line in KINDS.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Bool, UInt8
from PIL import Image

Split = Literal["train", "val"]
SIZE = 64  # pixels per side
COLOURS: dict[str, tuple[int, int, int]] = {
    "red": (210, 40, 40),
    "green": (40, 170, 60),
    "blue": (50, 80, 220),
    "yellow": (220, 200, 40),
}
SHAPES = ("square", "triangle", "plus", "ring")
RELATIONS = ("same", "different")
CLASSES = (*COLOURS, *SHAPES, *RELATIONS)
SUPERCLASSES = ("colour",) * len(COLOURS) + ("shape",) * len(SHAPES) + ("relation",) * len(RELATIONS)
PAIR = ((60, 200, 210), (200, 70, 200))  # the two colours of the diamonds of a relation
# The first seed of each split: FROZEN is for choosing options, SAMPLE for pictures to start from.
TRAIN, VAL, FROZEN, TEST, SAMPLE = 0, 10_000_000, 20_000_000, 30_000_000, 40_000_000
COUNTS: dict[Split, int] = {"train": 12_000, "val": 1_000}
SOURCE = "scenes drawn from a seed by `attnviz/training/images/scenes.py`; nothing is downloaded"

Mask = Bool[np.ndarray, "row column"]


@dataclass(frozen=True)
class Scene:
    """A picture, its answer, and the pixels that speak for each class in it."""

    kind: str
    seed: int
    image: UInt8[np.ndarray, "row column channel"]
    label: int  # what is asked; of several objects the first
    masks: dict[int, Mask]  # class -> the pixels that are its sole cause; classes without one are not there

    @property
    def mask(self) -> Mask:
        """The pixels that decide the answer."""
        return self.masks[self.label]


class Canvas:
    """A picture being drawn: where there is room, and what has been painted."""

    def __init__(self, random: np.random.Generator, off_centre: bool):
        self.random, self.off_centre = random, off_centre
        grey = random.normal(105, 14, (SIZE, SIZE, 1)) + random.normal(0, 5, (SIZE, SIZE, 3))
        self.pixels = grey.clip(0, 255)
        self.taken: list[tuple[float, float, float]] = []  # row, column, radius

    def place(self, radius: float, box: tuple[int, int, int, int] = (0, 0, SIZE, SIZE)) -> tuple[float, float]:
        """A free centre inside a box (top, left, bottom, right), off the middle half where that is asked for."""
        top, left, bottom, right = box
        best, room = (0.0, 0.0), -np.inf
        for _ in range(60):
            row = float(self.random.uniform(top + radius, bottom - radius))
            column = float(self.random.uniform(left + radius, right - radius))
            middle = max(abs(row - SIZE / 2), abs(column - SIZE / 2)) < SIZE / 4
            gaps = [np.hypot(row - r, column - c) - radius - other for r, c, other in self.taken]
            gap = min(gaps, default=SIZE) - (SIZE if self.off_centre and middle else 0)
            if gap > room:
                best, room = (row, column), gap
            if gap > 1:
                break
        self.taken.append((best[0], best[1], radius))
        return best

    def paint(self, where: Mask, colour: Sequence[float] | float) -> Mask:
        """Paint these pixels, with a little noise on them; returns them."""
        tone = np.broadcast_to(np.asarray(colour, dtype=float), (3,))
        self.pixels[where] = tone + self.random.normal(0, 6, (SIZE, SIZE, 1))[where]  # as many draws for any shape
        return where

    def distract(self, count: int) -> None:
        """Grey discs and bars, which no class is made of."""
        for _ in range(count):
            radius, tone = self.random.uniform(4, 6.5), float(self.random.choice((45, 65, 150, 175)))
            row, column = self.place(radius)
            down, across = offsets(row, column)
            bar = self.random.random() < 0.5
            upright = self.random.random() < 0.5
            thin, long = (across, down) if upright else (down, across)
            thin_bar = (abs(thin) < 1.8) & (abs(long) < radius)
            self.paint(thin_bar if bar else np.hypot(down, across) < radius, tone)


def offsets(row: float, column: float) -> tuple[np.ndarray, np.ndarray]:
    """How far every pixel lies below and to the right of a point."""
    down, across = np.mgrid[:SIZE, :SIZE] + 0.5
    return down - row, across - column


def shape_of(name: str, row: float, column: float, radius: float) -> Mask:
    """The pixels of a shape around a centre."""
    down, across = offsets(row, column)
    if name == "square":
        return np.maximum(abs(down), abs(across)) < 0.8 * radius
    if name == "triangle":
        return (down < 0.75 * radius) & (down > -radius) & (abs(across) < (down + radius) * 0.55)
    if name == "plus":
        return (np.minimum(abs(down), abs(across)) < 0.3 * radius) & (np.maximum(abs(down), abs(across)) < radius)
    if name == "ring":
        distance = np.hypot(down, across)
        return (distance < radius) & (distance > 0.5 * radius)
    if name == "diamond":
        return abs(down) + abs(across) < radius
    return np.hypot(down, across) < radius


def paint_object(canvas: Canvas, label: int, place: tuple[float, float], radius: float) -> Mask:
    """The object of a class: a coloured disc, or a light shape."""
    name = CLASSES[label]
    shape = shape_of(name if name in SHAPES else "disc", *place, radius)
    return canvas.paint(shape, COLOURS.get(name, (235, 235, 235)))


def one_object(canvas: Canvas, labels: Sequence[int]) -> dict[int, Mask]:
    """A single object: a disc of a colour (a), or a shape among grey shapes (b)."""
    radius = canvas.random.uniform(6.5, 8.5)
    place = canvas.place(radius)
    canvas.distract(5)
    return {labels[0]: paint_object(canvas, labels[0], place, radius)}


def two_objects(canvas: Canvas, labels: Sequence[int]) -> dict[int, Mask]:
    """Two objects of two classes (c): the map of one class has to show the one, that of the other the other."""
    sizes = canvas.random.uniform(6.5, 8.5, 2)
    places = [canvas.place(radius) for radius in sizes]
    canvas.distract(4)
    return {c: paint_object(canvas, c, p, r) for c, p, r in zip(labels, places, sizes, strict=False)}


def mosaic(canvas: Canvas, labels: Sequence[int]) -> dict[int, Mask]:
    """Four objects of four classes, one in each quarter (d), for the grid pointing game (Boehle et al. 2021)."""
    half, radius = SIZE // 2, 7.5
    corners = [(r, c) for r in (0, half) for c in (0, half)]
    order = canvas.random.permutation(4)
    places = [canvas.place(radius, (r, c, r + half, c + half)) for r, c in (corners[i] for i in order)]
    canvas.distract(3)
    return {c: paint_object(canvas, c, p, radius) for c, p in zip(labels, places, strict=False)}


def shortcut(canvas: Canvas, labels: Sequence[int]) -> dict[int, Mask]:
    """A shape, and a tag in a corner that the answer follows (e); the shape itself says nothing about the answer."""
    random, radius = canvas.random, canvas.random.uniform(6.5, 8.5)
    corner = random.integers(0, 2, 2) * (SIZE - 8) + 1  # the tag lies inside one patch of 8 px
    top, left = int(corner[0]), int(corner[1])
    canvas.taken.append((top + 3, left + 3, 5.0))
    place = canvas.place(radius)
    shown = len(COLOURS) + int(random.integers(len(SHAPES)))
    canvas.distract(4)
    paint_object(canvas, shown, place, radius)
    down, across = np.mgrid[:SIZE, :SIZE]
    inside = (down >= top) & (down < top + 6) & (across >= left) & (across < left + 6)
    rows, columns = (down - top) // 2 % 2, (across - left) // 2 % 2
    light = {"square": rows, "triangle": columns, "plus": rows ^ columns, "ring": np.ones_like(rows)}
    pattern = light[CLASSES[labels[0]]].astype(bool)
    canvas.paint(inside & ~pattern, 15)
    canvas.paint(inside & pattern, 245)
    return {labels[0]: inside}


def relation(canvas: Canvas, labels: Sequence[int]) -> dict[int, Mask]:
    """Two diamonds, of the same colour or of different ones (f): neither alone decides."""
    radius, first = canvas.random.uniform(7.5, 9), int(canvas.random.integers(2))
    places = [canvas.place(radius) for _ in range(2)]
    canvas.distract(4)
    second = first if CLASSES[labels[0]] == "same" else 1 - first
    parts = [
        canvas.paint(shape_of("diamond", *place, radius), PAIR[colour])
        for place, colour in zip(places, (first, second), strict=True)
    ]
    return {labels[0]: parts[0] | parts[1]}


@dataclass(frozen=True)
class Kind:
    """One kind of scene: what it is called, which classes can be its answer, and how it is drawn."""

    title: str
    labels: tuple[int, ...]
    draw: Callable[[Canvas, Sequence[int]], dict[int, Mask]]
    objects: int = 1  # how many classes are in it


_COLOUR = tuple(range(len(COLOURS)))
_SHAPE = tuple(range(len(COLOURS), len(COLOURS) + len(SHAPES)))
_RELATION = tuple(range(len(COLOURS) + len(SHAPES), len(CLASSES)))
KINDS: dict[str, Kind] = {
    "colour": Kind("A coloured disc among grey shapes", _COLOUR, one_object),
    "shape": Kind("A light shape among grey shapes", _SHAPE, one_object),
    "two": Kind("Two objects of two classes", _COLOUR + _SHAPE, two_objects, 2),
    "mosaic": Kind("Four objects, one in each quarter", _COLOUR + _SHAPE, mosaic, 4),
    "shortcut": Kind("A corner tag that the answer follows", _SHAPE, shortcut),
    "relation": Kind("Two diamonds of the same or of different colours", _RELATION, relation),
}
ANSWERED = tuple(name for name, kind in KINDS.items() if kind.objects == 1)  # a single answer is right


def draw(kind: str, seed: int, labels: Sequence[int] | None = None, *, off_centre: bool = False) -> Scene:
    """One scene; the same seed always gives the same one. `labels` sets the classes of its objects, in order.

    `off_centre` keeps objects out of the middle half, so that always pointing at the middle fails. Raises ValueError
    for an unknown kind, or for labels that the kind has not.
    """
    if kind not in KINDS:
        raise ValueError(f"no kind of scene is called {kind!r}; known: {', '.join(KINDS)}")
    known, objects = KINDS[kind].labels, KINDS[kind].objects
    chosen = [int(c) for c in np.random.default_rng((seed, 1)).permutation(known)]
    if labels is not None:
        chosen = [*labels, *(c for c in chosen if c not in labels)]
    if not set(chosen) <= set(known) or len(set(chosen)) < len(chosen):
        raise ValueError(f"a scene of kind {kind!r} has objects of different classes among {known}, not {labels}")
    canvas = Canvas(np.random.default_rng((seed, 0)), off_centre)
    masks = KINDS[kind].draw(canvas, chosen[:objects])
    return Scene(kind, seed, np.rint(canvas.pixels.clip(0, 255)).astype(np.uint8), chosen[0], masks)


def plan(split: Split) -> Iterator[tuple[str, int, int]]:
    """Kind, seed and label of each scene of a split: of every kind, and as many of each class.

    Held out are scenes with a single right answer; a training scene of several objects is labelled by one of them.
    """
    first = TRAIN if split == "train" else VAL
    names = tuple(KINDS) if split == "train" else ANSWERED
    kinds = [[name for name in names if label in KINDS[name].labels] for label in range(len(CLASSES))]
    for index in range(COUNTS[split]):
        label, turn = index % len(CLASSES), index // len(CLASSES)
        yield kinds[label][turn % len(kinds[label])], first + index, label


def write_samples(folder: Path) -> list[Path]:
    """Write one scene of every kind as a PNG file: the pictures that the app starts from."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for index, kind in enumerate(KINDS):
        paths.append(folder / f"{kind}.png")
        Image.fromarray(draw(kind, SAMPLE + index).image).save(paths[-1])
    return paths
