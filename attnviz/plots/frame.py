"""What all figures share: checked shapes, the app's colours, quiet axes."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from attnviz.plots import theme

# A figure as plotly.js reads it: {"data": [trace, ...], "layout": {...}}, with arrays as numpy arrays. No object of
# plotly is made, because those check every property, which was two thirds of what a rerun of a page cost
# (`python -m benchmarks.reruns`); tests/plots/test_valid.py checks instead.
Figure = dict[str, Any]
TICKS = 8  # labels on an axis before they are thinned


def array(values: Any, name: str = "values", ndim: int | None = None) -> np.ndarray:
    """Values as a float32 array; float16 and float64 would cost plotly twice the bytes or more."""
    found = np.asarray(values, dtype=np.float32)
    if ndim is not None and found.ndim != ndim:
        raise ValueError(f"{name} has shape {found.shape}, expected {ndim} axes")
    return found


def fits(name: str, labels: Sequence[Any] | None, count: int, what: str) -> list[str]:
    """Labels as texts, one per item; counted where none are given. Raises ValueError where the counts differ."""
    if labels is None:
        return [str(i + 1) for i in range(count)]
    if len(labels) != count:
        raise ValueError(f"{name} has {count} {what} but there are {len(labels)} labels")
    return [str(label) for label in labels]


def colour(name: str | int, dark: bool) -> str:
    """A colour by role ("query"), by head index, or any CSS colour as it is."""
    if isinstance(name, int):
        return theme.head_colour(name)
    return theme.COLOURS[name][int(dark)] if name in theme.COLOURS else name


def ticks(labels: Sequence[str], most: int = TICKS, places: Sequence[Any] | None = None) -> dict[str, Any]:
    """An axis that shows at most `most` of the labels, evenly spaced from the first; none at 0.

    `places` are where the labels lie: 0, 1, 2 ... on a numeric axis, the distinct labels on one of categories.
    """
    if most < 1:
        return {"showticklabels": False, "ticks": ""}
    step = max(1, -(-len(labels) // most))
    places = range(len(labels)) if places is None else places
    return {"tickmode": "array", "tickvals": list(places[::step]), "ticktext": list(labels[::step]), "tickangle": 0}


def distinct(labels: Sequence[str]) -> list[str]:
    """Labels told apart by invisible characters, because plotly merges equal categories ("the ... the")."""
    seen: Counter[str] = Counter()
    found = []
    for label in labels:
        found.append(label + "\u200b" * seen[label])
        seen[label] += 1
    return found


def scale(name: str, signed: bool, dark: bool) -> list[tuple[float, str]]:
    """A plotly colour scale from the tables in theme.py: sequential by name, or the diverging one for signed values."""
    return theme.stops(theme.DIVERGING[dark] if signed else name)


def span(values: np.ndarray, signed: bool, limits: tuple[float, float] | None) -> tuple[float, float]:
    """The range of the colours: as given, else of the finite values; centred at zero where signed."""
    if limits is not None:
        return float(limits[0]), float(limits[1])
    finite = values[np.isfinite(values)]
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 1.0)
    if signed:
        most = max(abs(low), abs(high)) or 1.0
        return -most, most
    return low, high if high > low else low + 1.0


def trace(kind: str, **options: Any) -> dict[str, Any]:
    """One trace of a figure; options that are None are left out."""
    return {"type": kind} | {name: value for name, value in options.items() if value is not None}


def figure(
    traces: Sequence[dict[str, Any]],
    *,
    dark: bool,
    height: int,
    title: str = "",
    x_title: str = "",
    y_title: str = "",
    legend: bool = False,
) -> Figure:
    """Traces as a figure in the app's style: no chrome, quiet grid, room for its titles and no more."""
    found: Figure = {"data": list(traces), "layout": theme.template(dark)}
    return change(
        found,
        height=height,
        title={"text": title, "font": {"size": 14}, "x": 0, "xanchor": "left"} if title else None,
        margin={"l": 56 if y_title else 44, "r": 12, "t": 36 if title or legend else 12, "b": 44 if x_title else 28},
        showlegend=legend,
        legend={"orientation": "h", "x": 0, "y": 1, "xanchor": "left", "yanchor": "bottom"},
        hoverlabel={"align": "left"},
        xaxis={"title": {"text": x_title}} if x_title else None,
        yaxis={"title": {"text": y_title}} if y_title else None,
    )


def change(figure: Figure, **layout: Any) -> Figure:
    """The same figure with other options in its layout: `change(figure, xaxis={"range": (0, 1)})`.

    Mappings are merged into what is there; None leaves an option as it is.
    """
    merge(figure["layout"], layout)
    return figure


def merge(options: dict[str, Any], others: Mapping[str, Any]) -> None:
    """Write options over others of the same name, in place, mapping by mapping."""
    for name, value in others.items():
        if isinstance(value, Mapping):
            merge(options.setdefault(name, {}), value)
        elif value is not None:
            options[name] = value


def rule(
    figure: Figure, axis: str, at: float, name: str = "", *, line: Mapping[str, Any], log: bool = False, ink: str = ""
) -> Figure:
    """The same figure with a line across it at one value of an axis, "x" or "y", and its name at the end in `ink`."""
    other = "x" if axis == "y" else "y"
    across: dict[str, Any] = {f"{other}ref": f"{other} domain", f"{axis}ref": axis}
    ends = across | {f"{axis}0": at, f"{axis}1": at, f"{other}0": 0, f"{other}1": 1}
    figure["layout"].setdefault("shapes", []).append({"type": "line", "line": dict(line), **ends})
    if name:
        # Shapes lie at values, but notes on a logarithmic axis at exponents.
        note = across | {axis: math.log10(at) if log else at, other: 0 if axis == "y" else 1, "xanchor": "left"}
        note |= {"text": name, "showarrow": False, "yanchor": "bottom" if axis == "y" else "top"}
        figure["layout"].setdefault("annotations", []).append(note | ({"font": {"color": ink}} if ink else {}))
    return figure
