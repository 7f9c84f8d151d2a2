"""Vectors one under the other: one small panel of bars each, as in a sum written out line by line."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from plotly.subplots import make_subplots

from attnviz.plots import frame
from attnviz.plots.curves import pick_colour


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
) -> Any:
    """Each vector in its own panel, titled by its name; lengths may differ.

    `colours`: by name, one colour or one per bar; `names`: what each bar is called, by series; series in `shared` have
    one range, so that their bars can be compared.
    """
    arrays = {name: frame.array(values, f"series {name!r}", 1) for name, values in series.items()}
    if not arrays or not all(map(len, arrays.values())):
        raise ValueError(f"series must hold numbers, got {dict.fromkeys(arrays) or 'no series'}")
    titles = [f"{name} · {len(values)} numbers, {span(values)}" for name, values in arrays.items()]
    figure = make_subplots(len(arrays), 1, subplot_titles=titles, vertical_spacing=0.26 / len(arrays))
    most = max((float(np.abs(arrays[name]).max(initial=0)) for name in shared), default=0) * 1.05 or 1.0
    for row, (name, values) in enumerate(arrays.items(), 1):
        single = None if isinstance((colours or {}).get(name, ""), str) else len(values)
        paint = pick_colour((colours or {}).get(name, "text"), name, row, dark, single)
        figure.add_bar(
            x=np.arange(1, len(values) + 1, dtype=np.int32),
            y=values,
            marker={"color": paint, "line": {"width": 0}},
            customdata=frame.fits(name, (names or {}).get(name), len(values), "bars"),
            hovertemplate=f"%{{customdata}}: %{{y:{form}}}<extra></extra>",
            row=row,
            col=1,
        )
        figure.update_yaxes(range=[-most, most] if name in shared else None, row=row, col=1)
    frame.finish(figure, dark=dark, height=height)
    figure.update_layout(bargap=0.1, margin={"t": 24, "b": 40 if x_title else 8})
    figure.update_xaxes(showgrid=False, showticklabels=bool(x_title), nticks=9)
    figure.update_yaxes(nticks=3, zeroline=True)
    figure.update_xaxes(title_text=x_title or None, row=len(arrays), col=1)
    figure.update_annotations(font={"size": 12, "color": frame.colour("muted", dark)}, x=0, xanchor="left")
    return figure


def span(values: np.ndarray) -> str:
    """The least and the largest of some numbers, both to two digits of the one further from zero: 0.0 to 1.5."""
    least, largest = float(values.min()), float(values.max())
    most = max(abs(least), abs(largest))
    places = max(0, 1 - math.floor(math.log10(most))) if 0 < most < math.inf else 0
    said = (f"{round(end, places) + 0.0:.{places}f}" for end in (least, largest))  # + 0.0: no minus before a zero
    return " to ".join(said).replace("-", "\N{MINUS SIGN}")
