"""How costs grow: curves over sizes on two logarithmic axes, with guides of known slope."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from attnviz.plots import frame

DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot")  # told apart without colour


def growth(
    series: Mapping[str, Any],
    *,
    sizes: Sequence[int],
    guides: Mapping[str, int] | None = None,
    colours: Mapping[str, int] | None = None,
    unit: str = "",
    x_title: str = "tokens n",
    y_title: str = "",
    title: str = "",
    dark: bool = False,
    height: int = 370,
) -> frame.Figure:
    """One curve per name over the sizes; what is not a number, or not above zero, is left out.

    `colours` are numbers of a head's colour and dash, so that a name is drawn alike in several charts. `guides` are
    thin lines of a power of the size, name -> power, put below the lowest curve so that they cross none.
    """
    places = np.asarray(sizes, dtype=np.float64)
    curves = {name: frame.array(values, f"series {name!r}", 1) for name, values in series.items()}
    traces = []
    for order, (name, values) in enumerate(curves.items()):
        position = (colours or {}).get(name, order)
        if len(values) != len(places):
            raise ValueError(f"series {name!r} has {len(values)} values but there are {len(places)} sizes")
        there = np.isfinite(values) & (values > 0)
        traces.append(
            frame.trace(
                "scatter",
                x=places[there],
                y=values[there],
                name=name,
                mode="lines+markers",
                line={"color": frame.colour(position, dark), "width": 2, "dash": DASHES[position % len(DASHES)]},
                marker={"size": 6},
                hovertemplate=f"{x_title} = %{{x:,}}: %{{y:.3s}}{unit}<extra>{name}</extra>",
            )
        )
    figure = frame.figure(traces, dark=dark, height=height, title=title, x_title=x_title, y_title=y_title, legend=True)
    for name, power in (guides or {}).items():
        guide(figure, name, power, places, curves, dark)
    ticks = {"tickvals": list(sizes), "ticktext": [f"{size:,}" for size in sizes]}
    return frame.change(
        figure,
        xaxis={"type": "log", "tickmode": "array", **ticks},
        yaxis={"type": "log", "dtick": 1, "exponentformat": "SI", "ticksuffix": unit},
    )


def guide(
    figure: frame.Figure, name: str, power: int, places: np.ndarray, curves: Mapping[str, np.ndarray], dark: bool
) -> None:
    """A thin labelled line of one power of the size, through the lowest value of the smallest size."""
    starts = [float(values[0]) for values in curves.values() if np.isfinite(values[0]) and values[0] > 0]
    if not starts:
        return
    muted = frame.colour("muted", dark)
    heights = min(starts) / 2 * (places / places[0]) ** power
    line = {"color": muted, "width": 1, "dash": "dot"}
    figure["data"].append(
        frame.trace("scatter", x=places, y=heights, mode="lines", line=line, hoverinfo="skip", showlegend=False)
    )
    note = {"x": math.log10(places[-1]), "y": math.log10(heights[-1]), "xanchor": "right", "yanchor": "bottom"}
    note |= {"text": name, "showarrow": False, "font": {"color": muted}}
    figure["layout"].setdefault("annotations", []).append(note)
