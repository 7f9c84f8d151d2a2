"""`python -m attnviz.training bench`: every variant trained by one recipe, so that they can be compared.

Same pictures, optimiser and shape: 64 patches of 8 px, width 128, 4 layers, 4 heads, mean pooling. Labels are softened
by those of a shipped model (`teacher.py`). A `Budget` says beforehand how long each of these runs lasts:

- *base*: multi-head attention, trained long once; half of the patches removed in most steps.
- *uptrained*: every variant, multi-head too, takes over what fits of the base (`uptrain.py`) and goes on for the same
  number of steps. Removed patches are masked, so that variants with a fixed length or a grid learn without them too.
- *same shape*: every variant from nothing, no patches removed; from three seeds for those in SEEDS.
- *equal parameters*: from nothing, for a variant whose network has over a tenth more or fewer parameters than that of
  multi-head attention, with a wider or narrower MLP (the rule of the Long Range Arena).

Some pictures of each class are left out of training, to choose by; held-out pictures are read once, when a network is
complete. Entries that are there are skipped, so an interrupted run can be repeated; results are collected in
assets/models/bench.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import MISSING, dataclass, fields, is_dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import torch

from attnviz.attention import VARIANTS
from attnviz.models import ViT, ViTConfig
from attnviz.models.store import bench_results
from attnviz.training.checkpoint import fingerprint
from attnviz.training.images.augment import Augmentation
from attnviz.training.images.loop import Progress
from attnviz.training.images.recipes import MILD, Recipe
from attnviz.training.text.loop import TextRecipe

BASE, UPTRAINED, SAME, EQUAL = "base", "uptrained", "same shape", "equal parameters"
RUNS = {"base": BASE, "uptrained": UPTRAINED, "same": SAME, "equal": EQUAL}  # by the names the command takes
DONOR = "mha"  # the variant of the base
SEEDS: dict[str, int] = {
    name: 3 for name in ("mha", "mqa", "linear", "window", "additive")
}  # from nothing; 1 of the others
SLOW = ("additive",)  # an MLP for each pair of tokens: trained last, so that all others need not wait
TOLERANCE = 0.10  # relative difference of parameters up to which networks count as equal
SHAPE = ViTConfig(patch=8, width=128, layers=4, heads=4, cls=False, pooling="mean", positions="sine2d")
CPU_BENCH = Recipe(
    name="bench",
    title="Bench",
    config=SHAPE,
    data="photos",
    steps=300,
    batch=128,
    ema_decay=0.98,
    augmentation=MILD,
    teacher="vit",
    distillation=0.5,
    temperature=2.0,
    validation=20,
)
GPU_BENCH = replace(
    CPU_BENCH,
    config=replace(SHAPE, patch=4),
    steps=8000,
    batch=256,
    ema_decay=0.999,
    augmentation=Augmentation(blur=0.6),
)
Report = Callable[[str, Progress], None]


@dataclass(frozen=True)
class Budget:
    """The recipe of each run of a bench; they differ in their schedules only."""

    new: Recipe  # from nothing
    base: Recipe
    uptrained: Recipe

    def recipe(self, run: str) -> Recipe:
        """The recipe of a run."""
        return {BASE: self.base, UPTRAINED: self.uptrained}.get(run, self.new)

    def with_steps(self, steps: int, runs: Sequence[str]) -> Budget:
        """These runs with another number of steps."""
        changed = {"new": {SAME, EQUAL}, "base": {BASE}, "uptrained": {UPTRAINED}}
        names = [name for name, of in changed.items() if of.intersection(runs)]
        return replace(self, **{name: replace(getattr(self, name), steps=steps) for name in names})


def budget_of(new: Recipe, base: int, uptrained: int) -> Budget:
    """The budget with so many steps of the base and of uptraining."""
    # While half of the patches are removed, a step of the base takes half of the time. Later such steps alternate with
    # steps that keep all, so that the network can do both.
    alternating = tuple((0.6 + i / 100, share) for i, share in enumerate(20 * (1.0, 0.5)))
    halves = tuple((i / 40, share) for i, share in enumerate(20 * (1.0, 0.5)))
    long = replace(new, steps=base, ema_decay=0.998, patch_keep_schedule=((0.0, 0.5), *alternating))
    short = replace(
        new, steps=uptrained, learning_rate=1e-3, ema_decay=0.985, patch_keep_schedule=halves, masked_removal=True
    )
    return Budget(new, long, short)


CPU_BUDGET = budget_of(CPU_BENCH, base=8000, uptrained=500)
SIZES = {"cpu": CPU_BUDGET, "gpu": budget_of(GPU_BENCH, base=24_000, uptrained=1500)}


class Entry(NamedTuple):
    """One network of the bench."""

    variant: str
    run: str = SAME
    seed: int = 0


def recipe_of(variant: str, run: str = SAME, *, seed: int = 0, budget: Budget = CPU_BUDGET) -> Recipe:
    """The recipe of one entry of the bench. Raises ValueError where no MLP makes the parameters equal."""
    recipe = budget.recipe(run)
    config = replace(recipe.config, variant=variant)
    if run == EQUAL:
        config = replace(config, mlp=matching_mlp(config))
    first = "base" if run == BASE else variant
    ending = {EQUAL: ["equal"], UPTRAINED: ["uptrained"]}.get(run, [])
    name = "-".join([first, *ending, *([f"seed{seed}"] if seed else [])])
    return replace(recipe, name=name, title=VARIANTS[variant].title, config=config, seed=seed)


def count_parameters(config: ViTConfig) -> int:
    """The number of parameters of a network of this shape."""
    with torch.random.fork_rng():
        return sum(p.numel() for p in ViT(config).parameters())


def needs_equal(variant: str, base: Recipe = CPU_BENCH) -> bool:
    """Whether the parameters differ by more than TOLERANCE from those of multi-head attention."""
    goal = count_parameters(replace(base.config, variant=DONOR))
    return abs(count_parameters(replace(base.config, variant=variant)) / goal - 1) > TOLERANCE


def matching_mlp(config: ViTConfig) -> float:
    """The MLP width, as a multiple of `width`, that matches the parameters of multi-head attention.

    Raises ValueError where even the narrowest MLP has too many.
    """
    goal, own = count_parameters(replace(config, variant=DONOR)), count_parameters(config)
    hidden = round(config.mlp * config.width) + (goal - own) / (config.layers * (2 * config.width + 1))
    if hidden < 1:
        raise ValueError(f"{config.variant} has {own - goal:,} parameters too many for any MLP to make up")
    return math.floor(hidden) / config.width


def list_entries(
    variants: Sequence[str],
    *,
    budget: Budget = CPU_BUDGET,
    runs: Sequence[str] = tuple(RUNS.values()),
    seeds: int | None = None,
) -> list[Entry]:
    """Everything the bench trains, in this order: the base, what goes on from it, and what starts from nothing.

    The base is listed wherever something goes on from it. `seeds` replaces those of SEEDS.
    """
    variants = sorted(variants, key=lambda name: name in SLOW)
    entries = [Entry(DONOR, BASE)] if {BASE, UPTRAINED}.intersection(runs) else []
    if UPTRAINED in runs:
        entries += [Entry(name, UPTRAINED) for name in variants]
    many = {name: seeds or SEEDS.get(name, 1) for name in variants}
    equal = [name for name in variants if EQUAL in runs and needs_equal(name, budget.new)]
    for seed in range(max(many.values(), default=0)):
        if SAME in runs:
            entries += [Entry(name, SAME, seed) for name in variants if seed < many[name]]
        entries += [Entry(name, EQUAL, seed) for name in equal if seed < (seeds or 1)]
    return entries


def read_results(folder: Path) -> dict[str, dict[str, Any]]:
    """The rows of the results so far, by name."""
    return {row["name"]: row for row in bench_results(folder)}


def is_done(recipe: Recipe | TextRecipe, name: str, folder: Path, digest: str | None = None) -> bool:
    """Whether an entry with the same steps, batch size and `digest` of its recipe is there, with its weights."""
    row = read_results(folder).get(name, {})
    same = (row.get("steps"), row.get("batch")) == (recipe.steps, recipe.batch)
    return same and digest in (None, row.get("recipe_digest")) and (folder / name / "model.safetensors").is_file()


def digest_of(entry: Entry, budget: Budget = CPU_BUDGET) -> str:
    """A fingerprint of all settings that are no defaults: of an entry's recipe, and of the base it goes on from."""
    recipes = [recipe_of(*entry[:2], seed=entry.seed, budget=budget)]
    if entry.run == UPTRAINED:
        recipes.append(recipe_of(DONOR, BASE, budget=budget))
    return fingerprint(*(settings(recipe) for recipe in recipes))


def settings(record: Any) -> dict[str, Any]:
    """The fields of a dataclass that are no defaults, nested: a field that is added later changes no fingerprint."""
    found: dict[str, Any] = {}
    for one in fields(record):
        value, factory = getattr(record, one.name), one.default_factory
        if value != (one.default if factory is MISSING else factory()):
            found[one.name] = settings(value) if is_dataclass(value) else value
    return found


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
            *origin(row),
            f"- {row['held_out']:,} held-out pictures, {shape.classes} classes: top-1 {row['top1']} % "
            f"(95 % interval of this one network over pictures: {low} to {high} %), top-5 {row['top5']} %",
            f"- data: {row['data']}",
            "",
        ]
    )


def origin(row: dict[str, Any]) -> list[str]:
    """Lines of the card about soft labels, removed patches, precision, and what an uptrained network took over."""
    lines: list[str] = []
    if "teacher" in row:
        lines.append(
            f"- soft labels of `{row['teacher']}` at {row['distillation']:.0%} of the loss, temperature "
            f"{row['temperature']:g}; {row['removed']}; {row['precision']} in matrix products"
        )
    if "validation" in row:
        lines.append(
            f"- {row['validation']:,} pictures of the training set left out to choose by: top-1 "
            f"{row['validation_top1']} %"
        )
    if "new_parameters" in row:
        lines.append(
            f"- goes on from bench/base: {row['copied']:,} parameters copied, {row['pooled']:,} from means of heads, "
            f"{row['new_parameters']:,} new" + "".join(f", `{name}`" for name in row["new_names"])
        )
    return lines


def table(rows: Sequence[dict[str, Any]]) -> str:
    """All entries as Markdown."""
    lines = [
        "| network | run | parameters | top-1 % | 95 % interval | top-5 % | minutes |",
        "|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {row['name']} | {row['run']} | {row['parameters']:,} | {row['top1']} | {row['interval'][0]} to "
        f"{row['interval'][1]} | {row['top5']} | {row['minutes']} |"
        for row in rows
    ]
    return "\n".join([*lines, ""])


def hours_left(todo: Sequence[Entry], budget: Budget, rows: Sequence[dict[str, Any]], jobs: int = 1) -> float:
    """Hours that the entries still take, by the minutes a step of each variant took in `rows`; else the mean of all."""
    pace = {row["variant"]: row["minutes"] / row["steps"] for row in rows if row["run"] != BASE}
    mean = sum(pace.values()) / len(pace) if pace else math.nan
    steps = [(entry.variant, budget.recipe(entry.run).steps) for entry in todo]
    return sum(pace.get(variant, mean) * count for variant, count in steps) / 60 / jobs


def show(name: str, progress: Progress) -> None:
    """Print one line for each report, so that it can go to a log file."""
    left = progress.seconds / progress.step * (progress.steps - progress.step) / 60
    sys.stderr.write(f"{name:24} {progress.step}/{progress.steps}  loss {progress.loss:.3f}  {left:.1f} min left\n")
    sys.stderr.flush()
