"""The views that Heads of pictures and of texts have in common: all heads at a glance, one whole matrix."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import streamlit as st

from attnviz import views
from attnviz.ui.core.labels import call_labels, call_names, head_name
from attnviz.ui.core.state import go, one_of
from attnviz.ui.heads.naming import Named, badges
from attnviz.ui.heads.overview import Table, order, order_choice
from attnviz.ui.inputs.model_run import ModelRun

TOKEN, MATRIX = "token", "matrix"  # what a small map shows: the row of one token, or all rows
PICTURED = {TOKEN: "One patch", MATRIX: "Matrices"}
WRITTEN = {TOKEN: "One word", MATRIX: "Matrices"}


def all_heads(
    run: ModelRun,
    table: Table,
    names: Named,
    opened: tuple[int, int],
    modes: Mapping[str, str],
    *,
    default: str,
    exact: bool = True,
    source: Callable[[str], dict[str, Any]] | None = None,
    **look: Any,
) -> str | None:
    """Every head of every layer, in the order of a measure; a click opens one. The measure; None is the network's.

    `exact` says whether rows are in the browser, `source` what to draw in a mode, `look` what else the view is given.
    """
    with st.container(horizontal=True, vertical_alignment="bottom"):
        mode = one_of("All heads", modes, default=default, key="grid")
        measure = order_choice(table)
    across = max(call.heads for call in run.trace.calls)

    def open_head(cell: tuple[int, ...]) -> None:
        go(layer=call_labels(run.trace)[cell[0]], head=cell[1] + 1)

    views.tiles_view(
        "all",
        order=order(table, measure, names),
        badges=badges(run, names),
        rows=call_names(run.trace),
        selected=opened,
        buttons=("layer", "head"),
        columns=[head_name(i) for i in range(across)],
        tile=min(96, 580 // across),
        mode="rows" if mode == TOKEN and exact else "matrix",
        on_pick=open_head,
        label="Every head of every layer; click one to open it",
        **look,
        **({} if source is None else source(mode)),
    )
    return measure


def matrix(name: str, **look: Any) -> None:
    """All weights of the opened head; `name` is its own."""
    views.matrix_view("matrix", linked_to="all", label=f"All weights of {name.lower()}", **look)
