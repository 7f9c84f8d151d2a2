"""Measured values with their intervals against what they cost."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from attnviz.plots import frame


def intervals(
    x: Any,
    y: Any,
    low: Any,
    high: Any,
    *,
    names: Sequence[str],
    colours: Sequence[str | int | None] | None = None,
    hollow: Sequence[bool] | None = None,
    x_title: str = "",
    y_title: str = "",
    unit: str = "",
    log_x: bool = False,
    dark: bool = False,
    height: int = 360,
) -> frame.Figure:
    """One dot per name at (x, y) with a bar from low to high.

    Those with a colour (a role, a head's index, any CSS colour) say their name; None is grey. `hollow` dots are rings:
    the same names measured in another way.
    """
    across, up, least, most = (frame.array(v, n, 1) for v, n in ((x, "x"), (y, "y"), (low, "low"), (high, "high")))
    labels = frame.fits("x", names, len(across), "points")
    if not len(across) == len(up) == len(least) == len(most):
        raise ValueError(f"x, y, low and high have {len(across)}, {len(up)}, {len(least)} and {len(most)} values")
    paint = list(range(len(labels))) if colours is None else list(colours)
    open_ = [False] * len(labels) if hollow is None else list(hollow)
    numbers = zip(*(values.tolist() for values in (across, up, least, most)), strict=True)
    traces = [dot(*each, unit, dark) for each in zip(numbers, labels, paint, open_, strict=True)]
    figure = frame.figure(traces, dark=dark, height=height, x_title=x_title, y_title=y_title)
    span = float(np.ptp(across)) or 1.0
    ends = {"range": [float(across.min()) - 0.12 * span, float(across.max()) + 0.25 * span]}
    return frame.change(
        figure,
        xaxis={**({"type": "log"} if log_x else ends), "exponentformat": "SI", "nticks": 7},
        yaxis={"ticksuffix": unit, "nticks": 7},
    )


def dot(
    numbers: tuple[float, float, float, float], name: str, colour: str | int | None, ring: bool, unit: str, dark: bool
) -> dict[str, Any]:
    """One dot with its bar, of x, y, low and high."""
    x, y, low, high = numbers
    paint = frame.colour("muted" if colour is None else colour, dark)
    bar = {"array": [high - y], "arrayminus": [y - low], "thickness": 1.5, "width": 4}
    return frame.trace(
        "scatter",
        x=[x],
        y=[y],
        mode="markers" if colour is None or ring else "markers+text",
        text=[name],
        textposition="middle right",
        textfont={"color": frame.colour("text", dark)},
        marker={"size": 10, "color": paint, "symbol": "circle-open" if ring else "circle"},
        error_y={"type": "data", "symmetric": False, "color": paint, **bar},
        opacity=0.55 if colour is None else 1,
        name=name,
        hovertemplate=f"{name}: %{{y:.1f}}{unit}, {low:.1f} to {high:.1f}; %{{x:,.4s}}<extra></extra>",
    )
