"""Which query heads read which keys and values: two rows of heads and a line from each to what it reads."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go

from attnviz.plots import frame


def sharing(reads: Sequence[int], *, dark: bool = False, height: int = 190) -> go.Figure:
    """Query head i reads key-value head reads[i]; heads that share have one colour."""
    pairs = np.asarray(reads)
    readers = [np.flatnonzero(pairs == pair) for pair in range(1 + max(reads))]
    below = [float(heads.mean()) for heads in readers]  # in the middle of those that read it
    figure = go.Figure()
    for head, pair in enumerate(reads):
        line = {"color": frame.colour(pair, dark), "width": 2}
        figure.add_scatter(x=[head, below[pair]], y=[1, 0], mode="lines", line=line, hoverinfo="skip")
    notes = [f"query head {head + 1} reads keys and values {pair + 1}" for head, pair in enumerate(reads)]
    row_of_heads(figure, list(range(len(reads))), 1, [frame.colour(pair, dark) for pair in reads], "circle", notes)
    notes = [f"keys and values {pair + 1}, read by {len(heads)}" for pair, heads in enumerate(readers)]
    row_of_heads(figure, below, 0, [frame.colour(pair, dark) for pair in range(len(readers))], "square", notes)
    frame.finish(figure, dark=dark, height=height)
    figure.update_xaxes(visible=False, range=[-0.7, len(reads) - 0.3])
    figure.update_yaxes(
        tickmode="array",
        tickvals=[1, 0],
        ticktext=["queries", "keys, values"],
        range=[-0.5, 1.5],
        showgrid=False,
        zeroline=False,
        automargin=True,
    )
    return figure


def row_of_heads(
    figure: go.Figure, places: Sequence[float], height: float, colours: Sequence[str], symbol: str, notes: Sequence[str]
) -> None:
    """Numbered marks side by side; `notes` are shown while the pointer is on them."""
    figure.add_scatter(
        x=places,
        y=[height] * len(places),
        mode="markers+text",
        text=[str(i + 1) for i in range(len(places))],
        textfont={"color": "#ffffff"},
        marker={"size": 28, "symbol": symbol, "color": colours},
        customdata=notes,
        hovertemplate="%{customdata}<extra></extra>",
    )
