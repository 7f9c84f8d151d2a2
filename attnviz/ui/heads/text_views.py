"""The opened head of a text, as lines, as a whole matrix or as arcs."""

from __future__ import annotations

from typing import Any

import streamlit as st

from attnviz import views
from attnviz.ui.core.labels import head_name
from attnviz.ui.core.state import one_of
from attnviz.ui.heads import drawing, text
from attnviz.ui.heads.overview import place
from attnviz.ui.inputs.text_run import TextRun
from attnviz.ui.shell.prose import section
from attnviz.ui.widgets.text_display import Look

LINES, MATRIX, ARCS = "lines", "matrix", "arcs"
VIEWS = {LINES: "Lines", MATRIX: "Matrix", ARCS: "Arcs"}


def opened_head(
    about: TextRun, look: Look, opened: tuple[int, int], slot: str, chosen: tuple[int, ...], *, several: bool
) -> None:
    """The opened head in the view the visitor chooses; lines and arcs only where rows sum to 1."""
    layer, head = opened
    ways = VIEWS if text.shares(about) else {MATRIX: VIEWS[MATRIX]}
    show = one_of("Show", ways, default=next(iter(ways)), key="view")
    name = place(about, layer, head)
    common = {"maps": slot, "index": head, "on_pick": look.pick}
    if show == LINES:
        limits = lines_choice(about.trace.calls[layer].heads, head)
        label = f"Lines of {name.lower()}"
        views.lines_view("lines", tokens=chosen, several=several, linked_to="all", label=label, **limits, **common)
    elif show == MATRIX:
        drawing.matrix(name, tokens=chosen, several=several, height=620, style=look.style, **common)
    else:
        arcs(about, look, name, chosen, **common)


def arcs(about: TextRun, look: Look, name: str, chosen: tuple[int, ...], **common: Any) -> None:
    """The opened head as arcs over the words, and below them the dependencies of a treebank, where there are some."""
    gold = text.gold(about, look)
    alone = chosen if st.session_state.get("token") else ()  # the whole tree until a word is picked
    label = f"Arcs of {name.lower()}"
    views.arcs_view("arcs", tokens=alone, gold_dependencies=gold, linked_to="all", label=label, **common)
    section("text/heads", "Arcs" if gold else "Arcs without a treebank", title=False)
    if gold and about.model.spec.supervised_heads:
        section("text/heads", "Arcs, where one head was trained", title=False)


def lines_choice(heads: int, opened: int) -> dict[str, Any]:
    """Heads with lines beside the opened one, and which lines: least weight, most keys of a query, share of a row."""
    names = [head_name(i) for i in range(heads)]
    others = [name for name in names if name != head_name(opened)]
    if head_name(opened) in (kept := st.session_state.get("beside") or ()):
        st.session_state["beside"] = [name for name in kept if name in others]
    with st.container(horizontal=True, vertical_alignment="bottom", gap="medium"):
        chosen = st.pills("Overlay heads", others, selection_mode="multi", key="beside", bind="query-params")
        with st.popover("Fewer lines", icon=":material/filter_alt:"):
            least = st.slider("Minimum weight", 0, 50, 2, format="%d %%", key="least", bind="query-params")
            most = st.slider("Top-k keys per query (0: all)", 0, 10, 0, key="most", bind="query-params")
            mass = st.slider(
                "Cumulative mass (top-p)", 10, 100, 100, 5, format="%d %%", key="mass", bind="query-params"
            )
    beside = [names.index(name) for name in chosen or []]
    return {"heads": beside, "min_weight": least / 100, "top_k": most, "top_p": mass / 100}
