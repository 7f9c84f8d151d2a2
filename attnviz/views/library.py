"""The code that runs in the browser: the modules of the views as one, with the colours and the style sheet they use."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import numpy as np

from attnviz.plots import theme

HERE = Path(__file__).parent
LIBRARY = (
    "common.js",
    "record.js",
    "scale.js",
    "rows.js",
    "words.js",
    "frame.js",
    "painting.js",
    "export.js",
    "grid.js",
    "removal.js",
    "picture.js",
    "colours.js",
    "badges.js",
    "tiles.js",
    "matrix.js",
    "cells.js",
    "strongest.js",
    "sight.js",
    "lines.js",
    "text.js",
    "arcs.js",
    "library.js",
)


def read(name: str) -> str:
    """A file that lies beside this one."""
    return (HERE / name).read_text(encoding="utf-8")


@functools.cache
def library() -> str:
    """All modules of the views, in their order, as one."""
    return "\n".join(read(name) for name in LIBRARY)


@functools.cache
def library_data() -> dict[str, Any]:
    """Every colour the views use, as theme.py has them, and their style sheet."""
    return {
        "tables": {name: theme.table(name).astype(np.uint8).tobytes().hex() for name in theme.SCALES},
        "diverging": list(theme.DIVERGING),
        "roles": {role: list(pair) for role, pair in theme.COLOURS.items()},
        "css": read("view.css"),
    }
