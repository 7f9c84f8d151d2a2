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
from attnviz.ui.core.recorded import grid_of, known
from attnviz.ui.core.state import one_of
from attnviz.ui.inputs.image_run import ImageRun
from attnviz.ui.widgets.output import dark

FIRST = "sine"  # the scheme to begin with
BASES = (2, 10, 100, 1_000, 10_000, 100_000)
WAVES = {"sine": 2, "sine2d": 4}  # features per wavelength


@dataclass(frozen=True, eq=False)
class Table:
    """A position table made to order."""

    rows: np.ndarray  # [place feature]
    side: int | None  # of the patch grid; None for places in one row
    wavelengths: np.ndarray | None  # [wave]; None where there are no waves

    @property
    def names(self) -> list[str]:
        """What each place is called."""
        if self.side is None:
            return [str(i) for i in range(len(self.rows))]
        return [f"{i // self.side + 1}, {i % self.side + 1}" for i in range(len(self.rows))]

    @property
    def what(self) -> str:
        """What the names are."""
        return "Place" if self.side is None else "Row, column"

    @property
    def sentence(self) -> str:
        """How well places can be told apart, in words."""
        size = f"{len(self.rows)} places with {self.rows.shape[1]} features each."
        closest = measures.smallest_distance(self.rows)
        if closest < 1e-3:
            return f"{size} At least two places have the same vector: nothing can tell them apart."
        return f"{size} The two most alike are {closest:.4f} apart (Euclidean distance): every place is unique."

    def table_figure(self) -> Any:
        """The table: places down, features across."""
        return plots.heatmap(
            self.rows,
            rows=self.names,
            x_title="Feature",
            y_title=self.what,
            title="Table",
            signed=True,
            dark=dark(),
            height=420,
        )

    def gram_figure(self) -> Any:
        """Dot product of every two places."""
        return plots.heatmap(
            measures.dot_product(self.rows),
            rows=self.names,
            columns=self.names,
            signed=True,
            title="Dot product of every two places",
            form=".2f",
            most_ticks=5,
            square=True,
            x_title=self.what,
            y_title=self.what,
            dark=dark(),
            height=420,
        )

    def reach_figure(self) -> Any:
        """How the dot product falls with distance: as a curve, or as a map around the middle of the grid."""
        if self.side is None:
            offsets = measures.by_offset(self.rows, len(self.rows) - 1)
            return plots.lines(
                {"Dot product": offsets},
                colours={"Dot product": "position"},
                x_title="Places apart",
                y_title="Dot product",
                form=".2f",
                dark=dark(),
                height=300,
            )
        middle = self.side // 2 * self.side + self.side // 2
        products = (self.rows @ self.rows[middle]).reshape(self.side, self.side)
        return plots.heatmap(
            products,
            title="Dot product of the middle place with every place",
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
        span = float(self.side or len(self.rows))
        return plots.lines(
            {"Wavelength": self.wavelengths},
            x=numbers,
            colours={"Wavelength": "position"},
            references={f"{span:.0f} places": span},
            x_title="Wave",
            y_title="Wavelength in places",
            log_y=True,
            points=True,
            dark=dark(),
            height=300,
        )


def scheme_choice(visit: ImageRun) -> str:
    """A row of buttons over the schemes of POSITIONS that have a table, a learned one only if it is the model's own."""
    own = visit.model.spec.positions
    titles = {name: e.title for name, e in POSITIONS.items() if e.relative is None and (not e.learned or name == own)}
    return one_of("Scheme", titles, default=FIRST, key="scheme")


def table_choice(visit: ImageRun, scheme: str) -> Table:
    """The sliders a scheme has, and the table they ask for.

    The learned scheme has no formula: it is the model's own table, stretched to the grid that is asked for.
    """
    entry = POSITIONS[scheme]
    first, second, third = st.columns(3, gap="large")
    side, count, dim, base = None, 64, 64, 10_000
    with first:
        if entry.learned or entry.grid:
            own = grid_of(visit.sample.tokens["main"])[0]
            side = st.slider("Patches per side", 2, 20, own, key="side", bind="query-params")
        else:
            count = st.slider("Tokens", 2, 384, 64, key="tokens", bind="query-params")
    if not entry.learned:
        dim = second.slider("Dimension", 4, 256, 64, 4, key="dimension", bind="query-params")
        dim -= dim % 4  # an address may name a number between the slider's steps
    if scheme in WAVES:
        base = third.select_slider("Base", BASES, 10_000, key="base", bind="query-params")
    return table_for(visit, scheme, side=side, count=count, dim=dim, base=base)


def table_for(visit: ImageRun, scheme: str, *, side: int | None, count: int, dim: int, base: float) -> Table:
    """The table of a scheme, for side x side patches or for `count` tokens in a row."""
    if POSITIONS[scheme].learned:
        size, tokens = side or 1, visit.sample.tokens["main"]
        table = torch.from_numpy(known(visit.trace.position_embeddings["main"]))
        rows = resize_table(table, tokens.prefix, grid_of(tokens), (size, size)).numpy()[tokens.prefix :]
    else:
        tokens = Tokens(tuple(map(str, range(count)))) if side is None else Tokens.patches(side, side)
        rows = POSITIONS[scheme].table(tokens, dim, base).numpy()
    waves = measures.wavelengths(dim // WAVES[scheme], base) if scheme in WAVES else None
    return Table(np.ascontiguousarray(rows, dtype=np.float64), side, waves)
