"""Where a model's position information comes from, for pictures and for texts, and its own table."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from attnviz.attention import POSITIONS
from attnviz.types import Tokens
from attnviz.ui.core.labels import token_name
from attnviz.ui.core.recorded import known
from attnviz.ui.inputs.model_run import ModelRun

LEARNED, FIXED, TABLE = "A learned table", "A fixed table", "A position table"  # sections of the page's prose
ROTARY, RELATIVE, NOTHING, NO_TABLE = (
    "Rotary positions (RoPE)",
    "Relative positions",
    "No position information",
    "No position embeddings",
)


def origin(run: ModelRun) -> str:
    """Where the model's position information comes from, by the section of the page that explains it."""
    name = run.model.spec.positions
    scheme = POSITIONS.get(name)
    if table_of(run) is not None:
        return TABLE if scheme is None else LEARNED if scheme.learned else FIXED
    if scheme is None:
        return NO_TABLE
    return ROTARY if name == "rotary" else RELATIVE if scheme.relative else NOTHING


def table_of(run: ModelRun) -> Float[np.ndarray, "token feature"] | None:
    """The position embeddings of these tokens; None for a model that adds nothing."""
    table = run.trace.position_embeddings.get("main")
    return None if table is None or not bool(table.any()) else known(table)


def table_file(tokens: Tokens, table: np.ndarray) -> tuple[list[str], list[list[str | float]]]:
    """The table for a file: one row per token."""
    header = ["token", *(f"feature {k + 1}" for k in range(table.shape[1]))]
    return header, [[token_name(tokens, i), *map(float, row)] for i, row in enumerate(table)]
