"""Heads against depth: one dot per head over its layer, as in Dosovitskiy et al. 2021, figure 11."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from attnviz.plots import frame


def depth(
    values: Any,
    *,
    names: Sequence[Any] | None = None,
    references: Mapping[str, float] | None = None,
    chosen: tuple[int, int] | None = None,
    y_title: str = "",
    title: str = "",
    form: str = ".3g",
    limits: tuple[float, float] | None = None,
    dark: bool = False,
    height: int = 300,
) -> frame.Figure:
    """Values [layer head] as dots over layers, a line through their means, and labelled reference lines.

    `names` are what the layers are called where one attends several times: "4 rows", "4 columns".
    Dots of one layer are spread a little sideways so that equal heads stay apart; the number of a head is written in
    the hover text, since head 1 of one layer has nothing to do with head 1 of the next. `chosen` is ringed.
    """
    table = frame.array(values, "values", 2)
    layers, heads = table.shape
    labels = frame.fits("values", names, layers, "layers")
    spread = np.linspace(-0.22, 0.22, heads) if heads > 1 else np.zeros(1)
    places = np.arange(1, layers + 1, dtype=np.float32)[:, None] + spread.astype(np.float32)
    dots = frame.trace(
        "scatter",
        x=places.ravel(),
        y=table.ravel(),
        mode="markers",
        marker={"size": 10, "color": [frame.colour(h, dark) for _ in range(layers) for h in range(heads)]},
        customdata=[f"layer {label}, head {head + 1}" for label in labels for head in range(heads)],
        hovertemplate=f"%{{customdata}}: %{{y:{form}}}<extra></extra>",
    )
    traces = [mean_line(table, labels, form, dark), dots]
    if chosen is not None:
        traces.append(ring(float(places[chosen]), float(table[chosen]), dark))
    figure = frame.figure(traces, dark=dark, height=height, title=title, x_title="Layer", y_title=y_title)
    for name, at in (references or {}).items():
        frame.rule(figure, "y", at, name, line={"color": frame.colour("muted", dark), "width": 1, "dash": "dot"})
    highest = max([*(references or {}).values(), float(np.nanmax(np.append(table, 1e-6)))])
    tickformat = form if form.endswith("%") else None
    return frame.change(
        figure,
        xaxis={**layer_ticks(range(1, layers + 1), labels), "range": [0.5, layers + 0.5], "showgrid": False},
        yaxis={"range": limits or (0, 1.14 * highest), "nticks": 6, "tickformat": tickformat},
    )


def mean_line(table: np.ndarray, labels: Sequence[str], form: str, dark: bool) -> dict[str, Any]:
    """The mean of the heads that a layer has, over layers."""
    means = np.array([row[np.isfinite(row)].mean() if np.isfinite(row).any() else np.nan for row in table])
    return frame.trace(
        "scatter",
        x=np.arange(1, len(table) + 1, dtype=np.int32),
        y=means,
        name="mean of the heads",
        mode="lines",
        line={"color": frame.colour("muted", dark), "width": 1.5},
        customdata=labels,
        hovertemplate=f"layer %{{customdata}}, mean of the heads: %{{y:{form}}}<extra></extra>",
    )


def ring(x: float, y: float, dark: bool) -> dict[str, Any]:
    """A ring around one dot."""
    ink = frame.colour("text", dark)
    marker = {"size": 17, "symbol": "circle-open", "color": ink, "line": {"width": 2.5, "color": ink}}
    return frame.trace("scatter", x=[x], y=[y], mode="markers", marker=marker, hoverinfo="skip")


def layer_ticks(layers: Sequence[int], labels: Sequence[str]) -> dict[str, Any]:
    """A numeric axis with one tick per layer, thinned where there are many."""
    step = max(1, -(-len(layers) // 24))
    shown = {"tickvals": list(layers)[::step], "ticktext": list(labels)[::step]}
    return {"tickmode": "array", **shown, "automargin": True, "title": {"standoff": 6}}  # long names stand upright
