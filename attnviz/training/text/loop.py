"""The training loop of all text models: what differs between them is the loss of a step.

Every step draws its texts from a generator seeded with the recipe's seed and the step, so a run that was cut off goes
on exactly where it stopped.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from jaxtyping import Bool, Int
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from attnviz.models.subwords import PAD
from attnviz.training.checkpoint import OtherTraining, fingerprint, load_state, save_state
from attnviz.training.muon import Muon, computes_in_bfloat16
from attnviz.training.text.skipgram import TextProgress

HELD = "held.pt"  # beside a checkpoint: the state before the rate began to fall
Net = TypeVar("Net", bound=nn.Module)
Random = np.random.Generator


@dataclass(frozen=True)
class TextRecipe:
    """Everything but the network and its loss that decides what a training does."""

    steps: int
    batch: int = 4096  # tokens, padding included
    learning_rate: float = 2e-3
    warmup: int = 150  # steps until the rate is full
    hold: float = 0.0  # share of the steps at the full rate; after it half a cosine wave leads down to none
    weight_decay: float = 0.05  # weight decay of the matrices
    max_grad_norm: float = 1.0
    ema_decay: float = 0.998  # of the moving average of the parameters that is shipped
    seed: int = 0
    until: int | None = None  # stop after this step of the schedule; None = go to its end

    @property
    def last(self) -> int:
        """The step after which it stops."""
        return self.steps if self.until is None else min(self.until, self.steps)

    @property
    def held(self) -> int:
        """The step at which the rate begins to fall."""
        return round(self.hold * self.steps)

    def learning_rate_at(self, step: int) -> float:
        """The learning rate of a step."""
        begin = max(self.held, min(self.warmup, self.steps // 2))
        if step < begin:
            return self.learning_rate * min(1.0, (step + 1) / min(self.warmup, begin))
        return self.learning_rate * (0.5 + 0.5 * math.cos(math.pi * (step - begin) / (self.steps - begin)))


Loss = Callable[[Any, float, Random], Tensor]  # (network, progress 0..1, random) -> the loss of a batch it draws


class TextRun:
    """One training: advance, save, load."""

    def __init__(self, network: nn.Module, recipe: TextRecipe, loss: Loss, device: torch.device, also: object = None):
        self.recipe, self.loss, self.device = recipe, loss, device
        # Where a schedule ends is judged by `state_on_the_way`.
        self.made_of = fingerprint(replace(recipe, steps=0, until=None), getattr(network, "config", None), also)
        self.step, self.seconds = 0, 0.0
        self.network = network.to(device).train()
        self.average = AveragedModel(self.network, multi_avg_fn=get_ema_multi_avg_fn(recipe.ema_decay)).eval()
        self.half = computes_in_bfloat16(device)
        self.optimisers = text_optimisers(self.network, recipe)

    def advance(self) -> float:
        """One step of every optimiser; returns the loss."""
        started, recipe, progress = time.perf_counter(), self.recipe, self.step / self.recipe.steps
        for optimiser in self.optimisers:
            for group in optimiser.param_groups:
                group["lr"] = recipe.learning_rate_at(self.step)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.half):
            loss = self.loss(self.network, progress, np.random.default_rng((recipe.seed, self.step)))
        loss.backward()
        nn.utils.clip_grad_norm_(list(self.network.parameters()), recipe.max_grad_norm)
        for optimiser in self.optimisers:
            optimiser.step()
            optimiser.zero_grad()
        self.average.update_parameters(self.network)
        self.step += 1
        self.seconds += time.perf_counter() - started
        return float(loss.detach())

    def save(self, path: Path) -> None:
        """Everything needed to go on from here."""
        save_state(self, path, steps=self.recipe.steps)

    def load(self, path: Path) -> None:
        """Go on from a saved state, as if there had been no break."""
        load_state(self, path)


def trained(
    network: Net,
    recipe: TextRecipe,
    loss: Loss,
    device: torch.device,
    report: Callable[[TextProgress], None],
    checkpoint: Path | None = None,
    every: int = 50,
    also: object = None,
) -> tuple[Net, float]:
    """The moving average of the network after its training, and the seconds that took.

    Where the recipe stops early, the state is kept, and a run that stops later goes on from it. Where the recipe holds
    its rate, the state before the rate falls is kept as held.pt, and a longer schedule goes on from that, as if it had
    been planned so long. `also` is what decides how it goes besides the network's shape and the recipe: what is asked,
    the weights it begins with. Raises OtherTraining where no state that was kept lies on the way of this training.
    """
    run = TextRun(network, recipe, loss, device, also)
    if checkpoint and (kept := state_on_the_way(checkpoint, recipe)):
        run.load(kept)
    total, count = 0.0, 0
    while run.step < recipe.last:
        if checkpoint and recipe.hold and run.step == recipe.held:
            run.save(checkpoint.with_name(HELD))
        total, count = total + run.advance(), count + 1
        if run.step % every == 0 or run.step == recipe.last:
            report(TextProgress(run.step / recipe.steps, total / count, run.seconds))
            total, count = 0.0, 0
        if checkpoint and (run.step % (4 * every) == 0 or run.step == recipe.last):
            run.save(checkpoint)
    shipped: Any = run.average.module
    return shipped.cpu().eval(), run.seconds


def state_on_the_way(checkpoint: Path, recipe: TextRecipe) -> Path | None:
    """The state to go on from: the last one if this recipe leads through it, else the one before the rate fell.

    None where nothing was kept. Raises OtherTraining where neither will do.
    """
    stands = []
    for path in (checkpoint, checkpoint.with_name(HELD)):
        if not path.is_file():
            continue
        state = torch.load(path, weights_only=True, mmap=True, map_location="cpu")
        step, steps = state["step"], state.get("steps")
        shared = recipe.steps if steps == recipe.steps else round(recipe.hold * min(steps or 0, recipe.steps))
        if step <= min(shared, recipe.last):
            return path
        stands.append(f"{path} has gone on to step {step} of {steps}")
    if not stands:
        return None
    stops = f"the recipe stops after {recipe.last} of {recipe.steps}"
    raise OtherTraining(f"{'; '.join(stands)}; {stops}. Start with --fresh")


def text_optimisers(network: Any, recipe: TextRecipe) -> list[torch.optim.Optimizer]:
    """Muon for the matrices inside the layers, AdamW for everything else."""
    inside = [m.weight for m in network.blocks.modules() if isinstance(m, nn.Linear)]
    chosen = {id(p) for p in inside}
    rest = [p for p in network.parameters() if id(p) not in chosen]
    plain = torch.optim.AdamW(rest, lr=recipe.learning_rate, betas=(0.9, 0.98), weight_decay=0.0)
    return [plain] if not inside else [Muon(inside, lr=recipe.learning_rate, weight_decay=recipe.weight_decay), plain]


class Shelf:
    """Texts in order of length, so that a batch drawn from neighbours needs little padding."""

    def __init__(self, lengths: Sequence[int] | Int[np.ndarray, " text"], random: Random):
        lengths = np.asarray(lengths)
        self.order = np.lexsort((random.random(len(lengths)), lengths))
        self.lengths = lengths[self.order]
        self.ends = np.cumsum(self.lengths)

    def draw(self, tokens: int, random: Random, among: int = 8) -> Int[np.ndarray, " text"]:
        """Texts of similar length with about so many tokens, padding included; every token is as likely as another.

        They come from a stretch of the shelf `among` times as long, so that they meet other neighbours each time.
        """
        at = int(np.searchsorted(self.ends, random.integers(self.ends[-1]), side="right"))
        count = max(1, min(len(self.order), tokens // max(1, int(self.lengths[at]))))
        span = min(len(self.order), among * count)
        begin = min(max(0, at - span // 2), len(self.order) - span)
        chosen = np.sort(random.choice(span, count, replace=False)) + begin
        fits = max(1, tokens // int(self.lengths[chosen[-1]]))
        if fits < len(chosen):
            chosen = random.permutation(chosen)[:fits]
        return self.order[chosen]


def padded(
    rows: Sequence[Sequence[int] | Int[np.ndarray, " _"]], device: torch.device, length: int | None = None
) -> tuple[Int[Tensor, "text token"], Bool[Tensor, "text token"]]:
    """Texts filled up to the longest (or to `length`), and which tokens are text."""
    longest = length or max(map(len, rows))
    ids = np.full((len(rows), longest), PAD, dtype=np.int64)
    for line, row in zip(ids, rows, strict=True):
        line[: len(row)] = row
    keep = np.arange(longest)[None] < np.array([len(row) for row in rows])[:, None]
    return torch.from_numpy(ids).to(device), torch.from_numpy(keep).to(device)


def kept_or_none(keep: Bool[Tensor, "text token"]) -> Bool[Tensor, "text token"] | None:
    """No mask where nothing is padding: the fused kernel is faster without."""
    return None if bool(keep.all()) else keep


def chunks(items: Sequence[Any], size: int) -> Iterator[Sequence[Any]]:
    """`size` items at a time."""
    for begin in range(0, len(items), size):
        yield items[begin : begin + size]
