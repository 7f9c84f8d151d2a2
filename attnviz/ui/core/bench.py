"""The table of a bench: which variants have trained networks, and how well those do on held-out data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from scipy import stats

from attnviz.attention import VARIANTS
from attnviz.models import DamagedModel, bench_results, store

RUN = "same shape"  # the run of the bench in which all networks have the same layers, width and MLP
PICTURES, TEXTS = "bench", "text-bench"  # what the networks of a bench read; both a folder and a recipe
COLUMNS = {"name", "variant", "run", "seed", "top1", "interval", "parameters"}
TEXT_COLUMNS = {"upos", "held_out", "words_held_out"}
Row = dict[str, Any]


@dataclass(frozen=True, eq=False)
class Bench:
    """What has been trained, or why that cannot be read."""

    rows: tuple[Row, ...] = ()
    problem: str = ""  # why the table cannot be read, in a sentence
    recipe: str = PICTURES

    def row(self, variant: str, run: str = RUN) -> Row | None:
        """The entry of a variant whose network is shown: that of the first seed."""
        return min(self.seeds(variant, run), key=lambda row: row["seed"], default=None)

    def seeds(self, variant: str, run: str = RUN) -> list[Row]:
        """The entries of a variant that differ in nothing but the seed."""
        return [row for row in self.rows if row["variant"] == variant and row["run"] == run]

    def model(self, variant: str) -> str | None:
        """The network of a variant, by the name under which `load` opens it; None where none was trained."""
        row = self.row(variant)
        return None if row is None else f"{self.recipe}/{row['name']}"

    @cached_property
    def models(self) -> list[str]:
        """All networks shown, in the order of VARIANTS."""
        return [name for name in map(self.model, VARIANTS) if name is not None]


def read_bench(recipe: str = PICTURES) -> Bench:
    """The table of a bench; empty, with the reason, where it cannot be read."""
    folder, columns = (store.TEXT_BENCH, COLUMNS | TEXT_COLUMNS) if recipe == TEXTS else (store.BENCH, COLUMNS)
    try:
        return opened(recipe, folder, frozenset(columns), stamp(folder / store.RESULTS))
    except DamagedModel as error:
        return Bench((), str(error), recipe)


@lru_cache(maxsize=8)
def opened(recipe: str, folder: Path, columns: frozenset[str], _stamp: tuple[int, ...]) -> Bench:
    """The table of a bench, read once as long as its file stays as it is. Raises DamagedModel, which is not kept."""
    rows = [row for row in bench_results(folder) if columns <= row.keys()]
    return Bench(tuple(row for row in rows if row["variant"] in VARIANTS), "", recipe)


def stamp(path: Path) -> tuple[int, ...]:
    """What changes when a file is written anew; nothing where there is none."""
    try:
        found = path.stat()
    except OSError:
        return ()
    return found.st_mtime_ns, found.st_size, found.st_ino


class Accuracy(NamedTuple):
    """How often a network is right, in percent with its 95 % interval, and where that comes from."""

    top1: float
    low: float
    high: float
    seeds: int

    @property
    def text(self) -> str:
        """On screen."""
        return f"{self.top1:.1f}\u00a0% ({self.low:.1f}\u2009–\u2009{self.high:.1f})"


def accuracy(rows: Sequence[Row]) -> Accuracy | None:
    """Over seeds where there are three or more (Student's t), else of the first network over what it read (Wilson)."""
    if not rows:
        return None
    values = [float(row["top1"]) for row in rows]
    if len(values) >= 3:
        half = stats.t.ppf(0.975, len(values) - 1) * np.std(values, ddof=1) / len(values) ** 0.5
        return Accuracy(
            float(np.mean(values)), float(np.mean(values) - half), float(np.mean(values) + half), len(values)
        )
    first = min(rows, key=lambda row: row["seed"])
    low, high = first["interval"]
    return Accuracy(float(first["top1"]), float(low), float(high), 1)
