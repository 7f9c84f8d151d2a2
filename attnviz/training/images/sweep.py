"""`python -m attnviz.training sweep`: how accuracy grows with the number of training pictures.

The network of vit-digits, trained for the same number of steps whatever the number of pictures, beside a baseline
without training: the label of the nearest training picture, by pixels. Every seed samples its own pictures, the same
number of every class.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.neighbors import KNeighborsClassifier

from attnviz.models.files import ASSETS, read_rows, write_rows
from attnviz.training.images.data import DATA, Pictures
from attnviz.training.images.digits import BASE, Report, train_and_evaluate
from attnviz.training.images.loop import hardware

RESULTS = "sweep.json"
PER_CLASS = (5, 10, 20, 40, 80, 130)  # pictures of every digit
SEEDS = 3


def run_sweep(
    folder: Path,
    device: torch.device,
    report: Report,
    *,
    per_class: Sequence[int] = PER_CLASS,
    seeds: Sequence[int] = range(SEEDS),
    steps: int | None = None,
) -> list[dict[str, Any]]:
    """Train and evaluate at every size; returns the rows of folder/sweep.json."""
    pictures, held_out = DATA[BASE.data]("train"), DATA[BASE.data]("val")
    rows = []
    for count in per_class:
        accuracy: dict[str, list[float]] = {"vit": [], "nearest": []}
        for seed in seeds:
            subset = subsample(pictures, count, seed)
            recipe = replace(BASE, name=f"{len(subset)} pictures,", seed=seed, steps=steps or BASE.steps)
            accuracy["vit"].append(train_and_evaluate(recipe, subset, held_out, device, report)[0])
            accuracy["nearest"].append(nearest(subset, held_out))
        rows.append(
            {
                "pictures": count * len(held_out.classes),
                "seeds": list(seeds),
                "steps": steps or BASE.steps,
                "batch": BASE.batch,
                "held_out": len(held_out),
                **accuracy,
                **hardware(device),
            }
        )
    write_rows(folder, RESULTS, rows)
    return rows


def results(folder: Path = ASSETS) -> list[dict[str, Any]]:
    """The rows that `run_sweep` wrote; none where it has not been run."""
    return read_rows(folder, RESULTS)


def subsample(pictures: Pictures, count: int, seed: int) -> Pictures:
    """`count` random pictures of every class. Raises ValueError where a class has fewer."""
    random, chosen = np.random.default_rng(seed), []
    for label, name in enumerate(pictures.classes):
        own = np.flatnonzero(pictures.labels == label)
        if len(own) < count:
            raise ValueError(f"there are {len(own)} pictures of {name}, fewer than {count}")
        chosen.append(random.permutation(own)[:count])
    index = np.concatenate(chosen)
    return replace(pictures, images=pictures.images[index], labels=pictures.labels[index])


def nearest(subset: Pictures, held_out: Pictures) -> float:
    """Percent of the held-out pictures whose nearest training picture, by pixels, has their label."""
    flat = [part.images.reshape(len(part), -1).astype(np.float32) for part in (subset, held_out)]
    classifier = KNeighborsClassifier(n_neighbors=1).fit(flat[0], subset.labels)
    return round(100 * float((classifier.predict(flat[1]) == held_out.labels).mean()), 2)


def table(rows: Sequence[dict[str, Any]]) -> str:
    """The rows as a Markdown table."""
    lines = ["| pictures | vision transformer % | nearest picture % |", "|---|---|---|"]
    for row in rows:
        means = [
            f"{np.mean(row[name]):.2f} ({min(row[name]):.2f} to {max(row[name]):.2f})" for name in ("vit", "nearest")
        ]
        lines.append(f"| {row['pictures']:,} | {' | '.join(means)} |")
    return "\n".join([*lines, ""])
