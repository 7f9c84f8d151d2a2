"""Which head of each panel is shown on the Compare page: chosen in the first, matched or chosen in the others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import streamlit as st
from jaxtyping import Float
from torch import Tensor

from attnviz.measures.compare import match_heads
from attnviz.types import Tokens
from attnviz.ui.compare import maps
from attnviz.ui.compare.choice import Choice
from attnviz.ui.compare.domain import Panel
from attnviz.ui.compare.panels import SHARED
from attnviz.ui.core.labels import head_name, layer_name
from attnviz.ui.core.state import buttons, one_of, select

MATCH, INDEX, MANUAL = "match", "index", "manual"  # how heads are paired, by their names in the address
PAIRINGS = {MATCH: "Best match", INDEX: "By index", MANUAL: "Manual"}
PAIRINGS_HELP = (
    "Head 3 of one network is not head 3 of another. Best match opens in every panel the head, of any layer, whose map "
    "is most similar to the one opened in the first."
)


@dataclass(frozen=True, eq=False)
class PanelHead:
    """One head of one panel."""

    panel: Panel
    layer: int
    head: int
    similarity: float | None = None  # to the head of the first panel, where it was matched

    @property
    def place(self) -> str:
        """Layer and head in words."""
        return f"{layer_name(self.layer)}, {head_name(self.head).lower()}"

    @property
    def label(self) -> str:
        """Layer and head, and how similar the map is to that of the first panel."""
        return self.place if self.similarity is None else f"{self.place} · similarity {self.similarity:.2f}"


def choose_head(choice: Choice, first: Panel) -> tuple[int, int, str]:
    """Layer and head of the first panel that has a trace, and how the others are paired with it.

    With shared weights heads correspond one to one, so there is nothing to match.
    """
    with choice.row, st.container(horizontal=True, width="content"):
        layer = choose_number("Layer", "layer", first.layers, first.layers)
        head = choose_number("Head", "head", first.heads, 1)
    if choice.mode == SHARED:
        return layer, head, INDEX
    where = {"where": choice.options, "help": PAIRINGS_HELP}
    return layer, head, one_of("Match heads", PAIRINGS, default=MATCH, key="heads", **where)


def choose_number(label: str, key: str, count: int, default: int) -> int:
    """A row of buttons that count from 1 on screen and in the address; the index of the chosen one."""
    return buttons(label, list(range(1, count + 1)), key, at=default - 1)


def panel_heads(panels: Sequence[Panel], layer: int, head: int, pairing: str) -> list[PanelHead]:
    """The head that each panel shows."""
    first = next((panel for panel in panels if panel.trace is not None), panels[0])
    if pairing == MANUAL:
        return manual_heads(panels, first, layer, head)
    matched = pairing == MATCH and not maps.missing_map_reason(first)
    reference = maps.token_maps(first).maps[layer, head] if matched else None
    return [paired_head(panel, first, layer, head, reference) for panel in panels]


def manual_heads(panels: Sequence[Panel], first: Panel, layer: int, head: int) -> list[PanelHead]:
    """Every other panel's head from a list of its own."""
    with st.container(horizontal=True):
        return [
            PanelHead(panel, layer, head)
            if panel is first or panel.trace is None
            else PanelHead(panel, *choose_manually(panel, layer, head))
            for panel in panels
        ]


def choose_manually(panel: Panel, layer: int, head: int) -> tuple[int, int]:
    """Layer and head of one panel, from a list; in the address as "4.1"."""
    options = {
        f"{a + 1}.{b + 1}": f"{layer_name(a)}, {head_name(b).lower()}"
        for a in range(panel.layers)
        for b in range(panel.heads)
    }
    default = f"{min(layer, panel.layers - 1) + 1}.{min(head, panel.heads - 1) + 1}"
    chosen = select(panel.title, options, default=default, key=f"head {panel.variant}", width=200)
    a, b = chosen.split(".")
    return int(a) - 1, int(b) - 1


def paired_head(
    panel: Panel, first: Panel, layer: int, head: int, reference: Float[Tensor, "query key"] | None
) -> PanelHead:
    """The head of one panel: the chosen one, the most similar one, or that of the same index."""
    if panel is first or panel.trace is None:
        return PanelHead(panel, layer, head)
    if reference is None or maps.missing_map_reason(panel):
        return PanelHead(panel, min(layer, panel.layers - 1), min(head, panel.heads - 1))
    return best_match(panel, reference, first.tokens)


def best_match(panel: Panel, reference: Float[Tensor, "query key"], tokens: Tokens) -> PanelHead:
    """The head, of any layer, whose map is most similar to the given one, which may be of another grid."""
    every = maps.token_maps(panel).maps  # [layer head query key]
    ((best, similarity),) = match_heads(reference[None], every.flatten(0, 1), tokens, panel.tokens)
    return PanelHead(panel, *divmod(best, every.shape[1]), similarity)
