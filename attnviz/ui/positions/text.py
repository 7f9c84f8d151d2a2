"""What the Positions page of a text is made of: the model's own table, and schemes with sliders."""

from __future__ import annotations

from typing import Any

import numpy as np
import streamlit as st
import torch
from jaxtyping import Float

from attnviz import plots
from attnviz.attention import POSITIONS
from attnviz.attention.positions.schemes import alibi_slopes, frequencies, t5_bucket
from attnviz.measures import embeddings as measures
from attnviz.types import Tokens
from attnviz.ui.core.state import one_of
from attnviz.ui.inputs.text_run import TextRun
from attnviz.ui.widgets.output import dark, plot

SCHEMES = {name: POSITIONS[name].title for name in ("sine", "rotary", "alibi", "t5")}
BASES = (10, 100, 1_000, 10_000, 100_000)
KINDS = {"encoder": "Encoder", "decoder": "Decoder"}
FADED = 3.0  # a score this much lower leaves one twentieth of the weight


def table_figures(run: TextRun, table: Float[np.ndarray, "token feature"]) -> tuple[Any, Any]:
    """The table as a heat map, and the cosine of every two positions."""
    names = [f"{i} {label}" for i, label in enumerate(run.sample.tokens["main"].labels)]
    rows = plots.heatmap(table, rows=names, x_title="Feature", signed=True, dark=dark(), height=460)
    alike = plots.heatmap(
        measures.centred_cosine(table),
        rows=names,
        columns=names,
        signed=True,
        square=True,
        form=".2f",
        title="Centred cosine of every two positions",
        dark=dark(),
        height=460,
    )
    return rows, alike


def scheme(name: str) -> None:
    """One scheme of position information, with its sliders."""
    {"sine": waves, "rotary": rotary, "alibi": alibi, "t5": buckets}[name]()


def waves() -> None:
    """The table of sines and cosines and the dot product of every two positions."""
    first, second, third = st.columns(3, gap="large")
    count = first.slider("Tokens", 2, 384, 64, key="tokens", bind="query-params")
    dim = second.slider("Dimension", 4, 256, 64, 4, key="dimension", bind="query-params")
    dim -= dim % 4  # an address may name a number between the slider's steps
    base = third.select_slider("Base", BASES, 10_000, key="base", bind="query-params")
    table = POSITIONS["sine"].table(Tokens(tuple(map(str, range(count)))), dim, base).numpy()
    left, right = st.columns(2, gap="large")
    with left:
        show(
            plots.heatmap(table, x_title="Feature", y_title="Position", signed=True, dark=dark(), height=420),
            "waves",
            "The table: one row per position, one column per feature",
        )
    with right:
        gram = plots.heatmap(
            measures.dot_product(table),
            signed=True,
            square=True,
            x_title="Position",
            y_title="Position",
            title="Dot product of every two positions",
            dark=dark(),
            height=420,
        )
        show(gram, "gram", "Dot product of every two positions")


def rotary() -> None:
    """How every pair of channels turns with distance, and the score of a query and a key that agree."""
    first, second, third = st.columns(3, gap="large")
    count = first.slider("Distance", 8, 512, 128, 8, key="distance", bind="query-params")
    dim = second.slider("Head dimension", 4, 128, 32, 4, key="channels", bind="query-params")
    base = third.select_slider("Base", BASES, 10_000, key="base", bind="query-params")
    apart = np.arange(count)
    cosines = np.cos(apart[None] * frequencies(dim // 2, base).numpy()[:, None])
    left, right = st.columns(2, gap="large")
    with left:
        figure = plots.heatmap(
            cosines,
            x_title="Distance in tokens",
            y_title="Pair of channels",
            signed=True,
            limits=(-1, 1),
            title="Cosine of the angle between query and key",
            dark=dark(),
            height=420,
        )
        show(figure, "turned", "One row per pair of channels: how the cosine of its angle swings with distance")
    with right:
        figure = plots.lines(
            {"Mean over pairs": cosines.mean(0)},
            x=apart,
            colours={"Mean over pairs": "position"},
            x_title="Distance in tokens",
            y_title="Score relative to distance 0",
            form=".2f",
            dark=dark(),
            height=420,
        )
        show(figure, "decay", "The score of a query and a key that agree, against their distance")


def alibi() -> None:
    """The slopes of all heads, and how far each head reaches."""
    first, second = st.columns(2, gap="large")
    heads = first.slider("Heads", 1, 16, 8, key="fan", bind="query-params")
    count = second.slider("Distance", 8, 512, 64, 8, key="distance", bind="query-params")
    slopes, apart = np.asarray(alibi_slopes(heads), dtype=float), np.arange(count)
    left, right = st.columns(2, gap="large")
    with left:
        fan = {f"Head {h + 1}": -slope * apart for h, slope in enumerate(slopes)}
        figure = plots.lines(
            fan,
            x=apart,
            references={"one twentieth": -FADED},
            x_title="Distance in tokens",
            y_title="Added to the score",
            limits=(-8.0, 0.2),
            dark=dark(),
            height=420,
        )
        show(figure, "fan", "What each head adds to a score, against distance")
    with right:
        reach = FADED / slopes
        figure = plots.bars(
            reach,
            labels=[f"Head {h + 1}" for h in range(heads)],
            colours="position",
            shown=True,
            form=".0f",
            y_title="Distance to one twentieth",
            most_ticks=16,
            dark=dark(),
            height=420,
        )
        show(figure, "reach", "How far each head reaches before a slope has taken away 3")


def buckets() -> None:
    """Which bucket each distance falls into."""
    first, second = st.columns(2, gap="large")
    count = first.slider("Distance", 8, 512, 160, 8, key="distance", bind="query-params")
    kind = one_of("Model", KINDS, default="encoder", key="kind", where=second)
    apart = torch.arange(-count, count + 1)
    found = t5_bucket(apart, causal=kind == "decoder").numpy()
    figure = plots.lines(
        {"Bucket": found},
        x=apart.numpy(),
        colours={"Bucket": "position"},
        form=".0f",
        x_title="Position of the key minus that of the query",
        y_title="Bucket",
        dark=dark(),
        height=380,
    )
    show(figure, "buckets", "The bucket of every distance: exact near zero, ever coarser farther away")


def show(figure: Any, key: str, alt: str) -> None:
    """Show a chart of a scheme."""
    plot(figure, f"scheme:{key}", alt=alt)
