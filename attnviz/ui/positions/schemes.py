"""Position tables made to order on the Positions page: the choices, the table, and what is drawn of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import streamlit as st
import torch

from attnviz import plots
from attnviz.attention import POSITIONS
from attnviz.attention.positions.tables import resize_table
from attnviz.measures import embeddings as measures
from attnviz.types import Tokens
from attnviz.ui.core.recorded import grid_of
from attnviz.ui.core.state import keep_inside, one_of
from attnviz.ui.inputs.image_run import ImageRun
from attnviz.ui.positions.origin import table_of
from attnviz.ui.widgets.output import dark

FIRST = "sine"  # the scheme to begin with
BASES = (2, 10, 100, 1_000, 10_000, 100_000)
MOST_ROWS = 24  # of a grid: every two of its positions become a cell of a chart
WAVES = {"sine": 2, "sine2d": 4}  # features per wavelength


@dataclass(frozen=True, eq=False)
class Table:
    """A position table made to order."""

    rows: np.ndarray  # [position feature]
    grid: tuple[int, int] | None  # rows and columns of the patch grid; None for positions in one sequence
    wavelengths: np.ndarray | None  # [wave]; None where there are no waves

    @property
    def names(self) -> list[str]:
        """What each position is called."""
        if self.grid is None:
            return [str(i) for i in range(len(self.rows))]
        return [f"{i // self.grid[1] + 1}, {i % self.grid[1] + 1}" for i in range(len(self.rows))]

    @property
    def axis(self) -> str:
        """What the names are."""
        return "Position" if self.grid is None else "Row, column"

    @property
    def sentence(self) -> str:
        """How well positions can be told apart, in words."""
        size = f"{len(self.rows)} positions with {self.rows.shape[1]} features each."
        closest = measures.smallest_distance(self.rows)
        if closest < 1e-3:
            return f"{size} At least two positions have the same vector: nothing can tell them apart."
        return f"{size} The two most similar are {closest:.4f} apart (Euclidean distance): every position is unique."

    def table_figure(self) -> Any:
        """The table: positions down, features across."""
        return plots.heatmap(
            self.rows,
            rows=self.names,
            x_title="Feature",
            y_title=self.axis,
            title="Table",
            signed=True,
            dark=dark(),
            height=420,
        )

    def gram_figure(self) -> Any:
        """Dot product of every two positions."""
        return plots.heatmap(
            measures.dot_product(self.rows),
            rows=self.names,
            columns=self.names,
            signed=True,
            title="Dot product of every two positions",
            form=".2f",
            most_ticks=5,
            square=True,
            x_title=self.axis,
            y_title=self.axis,
            dark=dark(),
            height=420,
        )

    def reach_figure(self) -> Any:
        """How the dot product falls with distance: as a curve, or as a map around the middle of the grid."""
        if self.grid is None:
            offsets = measures.by_offset(self.rows, len(self.rows) - 1)
            return plots.lines(
                {"Dot product": offsets},
                colours={"Dot product": "position"},
                x_title="Distance in tokens",
                y_title="Dot product",
                form=".2f",
                dark=dark(),
                height=300,
            )
        rows, columns = self.grid
        middle = rows // 2 * columns + columns // 2
        products = (self.rows @ self.rows[middle]).reshape(rows, columns)
        return plots.heatmap(
            products,
            title="Dot product of the middle position with every position",
            signed=True,
            x_title="Column",
            y_title="Row",
            form=".2f",
            square=True,
            dark=dark(),
            height=360,
        )

    def waves_figure(self) -> Any | None:
        """The wavelength of every wave, on a logarithmic scale; None where there are no waves."""
        if self.wavelengths is None:
            return None
        numbers = np.arange(1, len(self.wavelengths) + 1)
        span = float(len(self.rows) if self.grid is None else max(self.grid))
        return plots.lines(
            {"Wavelength": self.wavelengths},
            x=numbers,
            colours={"Wavelength": "position"},
            references={f"{span:.0f} positions": span},
            x_title="Wave",
            y_title="Wavelength in positions",
            log_y=True,
            points=True,
            dark=dark(),
            height=300,
        )


def scheme_choice(visit: ImageRun) -> str:
    """A row of buttons over the schemes of POSITIONS that have a table, a learned one only if it is the model's own."""
    own = visit.model.spec.positions
    mine = own if table_of(visit) is not None else ""
    titles = {name: e.title for name, e in POSITIONS.items() if not e.relative and (not e.learned or name == mine)}
    return one_of("Scheme", titles, default=FIRST, key="scheme")


def table_choice(visit: ImageRun, scheme: str) -> Table:
    """The sliders a scheme has, and the table they ask for.

    The learned scheme has no formula: it is the model's own table, interpolated to the grid that is asked for.
    """
    entry = POSITIONS[scheme]
    first, second, third = st.columns(3, gap="large")
    grid, count, dim, base = None, 64, 64, 10_000
    with first:
        if entry.learned or entry.grid:
            grid = grid_choice(grid_of(visit.sample.tokens["main"]))
        else:
            count = st.slider("Tokens", 2, 384, 64, key="tokens", bind="query-params")
    if not entry.learned:
        dim = second.slider("Dimension", 4, 256, 64, 4, key="dimension", bind="query-params")
        dim -= dim % 4  # an address may name a number between the slider's steps
    if scheme in WAVES:
        base = third.select_slider("Base", BASES, 10_000, key="base", bind="query-params")
    return table_for(visit, scheme, grid=grid, count=count, dim=dim, base=base)


def grid_choice(own: tuple[int, int]) -> tuple[int, int]:
    """A slider over the rows of a grid of the same shape as the model's own, which it begins with where it can."""
    most = min(max(20, own[0]), MOST_ROWS)
    keep_inside("side", range(2, most + 1))
    rows = st.slider("Rows of patches", 2, most, min(max(own[0], 2), most), key="side", bind="query-params")
    return rows, max(1, round(rows * own[1] / own[0]))


def table_for(
    visit: ImageRun, scheme: str, *, grid: tuple[int, int] | None, count: int, dim: int, base: float
) -> Table:
    """The table of a scheme, for a grid of patches or for `count` tokens in one sequence."""
    table = table_of(visit)
    if grid is not None and table is not None and POSITIONS[scheme].learned:
        tokens = visit.sample.tokens["main"]
        rows = resize_table(torch.from_numpy(table), tokens.prefix, grid_of(tokens), grid).numpy()[tokens.prefix :]
    else:
        tokens = Tokens(tuple(map(str, range(count)))) if grid is None else Tokens.patches(*grid)
        rows = POSITIONS[scheme].table(tokens, dim, base).numpy()
    waves = measures.wavelengths(dim // WAVES[scheme], base) if scheme in WAVES else None
    return Table(np.ascontiguousarray(rows, dtype=np.float64), grid, waves)
