"""Latency and memory of every variant, measured once on a named machine: assets/variants.json.

Written by `python -m benchmarks.variants --out assets/variants.json`, which prints the same numbers as a table.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from attnviz import paths
from attnviz.measures.cost import Row

FILE = paths.ASSETS / "variants.json"
FIELDS = ("machine", "date", "command", "torch", "width", "heads", "runs")
MEASURED = ("name", "count", "seconds", "peak_bytes", "skipped")  # of a row; the rest is counted anew where it is read


@dataclass(frozen=True)
class Reference:
    """What was measured, and on what."""

    machine: str
    date: str
    command: str
    torch: str
    width: int
    heads: int
    runs: int
    rows: tuple[Row, ...]


def load(path: Path = FILE) -> Reference | None:
    """The measurement that comes with the app; None where there is none. Raises ValueError for a damaged file."""
    if not path.is_file():
        return None
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        rows = tuple(Row(**dict(zip(MEASURED, row, strict=True))) for row in found["rows"])
        return Reference(**{name: found[name] for name in FIELDS}, rows=rows)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path.name} is no table of measurements: {error}") from error


def save(facts: Mapping[str, Any], rows: Sequence[Row], path: Path = FILE) -> None:
    """Write a measurement, three digits of each time. Raises ValueError for missing facts."""
    if missing := [name for name in FIELDS if name not in facts]:
        raise ValueError(f"a measurement needs {', '.join(missing)}")
    kept = [[written(asdict(row)[name]) for name in MEASURED] for row in rows]
    text = ",\n".join(f"  {json.dumps(row, allow_nan=False)}" for row in kept)
    head = json.dumps({name: facts[name] for name in FIELDS}, indent=1)
    path.write_text(f'{head[:-2]},\n "rows": [\n{text}\n ]\n}}\n', encoding="utf-8")


def written(value: Any) -> Any:
    """A time with three digits; anything else as it is."""
    return float(f"{value:.3g}") if isinstance(value, float) else value
