"""Bars and lines: one number per label, or several series of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from attnviz.plots import frame


def bars(
    series: Any,
    *,
    labels: Sequence[Any] | None = None,
    colours: str | int | Sequence[str | int] | Mapping[str, str | int] = "key",
    x_title: str = "",
    y_title: str = "",
    title: str = "",
    form: str = ".3g",
    horizontal: bool = False,
    chosen: int | None = None,
    limits: tuple[float, float] | None = None,
    shown: bool = False,
    most_ticks: int = frame.TICKS,
    dark: bool = False,
    height: int = 240,
) -> frame.Figure:
    """One value per label as bars; a mapping name -> values makes grouped bars with a legend.

    `colours`: a role of the theme ("query", "key", "value", "position"), a head's index or a CSS colour; a sequence of
    them colours single bars, a mapping colours series by name. `chosen` outlines one bar; `shown` writes the numbers on
    the bars; `horizontal` puts labels on the left, the first on top.
    """
    named = series if isinstance(series, Mapping) else {"": series}
    arrays = same_length(named)
    count = len(next(iter(arrays.values())))
    names = frame.fits("series", labels, count, "bars")
    across, along = ("y", "x") if horizontal else ("x", "y")
    traces = []
    for position, (name, values) in enumerate(arrays.items()):
        paint = pick_colour(colours, name, position, dark, count if len(arrays) == 1 else None)
        lines = [2.0 if i == chosen else 0.0 for i in range(count)]
        traces.append(
            frame.trace(
                "bar",
                **{across: np.arange(count, dtype=np.int32), along: values},
                name=name,
                orientation="h" if horizontal else "v",
                marker={"color": paint, "line": {"width": lines, "color": frame.colour("text", dark)}},
                customdata=names,
                hovertemplate=f"%{{customdata}}: %{{{along}:{form}}}<extra>{name}</extra>",
                texttemplate=f"%{{{along}:{form}}}" if shown else None,
                textposition="outside" if shown else None,
                cliponaxis=False,
            )
        )
    titles = {"title": title, "x_title": x_title, "y_title": y_title, "legend": len(arrays) > 1}
    figure = frame.figure(traces, dark=dark, height=height, **titles)
    by_label = {**frame.ticks(names, most_ticks), "showgrid": False, "zeroline": False}
    by_value = {"tickformat": ".0%" if form.endswith("%") else None, "nticks": 5, "range": limits}
    if horizontal:
        by_label |= {"autorange": "reversed", "automargin": True}
        frame.change(figure, margin={"l": 12})
    return frame.change(figure, barmode="group", bargap=0.2, **{f"{across}axis": by_label, f"{along}axis": by_value})


def lines(
    series: Mapping[str, Any],
    *,
    x: Any = None,
    colours: Mapping[str, str | int] | None = None,
    references: Mapping[str, float] | None = None,
    marks: Mapping[str, float] | None = None,
    x_title: str = "",
    y_title: str = "",
    title: str = "",
    form: str = ".3g",
    log_x: bool = False,
    log_y: bool = False,
    points: bool = False,
    limits: tuple[float, float] | None = None,
    dark: bool = False,
    height: int = 280,
) -> frame.Figure:
    """Curves over one shared x. `references` are labelled horizontal lines, `marks` labelled vertical ones."""
    arrays = same_length(series)
    count = len(next(iter(arrays.values())))
    places = frame.array(np.arange(count) if x is None else x, "x", 1)
    if len(places) != count:
        raise ValueError(f"x has {len(places)} places but the curves have {count} values")
    traces = [
        frame.trace(
            "scatter",
            x=places,
            y=values,
            name=name,
            mode="lines+markers" if points else "lines",
            line={"color": pick_colour(colours or {}, name, position, dark), "width": 2},
            marker={"size": 6},
            hovertemplate=f"{x_title.lower()} %{{x:.4g}}: %{{y:{form}}}<extra>{name}</extra>",
        )
        for position, (name, values) in enumerate(arrays.items())
    ]
    titles = {"title": title, "x_title": x_title, "y_title": y_title, "legend": len(arrays) > 1}
    figure = frame.figure(traces, dark=dark, height=height, **titles)
    muted = frame.colour("muted", dark)
    line = {"color": muted, "width": 1, "dash": "dot"}
    for axis, named, log in (("y", references, log_y), ("x", marks, log_x)):
        for name, at in (named or {}).items():
            frame.rule(figure, axis, at, name, line=line, log=log, ink=muted)
    tickformat = ".0%" if form.endswith("%") else None
    return frame.change(  # a tick per power of ten
        figure,
        xaxis={"type": "log" if log_x else "linear", "dtick": 1 if log_x else None, "nticks": 8},
        yaxis={
            "type": "log" if log_y else "linear",
            "dtick": 1 if log_y else None,
            "tickformat": tickformat,
            "range": limits,
        },
    )


def same_length(series: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Every series as a one-axis float32 array. Raises ValueError where lengths differ or there is none."""
    arrays = {str(name): frame.array(values, f"series {name!r}", 1) for name, values in series.items()}
    lengths = {name: len(values) for name, values in arrays.items()}
    if len(set(lengths.values())) != 1:
        raise ValueError(f"series must have one length, got {lengths or 'no series'}")
    return arrays


def pick_colour(colours: Any, name: str, position: int, dark: bool, single: int | None = None) -> Any:
    """The colour of one series; a list of colours, bar by bar, where `single` bars form the only series."""
    if isinstance(colours, Mapping):
        return frame.colour(colours.get(name, position), dark)
    if isinstance(colours, str | int):
        return frame.colour(colours, dark)
    if single is None:
        return frame.colour(colours[position], dark)
    if len(colours) != single:
        raise ValueError(f"there are {single} bars but {len(colours)} colours")
    return [frame.colour(one, dark) for one in colours]
