"""Live training: networks learn the digits side by side, in a background thread that can stop at any step.

A `TrainingRun` holds the models and every snapshot of them; `queue.py` decides when it may run. Nothing here knows the
screen, and a snapshot is appended only when it is complete, so reading a run while it trains is safe.
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

State = Literal["ready", "queued", "running", "stopped", "done", "failed"]
BATCH, STEPS_PER_EPOCH = 64, 20  # an epoch shows every digit class equally often
AUGMENTATION = Augmentation(min_area=0.9, max_aspect_ratio=1.05, horizontal_flip=False, brightness=0.0, shift=0.03)


class Diverged(ArithmeticError):
    """The loss is not finite; the message is a sentence for the visitor."""


@dataclass(frozen=True)
class Plan:
    """What to train: every variant on the same pictures in the same order, for the same number of steps.

    `options` apply to the first network only, so a variant with options can be compared with the variant without.
    """

    variants: tuple[str, ...]
    epochs: int = 10
    seed: int = 0
    positions: str = "learned"
    options: tuple[tuple[str, Any], ...] = ()  # names and values in OPTIONS
    norm_first: bool = True  # layer norm before attention and MLP, or after the residual sum

    def title(self, number: int) -> str:
        """The title of one network: its variant and options."""
        variant, options = VARIANTS[self.variants[number]].title, describe_options(self.options_of(number))
        return f"{variant} ({options})" if options else variant

    def full_title(self, number: int) -> str:
        """The title with positions, norm and seed, where they differ from the defaults."""
        positions = (
            "" if self.positions == Plan.positions else f", positions: {POSITIONS[self.positions].title.lower()}"
        )
        norm = "" if self.norm_first else ", post-norm"
        return self.title(number) + positions + norm + (f", seed {self.seed}" if self.seed != Plan.seed else "")

    def options_of(self, number: int) -> dict[str, Any]:
        """The attention options of one network."""
        return {} if number else dict(self.options)

    def recipe(self, number: int) -> Recipe:
        """The recipe of the shipped digits model, but with mean pooling: not every variant supports CLS."""
        base = RECIPES["vit-digits"]
        shape = replace(
            base.config,
            pooling="mean",
            cls=False,
            variant=self.variants[number],
            positions=self.positions,
            options=self.options_of(number),
            norm_first=self.norm_first,
        )
        # Short runs need small batches, a high learning rate, and an average that follows within half an epoch.
        return replace(
            base,
            config=shape,
            steps=self.epochs * STEPS_PER_EPOCH,
            batch=BATCH,
            learning_rate=8e-3,
            ema_decay=0.9,
            augmentation=AUGMENTATION,
            seed=self.seed,
        )


@dataclass(frozen=True, eq=False)
class RecordedMap:
    """The map of one attention call on the ten probe pictures."""

    name: str  # of the call
    map_type: str
    axes: tuple[str, ...]  # of one picture
    array: Float[ndarray, "picture *axis"]
    reason: str  # why the call has no token map, if this is a native map instead; else empty
    caveat: str
    stochastic: bool  # rows sum to 1


@dataclass(frozen=True, eq=False)
class Snapshot:
    """Accuracy, predictions and maps of a network after a number of steps."""

    step: int
    accuracy: float  # on all held-out pictures, 0..1
    probabilities: Float[ndarray, "picture class"]  # of the ten probe pictures
    maps: tuple[RecordedMap, ...]


class LiveModel:
    """One network in training. Raises ValueError with the reason for a variant that does not support these patches."""

    def __init__(self, plan: Plan, number: int = 0):
        self.variant = plan.variants[number]
        self.title, self.full_title = plan.title(number), plan.full_title(number)
        self.recipe = plan.recipe(number)
        with seeded(plan.seed):
            self.training = Run(self.recipe, load_digits("train"), torch.device("cpu"))
        self.losses: list[float] = []
        self.snapshots: list[Snapshot] = []
        self.record()

    @property
    def network(self) -> ViT:
        """The moving average of the network, which is what is shown; training updates it in place."""
        return cast(ViT, self.training.shipped)  # what a plan's recipe describes

    def advance(self) -> None:
        """Train one step; record a snapshot after every epoch. Raises Diverged."""
        loss = float(self.training.advance())
        if not math.isfinite(loss):
            raise Diverged(f"{self.title} diverged at step {self.training.step}: the loss is not finite.")
        self.losses.append(loss)
        if self.training.step % STEPS_PER_EPOCH == 0:
            self.record()

    def record(self) -> None:
        """Append a snapshot: accuracy on all held-out pictures, predictions and maps of the probe pictures."""
        held_out = load_digits("val")
        labels = torch.from_numpy(held_out.labels).long()
        with torch.no_grad():
            predicted = self.network(self.pixels(held_out.images)).logits["class"][..., 0, :].argmax(-1)
            trace = self.network(self.pixels(probe_pictures().images))
            maps = tuple(map(record_map, trace.calls))
        probabilities = trace.logits["class"][..., 0, :].softmax(-1).numpy()
        accuracy = float((predicted == labels).double().mean())
        self.snapshots.append(Snapshot(self.training.step, accuracy, probabilities, maps))

    def pixels(self, images: ndarray) -> Tensor:
        """Normalised input of the network, from 8-bit pictures."""
        values = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255
        return (values - self.training.mean) / self.training.std


def open_live(live: LiveModel, name: str) -> ImageModel:
    """A copy of the network as it is now, evaluated, as a model that further training does not change."""
    network, held_out, run = deepcopy(live.network), load_digits("val"), live.training
    mean, std = (tuple(round(v, 4) for v in t.flatten().tolist()) for t in (run.mean, run.std))
    preparation = Preparation(live.recipe.config.size, mean, std, invert=True)
    digest = digest_of(network)
    classes, superclasses = held_out.classes, held_out.superclasses
    model = ImageModel(name, network, preparation, classes, superclasses, digest=digest)
    facts = evaluate(model, held_out)
    facts |= {"data": held_out.source, "trained_on": len(load_digits("train")), "steps": run.step}
    title = f"{live.full_title}, trained here for {run.step // STEPS_PER_EPOCH} epochs"
    return ImageModel(name, network, preparation, classes, superclasses, title=title, digest=digest, facts=facts)


class TrainingRun:
    """One model in training, or two side by side: one step of each in turn, so both are always at the same step."""

    def __init__(self, plan: Plan):
        self.plan = plan
        self.models: list[LiveModel] = []
        self.refusals: list[str] = []  # a sentence for each variant that cannot be trained
        for number in range(len(plan.variants)):
            try:
                self.models.append(LiveModel(plan, number))
            except ValueError as error:
                self.refusals.append(f"{plan.title(number)} cannot be trained: {error}")
        self.state: State = "ready" if self.models else "failed"
        self.notice = ""  # why it stopped without being asked to: a sentence for the visitor
        self.seconds = 0.0  # of training, over all resumed parts
        self.core_seconds = 0.0  # processor time it has used
        self.last_seen = 0.0  # when a visitor last asked for it, by the clock of the queue
        self.thread: threading.Thread | None = None

    @property
    def active(self) -> bool:
        """Whether it is running or queued."""
        return self.state in ("queued", "running")

    @property
    def not_started(self) -> bool:
        """Whether it has made no step and is not about to."""
        return self.step == 0 and not self.active

    @property
    def step(self) -> int:
        """Steps that every model has made."""
        return min((len(model.losses) for model in self.models), default=0)

    @property
    def steps(self) -> int:
        """Steps that every model will make."""
        return self.plan.epochs * STEPS_PER_EPOCH

    @property
    def epoch(self) -> int:
        """Epochs with a snapshot of every model."""
        return min((len(model.snapshots) for model in self.models), default=1) - 1

    def advance(self) -> None:
        """Train every model for one step."""
        for model in self.models:
            if model.training.step < self.steps:
                model.advance()


def record_map(call: AttentionCall) -> RecordedMap:
    """The token map of a call, or its first native map where it has none."""
    rule = call.rule
    try:
        array, axes = call.token_map().float().numpy(), ("head", "query", "key")
        return RecordedMap(call.name, rule.map_type, axes, array, "", rule.caveat, rule.stochastic)
    except NoTokenMap as error:
        native = next(iter(call.maps().values()))
        array = native.array.float().numpy()
        return RecordedMap(call.name, native.map_type, native.axes, array, str(error), rule.caveat, native.stochastic)


@lru_cache(maxsize=2)
def load_digits(split: Split) -> Pictures:
    """The handwritten digits."""
    return DATA["digits"](split)


@lru_cache(maxsize=1)
def probe_pictures() -> Pictures:
    """The first held-out picture of every digit: what maps and predictions are recorded on."""
    held_out = load_digits("val")
    index = [int(np.flatnonzero(held_out.labels == label)[0]) for label in range(len(held_out.classes))]
    return replace(held_out, images=held_out.images[index], labels=held_out.labels[index])
