"""Points on a plane, each with its own colour."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from attnviz.plots import frame

SYMBOLS = ("circle", "diamond", "square", "cross", "triangle-up", "x")  # one per group, readable without colour


def scatter(
    points: Any,
    *,
    colours: Any = None,
    names: Sequence[Any] | None = None,
    groups: Sequence[str] | None = None,
    value: str = "",
    scale: str = "viridis",
    signed: bool = False,
    group_colours: Mapping[str, str | int] | None = None,
    chosen: Sequence[int] = (),
    x_title: str = "",
    y_title: str = "",
    title: str = "",
    size: int = 8,
    square: bool = True,
    written: bool = False,
    dark: bool = False,
    height: int = 420,
) -> frame.Figure:
    """Points [point 2] coloured one by one; hovering says the point's name.

    `colours`: RGB uint8 [point 3], or numbers [point] shown by a colour scale with a legend titled `value`. `groups`
    gives each point a group with its own symbol and legend entry; `group_colours` outlines (or, without `colours`,
    fills) them by role. `chosen` points are ringed. `square` gives both axes one unit; `written` puts the names
    beside the points.
    """
    places = frame.array(points, "points", 2)
    if places.shape[1] != 2:
        raise ValueError(f"points have shape {places.shape}, expected [point 2]")
    labels = frame.fits("points", names, len(places), "points")
    paint, numbers = point_colours(colours, len(places))
    member = np.array(frame.fits("points", groups, len(places), "points") if groups is not None else [""] * len(places))
    low, high = frame.span(numbers, signed, None) if numbers is not None else (0.0, 1.0)
    traces = []
    for position, group in enumerate(dict.fromkeys(member.tolist())):
        own = np.flatnonzero(member == group)
        edge = frame.colour((group_colours or {}).get(group, "muted"), dark)
        marker: dict[str, Any] = {"size": size, "symbol": SYMBOLS[position % len(SYMBOLS)]}
        if numbers is not None:
            scaled = {"cmin": low, "cmax": high, "colorscale": frame.scale(scale, signed, dark)}
            marker |= {"color": numbers[own], **scaled, **bar(value, position == 0)}
        else:
            marker["color"] = edge if paint is None else [paint[i] for i in own]
        marker["line"] = {"width": 1.5 if group_colours else 0.5, "color": edge}
        traces.append(
            frame.trace(
                "scatter",
                x=places[own, 0],
                y=places[own, 1],
                name=group,
                marker=marker,
                **named([labels[i] for i in own], written),
                customdata=[labels[i] for i in own],
                hovertemplate="%{customdata}<extra></extra>",
            )
        )
    titles = {"title": title, "x_title": x_title, "y_title": y_title, "legend": groups is not None}
    found = frame.figure([*traces, *ring(places, chosen, size, dark)], dark=dark, height=height, **titles)
    return frame.change(found, yaxis={"scaleanchor": "x" if square else None})


def bar(value: str, shown: bool) -> dict[str, Any]:
    """The legend of a colour scale."""
    return {"showscale": shown, "colorbar": {"thickness": 10, "title": {"text": value}}}


def named(names: list[Any], written: bool) -> dict[str, Any]:
    """Points alone, or with their names above them."""
    return {"mode": "markers+text", "text": names, "textposition": "top center"} if written else {"mode": "markers"}


def point_colours(colours: Any, count: int) -> tuple[list[str] | None, np.ndarray | None]:
    """Colours as CSS texts (from RGB) or as numbers for a scale; raises ValueError where the count differs."""
    if colours is None:
        return None, None
    found = np.asarray(colours)
    if found.shape == (count, 3):
        return [f"rgb({r},{g},{b})" for r, g, b in found.astype(int).tolist()], None
    if found.shape == (count,):
        return None, frame.array(found)
    raise ValueError(f"there are {count} points but colours have shape {found.shape}; expected [point] or [point 3]")


def ring(places: np.ndarray, chosen: Sequence[int], size: int, dark: bool) -> list[dict[str, Any]]:
    """A ring around the chosen points, drawn last so that it lies on top; nothing where none is chosen."""
    if not chosen:
        return []
    if max(chosen) >= len(places) or min(chosen) < 0:
        raise ValueError(f"chosen points {list(chosen)} but there are {len(places)}")
    ringed = places[list(chosen)]
    line = {"width": 2.5, "color": frame.colour("text", dark)}
    marker = {"size": size + 7, "symbol": "circle-open", "line": line, "color": line["color"]}
    shown: dict[str, Any] = {"mode": "markers", "marker": marker, "hoverinfo": "skip", "showlegend": False}
    return [frame.trace("scatter", x=ringed[:, 0], y=ringed[:, 1], **shown)]
