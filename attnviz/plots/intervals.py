"""Measured values with their intervals against what they cost."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go

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
) -> go.Figure:
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
    figure = go.Figure()
    for at, name in enumerate(labels):
        chosen = paint[at]
        colour = frame.colour("muted" if chosen is None else chosen, dark)
        bar = {"array": [most[at] - up[at]], "arrayminus": [up[at] - least[at]], "thickness": 1.5, "width": 4}
        figure.add_scatter(
            x=[across[at]],
            y=[up[at]],
            mode="markers" if chosen is None or open_[at] else "markers+text",
            text=[name],
            textposition="middle right",
            textfont={"color": frame.colour("text", dark)},
            marker={"size": 10, "color": colour, "symbol": "circle-open" if open_[at] else "circle"},
            error_y={"type": "data", "symmetric": False, "color": colour, **bar},
            opacity=0.55 if chosen is None else 1,
            name=name,
            hovertemplate=f"{name}: %{{y:.1f}}{unit}, {least[at]:.1f} to {most[at]:.1f}; %{{x:,.4s}}<extra></extra>",
        )
    frame.finish(figure, dark=dark, height=height, x_title=x_title, y_title=y_title)
    span = float(np.ptp(across)) or 1.0
    if log_x:
        figure.update_xaxes(type="log")
    else:
        figure.update_xaxes(range=[float(across.min()) - 0.12 * span, float(across.max()) + 0.25 * span])
    figure.update_xaxes(exponentformat="SI", nticks=7)
    figure.update_yaxes(ticksuffix=unit, nticks=7)
    return figure
