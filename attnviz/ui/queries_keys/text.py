"""What the Queries and keys page of a text is made of, beside what it shares with the one of pictures."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import streamlit as st

from attnviz import views
from attnviz.measures.pairs import position_colours
from attnviz.plots import scatter
from attnviz.types import AttentionCall
from attnviz.ui.core.state import one_of
from attnviz.ui.inputs.text_run import TextRun
from attnviz.ui.queries_keys.pairs import METHODS, PAINTS, SAYS, STAGES, joint_points
from attnviz.ui.widgets.output import dark, plot

WRITTEN = 40  # points that still have room for their names


def names_of(call: AttentionCall) -> list[str]:
    """Every key by its position and its label, since a word may come twice."""
    return [f"{i} {label}" for i, label in enumerate(call.keys.labels)]


def strongest(weights: np.ndarray, query: int, words: Sequence[int]) -> int:
    """The token this query attends to most, special tokens aside, which is the key shown until one is picked."""
    real = np.array([word >= 0 for word in words])
    return int(np.where(real, weights[query], -1).argmax()) if real.any() else int(weights[query].argmax())


def stage_views(maps: dict[str, np.ndarray], tokens: Sequence[int], on_pick: Callable, style: views.ViewStyle) -> None:
    """Every stage of the query's row as a line of text, in the order they are computed."""
    for stage in [stage for stage in STAGES if stage in maps]:
        name, text = st.columns([1, 3], vertical_alignment="top")
        name.markdown(f"**{STAGES[stage]}**  \n:small[{SAYS[stage]}]")
        with text:
            views.text_view(
                f"stage:{stage}",
                maps=f"pairs:{stage}",
                tokens=tokens,
                on_pick=on_pick,
                label=f"{STAGES[stage]} of the query with every key",
                style=style,
            )


def joint_plane(run: TextRun, layer: int, head: int, query: int, key: int) -> None:
    """All queries and keys of a head in one plane, coloured by their position in the text."""
    method = one_of("Map", METHODS, default="pca", key="map")
    paints = {name: PAINTS[name] for name in ("position", "kind")}
    paint = one_of("Coloured by", paints, default="position", key="paint")
    call = run.trace.calls[layer]
    points = np.concatenate(joint_points(run.model.digest, run.sample.digest, layer, head, method, call))
    count, labels = len(call.keys), names_of(call)
    colours = position_colours(call.keys)
    names = [*(f"query {label}" for label in labels), *(f"key {label}" for label in labels)]
    figure = scatter(
        points,
        names=names if count > WRITTEN else [*labels, *labels],
        dark=dark(),
        height=560,
        size=9,
        square=method == "pca",
        written=count <= WRITTEN,
        chosen=(query, count + key),
        colours=np.concatenate([colours, colours]) if paint == "position" else None,
        groups=["query"] * count + ["key"] * count,
        group_colours={"query": "query", "key": "key"} if paint == "kind" else None,
    )
    plot(
        figure,
        "joint",
        alt=f"Queries and keys of one head in a plane by {METHODS[method]}, coloured by {paints[paint].lower()}",
    )
