"""Vectors one under the other: one small panel of bars each, as in a sum written out line by line."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from attnviz.plots import frame, theme
from attnviz.plots.curves import pick_colour

GAP = 0.26  # between panels, as a share of the height that each would have without gaps


def stacked_bars(
    series: Mapping[str, Any],
    *,
    colours: Mapping[str, Any] | None = None,
    names: Mapping[str, Sequence[str]] | None = None,
    shared: Sequence[str] = (),
    form: str = ".3f",
    x_title: str = "",
    dark: bool = False,
    height: int = 360,
) -> frame.Figure:
    """Each vector in its own panel, titled by its name; lengths may differ.

    `colours`: by name, one colour or one per bar; `names`: what each bar is called, by series; series in `shared` have
    one range, so that their bars can be compared.
    """
    arrays = {name: frame.array(values, f"series {name!r}", 1) for name, values in series.items()}
    if not arrays or not all(map(len, arrays.values())):
        raise ValueError(f"series must hold numbers, got {dict.fromkeys(arrays) or 'no series'}")
    most = max((float(np.abs(arrays[name]).max(initial=0)) for name in shared), default=0) * 1.05 or 1.0
    traces, panels, titles = [], {}, []
    for row, (name, values) in enumerate(arrays.items()):
        number, (low, high) = "" if row == 0 else row + 1, domain(row, len(arrays))
        single = None if isinstance((colours or {}).get(name, ""), str) else len(values)
        traces.append(
            frame.trace(
                "bar",
                x=np.arange(1, len(values) + 1, dtype=np.int32),
                y=values,
                marker={
                    "color": pick_colour((colours or {}).get(name, "text"), name, row + 1, dark, single),
                    "line": {"width": 0},
                },
                customdata=frame.fits(name, (names or {}).get(name), len(values), "bars"),
                hovertemplate=f"%{{customdata}}: %{{y:{form}}}<extra></extra>",
                xaxis=f"x{number}",
                yaxis=f"y{number}",
            )
        )
        across = {"anchor": f"y{number}", "domain": [0, 1], "showgrid": False, "showticklabels": bool(x_title)}
        last = {"title": {"text": x_title}} if x_title and row == len(arrays) - 1 else {}
        panels[f"xaxis{number}"] = {**theme.axis(dark), **across, "nticks": 9, **last}
        up = {"anchor": f"x{number}", "domain": [low, high], "nticks": 3, "zeroline": True}
        ends = {"range": [-most, most]} if name in shared else {}
        panels[f"yaxis{number}"] = {**theme.axis(dark), **up, **ends}
        titles.append(heading(f"{name} · {len(values)} numbers, {span(values)}", high, dark))
    figure = frame.figure(traces, dark=dark, height=height)
    margin = {"t": 24, "b": 40 if x_title else 8}
    return frame.change(figure, bargap=0.1, margin=margin, annotations=titles, **panels)


def domain(row: int, rows: int) -> tuple[float, float]:
    """The lower and the upper end of a panel, as shares of the height; the first lies on top."""
    gap = GAP / rows
    height = (1 - gap * (rows - 1)) / rows
    low = (rows - 1 - row) * (height + gap)
    return low, low + height


def heading(text: str, top: float, dark: bool) -> dict[str, Any]:
    """The title of a panel, above its left end."""
    place = {"x": 0, "y": top, "xref": "paper", "yref": "paper", "xanchor": "left", "yanchor": "bottom"}
    return {"text": text, "showarrow": False, "font": {"size": 12, "color": frame.colour("muted", dark)}, **place}


def span(values: np.ndarray) -> str:
    """The least and the largest of some numbers, both to two digits of the one further from zero: 0.0 to 1.5."""
    least, largest = float(values.min()), float(values.max())
    most = max(abs(least), abs(largest))
    places = max(0, 1 - math.floor(math.log10(most))) if 0 < most < math.inf else 0
    said = (f"{round(end, places) + 0.0:.{places}f}" for end in (least, largest))  # + 0.0: no minus before a zero
    return " to ".join(said).replace("-", "\N{MINUS SIGN}")
