"""How the steps of the Lesson draw: a matrix over the words, one number per word, and the words nearest to a vector."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float

from attnviz import plots
from attnviz.plots import theme
from attnviz.ui.lesson.scene import MAX_WORDS, Scene, table
from attnviz.ui.widgets.answers import percent
from attnviz.ui.widgets.output import dark, plot

CLIP = 0.97  # the quantile at which colours end, where a few numbers are far above the rest


def matrix(
    values: Float[np.ndarray, "query key"], here: Scene, key: str, alt: str, *, height: int = 440, **options: Any
) -> None:
    """A matrix over the words: rows are queries, columns are keys; the row of the focus word is framed."""
    figure = plots.heatmap(
        values,
        rows=here.words,
        columns=here.words,
        square=True,
        dark=dark(),
        most_ticks=MAX_WORDS,
        height=height,
        **options,
    )
    line = {"color": theme.colour("query", dark()), "width": 2.5}
    ends = {"x0": -0.5, "x1": len(here.words) - 0.5, "y0": here.focus - 0.5, "y1": here.focus + 0.5}
    plots.change(figure, shapes=[{"type": "rect", "line": line, **ends}])
    plot(slant(figure), key, alt=alt)


def weights(values: Float[np.ndarray, "query key"], here: Scene, key: str, what: str, **options: Any) -> None:
    """A matrix of weights; where a few are far above the rest, colours end below them, and the scale says so."""
    most, high = float(np.nanmax(values)), float(np.nanquantile(values, CLIP))
    clipped = most > 1.5 * high
    options = {
        "value": "weight, colours clipped" if clipped else "weight",
        "form": ".1%",
        "limits": (0, high if clipped else most),
    } | options
    matrix(values, here, key, f"{what}: rows are queries, columns are keys. {largest_weight(values, here)}", **options)


def largest_weight(values: Float[np.ndarray, "query key"], here: Scene) -> str:
    """Where the largest weight of the focus word's row lies, in words."""
    best = int(np.nanargmax(values[here.focus]))
    key = "itself" if best == here.focus else here.words[best]
    return f"The query {here.word} attends most to {key} ({percent(values[here.focus][best])})"


def row_bars(row: Float[np.ndarray, " key"], here: Scene, key: str, alt: str, **options: Any) -> None:
    """One number for every word of the sentence."""
    options = {"form": ".1%", "colours": "key", "height": 260} | options
    figure = plots.bars(row, labels=here.words, most_ticks=MAX_WORDS, chosen=here.focus, dark=dark(), **options)
    plot(slant(figure), key, alt=alt)


def slant(figure: plots.Figure) -> plots.Figure:
    """A figure whose words below the axis are slanted, so that long ones fit."""
    return plots.change(figure, xaxis={"tickangle": -40, "automargin": True})


def nearest(vector: Float[np.ndarray, " feature"], count: int = 6, without: Sequence[str] = ()) -> str:
    """The words nearest to a vector, with their cosines, in a line."""
    found = table().near(torch.from_numpy(np.asarray(vector, np.float32)), count, without)
    return ", ".join(f"{near.word} ({near.cosine:.2f})" for near in found)
