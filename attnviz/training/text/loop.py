"""The training loop of all text models: they differ only in the loss of a step.

Every step draws its batch from a generator seeded with the recipe's seed and the step, so an interrupted run resumes
exactly.
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
from attnviz.training.checkpoint import CheckpointMismatch, fingerprint, load_state, save_state
from attnviz.training.muon import Muon, computes_in_bfloat16
from attnviz.training.text.skipgram import TextProgress
from attnviz.types import Edit

BEFORE_DECAY = "held.pt"  # beside a checkpoint: the state before the learning rate began to decay
Net = TypeVar("Net", bound=nn.Module)
Random = np.random.Generator


@dataclass(frozen=True)
class TextRecipe:
    """The hyperparameters of a training run, apart from the network and its loss."""

    steps: int
    batch: int = 4096  # tokens, padding included
    learning_rate: float = 2e-3
    warmup: int = 150  # steps until the peak learning rate
    hold: float = 0.0  # share of the steps up to which the peak learning rate is held, before cosine decay to zero
    weight_decay: float = 0.05  # of the matrices
    max_grad_norm: float = 1.0
    ema_decay: float = 0.998  # of the moving average of the parameters that is shipped
    seed: int = 0
    until: int | None = None  # stop after this step of the schedule; None = run to its end

    @property
    def last(self) -> int:
        """The step after which training stops."""
        return self.steps if self.until is None else min(self.until, self.steps)

    @property
    def decay_start(self) -> int:
        """The step at which the learning rate begins to decay."""
        return round(self.hold * self.steps)

    def learning_rate_at(self, step: int) -> float:
        """The learning rate of a step."""
        begin = max(self.decay_start, min(self.warmup, self.steps // 2))
        if step < begin:
            return self.learning_rate * min(1.0, (step + 1) / min(self.warmup, begin))
        return self.learning_rate * (0.5 + 0.5 * math.cos(math.pi * (step - begin) / (self.steps - begin)))


Loss = Callable[[Any, float, Random], Tensor]  # (network, progress 0..1, generator) -> loss of one batch


class TextRun:
    """The state of one training run: advance, save, load."""

    def __init__(self, network: nn.Module, recipe: TextRecipe, loss: Loss, device: torch.device, extra: object = None):
        self.recipe, self.loss, self.device = recipe, loss, device
        # `find_resumable` checks the length of the schedule.
        self.recipe_digest = fingerprint(replace(recipe, steps=0, until=None), getattr(network, "config", None), extra)
        self.step, self.seconds = 0, 0.0
        self.network = network.to(device).train()
        self.average = AveragedModel(self.network, multi_avg_fn=get_ema_multi_avg_fn(recipe.ema_decay)).eval()
        self.bfloat16 = computes_in_bfloat16(device)
        self.optimisers = text_optimisers(self.network, recipe)

    def advance(self) -> float:
        """Train one step; returns the loss."""
        started, recipe, progress = time.perf_counter(), self.recipe, self.step / self.recipe.steps
        for optimiser in self.optimisers:
            for group in optimiser.param_groups:
                group["lr"] = recipe.learning_rate_at(self.step)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bfloat16):
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
        """Save everything needed to resume."""
        save_state(self, path, steps=self.recipe.steps)

    def load(self, path: Path) -> None:
        """Resume from a saved state."""
        load_state(self, path)


def train(
    network: Net,
    recipe: TextRecipe,
    loss: Loss,
    device: torch.device,
    report: Callable[[TextProgress], None],
    checkpoint: Path | None = None,
    every: int = 50,
    extra: object = None,
) -> tuple[Net, float]:
    """Train a network; returns its moving average, and the seconds it took.

    With a checkpoint, an interrupted run or one that stopped early is resumed. Where the recipe holds its learning rate
    (`hold`), the state before the decay is saved as held.pt, and a longer schedule resumes from it, exactly as if it
    had been longer from the start. `extra` is anything else that determines the result, such as the tasks and the
    initial weights; like the recipe and the configuration, it must be the same when resuming. Raises CheckpointMismatch
    where a checkpoint does not fit this recipe.
    """
    run = TextRun(network, recipe, loss, device, extra)
    if checkpoint and (saved := find_resumable(checkpoint, recipe)):
        run.load(saved)
    total, count = 0.0, 0
    while run.step < recipe.last:
        if checkpoint and recipe.hold and run.step == recipe.decay_start:
            run.save(checkpoint.with_name(BEFORE_DECAY))
        total, count = total + run.advance(), count + 1
        if run.step % every == 0 or run.step == recipe.last:
            report(TextProgress(run.step / recipe.steps, total / count, run.seconds))
            total, count = 0.0, 0
        if checkpoint and (run.step % (4 * every) == 0 or run.step == recipe.last):
            run.save(checkpoint)
    shipped: Any = run.average.module
    return shipped.cpu().eval(), run.seconds


def find_resumable(checkpoint: Path, recipe: TextRecipe) -> Path | None:
    """The checkpoint to resume from: the last one if it lies on this schedule, else the one before the decay.

    None where there is no checkpoint. Raises CheckpointMismatch where none fits.
    """
    mismatches = []
    for path in (checkpoint, checkpoint.with_name(BEFORE_DECAY)):
        if not path.is_file():
            continue
        state = torch.load(path, weights_only=True, mmap=True, map_location="cpu")
        step, steps = state["step"], state.get("steps")
        shared = recipe.steps if steps == recipe.steps else round(recipe.hold * min(steps or 0, recipe.steps))
        if step <= min(shared, recipe.last):
            return path
        mismatches.append(f"{path} is at step {step} of {steps}")
    if not mismatches:
        return None
    schedule = f"the recipe stops after step {recipe.last} of {recipe.steps}"
    raise CheckpointMismatch(f"{'; '.join(mismatches)}; {schedule}. Start again with --fresh.")


def text_optimisers(network: Any, recipe: TextRecipe) -> list[torch.optim.Optimizer]:
    """Muon for the matrices inside the layers, AdamW for everything else."""
    inside = [m.weight for m in network.blocks.modules() if isinstance(m, nn.Linear)]
    chosen = {id(p) for p in inside}
    rest = [p for p in network.parameters() if id(p) not in chosen]
    plain = torch.optim.AdamW(rest, lr=recipe.learning_rate, betas=(0.9, 0.98), weight_decay=0.0)
    return [plain] if not inside else [Muon(inside, lr=recipe.learning_rate, weight_decay=recipe.weight_decay), plain]


class LengthSampler:
    """Samples batches of texts of similar length, so that they need little padding."""

    def __init__(self, lengths: Sequence[int] | Int[np.ndarray, " text"], random: Random):
        lengths = np.asarray(lengths)
        self.order = np.lexsort((random.random(len(lengths)), lengths))
        self.lengths = lengths[self.order]
        self.ends = np.cumsum(self.lengths)

    def sample(self, tokens: int, random: Random, spread: int = 8) -> Int[np.ndarray, " text"]:
        """Indices of texts of similar length, about `tokens` tokens with padding; every token is equally likely.

        They are chosen among `spread` times as many texts of similar length, so that batches differ.
        """
        at = int(np.searchsorted(self.ends, random.integers(self.ends[-1]), side="right"))
        count = max(1, min(len(self.order), tokens // max(1, int(self.lengths[at]))))
        span = min(len(self.order), spread * count)
        begin = min(max(0, at - span // 2), len(self.order) - span)
        chosen = np.sort(random.choice(span, count, replace=False)) + begin
        fits = max(1, tokens // int(self.lengths[chosen[-1]]))
        if fits < len(chosen):
            chosen = random.permutation(chosen)[:fits]
        return self.order[chosen]


def pad(
    rows: Sequence[Sequence[int] | Int[np.ndarray, " _"]], device: torch.device, length: int | None = None
) -> tuple[Int[Tensor, "text token"], Bool[Tensor, "text token"]]:
    """Token ids padded to the longest row (or to `length`), and a mask that is False at padding."""
    width = length or max(map(len, rows))
    ids = np.full((len(rows), width), PAD, dtype=np.int64)
    for line, row in zip(ids, rows, strict=True):
        line[: len(row)] = row
    keep = np.arange(width)[None] < np.array([len(row) for row in rows])[:, None]
    return torch.from_numpy(ids).to(device), torch.from_numpy(keep).to(device)


def without_padding(keep: Bool[Tensor, "text token"]) -> Edit | None:
    """The edit that removes padding; None where nothing is padding: the fused kernel is faster without a mask."""
    return None if bool(keep.all()) else Edit(keep_tokens=keep)


def chunks(items: Sequence[Any], size: int) -> Iterator[Sequence[Any]]:
    """Successive slices of `size` items."""
    for begin in range(0, len(items), size):
        yield items[begin : begin + size]
