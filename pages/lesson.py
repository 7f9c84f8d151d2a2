"""Lesson: attention built up in twelve steps on a sentence of the visitor's own."""

import streamlit as st

from attnviz import ui
from attnviz.ui.lesson import scene, steps

with st.container(key="around_top"):
    ui.header("lesson")


@ui.fragment
def page() -> None:
    with st.container(key="around_controls"):
        row = st.container(horizontal=True, vertical_alignment="bottom")
        here = scene.scene(row)
        with row:
            step = scene.step_choice(len(steps.STEPS))
            asks = steps.asks(step)
    if here is not None:
        with ui.report_errors():  # the other steps stay in reach
            steps.show(step, here, asks=asks)
    with st.container(key="around_steps"):
        scene.step_buttons(step, len(steps.STEPS))


page()
with st.container(key="around_bottom"):
    ui.footer("lesson")
