"""The examples that `python -m attnviz.curate` has proven: what a page shows first, with the numbers it shows."""

from __future__ import annotations

import json
from functools import lru_cache
from typing import Any

from attnviz.paths import EXAMPLES
from attnviz.ui.core.assets import reading


@lru_cache(maxsize=1)
def examples() -> tuple[dict[str, Any], ...]:
    """Every proven example. Raises DamagedFile."""
    with reading(EXAMPLES):
        return tuple(json.loads(EXAMPLES.read_text(encoding="utf-8"))["examples"])


def of_kind(kind: str) -> tuple[dict[str, Any], ...]:
    """The proven examples of one kind, the first of them first. Raises DamagedFile."""
    return tuple(example for example in examples() if example["kind"] == kind)


def other_context(word: str, text: str) -> str | None:
    """A sentence in which a word's vector turns away from that in `text`; None for other words. Raises DamagedFile."""
    found = (example for kind in ("two meanings", "two contexts") for example in of_kind(kind))
    for example in found:
        if example["word"] == word.lower():
            return example["alike"] if text == example["other"] else example["other"]
    return None
