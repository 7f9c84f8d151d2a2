"""The steps of the Lesson in their order: to add one, a function of the scene, a line here, a section of lesson.md."""

from __future__ import annotations

from collections.abc import Callable

import streamlit as st

from attnviz.ui.lesson import attention, block, question, vectors
from attnviz.ui.lesson.scene import Scene
from attnviz.ui.lesson.walking import top_of
from attnviz.ui.shell.prose import section
from attnviz.ui.widgets import asking

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


# heading of a step that has a question -> the question, of the scene
QUESTIONS: dict[str, Callable[[Scene], question.Question]] = {
    "3 Dot products": question.most_alike,
    "7 Queries, keys and values": question.most_weight,
}


def asks(step: int) -> bool:
    """Whether this step asks before it shows; the switch stands in every step, so that nothing moves."""
    return asking.toggle(possible=list(STEPS)[step - 1] in QUESTIONS, why_not=question.NO_QUESTION)


def show(step: int, here: Scene, *, asks: bool = False) -> None:
    """One step: its text to the left, what it computes to the right; first its question, where it asks one."""
    heading = list(STEPS)[step - 1]
    top_of(step)
    if asks and not question.ask(here, step, QUESTIONS[heading](here)):
        return
    text, picture = st.columns([2, 3], gap="large")
    with text:
        section("lesson", heading)
    with picture:
        STEPS[heading](here)
