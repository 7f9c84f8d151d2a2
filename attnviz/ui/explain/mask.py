"""What a map is cut down to where only the most relevant tokens keep their colour: in words and in the downloads."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Bool, Float

from attnviz.measures.mass import mass_mask
from attnviz.methods.base import outside
from attnviz.types import Tokens
from attnviz.ui.explain.choice import Choice
from attnviz.ui.explain.steps import Result
from attnviz.ui.widgets.answers import percent


def held(tokens: Tokens, row: Float[np.ndarray, " token"], share: float | None) -> Bool[np.ndarray, " token"] | None:
    """The tokens that keep their colour, CLS and other special tokens never counted; None where all do."""
    return None if share is None else mass_mask(torch.from_numpy(row.copy()), share, outside(tokens)).numpy()


def words(tokens: Tokens, row: Float[np.ndarray, " token"], share: float | None) -> str:
    """How few patches or words hold a share of a map, as a sentence to go on with; empty where all are shown."""
    if (kept := held(tokens, row, share)) is None:
        return ""
    inside = ~outside(tokens).numpy()
    total = np.abs(row[inside]).sum()
    there = np.abs(row[kept]).sum() / total if total else 0.0
    kind = "words and signs" if tokens.grid is None else "patches"
    return (
        f" In colour: {int(kept.sum()):,} of {int(inside.sum()):,} {kind}, which hold {percent(float(there))} of all."
    )


def arrays(tokens: Tokens, choice: Choice, result: Result, share: float | None) -> dict[str, np.ndarray]:
    """The tokens that the shown map is cut down to, for an NPZ; nothing where it is whole."""
    if result.why or (kept := held(tokens, result.steps[choice.at], share)) is None:
        return {}
    return {"most_relevant": kept, "most_relevant_mass": np.array(share)}
