"""The steps of the Lesson in their order: to add one, a function of the scene, a line here, a section of lesson.md."""

from __future__ import annotations

from collections.abc import Callable

import streamlit as st

from attnviz.ui import lesson_block, lesson_raw
from attnviz.ui.lesson import Scene
from attnviz.ui.prose import section

STEPS: dict[str, Callable[[Scene], None]] = {
    "1 Words as vectors": lesson_raw.vectors,
    "2 Reweighing by distance": lesson_raw.proximity,
    "3 Dot products": lesson_raw.products,
    "4 Normalising": lesson_raw.normalising,
    "5 Context vectors": lesson_raw.contexts,
    "6 Looking things up": lesson_raw.looking_up,
    "7 Queries, keys and values": lesson_block.matrices,
    "8 Scaling": lesson_block.scaling,
    "9 Several heads": lesson_block.several_heads,
    "10 Masks, and two sentences": lesson_block.masks,
    "11 The block": lesson_block.block,
    "12 What it costs": lesson_block.cost,
}


def show(step: int, here: Scene) -> None:
    """One step: its words to the left, what it computes to the right."""
    heading = list(STEPS)[step - 1]
    words, picture = st.columns([2, 3], gap="large")
    with words:
        section("lesson", heading)
    with picture:
        STEPS[heading](here)
