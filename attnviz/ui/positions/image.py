"""What the Positions page of a picture shows: the model's own table as small maps, and its maps without positions."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cache, partial
from typing import Any

import numpy as np
import streamlit as st
from jaxtyping import Float

from attnviz import plots, views
from attnviz.measures import embeddings as measures
from attnviz.measures.blocks import edges_of
from attnviz.types import AttentionCall, Tokens
from attnviz.ui.core.budget import MAP_CELLS, fits
from attnviz.ui.core.cache import keep_record
from attnviz.ui.core.labels import head_name, token_name, token_names
from attnviz.ui.core.recorded import grid_of, known
from attnviz.ui.inputs.image_run import ImageRun, chosen_size
from attnviz.ui.positions.ablation import NAMES
from attnviz.ui.positions.origin import origin, table_file, table_of
from attnviz.ui.shell.prose import section
from attnviz.ui.widgets.display import masked_of, unit_of
from attnviz.ui.widgets.output import dark, downloads, plot

SIMILARITIES = {"centred-cosine": "Centred cosine", "cosine": "Cosine", "dot-product": "Dot product"}
MOST_TILES = 24  # rows or columns of a grid of small maps
MOST_ROWS = 1_200  # of the heat map of a table
ONE_POSITION = "The chosen position with every other: there are too many for a small map of each. Click another patch."
MEANS = "Each line is the mean over one row of the picture."
ONE = {
    "centred-cosine": lambda table, token: measures.cosine_with(table - table.mean(0), token),
    "cosine": measures.cosine_with,
    "dot-product": lambda table, token: table @ table[token],
}
COMPUTED = {"centred-cosine": measures.centred_cosine, "cosine": measures.cosine, "dot-product": measures.dot_product}


def own_table(run: ImageRun, token: int, how: str, style: views.ViewStyle, on_pick: Callable) -> None:
    """The model's own table: one small map per position, and the table itself; or in words that it has none."""
    whose, table, tokens = origin(run), table_of(run), run.sample.tokens["main"]
    if table is None:
        section("positions", whose)
        return
    left, right = st.columns([3, 2], gap="large")
    with left:
        if few := max(grid_of(tokens)) <= MOST_TILES:
            tiles(run, table, token, how, style, on_pick)
        else:
            one_position(tokens, table, token, how, style, on_pick)
        if (size := chosen_size(run.model)) is not None:
            st.caption(interpolated(run, size))
        for part in (*([whose] if few else []), f"Started as {run.model.spec.positions}", SIMILARITIES[how]):
            section("positions", part, title=False, optional=part.startswith("Started"))
    with right:
        alt = "The position table, one row per token and one column per feature"
        plot(table_figure(tokens, table), "table", alt=alt)
        if len(table) > MOST_ROWS:
            st.caption(MEANS)
        section("positions", "The table itself", title=False)
    found = {} if len(table) ** 2 > MAP_CELLS else {how: similarity(table, how)}
    downloads(lambda: {"table": table, **found}, lambda: table_file(tokens, table), "positions")


def interpolated(run: ImageRun, size: int) -> str:
    """How the table came to this grid, in a sentence."""
    (own, _), patch = run.model.spec.input_size or (size, size), run.model.spec.patch_size or 1
    before, after = (f"{side // patch} x {side // patch}" for side in (own, size))
    return f"The table is the model's own, of {before} positions, interpolated to {after} (bicubic)."


def tiles(run: ImageRun, table: np.ndarray, token: int, how: str, style: views.ViewStyle, on_pick: Callable) -> None:
    """One small map per position."""
    tokens = run.sample.tokens["main"]
    rows, columns = grid_of(tokens)
    views.tiles_view(
        "positions:tiles",
        maps=send_alike(run, table, how),
        style=replace(style, hide_special=True),
        rows=[str(r + 1) for r in range(rows)],
        columns=[str(c + 1) for c in range(columns)],
        tile=560 // max(rows, columns) - 3,
        selected=cell_of(tokens, token),
        on_pick=lambda cell: on_pick((patch_at(tokens, *cell),)),
        label=f"{SIMILARITIES[how]} of position embeddings",
    )


def one_position(
    tokens: Tokens, table: np.ndarray, token: int, how: str, style: views.ViewStyle, on_pick: Callable
) -> None:
    """The map of the chosen position alone, where there are too many for a small map each."""
    views.send_maps(
        "alike",
        ONE[how](table, token)[None],
        titles=[token_name(tokens, token)],
        keys=tokens,
        signed=True,
        map_type=SIMILARITIES[how].lower(),
        unit="number",
    )
    views.picture_view(
        "positions:alike",
        picture="picture",
        maps="alike",
        tokens=(token,),
        style=replace(style, hide_special=True, scale="linear"),
        height=480,
        on_pick=on_pick,
        label=f"{SIMILARITIES[how]} of the chosen position embedding with every other",
    )
    st.caption(ONE_POSITION)


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
    names, ticks = token_names(tokens), row_ticks(tokens)
    if len(table) > MOST_ROWS:  # the mean over each row of the picture
        edges = edges_of(tokens)
        table = np.add.reduceat(table, edges[:-1], axis=0) / np.diff(edges)[:, None]
        names, ticks = [*names[: tokens.prefix][:1], *(f"row {r + 1}" for r in range(grid_of(tokens)[0]))], {}
    return plots.heatmap(table, rows=names, row_ticks=ticks, x_title="Feature", signed=True, dark=dark(), height=600)


def similarity(table: Float[np.ndarray, "token feature"], how: str) -> Float[np.ndarray, "token token"]:
    """How similar every two rows of a table are, by an identifier of SIMILARITIES."""
    return COMPUTED[how](table)


def send_alike(run: ImageRun, table: np.ndarray, how: str) -> list[str]:
    """Send one map per patch to the views, one slot per row of the grid, and return the slots."""
    tokens = run.sample.tokens["main"]
    rows, columns = grid_of(tokens)
    alike = cache(partial(similarity, table, how))  # computed only where a record has to be packed
    slots = [f"alike {how} {row}" for row in range(rows)]
    for row, slot in enumerate(slots):
        own = [patch_at(tokens, row, column) for column in range(columns)]
        views.send_maps(
            slot,
            lambda own=own: alike()[own],
            titles=[token_name(tokens, i) for i in own],
            keys=tokens,
            signed=True,
            map_type=SIMILARITIES[how].lower(),
            unit="number",
            keep=keep_record(run.model.digest, run.sample.digest, how),
        )
    return slots


def send_weights(run: ImageRun, layer: int, calls: Mapping[str, AttentionCall], token: int) -> dict[str, list[str]]:
    """Give the browser the maps of one layer with each kind of positions; their titles. Raises NoTokenMap.

    Where one has entries below zero, all are drawn on the scale around zero. Of maps too large to be sent whole, the
    rows of one token.
    """
    whole = all(fits(call, call.heads) for call in calls.values())

    def maps(call: AttentionCall) -> np.ndarray:
        return known(call.token_map()) if whole else known(call.token_map(rows=[token]))[:, 0]

    signed = any(not call.rule.stochastic and bool((maps(call) < 0).any()) for call in calls.values())
    titles = dict[str, list[str]]()
    for name, call in calls.items():
        titles[name] = [f"{NAMES[name]} positions, {head_name(head).lower()}" for head in range(call.heads)]
        views.send_maps(
            f"weights {name}",
            partial(maps, call),
            titles=titles[name],
            keys=call.keys,
            signed=signed,
            map_type=call.rule.map_type,
            unit=unit_of(call),
            masked=masked_of(call) if whole else None,
            keep=keep_record(run.model.digest, run.sample.digest, layer, name, "all" if whole else token),
        )
    return titles
