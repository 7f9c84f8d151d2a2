"""The training loop: one for every recipe, every device; stops and resumes at any step."""

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
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn, update_bn

from attnviz.models.nets import Network, built
from attnviz.models.vit import loss_of, superclass_loss_of
from attnviz.training.checkpoint import fingerprint, load_state, save_state
from attnviz.training.images.augment import augment
from attnviz.training.images.data import DATA, Pictures, numbered
from attnviz.training.images.recipes import Recipe
from attnviz.training.images.start import mimetic, take_over
from attnviz.training.muon import Muon, computes_in_bfloat16

COMPILED = "TORCHINDUCTOR_CACHE_DIR"  # where torch keeps what it has compiled
PART = 64  # pictures in one forward and backward on a CPU


def hardware(device: torch.device) -> dict[str, Any]:
    """What a network is trained on, for its card."""
    name = str(device) if device.type != "cuda" else torch.cuda.get_device_name(device)
    return {"device": name, "threads": torch.get_num_threads()}


def run_info(recipe: Recipe, device: torch.device, seconds: float) -> dict[str, Any]:
    """How a training was run, for its card."""
    run = {"steps": recipe.steps, "batch": recipe.batch, "seed": recipe.seed, "minutes": round(seconds / 60, 1)}
    return run | hardware(device)


@dataclass(frozen=True)
class Progress:
    """Where a training run stands after a step."""

    step: int
    steps: int
    loss: float  # mean since the last report
    seconds: float  # spent in training so far, over all resumed parts
    network: Network = field(repr=False)  # the moving average that would be shipped now


def spare_the_disk() -> None:
    """Import torch's compiler without a folder for it to write to.

    Every optimiser imports it, although nothing is compiled here, and at once it makes a folder among the temporary
    ones: where none can be written, that would end the training. The folder of torch itself is there already.
    """
    if "torch._dynamo" in sys.modules:
        return
    asked = os.environ.get(COMPILED)
    os.environ[COMPILED] = str(Path(torch.__file__).parent)
    try:
        importlib.import_module("torch._dynamo")
    finally:
        del os.environ[COMPILED]
        if asked is not None:
            os.environ[COMPILED] = asked


def pick_device(name: str = "auto") -> torch.device:
    """cuda, else mps, else cpu; or the one named."""
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
    """The trained network (its moving average, on the cpu) and the seconds it took.

    With `checkpoint`, the state is saved there every 4 reports and a run that was cut off goes on from it. `init_from`
    holds the parameters of a network to go on from, with a schedule of its own. Raises OtherTraining where the state is
    of another recipe, or began with other weights.
    """
    device = device or pick_device()
    torch.manual_seed(recipe.seed)
    pictures = pictures or DATA[recipe.data]("train")
    run = Run(recipe, pictures, device, init_from)
    if checkpoint and checkpoint.is_file():
        run.load(checkpoint)
    losses: list[Tensor] = []
    while run.step < recipe.steps:
        losses.append(run.advance())
        if run.step % every and run.step != recipe.steps:
            continue
        run.seconds = run.elapsed()
        report(Progress(run.step, recipe.steps, float(torch.stack(losses).mean()), run.seconds, run.shipped))
        losses = []
        if checkpoint and (run.step % (4 * every) == 0 or run.step == recipe.steps):
            run.save(checkpoint)
    run.settle()
    return run.shipped.to("cpu").eval(), run.seconds


class Run:
    """The state of one training run.

    Raises ValueError for a recipe that hides patches from a network that reads whole pictures only.
    """

    def __init__(
        self, recipe: Recipe, pictures: Pictures, device: torch.device, init_from: Mapping[str, Tensor] | None = None
    ):
        self.recipe, self.device, self.init_from, self.step, self.seconds = recipe, device, init_from, 0, 0.0
        self.made_of = fingerprint(recipe, init_from)
        self.images, self.labels = torch.from_numpy(pictures.images), torch.from_numpy(pictures.labels).long()
        self.groups = numbered(pictures.superclasses).to(device)
        self.network = built(recipe.config).to(device).train()
        if recipe.start == "mimetic":
            mimetic(self.network)
        if init_from is not None:
            take_over(self.network, init_from, recipe.reinit)
        if not self.network.removable and any(share < 1 for _, share in recipe.patch_keep_schedule):
            raise ValueError(f"{recipe.name} hides patches while training, but its network reads whole pictures only")
        self.mean, self.deviation = (t.to(device) for t in statistics(recipe.data))
        self.average = AveragedModel(self.network, multi_avg_fn=get_ema_multi_avg_fn(recipe.ema_decay)).eval()
        self.half = recipe.bfloat16 and computes_in_bfloat16(device)
        self.optimisers = optimisers(self.network, recipe)
        self.random = torch.Generator().manual_seed(recipe.seed)
        self.queue = torch.empty(0, dtype=torch.long)  # pictures still to come in this pass
        self.started = time.monotonic()

    def elapsed(self) -> float:
        """Seconds of training, those before a resume included."""
        return time.monotonic() - self.started

    @property
    def shipped(self) -> Network:
        """The moving average of the network."""
        return cast(Network, self.average.module)

    def advance(self) -> Float[Tensor, ""]:
        """One step of every optimiser; returns the loss, still on the device."""
        recipe = self.recipe
        rate = recipe.learning_rate * cosine(self.step / recipe.steps, recipe.warmup)
        for optimiser in self.optimisers:
            for group in optimiser.param_groups:
                group["lr"] = rate
        index = self.batch()
        pixels = self.images[index].to(self.device).permute(0, 3, 1, 2).float() / 255
        pixels = augment(pixels, recipe.augmentation, self.random)
        pixels = (pixels - self.mean) / self.deviation
        labels, visible = self.labels[index].to(self.device), self.visible(len(pixels))
        # On a CPU a part of the batch at a time stays in its caches: a fifth faster than the whole.
        size = len(pixels) if self.device.type == "cuda" else PART
        total = torch.zeros((), device=self.device)
        for start in range(0, len(pixels), size):
            part = slice(start, start + size)
            with torch.autocast(self.device.type, torch.bfloat16, enabled=self.half):
                trace = self.network(pixels[part], visible=None if visible is None else visible[part])
            loss = loss_of(trace, labels[part], recipe.label_smoothing)
            if recipe.superclass_loss_weight:
                loss = (1 - recipe.superclass_loss_weight) * loss + recipe.superclass_loss_weight * superclass_loss_of(
                    trace, labels[part], self.groups
                )
            loss = loss * (len(labels[part]) / len(labels))
            loss.backward()
            total += loss.detach()
        # A list, not a generator: the optimiser and the clipping both need to walk over it.
        nn.utils.clip_grad_norm_(list(self.network.parameters()), recipe.max_grad_norm)
        for optimiser in self.optimisers:
            optimiser.step()
            optimiser.zero_grad()
        self.average.update_parameters(self.network)
        self.step += 1
        return total

    def settle(self) -> None:
        """The moving average as it is shipped, with statistics of batch norm of its own.

        Those gathered on the way lag behind parameters that move fast: a network of 87 % would name 19 %.
        """
        update_bn(self.plain(), self.shipped)

    def plain(self, batches: int = 20) -> Iterator[Float[Tensor, "picture channel height width"]]:
        """Training pictures as they are, at most 20 batches, each with pictures from the whole set."""
        count = min(batches, max(1, len(self.labels) // self.recipe.batch))
        for start in range(count):
            index = torch.arange(start, len(self.labels), count)[: self.recipe.batch]
            pixels = self.images[index].to(self.device).permute(0, 3, 1, 2).float() / 255
            yield (pixels - self.mean) / self.deviation

    def batch(self) -> Tensor:
        """The next pictures of this pass, or of a new one in a new order; a last short batch is dropped.

        A pass shows as many pictures of every class as the smallest class has, chosen anew each time: a class with more
        pictures must not become the answer when in doubt.
        """
        size = min(self.recipe.batch, len(self.labels))
        if len(self.queue) < size:
            self.queue = balanced(self.labels, self.random)
        index, self.queue = self.queue[:size], self.queue[size:]
        return index

    def visible(self, count: int) -> Int[Tensor, "picture patch"] | None:
        """A subset of the patches for each picture, as many as the recipe says at this progress.

        Scattered at random, or, for the share of pictures that the recipe says, a window of neighbours: among scattered
        patches most neighbours are missing.
        """
        side = self.recipe.config.size // self.recipe.config.patch
        progress = self.step / self.recipe.steps
        share = [share for start, share in self.recipe.patch_keep_schedule if start <= progress][-1]
        if share == 1:
            return None
        wanted = round(share * side**2)
        chosen = torch.rand(count, side**2, generator=self.random).argsort(1)[:, :wanted]
        if self.recipe.windows:
            inside = torch.rand(count, generator=self.random) < self.recipe.windows
            chosen[inside] = windows(int(inside.sum()), side, wanted, self.random)
        return chosen.to(self.device)

    def save(self, path: Path) -> None:
        """Everything needed to go on from here."""
        save_state(self, path, random=self.random.get_state(), queue=self.queue.clone())

    def load(self, path: Path) -> None:
        """Go on from a saved state, as if there had been no break."""
        state = load_state(self, path)
        self.random.set_state(state["random"].cpu())
        self.queue = state.get("queue", self.queue).cpu()  # a state without one starts a new pass
        self.started = time.monotonic() - self.seconds


def windows(count: int, side: int, wanted: int, random: torch.Generator) -> Int[Tensor, "picture patch"]:
    """A rectangle of `wanted` patches somewhere on the grid for each picture, as square as can be, upright or lying.

    Raises ValueError where no rectangle has so many.
    """
    shapes = [(n, wanted // n) for n in range(1, side + 1) if wanted % n == 0 and wanted // n <= side]
    if not shapes:
        raise ValueError(f"no window of a grid of {side} x {side} patches holds {wanted} of them")
    flat = min(abs(rows - columns) for rows, columns in shapes)
    shapes = [shape for shape in shapes if abs(shape[0] - shape[1]) == flat]
    grid, found = torch.arange(side**2).view(side, side), []
    for shape in torch.randint(len(shapes), (count,), generator=random).tolist():
        (rows, columns), (down, along) = shapes[shape], torch.rand(2, generator=random).tolist()
        top, left = int(down * (side - rows + 1)), int(along * (side - columns + 1))
        found.append(grid[top : top + rows, left : left + columns].flatten())
    return torch.stack(found) if found else torch.empty(0, wanted, dtype=torch.long)


def balanced(labels: Int[Tensor, " picture"], random: torch.Generator) -> Int[Tensor, " chosen"]:
    """Indices in random order, equally many of every class."""
    order = torch.randperm(len(labels), generator=random)
    counts = torch.bincount(labels)
    place = torch.empty_like(order)  # how many of its class come before a picture
    for label in range(len(counts)):
        place[labels[order] == label] = torch.arange(int(counts[label]))
    return order[place < counts[counts > 0].min()]


def optimisers(network: Network, recipe: Recipe) -> list[torch.optim.Optimizer]:
    """Muon (Jordan et al. 2024) for the matrices inside the blocks, AdamW for everything else, convolutions too."""
    spare_the_disk()
    inside = [m.weight for m in network.blocks.modules() if isinstance(m, nn.Linear)]  # tables are no matrices
    chosen = {id(p) for p in inside}
    rest = [p for p in network.parameters() if id(p) not in chosen]
    return [
        Muon(inside, lr=recipe.learning_rate, weight_decay=recipe.weight_decay),
        torch.optim.AdamW(rest, lr=recipe.learning_rate, betas=(0.9, 0.98), weight_decay=0.0),
    ]


def cosine(progress: float, warmup: float) -> float:
    """The learning rate as a share of its peak: a straight line up, half a cosine wave down."""
    if progress < warmup:
        return (progress + 1e-3) / (warmup + 1e-3)
    return 0.5 + 0.5 * math.cos(math.pi * (progress - warmup) / (1 - warmup))


def statistics(data: str) -> tuple[Float[Tensor, "channel 1 1"], Float[Tensor, "channel 1 1"]]:
    """Mean and deviation that pixels in 0..1 are normalised with, fixed per data set."""
    mean, deviation = {"photos": ((0.480, 0.450, 0.400), (0.272, 0.265, 0.279)), "digits": ((0.305,), (0.376,))}[data]
    return torch.tensor(mean)[:, None, None], torch.tensor(deviation)[:, None, None]
