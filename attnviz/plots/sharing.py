"""Which query heads read which keys and values: two rows of heads and a line from each to what it reads."""

from __future__ import annotations

from collections.abc import Sequence

import plotly.graph_objects as go

from attnviz.plots import frame


def sharing(reads: Sequence[int], *, dark: bool = False, height: int = 190) -> go.Figure:
    """Query head i reads key-value head reads[i]; heads that share have one colour."""
    shared = 1 + max(reads)
    count = len(reads)
    middle = [sum(i for i, r in enumerate(reads) if r == k) / list(reads).count(k) for k in range(shared)]
    figure = go.Figure()
    for head, kv in enumerate(reads):
        line = {"color": frame.colour(kv, dark), "width": 2}
        figure.add_scatter(x=[head, middle[kv]], y=[1, 0], mode="lines", line=line, hoverinfo="skip")
    rows = (
        (list(range(count)), 1, [f"{i + 1}" for i in range(count)], [frame.colour(r, dark) for r in reads], "circle"),
        (middle, 0, [f"{k + 1}" for k in range(shared)], [frame.colour(k, dark) for k in range(shared)], "square"),
    )
    for places, y, texts, colours, symbol in rows:
        figure.add_scatter(
            x=places,
            y=[y] * len(places),
            mode="markers+text",
            text=texts,
            textfont={"color": "#ffffff"},
            marker={"size": 28, "symbol": symbol, "color": colours},
            customdata=[f"query head {i + 1} reads keys and values {reads[i] + 1}" for i in range(count)]
            if y
            else [f"keys and values {k + 1}, read by {list(reads).count(k)}" for k in range(shared)],
            hovertemplate="%{customdata}<extra></extra>",
        )
    frame.finish(figure, dark=dark, height=height)
    figure.update_xaxes(visible=False, range=[-0.7, count - 0.3])
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
