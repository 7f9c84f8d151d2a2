"""Matrices as pictures: rows of the array are rows of the picture, the first one on top."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from attnviz.plots import frame


def heatmap(
    values: Any,
    *,
    rows: Sequence[Any] | None = None,
    columns: Sequence[Any] | None = None,
    x_title: str = "",
    y_title: str = "",
    title: str = "",
    value: str = "",
    form: str = ".3g",
    scale: str = "viridis",
    signed: bool = False,
    limits: tuple[float, float] | None = None,
    legend: bool = True,
    square: bool = False,
    most_ticks: int = frame.TICKS,
    row_ticks: Mapping[int, str] | None = None,
    dark: bool = False,
    height: int = 360,
) -> frame.Figure:
    """A matrix [row column] as colours; hovering names row, column and value.

    `signed` uses the diverging scale centred at zero; `limits` fixes the range, for panels that are compared; `form` is
    the number format of the hover text ("." + digits + "%" for shares); `square` keeps cells square; `row_ticks` labels
    these rows instead of every so many.
    """
    matrix = frame.array(values, "matrix", 2)
    row_labels = frame.fits("matrix", rows, matrix.shape[0], "rows")
    column_labels = frame.fits("matrix", columns, matrix.shape[1], "columns")
    low, high = frame.span(matrix, signed, limits)
    across, down = frame.distinct(column_labels), frame.distinct(row_labels)
    cells = frame.trace(
        "heatmap",
        z=matrix,
        x=across,
        y=down,
        zmin=low,
        zmax=high,
        colorscale=frame.scale(scale, signed, dark),
        showscale=legend,
        colorbar={"thickness": 10, "outlinewidth": 0, "title": {"text": value, "side": "right"}, "nticks": 5},
        hovertemplate=f"{named(y_title)}%{{y}}, {named(x_title)}%{{x}}: %{{z:{form}}}<extra></extra>",
    )
    figure = frame.figure([cells], dark=dark, height=height, title=title, x_title=x_title, y_title=y_title)
    axis = {"type": "category", "showgrid": False, "zeroline": False}
    by_column = {**axis, **frame.ticks(column_labels, most_ticks, across), "constrain": "domain"}
    by_row = {**axis, **frame.ticks(row_labels, most_ticks, down), "autorange": "reversed", "automargin": True}
    if row_ticks is not None:
        by_row |= {"tickvals": [down[i] for i in row_ticks], "ticktext": list(row_ticks.values())}
    if square:
        by_row |= {"scaleanchor": "x", "constrain": "domain"}
    return frame.change(figure, xaxis=by_column, yaxis=by_row)


def named(title: str) -> str:
    """A title in front of a label: "feature 12"."""
    return f"{title.lower()} " if title else ""
