"""The faithfulness scores that were measured: assets/faithfulness.json, written by `python -m benchmarks.faithfulness`.

The file has one part for each kind of input, each with the command and date it came from. Read a score through `score`,
so that a page shows a number together with its interval and its controls, or says that there is none.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from attnviz import paths
from attnviz.measures.intervals import Summary

FILE = paths.ASSETS / "faithfulness.json"
FIELDS = ("command", "date", "model", "digest", "rows")


class Row(NamedTuple):
    """One score of one method on one kind of input."""

    inputs: str  # "scenes/colour", "photographs", "sentences", "agreement"
    method: str  # a name in METHODS or CONTROLS
    options: str  # "default", or "chosen" on other inputs of the same kind
    score: str  # "pointing", "abpc/logit/removal"
    right: bool  # of inputs that the model classifies correctly, or of the others
    value: Summary
    difference: Summary  # to the control "random", input by input


def load(path: Path = FILE) -> dict[str, dict[str, Any]]:
    """Every part by its name, its rows as `Row`; {} where nothing was measured. Raises ValueError if damaged."""
    if not path.is_file():
        return {}
    try:
        parts = json.loads(path.read_text(encoding="utf-8"))
        if any(field not in part for part in parts.values() for field in FIELDS):
            raise KeyError("a field is missing")
        return {name: {**part, "rows": [row_of(row) for row in part["rows"]]} for name, part in parts.items()}
    except (OSError, ValueError, AttributeError, KeyError, TypeError) as error:
        raise ValueError(f"{path.name} is no table of scores: {error}") from error


@lru_cache(maxsize=1)
def measured() -> tuple[Row, ...]:
    """Every row that comes with the app."""
    return tuple(row for part in load().values() for row in part["rows"])


def score(inputs: str, method: str, name: str, options: str = "default", *, right: bool = True) -> Row | None:
    """One measured score; None where it was not measured."""
    wanted = (inputs, method, options, name, right)
    return next((row for row in measured() if row[:5] == wanted), None)


def save(part: str, facts: Mapping[str, Any], rows: Sequence[Row], path: Path = FILE) -> None:
    """Write one part of the file and leave the others. Raises ValueError for a damaged file, or for missing facts."""
    if missing := [field for field in FIELDS if field not in {*facts, "rows"}]:
        raise ValueError(f"a part of the scores needs {', '.join(missing)}")
    load(path)
    parts = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    parts[part] = {**facts, "rows": [written(row) for row in rows]}
    path.write_text(text_of(parts), encoding="utf-8")


def text_of(parts: Mapping[str, Mapping[str, Any]]) -> str:
    """All parts as JSON with one row on a line, so that a change of few scores is a change of few lines."""
    blocks = []
    for name, part in parts.items():
        facts = json.dumps({key: value for key, value in part.items() if key != "rows"}, indent=1, allow_nan=False)
        rows = ",\n".join(json.dumps(row, allow_nan=False, separators=(",", ":")) for row in part["rows"])
        blocks.append(f'{json.dumps(name)}: {facts[:-2]},\n "rows": [\n{rows}\n ]\n}}')
    return "{\n" + ",\n".join(blocks) + "\n}\n"


def row_of(row: Sequence[Any]) -> Row:
    """A row from a list of its fields."""
    inputs, method, options, name, right, value, difference = row
    return Row(inputs, method, options, name, right, summary_of(*value), summary_of(*difference))


def summary_of(mean: float | None, low: float | None, high: float | None, scored: int, excluded: int) -> Summary:
    """A summary from its numbers; null stands for "not a number"."""
    numbers = [math.nan if number is None else number for number in (mean, low, high)]
    return Summary(numbers[0], numbers[1], numbers[2], scored, excluded)


def written(row: Row) -> list[Any]:
    """A row as a list, with four decimals."""
    *names, value, difference = row
    found = [[None if math.isnan(n) else round(n, 4) for n in numbers] for numbers in (value, difference)]
    return [*names, *found]
