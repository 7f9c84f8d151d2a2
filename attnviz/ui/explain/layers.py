"""The maps of a method for every layer it may be given, small, one of them open."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import streamlit as st

from attnviz import views
from attnviz.methods.base import Option
from attnviz.ui.explain import prose, sending, steps
from attnviz.ui.explain.choice import Choice, open_layer


def pictures(choice: Choice, option: Option, chosen: Sequence[int], style: views.ViewStyle) -> None:
    """A row of small pictures; a click gives the method the layer."""
    prose.by_layer("explain", choice)
    views.tiles_view(
        "steps",
        picture="picture",
        maps=[sending.SLOT],
        tokens=chosen,
        style=style,
        rows=[""],
        columns=steps.titles(choice),
        tile=236,
        selected=(0, choice.at),
        on_pick=partial(open_layer, option),
        label=f"{choice.title}, layer by layer",
    )


def texts(choice: Choice, option: Option, draw: Callable[..., None], pick: Callable[..., None] | None) -> None:
    """A line of text for each layer, drawn by `draw`; a button gives the method the layer."""
    prose.by_layer("text/explain", choice)
    for layer, title in enumerate(steps.titles(choice)):
        at, text = st.columns([1, 6], vertical_alignment="center")
        kind = "primary" if layer == choice.at else "secondary"
        at.button(title, key=f"from:{layer}", on_click=open_layer, args=(option, (0, layer)), type=kind)
        with text:
            what = f"{choice.title}: {title.lower()}"
            draw(f"step:{layer}", maps=sending.SLOT, index=layer, label=what, on_pick=pick)
