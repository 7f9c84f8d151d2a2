"""Training to watch: networks that learn the digits side by side, in a thread of their own, stopped at any step.

A `Race` is what is trained and all that was recorded of it; track.py says when it may run. Nothing here knows the
screen, and whoever reads a race while it runs sees only what has been recorded whole.
"""

from __future__ import annotations

import math
import threading
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, Literal, cast

import numpy as np
import torch
from jaxtyping import Float
from numpy import ndarray
from torch import Tensor

from attnviz.attention import POSITIONS, VARIANTS
from attnviz.attention.rules.options import describe_options
from attnviz.models.image import ImageModel, Preparation, digest_of
from attnviz.models.vit import ViT
from attnviz.seeding import seeded
from attnviz.training.images.augment import Augmentation
from attnviz.training.images.data import DATA, Pictures, Split
from attnviz.training.images.evaluate import evaluate
from attnviz.training.images.loop import Run
from attnviz.training.images.recipes import RECIPES, Recipe
from attnviz.types import AttentionCall, NoTokenMap

State = Literal["ready", "waiting", "running", "stopped", "done", "failed"]
BATCH, EPOCH = 64, 20  # pictures in a step, steps that show every digit equally often once
LIGHT = Augmentation(min_area=0.9, max_aspect_ratio=1.05, horizontal_flip=False, brightness=0.0, shift=0.03)


class Diverged(ArithmeticError):
    """Training went astray; the message is a sentence for the visitor."""


@dataclass(frozen=True)
class Plan:
    """What is trained: every variant on the same pictures in the same order, for as many steps.

    `options` change the first network only: a variant can so run against its plain self.
    """

    variants: tuple[str, ...]
    epochs: int = 10
    seed: int = 0
    positions: str = "learned"
    options: tuple[tuple[str, Any], ...] = ()  # names and values in OPTIONS

    def title(self, number: int) -> str:
        """What one of the networks is called."""
        variant, options = VARIANTS[self.variants[number]].title, describe_options(self.options_of(number))
        return f"{variant} ({options})" if options else variant

    def whole_title(self, number: int) -> str:
        """The title of a network with positions and seed, where they differ from the shipped digits model."""
        places = "" if self.positions == Plan.positions else f", positions: {POSITIONS[self.positions].title.lower()}"
        return self.title(number) + places + (f", seed {self.seed}" if self.seed != Plan.seed else "")

    def options_of(self, number: int) -> dict[str, Any]:
        """What one of the networks has that its variant does not have by itself."""
        return {} if number else dict(self.options)

    def recipe(self, number: int) -> Recipe:
        """That of the shipped digits model, but without CLS, which not every variant can serve."""
        base = RECIPES["vit-digits"]
        shape = replace(
            base.config,
            pooling="mean",
            cls=False,
            variant=self.variants[number],
            positions=self.positions,
            options=self.options_of(number),
        )
        # Short runs want small batches, a high rate, and an average that follows the network within half an epoch.
        return replace(
            base,
            config=shape,
            steps=self.epochs * EPOCH,
            batch=BATCH,
            learning_rate=8e-3,
            ema_decay=0.9,
            augmentation=LIGHT,
            seed=self.seed,
        )


@dataclass(frozen=True, eq=False)
class Seen:
    """The map of one attention call on the ten pictures that are watched."""

    name: str  # of the call
    kind: str
    axes: tuple[str, ...]  # of one picture
    array: Float[ndarray, "picture *axis"]
    reason: str  # why there is no token map, and this is another one; else empty
    caveat: str
    stochastic: bool  # rows are shares of one


@dataclass(frozen=True, eq=False)
class Snapshot:
    """What a network could do after some epochs."""

    step: int
    accuracy: float  # share of the held-out pictures named right
    answers: Float[ndarray, "picture class"]  # probabilities on the ten pictures that are watched
    maps: tuple[Seen, ...]


class LiveModel:
    """One network on its way. Raises ValueError, with the reason, for a variant that cannot read these patches."""

    def __init__(self, plan: Plan, number: int = 0):
        self.variant, self.title, self.whole_title = plan.variants[number], plan.title(number), plan.whole_title(number)
        self.recipe = plan.recipe(number)
        with seeded(plan.seed):
            self.run = Run(self.recipe, pictures("train"), torch.device("cpu"))
        self.losses: list[float] = []
        self.moments: list[Snapshot] = []
        self.record()

    @property
    def network(self) -> ViT:
        """The moving average of the network, which is what is shown; training changes it in place."""
        return cast(ViT, self.run.shipped)  # what a plan's recipe describes

    def advance(self) -> None:
        """One step; after every epoch, a moment is recorded. Raises Diverged."""
        loss = float(self.run.advance())
        if not math.isfinite(loss):
            raise Diverged(f"{self.title} went astray at step {self.run.step}: its loss is no number any more.")
        self.losses.append(loss)
        if self.run.step % EPOCH == 0:
            self.record()

    def record(self) -> None:
        """Accuracy on all held-out pictures, and answers and maps on one of every class."""
        held = pictures("val")
        labels = torch.from_numpy(held.labels).long()
        with torch.no_grad():
            guess = self.network(self.pixels(held.images)).logits["class"][..., 0, :].argmax(-1)
            trace = self.network(self.pixels(watched().images))
            maps = tuple(map(seen, trace.calls))
        answers = trace.logits["class"][..., 0, :].softmax(-1).numpy()
        accuracy = float((guess == labels).double().mean())
        self.moments.append(Snapshot(self.run.step, accuracy, answers, maps))

    def pixels(self, images: ndarray) -> Tensor:
        """Pictures as the network reads them."""
        values = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255
        return (values - self.run.mean) / self.run.deviation


def opened(lane: LiveModel, name: str) -> ImageModel:
    """The network as it is now, with what surrounds it, as a model that training does not change any more."""
    network, held = deepcopy(lane.network), pictures("val")
    mean, deviation = (tuple(round(v, 4) for v in t.flatten().tolist()) for t in (lane.run.mean, lane.run.deviation))
    preparation = Preparation(lane.recipe.config.size, mean, deviation, invert=True)
    digest = digest_of(network)
    model = ImageModel(name, network, preparation, held.classes, held.superclasses, digest=digest)
    facts = evaluate(model, held) | {"data": held.source, "trained_on": len(pictures("train")), "steps": lane.run.step}
    title = f"{lane.whole_title}, trained here for {lane.run.step // EPOCH} epochs"
    return ImageModel(
        name, network, preparation, held.classes, held.superclasses, title=title, digest=digest, facts=facts
    )


class TrainingRun:
    """One network that learns, or two side by side: a step of each in turn, so that both are always equally far."""

    def __init__(self, plan: Plan):
        self.plan = plan
        self.lanes: list[LiveModel] = []
        self.refused: list[str] = []  # sentences about variants that cannot take part
        for number in range(len(plan.variants)):
            try:
                self.lanes.append(LiveModel(plan, number))
            except ValueError as error:
                self.refused.append(f"{plan.title(number)} cannot take part: {error}")
        self.state: State = "ready" if self.lanes else "failed"
        self.notice = ""  # why it stopped, where nobody asked for it: a sentence for the visitor
        self.seconds = 0.0  # of training, over all parts
        self.work = 0.0  # seconds of a core that went into it
        self.looked = 0.0
        self.thread: threading.Thread | None = None

    @property
    def active(self) -> bool:
        """Whether it learns, or waits for its turn to."""
        return self.state in ("waiting", "running")

    @property
    def fresh(self) -> bool:
        """Whether it has not begun."""
        return self.step == 0 and not self.active

    @property
    def step(self) -> int:
        """Steps that every network has made."""
        return min((len(lane.losses) for lane in self.lanes), default=0)

    @property
    def steps(self) -> int:
        """Steps that every network is to make."""
        return self.plan.epochs * EPOCH

    @property
    def epoch(self) -> int:
        """Epochs that have been recorded of every network."""
        return min((len(lane.moments) for lane in self.lanes), default=1) - 1

    def advance(self) -> None:
        """One step of every network."""
        for lane in self.lanes:
            if lane.run.step < self.steps:
                lane.advance()


def seen(call: AttentionCall) -> Seen:
    """The token map of a call, or its first native map where it has none."""
    kind, axes, reason, stochastic = call.rule.map_type, ("head", "query", "key"), "", call.rule.stochastic
    try:
        array = call.token_map()
    except NoTokenMap as error:
        native = next(iter(call.maps().values()))
        array, kind, axes, reason, stochastic = (
            native.array,
            native.map_type,
            native.axes,
            str(error),
            native.stochastic,
        )
    return Seen(call.name, kind, axes, array.float().numpy(), reason, call.rule.caveat, stochastic)


@lru_cache(maxsize=2)
def pictures(split: Split) -> Pictures:
    """The handwritten digits."""
    return DATA["digits"](split)


@lru_cache(maxsize=1)
def watched() -> Pictures:
    """The first held-out picture of every digit: what the maps are recorded on."""
    held = pictures("val")
    index = [int(np.flatnonzero(held.labels == label)[0]) for label in range(len(held.classes))]
    return replace(held, images=held.images[index], labels=held.labels[index])
