"""The steps of the Lesson in their order: to add one, a function of the scene, a line here, a section of lesson.md."""

from __future__ import annotations

from collections.abc import Callable

import streamlit as st

from attnviz.ui.lesson import attention, block, vectors
from attnviz.ui.lesson.scene import Scene
from attnviz.ui.lesson.walking import top_of
from attnviz.ui.shell.prose import section

# heading of its section in lesson.md -> what it computes and draws
STEPS: dict[str, Callable[[Scene], None]] = {
    "1 Words as vectors": vectors.vectors,
    "2 Weights by distance": vectors.proximity,
    "3 Dot products": vectors.products,
    "4 Normalisation": vectors.normalisation,
    "5 Context vectors": vectors.contexts,
    "6 Soft lookup": vectors.soft_lookup,
    "7 Queries, keys and values": attention.matrices,
    "8 Scaling": attention.scaling,
    "9 Several heads": attention.several_heads,
    "10 Masks and cross-attention": attention.masks,
    "11 The block": block.block,
    "12 Cost": block.cost,
}


def show(step: int, here: Scene) -> None:
    """One step: its text to the left, what it computes to the right."""
    heading = list(STEPS)[step - 1]
    top_of(step)
    text, picture = st.columns([2, 3], gap="large")
    with text:
        section("lesson", heading)
    with picture:
        STEPS[heading](here)
