"""`python -m attnviz.training bench`: every variant trained by one recipe, so that they can be compared.

Same pictures, steps, optimiser and shape: 64 patches of 8 px, width 128, 4 layers, 4 heads, mean pooling. A variant
whose network has over a tenth more or fewer parameters than that of multi-head attention runs a second time at equal
parameters, with a wider or narrower MLP (the rule of the Long Range Arena). No patches are dropped, because variants
with a fixed length or a grid need all of them. Entries that are there are skipped, so an interrupted run can be
repeated; results are collected in assets/models/bench.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from attnviz.attention import VARIANTS
from attnviz.models import ViT, ViTConfig, save
from attnviz.models.files import write_rows
from attnviz.models.image import Classifier
from attnviz.models.store import BENCH, RESULTS, bench_results
from attnviz.training.images.augment import Augmentation
from attnviz.training.images.data import DATA, Pictures
from attnviz.training.images.evaluate import evaluate, interval, open_trained
from attnviz.training.images.loop import Progress, run_info, train
from attnviz.training.images.recipes import MILD, Recipe
from attnviz.training.text.loop import TextRecipe

SAME, EQUAL = "same shape", "equal parameters"
TOLERANCE = 0.10  # relative difference of parameters up to which networks count as equal
SHAPE = ViTConfig(patch=8, width=128, layers=4, heads=4, cls=False, pooling="mean", positions="sine2d")
CPU_BENCH = Recipe(
    name="bench", title="Bench", config=SHAPE, data="photos", steps=300, batch=128, ema_decay=0.98, augmentation=MILD
)
GPU_BENCH = replace(
    CPU_BENCH,
    config=replace(SHAPE, patch=4),
    steps=8000,
    batch=256,
    ema_decay=0.999,
    augmentation=Augmentation(blur=0.6),
)
SIZES = {"cpu": CPU_BENCH, "gpu": GPU_BENCH}
Report = Callable[[str, Progress], None]


def recipe_of(variant: str, run: str = SAME, *, seed: int = 0, base: Recipe = CPU_BENCH) -> Recipe:
    """The recipe of one entry of the bench. Raises ValueError where no MLP makes the parameters equal."""
    config = replace(base.config, variant=variant)
    if run == EQUAL:
        config = replace(config, mlp=matching_mlp(config))
    name = "-".join([variant, *(["equal"] if run == EQUAL else []), *([f"seed{seed}"] if seed else [])])
    return replace(base, name=name, title=VARIANTS[variant].title, config=config, seed=seed)


def count_parameters(config: ViTConfig) -> int:
    """The number of parameters of a network of this shape."""
    with torch.random.fork_rng():
        return sum(p.numel() for p in ViT(config).parameters())


def needs_equal(variant: str, base: Recipe = CPU_BENCH) -> bool:
    """Whether the parameters differ by more than TOLERANCE from those of multi-head attention."""
    goal = count_parameters(replace(base.config, variant="mha"))
    return abs(count_parameters(replace(base.config, variant=variant)) / goal - 1) > TOLERANCE


def matching_mlp(config: ViTConfig) -> float:
    """The MLP width, as a multiple of `width`, that matches the parameters of multi-head attention.

    Raises ValueError where even the narrowest MLP has too many.
    """
    goal, own = count_parameters(replace(config, variant="mha")), count_parameters(config)
    hidden = round(config.mlp * config.width) + (goal - own) / (config.layers * (2 * config.width + 1))
    if hidden < 1:
        raise ValueError(f"{config.variant} has {own - goal:,} parameters too many for any MLP to make up")
    return math.floor(hidden) / config.width


def list_entries(variants: Sequence[str], seeds: Sequence[int], base: Recipe = CPU_BENCH) -> list[tuple[str, str, int]]:
    """(variant, run, seed) of everything the bench trains."""
    same = [(variant, SAME, seed) for seed in seeds for variant in variants]
    return same + [(v, EQUAL, seed) for seed in seeds for v in variants if needs_equal(v, base)]


def run_bench(
    todo: Sequence[tuple[str, str, int]],
    device: torch.device,
    report: Report,
    *,
    base: Recipe = CPU_BENCH,
    folder: Path = BENCH,
    checkpoints: Path | None = None,
) -> list[dict[str, Any]]:
    """Train and save every entry that is not there yet; returns the rows of folder/bench.json."""
    held_out = pictures = None
    for variant, run, seed in todo:
        recipe = recipe_of(variant, run, seed=seed, base=base)
        if is_done(recipe, recipe.name, folder):
            continue
        pictures, held_out = pictures or DATA[base.data]("train"), held_out or DATA[base.data]("val")
        checkpoint = checkpoints / recipe.name / "checkpoint.pt" if checkpoints else None
        network, seconds = train(
            recipe,
            device=device,
            checkpoint=checkpoint,
            pictures=pictures,
            every=50,
            report=lambda progress, name=recipe.name: report(name, progress),
        )
        model = open_trained(recipe, network, held_out)
        row = {
            "name": recipe.name,
            "variant": variant,
            "run": run,
            **facts_of(model, recipe, held_out, device, seconds),
        }
        save(model, folder / recipe.name, card(recipe, row), row)
        rows = read_results(folder) | {recipe.name: row}  # read again: another process may be training other variants
        write_rows(folder, RESULTS, list(rows.values()))
        if checkpoint:
            checkpoint.unlink(missing_ok=True)  # the entry is complete, and another recipe would refuse it
    return list(read_results(folder).values())


def read_results(folder: Path) -> dict[str, dict[str, Any]]:
    """The rows of the results so far, by name."""
    return {row["name"]: row for row in bench_results(folder)}


def is_done(recipe: Recipe | TextRecipe, name: str, folder: Path) -> bool:
    """Whether an entry with the same steps and batch size is there, with its weights."""
    row = read_results(folder).get(name, {})
    same = (row.get("steps"), row.get("batch")) == (recipe.steps, recipe.batch)
    return same and (folder / name / "model.safetensors").is_file()


def facts_of(
    model: Classifier, recipe: Recipe, held_out: Pictures, device: torch.device, seconds: float
) -> dict[str, Any]:
    """The row of one trained entry: accuracy with its interval, and how it was trained."""
    accuracy = evaluate(model, held_out, drop_patches=False)
    return {
        "parameters": sum(p.numel() for p in model.network.parameters()),
        **run_info(recipe, device, seconds),
        "data": held_out.source,
        **accuracy,
        "interval": interval(accuracy["top1"], accuracy["held_out"]),
    }


def card(recipe: Recipe, row: dict[str, Any]) -> str:
    """A short card: the Compare page shows the table of all entries."""
    low, high = row["interval"]
    shape = recipe.config
    return "\n".join(
        [
            f"# bench/{row['name']}: {recipe.title}, {row['run']}",
            "",
            "Generated by `python -m attnviz.training bench`.",
            "",
            f"- {shape.layers} layers, {shape.heads} heads, width {shape.width}, patches of {shape.patch} px, MLP x "
            f"{shape.mlp:.3g}: {row['parameters']:,} parameters",
            f"- {row['steps']:,} steps of {row['batch']}, seed {row['seed']}, {row['minutes']} minutes on "
            f"{row['device']}, {row['threads']} threads",
            f"- {row['held_out']:,} held-out pictures, 130 classes: top-1 {row['top1']} % (95 % interval of this one "
            f"network over pictures: {low} to {high} %), top-5 {row['top5']} %",
            f"- data: {row['data']}",
            "",
        ]
    )


def show(name: str, progress: Progress) -> None:
    """Print one line for each report, so that it can go to a log file."""
    left = progress.seconds / progress.step * (progress.steps - progress.step) / 60
    sys.stderr.write(f"{name:24} {progress.step}/{progress.steps}  loss {progress.loss:.3f}  {left:.1f} min left\n")
    sys.stderr.flush()
