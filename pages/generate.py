"""Generate: a language model writes on, and every step shows what it expected and where it looked."""

import streamlit as st

from attnviz import ui
from attnviz.ui import generate, generate_show
from attnviz.ui.prose import section

ui.header("generate")
text = generate.beginning()


@ui.fragment
def page() -> None:
    model, begin = generate.opened(text)
    controls = st.container()
    large, beside = st.columns([3, 2], gap="large")
    with beside:
        settings = generate.settings_choice()
    said = generate.fulfil(model, begin, generate.written(model, begin), settings)
    with controls:
        row = st.container()
        step = generate.step_choice(len(said))
    here = generate.scene(model, begin, said, step, settings)
    with row:
        generate_show.write_buttons(here)
    with beside:
        generate_show.next_pieces(here)
    with large:
        generate_show.story(here)
        st.caption(generate_show.counted(here))
        part = generate_show.part(here)
        weights = part.map_of(here.trace.calls)
        at = ui.chosen_token("asks", len(here.ids), len(here.ids) - 1)
        generate_show.attention(here, weights, part.name, at)

    left, right = st.columns(2, gap="large")
    with left:
        section("generate", "Back to the beginning, or to itself")
        generate_show.shares(here, weights, part.name)
        section("generate", "What is kept")
        generate_show.cache(here)
    with right:
        section("generate", "The whole map")
        generate_show.matrix(at, part.name)
    section("generate", "What it knows")
    if told := generate_show.record(here):
        st.markdown(told)
    ui.downloads(lambda: {call.name: call.token_map().numpy() for call in here.trace.calls},
                 lambda: generate_show.table(here), "generate")  # fmt: skip


page()
ui.footer("generate")
