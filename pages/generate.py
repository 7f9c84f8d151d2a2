"""Generate: a language model writes on, and every step shows what it expected and where it looked."""

import streamlit as st

from attnviz import ui
from attnviz.ui.generate import drawing, writing
from attnviz.ui.shell.prose import section

ui.header("generate")
text = writing.beginning()


@ui.fragment
def page() -> None:
    model, begin = writing.opened(text)
    controls = st.container()
    large, beside = st.columns([3, 2], gap="large")
    with beside:
        settings = writing.settings_choice()
    said = writing.fulfil(model, begin, writing.written(model, begin), settings)
    with controls:
        row = st.container()
        step = writing.step_choice(len(said))
    here = writing.scene(model, begin, said, step, settings)
    with row:
        drawing.write_buttons(here)
    with beside:
        drawing.next_pieces(here)
    with large:
        drawing.story(here)
        st.caption(drawing.counted(here))
        part = drawing.part(here)
        weights = part.map_of(here.trace.calls)
        at = ui.chosen_token("asks", len(here.ids), len(here.ids) - 1)
        drawing.attention(here, weights, part.name, at)

    left, right = st.columns(2, gap="large")
    with left:
        section("generate", "Back to the beginning, or to itself")
        drawing.shares(here, weights, part.name)
        section("generate", "What is kept")
        drawing.cache(here)
    with right:
        section("generate", "The whole map")
        drawing.matrix(at, part.name)
    section("generate", "What it knows")
    if told := drawing.record(here):
        st.markdown(told)
    ui.downloads(
        lambda: {call.name: call.token_map().numpy() for call in here.trace.calls},
        lambda: drawing.table(here),
        "generate",
    )


page()
ui.footer("generate")
