"""What the Positions page of a picture shows: the model's own table as small maps, and its maps without positions."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import streamlit as st
from jaxtyping import Float

from attnviz import plots, views
from attnviz.measures import embeddings as measures
from attnviz.types import AttentionCall, Tokens
from attnviz.ui.core.labels import head_name, token_name, token_names
from attnviz.ui.core.recorded import grid_of, known
from attnviz.ui.inputs.image_run import ImageRun
from attnviz.ui.positions.ablation import NAMES
from attnviz.ui.positions.origin import origin, table_file, table_of
from attnviz.ui.shell.prose import section
from attnviz.ui.widgets.display import masked_of, unit_of
from attnviz.ui.widgets.output import dark, downloads, plot

SIMILARITIES = {"centred-cosine": "Centred cosine", "cosine": "Cosine", "dot-product": "Dot product"}
COMPUTED = {"centred-cosine": measures.centred_cosine, "cosine": measures.cosine, "dot-product": measures.dot_product}


def own_table(run: ImageRun, token: int, how: str, style: views.ViewStyle, on_pick: Callable) -> None:
    """The model's own table: one small map per position, and the table itself; or in words that it has none."""
    whose, table, tokens = origin(run), table_of(run), run.sample.tokens["main"]
    if table is None:
        section("positions", whose)
        return
    alike, (rows, columns) = similarity(table, how), grid_of(tokens)
    left, right = st.columns([3, 2], gap="large")
    with left:
        views.tiles_view(
            "positions:tiles",
            maps=send_alike(tokens, alike, how),
            style=replace(style, hide_special=True),
            rows=[str(r + 1) for r in range(rows)],
            columns=[str(c + 1) for c in range(columns)],
            tile=560 // max(rows, columns) - 3,
            selected=cell_of(tokens, token),
            on_pick=lambda cell: on_pick((patch_at(tokens, *cell),)),
            label=f"{SIMILARITIES[how]} of position embeddings",
        )
        for part in (whose, f"Started as {run.model.spec.positions}", SIMILARITIES[how]):
            section("positions", part, title=False, optional=part.startswith("Started"))
    with right:
        alt = "The position table, one row per token and one column per feature"
        plot(table_figure(tokens, table), "table", alt=alt)
        section("positions", "The table itself", title=False)
    downloads(lambda: {"table": table, how: alike}, lambda: table_file(tokens, table), "positions")


def cell_of(tokens: Tokens, token: int) -> tuple[int, int] | None:
    """Row and column of a patch; None for prefix tokens."""
    return divmod(token - tokens.prefix, grid_of(tokens)[1]) if token >= tokens.prefix else None


def patch_at(tokens: Tokens, row: int, column: int) -> int:
    """The token of a patch."""
    return tokens.prefix + row * grid_of(tokens)[1] + column


def row_ticks(tokens: Tokens, most: int = 8) -> dict[int, str]:
    """Where the rows of the grid start in a list of tokens, at most so many of them."""
    step = -(-grid_of(tokens)[0] // most)
    return {patch_at(tokens, row, 0): f"row {row + 1}" for row in range(0, grid_of(tokens)[0], step)}


def table_figure(tokens: Tokens, table: Float[np.ndarray, "token feature"]) -> Any:
    """The table as a heat map, ticked where the rows of the grid start."""
    names = token_names(tokens)
    return plots.heatmap(
        table, rows=names, row_ticks=row_ticks(tokens), x_title="Feature", signed=True, dark=dark(), height=600
    )


def similarity(table: Float[np.ndarray, "token feature"], how: str) -> Float[np.ndarray, "token token"]:
    """How similar every two rows of a table are, by an identifier of SIMILARITIES."""
    return COMPUTED[how](table)


def send_alike(tokens: Tokens, alike: np.ndarray, how: str) -> list[str]:
    """Send one map per patch to the views, one slot per row of the grid, and return the slots."""
    rows, columns = grid_of(tokens)
    slots = [f"alike {how} {row}" for row in range(rows)]
    for row, slot in enumerate(slots):
        own = [patch_at(tokens, row, column) for column in range(columns)]
        views.send_maps(
            slot,
            alike[own],
            titles=[token_name(tokens, i) for i in own],
            keys=tokens,
            signed=True,
            map_type=SIMILARITIES[how].lower(),
            unit="number",
        )
    return slots


def send_weights(calls: Mapping[str, AttentionCall]) -> dict[str, list[str]]:
    """Give the browser the maps of one layer with each kind of positions; their titles. Raises NoTokenMap.

    Where one has entries below zero, all are drawn on the scale around zero.
    """
    maps = {name: known(call.token_map()) for name, call in calls.items()}
    signed, titles = any(bool((one < 0).any()) for one in maps.values()), dict[str, list[str]]()
    for name, call in calls.items():
        titles[name] = [f"{NAMES[name]} positions, {head_name(head).lower()}" for head in range(call.heads)]
        views.send_maps(
            f"weights {name}",
            maps[name],
            titles=titles[name],
            keys=call.keys,
            signed=signed,
            map_type=call.rule.map_type,
            unit=unit_of(call),
            masked=masked_of(call),
        )
    return titles
