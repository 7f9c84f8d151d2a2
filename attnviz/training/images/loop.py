"""The training loop of all image recipes, on any device; it stops and resumes at any step."""

from __future__ import annotations

import importlib
import math
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn, update_bn

from attnviz.models.nets import Network, built
from attnviz.models.vit import distillation_loss_of, loss_of, superclass_loss_of
from attnviz.training.checkpoint import fingerprint, load_state, save_state
from attnviz.training.images.augment import augment
from attnviz.training.images.data import DATA, Pictures, superclass_indices
from attnviz.training.images.recipes import Recipe
from attnviz.training.images.start import copy_parameters, init_mimetic
from attnviz.training.muon import Muon, computes_in_bfloat16
from attnviz.types import Edit, Trace

COMPILER_CACHE = "TORCHINDUCTOR_CACHE_DIR"  # the folder of torch's compiler
SAVE_SECONDS = 180.0  # after which the state is saved, however long a step takes
MICRO_BATCH = 64  # pictures in one forward and backward pass on a CPU


def hardware(device: torch.device) -> dict[str, Any]:
    """Device and number of threads, for the card."""
    name = str(device) if device.type != "cuda" else torch.cuda.get_device_name(device)
    return {"device": name, "threads": torch.get_num_threads()}


def run_info(recipe: Recipe, device: torch.device, seconds: float) -> dict[str, Any]:
    """Steps, batch size, seed, time and hardware of a training run, for the card."""
    run = {"steps": recipe.steps, "batch": recipe.batch, "seed": recipe.seed, "minutes": round(seconds / 60, 1)}
    return run | hardware(device)


@dataclass(frozen=True)
class Progress:
    """Progress of a training run after a step."""

    step: int
    steps: int
    loss: float  # mean since the last report
    seconds: float  # of training so far, over all resumed parts
    network: Network = field(repr=False)  # the moving average that would be shipped now


def import_compiler() -> None:
    """Import torch's compiler without letting it create a cache folder.

    Every optimiser imports it, although nothing is compiled here, and the import creates a temporary folder: where none
    can be written, training would fail. So it is pointed at the folder of torch itself, which exists.
    """
    if "torch._dynamo" in sys.modules:
        return
    previous = os.environ.get(COMPILER_CACHE)
    os.environ[COMPILER_CACHE] = str(Path(torch.__file__).parent)
    try:
        importlib.import_module("torch._dynamo")
    finally:
        del os.environ[COMPILER_CACHE]
        if previous is not None:
            os.environ[COMPILER_CACHE] = previous


def pick_device(name: str = "auto") -> torch.device:
    """The device of this name; for "auto", cuda, else mps, else cpu."""
    if name != "auto":
        return torch.device(name)
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def train(
    recipe: Recipe,
    *,
    device: torch.device | None = None,
    checkpoint: Path | None = None,
    report: Callable[[Progress], None] = lambda progress: None,
    every: int = 50,
    pictures: Pictures | None = None,
    init_from: Mapping[str, Tensor] | None = None,
) -> tuple[Network, float]:
    """Train a recipe; returns the moving average of the network, on the CPU, and the seconds it took.

    With `checkpoint`, the state is saved there every 4 reports, and after SAVE_SECONDS at the latest; an interrupted
    run is resumed. `init_from` holds the parameters of a network to continue from, with a new schedule. Raises
    CheckpointMismatch where the checkpoint belongs to another recipe or to other initial weights.
    """
    device = device or pick_device()
    torch.manual_seed(recipe.seed)
    pictures = pictures or DATA[recipe.data]("train")
    run = Run(recipe, pictures, device, init_from)
    if checkpoint and checkpoint.is_file():
        run.load(checkpoint)
    losses, saved = list[Tensor](), time.monotonic()
    while run.step < recipe.steps:
        losses.append(run.advance())
        run.seconds, last = run.elapsed(), run.step == recipe.steps
        if last or run.step % every == 0:
            report(Progress(run.step, recipe.steps, float(torch.stack(losses).mean()), run.seconds, run.shipped))
            losses = []
        due = last or run.step % (4 * every) == 0 or time.monotonic() - saved >= SAVE_SECONDS
        if checkpoint and due:
            run.save(checkpoint)
            saved = time.monotonic()
    run.update_batch_norm()
    return run.shipped.to("cpu").eval(), run.seconds


class Run:
    """The state of one training run.

    Raises ValueError for a recipe that drops patches, with a network that needs all of them, and for one with a
    teacher, without its answers.
    """

    def __init__(
        self, recipe: Recipe, pictures: Pictures, device: torch.device, init_from: Mapping[str, Tensor] | None = None
    ):
        self.recipe, self.device, self.init_from, self.step, self.seconds = recipe, device, init_from, 0, 0.0
        self.recipe_digest = fingerprint(recipe, init_from)
        self.images, self.labels = torch.from_numpy(pictures.images), torch.from_numpy(pictures.labels).long()
        self.superclasses = superclass_indices(pictures.superclasses).to(device)
        self.teacher_logits = None
        if recipe.distillation:
            if pictures.teacher_logits is None:
                raise ValueError(
                    f"{recipe.name} learns from the answers of {recipe.teacher}, but the pictures have none"
                )
            self.teacher_logits = torch.from_numpy(pictures.teacher_logits)
        self.network = built(recipe.config).to(device).train()
        if recipe.start == "mimetic":
            init_mimetic(self.network)
        if init_from is not None:
            copy_parameters(self.network, init_from, recipe.reinit)
        if not self.network.removable and any(share < 1 for _, share in recipe.patch_keep_schedule):
            raise ValueError(f"{recipe.name} drops patches while training, but its network needs all of them")
        self.mean, self.std = (t.to(device) for t in statistics(recipe.data))
        self.average = AveragedModel(self.network, multi_avg_fn=get_ema_multi_avg_fn(recipe.ema_decay)).eval()
        self.bfloat16 = recipe.bfloat16 and computes_in_bfloat16(device)
        self.optimisers = make_optimisers(self.network, recipe)
        self.random = torch.Generator().manual_seed(recipe.seed)
        self.queue = torch.empty(0, dtype=torch.long)  # indices of the pictures still to come in this epoch
        self.started = time.monotonic()

    def elapsed(self) -> float:
        """Seconds of training, including those before it was resumed."""
        return time.monotonic() - self.started

    @property
    def shipped(self) -> Network:
        """The moving average of the network."""
        return cast(Network, self.average.module)

    def advance(self) -> Float[Tensor, ""]:
        """Train one step; returns the loss, still on the device."""
        recipe = self.recipe
        rate = recipe.learning_rate * cosine_schedule(self.step / recipe.steps, recipe.warmup)
        for optimiser in self.optimisers:
            for group in optimiser.param_groups:
                group["lr"] = rate
        index = self.batch()
        pixels = self.images[index].to(self.device).permute(0, 3, 1, 2).float() / 255
        pixels = augment(pixels, recipe.augmentation, self.random)
        pixels = (pixels - self.mean) / self.std
        visible = self.visible_patches(len(pixels))
        # On a CPU, a part of the batch at a time fits in the caches: a fifth faster than the whole.
        size = len(pixels) if self.device.type == "cuda" else MICRO_BATCH
        total = torch.zeros((), device=self.device)
        for start in range(0, len(pixels), size):
            part = slice(start, start + size)
            with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bfloat16):
                trace = self.forward(pixels[part], None if visible is None else visible[part])
            loss = self.loss(trace, index[part]) * (len(pixels[part]) / len(pixels))
            loss.backward()
            total += loss.detach()
        # A list, not a generator: clipping iterates over it twice.
        nn.utils.clip_grad_norm_(list(self.network.parameters()), recipe.max_grad_norm)
        for optimiser in self.optimisers:
            optimiser.step()
            optimiser.zero_grad()
        self.average.update_parameters(self.network)
        self.step += 1
        return total

    def forward(self, pixels: Tensor, visible: Int[Tensor, "picture patch"] | None) -> Trace:
        """One pass; of the patches only `visible` ones, the others left out or, for `masked_removal`, masked."""
        if visible is None or not self.recipe.masked_removal:
            return self.network(pixels, visible=visible)
        config = self.recipe.config
        patches = torch.zeros(len(visible), (config.size // config.patch) ** 2, dtype=torch.bool, device=visible.device)
        kept = F.pad(patches.scatter(1, visible, True), (len(config.prefix), 0), value=True)
        return self.network(pixels, edit=Edit(keep_tokens=kept))

    def loss(self, trace: Trace, index: Int[Tensor, " picture"]) -> Float[Tensor, ""]:
        """Cross-entropy of the labels, with shares of the superclasses and of the teacher as the recipe says."""
        recipe, labels = self.recipe, self.labels[index].to(self.device)
        loss, weight = loss_of(trace, labels, recipe.label_smoothing), recipe.superclass_loss_weight
        if weight:
            loss = (1 - weight) * loss + weight * superclass_loss_of(trace, labels, self.superclasses)
        if self.teacher_logits is not None:
            soft = distillation_loss_of(trace, self.teacher_logits[index].to(self.device), recipe.temperature)
            loss = (1 - recipe.distillation) * loss + recipe.distillation * soft
        return loss

    def update_batch_norm(self) -> None:
        """Recompute the batch-norm statistics of the moving average.

        Those gathered during training lag behind parameters that move fast: accuracy could fall from 87 % to 19 %.
        """
        update_bn(self.clean_batches(), self.shipped)

    def clean_batches(self, batches: int = 20) -> Iterator[Float[Tensor, "picture channel height width"]]:
        """Up to `batches` batches of training pictures without augmentation, each from the whole set."""
        count = min(batches, max(1, len(self.labels) // self.recipe.batch))
        for start in range(count):
            index = torch.arange(start, len(self.labels), count)[: self.recipe.batch]
            pixels = self.images[index].to(self.device).permute(0, 3, 1, 2).float() / 255
            yield (pixels - self.mean) / self.std

    def batch(self) -> Tensor:
        """Indices of the next pictures of this epoch, or of a new one in a new order; a last short batch is dropped.

        An epoch has as many pictures of every class as the smallest class has, chosen anew each time, so that larger
        classes are not favoured.
        """
        size = min(self.recipe.batch, len(self.labels))
        if len(self.queue) < size:
            self.queue = balanced_order(self.labels, self.random)
        index, self.queue = self.queue[:size], self.queue[size:]
        return index

    def visible_patches(self, count: int) -> Int[Tensor, "picture patch"] | None:
        """A random subset of patches for each picture, as many as the schedule says at this progress; None = all.

        Scattered, or, for a share of the pictures (`windows`), a window of neighbours: among scattered patches most
        neighbours are missing.
        """
        side = self.recipe.config.size // self.recipe.config.patch
        progress = self.step / self.recipe.steps
        share = [share for start, share in self.recipe.patch_keep_schedule if start <= progress][-1]
        if share == 1:
            return None
        kept = round(share * side**2)
        chosen = torch.rand(count, side**2, generator=self.random).argsort(1)[:, :kept]
        if self.recipe.windows:
            inside = torch.rand(count, generator=self.random) < self.recipe.windows
            chosen[inside] = windows(int(inside.sum()), side, kept, self.random)
        return chosen.to(self.device)

    def save(self, path: Path) -> None:
        """Save everything needed to resume."""
        save_state(self, path, random=self.random.get_state(), queue=self.queue.clone())

    def load(self, path: Path) -> None:
        """Resume from a saved state."""
        state = load_state(self, path)
        self.random.set_state(state["random"].cpu())
        self.queue = state.get("queue", self.queue).cpu()  # a state without one starts a new epoch
        self.started = time.monotonic() - self.seconds


def windows(count: int, side: int, kept: int, random: torch.Generator) -> Int[Tensor, "picture patch"]:
    """A random rectangle of `kept` patches for each picture, as square as possible, in either orientation.

    Raises ValueError where no rectangle has that many patches.
    """
    shapes = [(n, kept // n) for n in range(1, side + 1) if kept % n == 0 and kept // n <= side]
    if not shapes:
        raise ValueError(f"no window of a grid of {side} x {side} patches holds {kept} of them")
    elongation = min(abs(rows - columns) for rows, columns in shapes)
    shapes = [shape for shape in shapes if abs(shape[0] - shape[1]) == elongation]
    grid, found = torch.arange(side**2).view(side, side), []
    for shape in torch.randint(len(shapes), (count,), generator=random).tolist():
        (rows, columns), (down, along) = shapes[shape], torch.rand(2, generator=random).tolist()
        top, left = int(down * (side - rows + 1)), int(along * (side - columns + 1))
        found.append(grid[top : top + rows, left : left + columns].flatten())
    return torch.stack(found) if found else torch.empty(0, kept, dtype=torch.long)


def balanced_order(labels: Int[Tensor, " picture"], random: torch.Generator) -> Int[Tensor, " chosen"]:
    """Indices in random order, the same number of every class."""
    order = torch.randperm(len(labels), generator=random)
    counts = torch.bincount(labels)
    rank = torch.empty_like(order)  # number of earlier pictures of the same class
    for label in range(len(counts)):
        rank[labels[order] == label] = torch.arange(int(counts[label]))
    return order[rank < counts[counts > 0].min()]


def make_optimisers(network: Network, recipe: Recipe) -> list[torch.optim.Optimizer]:
    """Muon (Jordan et al. 2024) for the matrices inside the blocks, AdamW for all else, including convolutions."""
    import_compiler()
    inside = [m.weight for m in network.blocks.modules() if isinstance(m, nn.Linear)]  # no embeddings
    chosen = {id(p) for p in inside}
    rest = [p for p in network.parameters() if id(p) not in chosen]
    return [
        Muon(inside, lr=recipe.learning_rate, weight_decay=recipe.weight_decay),
        torch.optim.AdamW(rest, lr=recipe.learning_rate, betas=(0.9, 0.98), weight_decay=0.0),
    ]


def cosine_schedule(progress: float, warmup: float) -> float:
    """The learning rate as a share of its peak: linear warmup, then cosine decay to zero."""
    if progress < warmup:
        return (progress + 1e-3) / (warmup + 1e-3)
    return 0.5 + 0.5 * math.cos(math.pi * (progress - warmup) / (1 - warmup))


def statistics(data: str) -> tuple[Float[Tensor, "channel 1 1"], Float[Tensor, "channel 1 1"]]:
    """Mean and standard deviation of pixels in 0..1, fixed per data set."""
    mean, std = {
        "photos": ((0.480, 0.450, 0.400), (0.272, 0.265, 0.279)),
        "digits": ((0.305,), (0.376,)),
        "scenes": ((0.430, 0.429, 0.428), (0.130, 0.124, 0.129)),
    }[data]
    return torch.tensor(mean)[:, None, None], torch.tensor(std)[:, None, None]
