"""A whole map that is too large to be sent: means of blocks, and beside them the exact cells of one block."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import streamlit as st
from jaxtyping import Float

from attnviz import views
from attnviz.measures.blocks import block_means, block_of, edges_of
from attnviz.types import AttentionCall, Tokens
from attnviz.ui.core.cache import core
from attnviz.ui.core.labels import token_name
from attnviz.ui.core.state import select
from attnviz.ui.inputs.model_run import ModelRun
from attnviz.ui.widgets.display import unit_of

STRONGEST = "strongest"
WHY_BLOCK = (
    "Which block of keys is shown cell by cell. The strongest is the one that the query's block attends to most."
)


@st.cache_data(max_entries=64, show_spinner="Computing the means of blocks")
def means_of(
    model_digest: str, sample_digest: str, layer: int, head: int, _call: AttentionCall
) -> Float[np.ndarray, "block block"]:
    """One head's map as means of blocks."""
    with core():
        return block_means(_call, edges_of(_call.queries), edges_of(_call.keys), [head])[0]


def block_tokens(tokens: Tokens, edges: Sequence[int]) -> Tokens:
    """The blocks of some tokens as tokens of their own, named by what they hold."""
    names = [token_name(tokens, start) for start in edges[:-1]]
    if tokens.grid:
        names = [f"row {i + 1}" for i in range(tokens.grid[0])]
        names = ["prefix", *names] if tokens.prefix else names
    return Tokens(tuple(names), stream=f"{tokens.stream}: blocks")


def cell_tokens(tokens: Tokens, start: int, stop: int, role: str) -> Tokens:
    """The tokens of one block."""
    return Tokens(
        tuple(token_name(tokens, i) for i in range(start, stop)), stream=f"{tokens.stream}: {role} of a block"
    )


def block_matrix(
    run: ModelRun, layer: int, head: int, query: int, style: views.ViewStyle, on_pick: Callable[[tuple[int, ...]], None]
) -> None:
    """Means of the blocks of one head, and the exact cells of the block of one query and of chosen keys.

    A click on a row of blocks picks a query of that block.
    """
    call, style = run.trace.calls[layer], replace(style, hide_special=False)
    rows, columns = edges_of(call.queries), edges_of(call.keys)
    means = means_of(run.model.digest, run.sample.digest, layer, head, call)
    queries, keys = block_tokens(call.queries, rows), block_tokens(call.keys, columns)
    own = block_of(rows, query)

    def picked(chosen: tuple[int, ...]) -> None:
        """The query at the same place of the clicked block, or its last one."""
        if chosen:
            start, stop = rows[chosen[0]], rows[chosen[0] + 1]
            on_pick((min(start + query - rows[own], stop - 1),))

    send("blocks", means, call, queries, keys, ("block of queries", "block of keys"))
    views.matrix_view(
        "matrix", maps="blocks", tokens=(own,), style=style, height=460, on_pick=picked, label="Means of blocks"
    )
    size = f"{rows[-1] - rows[-2]} x {columns[-1] - columns[-2]}"
    what = "the queries of one row of the picture and the keys of another" if call.keys.grid else "neighbouring tokens"
    st.caption(f"Each cell is the mean of up to {size} weights: {what}. Click one to move there.")
    cells(call, head, (rows[own], rows[own + 1]), columns, keys, means[own], query, style)


def cells(
    call: AttentionCall,
    head: int,
    rows: tuple[int, int],
    columns: Sequence[int],
    keys: Tokens,
    means: Float[np.ndarray, " block"],
    query: int,
    style: views.ViewStyle,
) -> None:
    """The exact weights between the queries of one block and the keys of a chosen one."""
    first = 1 if call.keys.prefix and len(means) > 1 else 0
    best = first + int(means[first:].argmax())
    names = {STRONGEST: f"The strongest: {keys.labels[best]}"} | {
        str(i + 1): name for i, name in enumerate(keys.labels)
    }
    chosen = select("Keys, cell by cell", names, key="keys", width=240, help=WHY_BLOCK)
    block = best if chosen == STRONGEST else int(chosen) - 1
    start, stop = columns[block], columns[block + 1]
    exact = call.token_map([head], range(*rows))[0, :, start:stop].float().numpy()
    queries = cell_tokens(call.queries, *rows, "queries")
    send("cells", exact, call, queries, cell_tokens(call.keys, start, stop, "keys"), ("query", "key"))
    views.matrix_view("cells", maps="cells", tokens=(query - rows[0],), style=style, height=420, label="Exact weights")


def send(name: str, values: np.ndarray, call: AttentionCall, queries: Tokens, keys: Tokens, axes: tuple[str, str]):
    """Give the browser a part of a map, or the means of its blocks."""
    views.send_maps(
        name,
        values[None],
        titles=["Means of blocks" if name == "blocks" else "Exact weights"],
        keys=keys,
        queries=queries,
        signed=bool((values < 0).any()),
        map_type=call.rule.map_type,
        unit=unit_of(call),
        axes=axes,
    )
