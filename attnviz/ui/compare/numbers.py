"""Numbers on the Compare page: which heads belong together, what maps are like, how far approximations are off."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import streamlit as st
import torch
from jaxtyping import Float
from torch import Tensor

from attnviz.attention import Softmax
from attnviz.measures.compare import effective_rank, head_diversity, match_heads, relative_error
from attnviz.types import Tokens, Trace
from attnviz.ui.compare import maps
from attnviz.ui.compare.choice import HAND, MATCHED, by_hand
from attnviz.ui.compare.domain import Domain, Panel
from attnviz.ui.core.labels import head_name, layer_name

NONE = "not defined"
APPROXIMATES = {  # what keeps query, key and value and changes only how softmax is worked out, and how
    "mqa": "keys and values averaged over all heads",
    "gqa": "keys and values averaged over each group of heads",
    "window": "softmax over fewer keys",
    "window2d": "softmax over fewer keys",
    "mobilevit2d": "softmax over fewer keys",
    "linear": "a product of features instead of the exponential",
    "performer": "random features instead of the exponential",
    "nystrom": "softmax by way of landmarks",
}


ESTIMATES = ("performer", "nystrom")  # these claim to come close to softmax, trained or not


@dataclass(frozen=True, eq=False)
class Cell:
    """One head of one panel, and how it was found."""

    panel: Panel
    layer: int
    head: int
    alike: float | None = None  # similarity to the head of the first panel, where it was matched

    @property
    def place(self) -> str:
        """Layer and head in words."""
        return f"{layer_name(self.layer)}, {head_name(self.head).lower()}"

    @property
    def words(self) -> str:
        """Layer and head, and how alike their map is to the first one's."""
        return self.place if self.alike is None else f"{self.place} · {self.alike:.2f} alike"


def cells_of(found: Sequence[Panel], layer: int, head: int, how: str) -> list[Cell]:
    """The head that each panel shows."""
    lead = next((panel for panel in found if panel.trace is not None), found[0])
    if how == HAND:
        return hand_picked(found, lead, layer, head)
    matched = how == MATCHED and not maps.no_map(lead)
    goal = maps.effective(lead).maps[layer, head] if matched else None
    return [lead_or_other(panel, lead, layer, head, goal) for panel in found]


def hand_picked(found: Sequence[Panel], lead: Panel, layer: int, head: int) -> list[Cell]:
    """Every other panel's head from a list of its own."""
    with st.container(horizontal=True):
        return [
            Cell(panel, layer, head)
            if panel is lead or panel.trace is None
            else Cell(panel, *by_hand(panel, layer, head))
            for panel in found
        ]


def lead_or_other(panel: Panel, lead: Panel, layer: int, head: int, goal: Tensor | None) -> Cell:
    """The head of one panel: the opened one, the most alike, or that of the same number."""
    if panel is lead or panel.trace is None:
        return Cell(panel, layer, head)
    same = Cell(panel, min(layer, panel.layers - 1), min(head, panel.heads - 1))
    return same if goal is None or maps.no_map(panel) else best_match(panel, goal, lead.tokens)


def best_match(panel: Panel, goal: Tensor, tokens: Tokens) -> Cell:
    """The head, of any layer, whose map is most like the given one, which may lie on another grid."""
    every = maps.effective(panel).maps  # [layer head query key]
    ((best, alike),) = match_heads(goal[None], every.flatten(0, 1), tokens, panel.tokens)
    return Cell(panel, *divmod(best, every.shape[1]), alike)


# Tables --------------------------------------------------------------------------------------------------------------
def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table as Markdown: the first column as text, the others to the right."""
    lines = [header, [":--", *["--:"] * (len(header) - 1)], *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def numbers(ground: Domain, panel: Panel) -> list[str]:
    """One row of the table of numbers: means over all layers and heads; what a map does not have is not defined."""
    if maps.no_map(panel):
        return [panel.title, *[NONE] * 4]
    found = maps.effective(panel)
    each = found.maps.flatten(0, 1).double()  # [head query key]
    rank = f"{float(effective_rank(each).mean()):.1f}"
    if not found.stochastic or found.signed:
        return [panel.title, NONE, NONE, rank, NONE]
    apart = np.mean([head_diversity(layer.double()) for layer in found.maps])
    sharp, far = ("none" if np.isnan(value) else f"{value:.2f}" for value in measured(ground, each, panel.tokens))
    return [panel.title, sharp, far, rank, "one head" if np.isnan(apart) else f"{apart:.2f}"]


def measured(ground: Domain, weights: Float[Tensor, "head query key"], tokens: Tokens) -> list[float]:
    """How even the rows of some heads are and how far they reach, as means; not a number where no row counts."""
    rows = ground.counted(tokens)
    return [float(measure.rows(weights[:, rows], tokens, rows).nanmean()) for measure in ground.measures]


def numbers_table(ground: Domain, found: Sequence[Panel]) -> None:
    """Entropy, distance, rank and diversity of every variant on this input."""
    shown = next((panel for panel in found if panel.trace is not None), None)
    if shown is None:
        return
    tokens = shown.tokens
    sharp, far = ground.measures
    header = ["Variant", sharp.title, f"{far.title}, {far.unit}", f"Effective rank, of {len(tokens)}", "Head diversity"]
    st.markdown(markdown_table(header, [numbers(ground, panel) for panel in found]))
    _, reach = measured(ground, torch.full((1, len(tokens), len(tokens)), 1 / len(tokens)).double(), tokens)
    even = "" if np.isnan(reach) else f" Even attention has entropy 1, distance {reach:.2f} and rank 1."
    st.caption(
        ground.worded(
            f"Means over all layers and heads, on this picture.{even} Head diversity is the mean Jensen-Shannon "
            "distance of two heads of a layer: 0 where all look alike, 1 where no two share a patch."
        )
    )


def errors(panel: Panel, donor: Trace) -> tuple[list[float], list[float]]:
    """Relative errors of map and output against softmax attention, one for each layer, heads averaged."""
    pairs = [(call, exact) for exact in donor.calls for call in panel.calls(exact.layer)]
    found = [relative_error(call, exact) for call, exact in pairs]
    return [float(e.map.mean()) for e in found if e.map is not None], [float(e.output.mean()) for e in found]


def estimate_words(cell: Cell) -> str:
    """How far an estimate is from the softmax attention of its own queries and keys; empty for what is none."""
    if cell.panel.variant not in ESTIMATES:
        return ""
    (call,) = cell.panel.calls(cell.layer)
    error = relative_error(call, call.with_rule(Softmax()))
    if error.map is None:
        return ""
    off = [f"{100 * values[cell.head]:.0f}\u00a0%" for values in (error.map, error.output)]
    return f"Off the softmax of its own queries and keys by {off[0]} (map) and {off[1]} (output)."


def errors_table(found: Sequence[Panel], donor: Trace) -> None:
    """How far each approximation is from exact softmax; what is none gets no score."""
    rows = [error_row(panel, donor) for panel in found]
    st.markdown(
        markdown_table(["Variant", "Error of the map", "Error of the output", "How it departs from softmax"], rows)
    )
    st.caption(
        "Relative errors (Frobenius norm of the difference over that of the exact one), least to most over the "
        "layers. 100 % is as far off as a map of zeros."
    )


def error_row(panel: Panel, donor: Trace) -> list[str]:
    """One row: ranges of both errors, or why there is no score."""
    if panel.trace is None:
        return [panel.title, "none", "none", panel.reason]
    if panel.variant == "mha":
        return [panel.title, "exact", "exact", "it is what the others are measured against"]
    if panel.variant not in APPROXIMATES:
        why = "a formula of its own, no approximation of softmax attention"
        return [panel.title, "no score", "no score", why]
    return [panel.title, *map(spread, errors(panel, donor)), APPROXIMATES[panel.variant]]


def spread(values: Sequence[float]) -> str:
    """The least and the most of some shares."""
    return f"{100 * min(values):.0f} to {100 * max(values):.0f}\u00a0%" if values else NONE
