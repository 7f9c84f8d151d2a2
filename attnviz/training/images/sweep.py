"""`python -m attnviz.training sweep`: how accuracy grows with the number of pictures to learn from.

The network of vit-digits, as many steps whatever the number of pictures, beside a method with nothing to learn: the
label of the nearest training picture, pixel by pixel. Every seed draws its own pictures, equally many of every class.
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
from attnviz.training.images.digits import BASE, Report, trained
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
    """Train and test at every size and write folder/sweep.json, whose rows are returned."""
    pictures, held = DATA[BASE.data]("train"), DATA[BASE.data]("val")
    rows = []
    for count in per_class:
        accuracy: dict[str, list[float]] = {"vit": [], "nearest": []}
        for seed in seeds:
            few = some_of(pictures, count, seed)
            recipe = replace(BASE, name=f"{len(few)} pictures,", seed=seed, steps=steps or BASE.steps)
            accuracy["vit"].append(trained(recipe, few, held, device, report)[0])
            accuracy["nearest"].append(nearest(few, held))
        rows.append(
            {
                "pictures": count * len(held.classes),
                "seeds": list(seeds),
                "steps": steps or BASE.steps,
                "batch": BASE.batch,
                "held_out": len(held),
                **accuracy,
                **hardware(device),
            }
        )
    write_rows(folder, RESULTS, rows)
    return rows


def results(folder: Path = ASSETS) -> list[dict[str, Any]]:
    """The rows that `run_sweep` wrote; none where it has not been run."""
    return read_rows(folder, RESULTS)


def some_of(pictures: Pictures, count: int, seed: int) -> Pictures:
    """So many pictures of every class, drawn at random. Raises ValueError where a class has fewer."""
    random, found = np.random.default_rng(seed), []
    for label, name in enumerate(pictures.classes):
        own = np.flatnonzero(pictures.labels == label)
        if len(own) < count:
            raise ValueError(f"there are {len(own)} pictures of {name}, fewer than {count}")
        found.append(random.permutation(own)[:count])
    index = np.concatenate(found)
    return replace(pictures, images=pictures.images[index], labels=pictures.labels[index])


def nearest(few: Pictures, held: Pictures) -> float:
    """Percent of the held-out pictures whose nearest training picture, by pixels, has their label."""
    flat = [part.images.reshape(len(part), -1).astype(np.float32) for part in (few, held)]
    judge = KNeighborsClassifier(n_neighbors=1).fit(flat[0], few.labels)
    return round(100 * float((judge.predict(flat[1]) == held.labels).mean()), 2)


def table(rows: Sequence[dict[str, Any]]) -> str:
    """The rows as Markdown."""
    lines = ["| pictures | vision transformer % | nearest picture % |", "|---|---|---|"]
    for row in rows:
        means = [
            f"{np.mean(row[name]):.2f} ({min(row[name]):.2f} to {max(row[name]):.2f})" for name in ("vit", "nearest")
        ]
        lines.append(f"| {row['pictures']:,} | {' | '.join(means)} |")
    return "\n".join([*lines, ""])
