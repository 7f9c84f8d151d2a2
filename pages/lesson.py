"""Lesson: attention built up in twelve steps on a sentence of the visitor's own."""

import streamlit as st

from attnviz import ui
from attnviz.ui.lesson import scene, steps

ui.header("lesson")


@ui.fragment
def page() -> None:
    row = st.container(horizontal=True, vertical_alignment="bottom")
    here = scene.scene(row)
    with row:
        step = scene.step_choice(len(steps.STEPS))
    if here is not None:
        with ui.report_errors():  # the other steps stay in reach
            steps.show(step, here)
    scene.step_buttons(step, len(steps.STEPS))


page()
ui.footer("lesson")
