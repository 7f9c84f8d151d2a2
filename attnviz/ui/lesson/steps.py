"""The steps of the Lesson in their order: to add one, a function of the scene, a line here, a section of lesson.md."""

from __future__ import annotations

from collections.abc import Callable

import streamlit as st

from attnviz.ui.lesson import block, vectors
from attnviz.ui.lesson.scene import Scene
from attnviz.ui.shell.prose import section

STEPS: dict[str, Callable[[Scene], None]] = {
    "1 Words as vectors": vectors.vectors,
    "2 Reweighing by distance": vectors.proximity,
    "3 Dot products": vectors.products,
    "4 Normalising": vectors.normalising,
    "5 Context vectors": vectors.contexts,
    "6 Looking things up": vectors.looking_up,
    "7 Queries, keys and values": block.matrices,
    "8 Scaling": block.scaling,
    "9 Several heads": block.several_heads,
    "10 Masks, and two sentences": block.masks,
    "11 The block": block.block,
    "12 What it costs": block.cost,
}


def show(step: int, here: Scene) -> None:
    """One step: its words to the left, what it computes to the right."""
    heading = list(STEPS)[step - 1]
    words, picture = st.columns([2, 3], gap="large")
    with words:
        section("lesson", heading)
    with picture:
        STEPS[heading](here)
