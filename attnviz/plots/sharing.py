"""Which query heads read which keys and values: two rows of heads and a line from each to what it reads."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from attnviz.plots import frame


def sharing(reads: Sequence[int], *, dark: bool = False, height: int = 190) -> frame.Figure:
    """Query head i reads key-value head reads[i]; heads that share have one colour."""
    pairs = np.asarray(reads)
    readers = [np.flatnonzero(pairs == pair) for pair in range(1 + max(reads))]
    below = [float(heads.mean()) for heads in readers]  # in the middle of those that read it
    traces = [
        frame.trace(
            "scatter",
            x=[head, below[pair]],
            y=[1, 0],
            mode="lines",
            line={"color": frame.colour(pair, dark), "width": 2},
            hoverinfo="skip",
        )
        for head, pair in enumerate(reads)
    ]
    notes = [f"query head {head + 1} reads keys and values {pair + 1}" for head, pair in enumerate(reads)]
    paint = [frame.colour(pair, dark) for pair in reads]
    traces.append(row_of_heads(list(range(len(reads))), 1, paint, "circle", notes))
    notes = [f"keys and values {pair + 1}, read by {len(heads)}" for pair, heads in enumerate(readers)]
    paint = [frame.colour(pair, dark) for pair in range(len(readers))]
    traces.append(row_of_heads(below, 0, paint, "square", notes))
    labels = {"tickmode": "array", "tickvals": [1, 0], "ticktext": ["queries", "keys, values"], "automargin": True}
    return frame.change(
        frame.figure(traces, dark=dark, height=height),
        xaxis={"visible": False, "range": [-0.7, len(reads) - 0.3]},
        yaxis={**labels, "range": [-0.5, 1.5], "showgrid": False, "zeroline": False},
    )


def row_of_heads(
    places: Sequence[float], height: float, colours: Sequence[str], symbol: str, notes: Sequence[str]
) -> dict[str, Any]:
    """Numbered marks side by side; `notes` are shown while the pointer is on them."""
    return frame.trace(
        "scatter",
        x=places,
        y=[height] * len(places),
        mode="markers+text",
        text=[str(i + 1) for i in range(len(places))],
        textfont={"color": "#ffffff"},
        marker={"size": 28, "symbol": symbol, "color": colours},
        customdata=notes,
        hovertemplate="%{customdata}<extra></extra>",
    )
