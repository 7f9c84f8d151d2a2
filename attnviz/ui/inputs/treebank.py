"""The sentences of a treebank that are stored beside the samples."""

from __future__ import annotations

import json
from functools import lru_cache

from attnviz.ui.core import assets
from attnviz.ui.inputs.samples import FOLDER


@lru_cache(maxsize=1)
def treebank() -> dict[str, list[tuple[int, int, str, int]]]:
    """The stored sentences of a treebank: each word with its place, part of speech and head. Raises DamagedFile."""
    path = FOLDER / "treebank.json"
    with assets.reading(path):
        rows = json.loads(path.read_text(encoding="utf-8"))
        return {row["text"]: [(start, stop, part, head) for start, stop, part, head in row["words"]] for row in rows}
