"""`python -m attnviz.training digits`: small networks on handwritten digits, each trained from several seeds.

Vision transformers with multi-head and with multi-query attention, patches of 2 x 2 px, and two residual networks with
attention in their bottlenecks. All follow the recipe of vit-digits: the same 1,347 training pictures, steps, optimiser
and clipping; evaluation without augmentation on the same 450 held-out pictures. Results are written to digits.json.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.stats import t as student

from attnviz.models.files import ASSETS, read_rows, write_rows
from attnviz.models.nets import AXIALNET, BOTNET, Shape, built
from attnviz.training.images.data import DATA, Pictures
from attnviz.training.images.evaluate import evaluate, open_trained
from attnviz.training.images.loop import Progress, hardware, train
from attnviz.training.images.recipes import RECIPES, Recipe

SEEDS = 5
RESULTS = "digits.json"
COLUMNS = {
    "title",
    "parameters",
    "accuracy",
    "mean",
    "interval",
    "seconds",
    "steps",
    "batch",
    "device",
    "threads",
    "trained_on",
    "held_out",
}
BASE: Recipe = RECIPES["vit-digits"]
NETWORKS: dict[str, tuple[str, Shape]] = {
    "vit-mha": ("Vision transformer, multi-head attention", BASE.config),
    "vit-mqa": ("Vision transformer, multi-query attention", replace(BASE.config, variant="mqa")),
    "botnet": ("Residual network with relative positions in two dimensions (BoTNet)", BOTNET),
    "axialnet": ("Residual network with axial attention, position terms q, k and v", AXIALNET),
}
Report = Callable[[str, Progress], None]


def recipe_of(name: str, seed: int = 0, steps: int | None = None) -> Recipe:
    """The recipe of one network of the table."""
    title, config = NETWORKS[name]
    return replace(BASE, name=name, title=title, config=config, seed=seed, steps=steps or BASE.steps)


def run_digits(
    folder: Path,
    device: torch.device,
    report: Report,
    *,
    seeds: Sequence[int] = range(SEEDS),
    steps: int | None = None,
    names: Sequence[str] = tuple(NETWORKS),
) -> list[dict[str, Any]]:
    """Train every network from every seed; returns the rows of folder/digits.json.

    The file is written after each network; one that is there with the same seeds and steps is not trained again.
    """
    pictures, held_out = DATA[BASE.data]("train"), DATA[BASE.data]("val")
    done, rows = {row["name"]: row for row in results(folder)}, []
    for name in names:
        recipes = [recipe_of(name, seed, steps) for seed in seeds]
        row = done.get(name)
        if row is None or (row["seeds"], row["steps"]) != (list(seeds), recipes[0].steps):
            runs = [train_and_evaluate(recipe, pictures, held_out, device, report) for recipe in recipes]
            row = row_of(recipes[0], seeds, runs, pictures, held_out, device)
        rows.append(row)
        write_rows(folder, RESULTS, rows)
    return rows


def results(folder: Path = ASSETS) -> list[dict[str, Any]]:
    """The rows that `run_digits` wrote; none where it has not been run. Raises DamagedModel."""
    return read_rows(folder, RESULTS, COLUMNS)


def train_and_evaluate(
    recipe: Recipe, pictures: Pictures, held_out: Pictures, device: torch.device, report: Report
) -> tuple[float, float]:
    """Percent of the held-out pictures classified correctly, with parameters rounded as if shipped; and seconds."""
    network, seconds = train(
        recipe,
        device=device,
        pictures=pictures,
        report=lambda progress: report(f"{recipe.name} seed {recipe.seed}", progress),
    )
    return evaluate(open_trained(recipe, network, held_out), held_out, drop_patches=False)["top1"], round(seconds, 1)


def row_of(
    recipe: Recipe,
    seeds: Sequence[int],
    runs: Sequence[tuple[float, float]],
    pictures: Pictures,
    held_out: Pictures,
    device: torch.device,
) -> dict[str, Any]:
    """The row of one network: its size, how it was trained, and its accuracy from each seed."""
    accuracy, seconds = ([pair[i] for pair in runs] for i in (0, 1))
    with torch.random.fork_rng():
        count = sum(p.numel() for p in built(recipe.config).parameters())
    return {
        "name": recipe.name,
        "title": recipe.title,
        "variant": recipe.config.variant,
        "cells": (recipe.config.size // recipe.config.patch) ** 2,
        "parameters": count,
        "steps": recipe.steps,
        "batch": recipe.batch,
        "seeds": list(seeds),
        "accuracy": accuracy,
        "mean": round(float(np.mean(accuracy)), 2),
        "interval": interval(accuracy),
        "seconds": seconds,
        **hardware(device),
        "trained_on": len(pictures),
        "held_out": len(held_out),
        "data": held_out.source,
    }


def interval(accuracy: Sequence[float]) -> list[float] | None:
    """95 % interval of the mean over seeds (Student 1908), in percent, at most 100; None for a single seed.

    It describes how the mean would vary with other seeds, on the same pictures.
    """
    if len(accuracy) < 2:
        return None
    mean, error = float(np.mean(accuracy)), float(np.std(accuracy, ddof=1)) / len(accuracy) ** 0.5
    margin = float(student.ppf(0.975, len(accuracy) - 1)) * error
    return [round(max(mean - margin, 0.0), 2), round(min(mean + margin, 100.0), 2)]


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """The rows as a Markdown table, with the meaning of the interval."""
    lines = ["| network | parameters | each seed % | mean % | 95 % interval | seconds each |", "|---" * 6 + "|"]
    for row in rows:
        spread = "{} to {}".format(*row["interval"]) if row["interval"] else "none"
        each = ", ".join(f"{value:.2f}" for value in row["accuracy"])
        lines.append(
            f"| {row['title']} | {row['parameters']:,} | {each} | {row['mean']:.2f} | {spread} "
            f"| {np.mean(row['seconds']):.1f} |"
        )
    first = rows[0]
    lines += [
        "",
        f"{first['steps']:,} steps of {first['batch']} on {first['device']}, {first['threads']} threads; "
        f"{first['trained_on']:,} training pictures, {first['held_out']} held out, one of which makes "
        f"{100 / first['held_out']:.2f} %. The interval is that of the mean over seeds (Student's t).",
        "",
    ]
    return "\n".join(lines)
