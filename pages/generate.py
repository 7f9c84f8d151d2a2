"""Generate: a language model continues a prompt; every step shows its probabilities and what it attends to."""

import streamlit as st

from attnviz import ui
from attnviz.ui.generate import drawing, writing
from attnviz.ui.shell.prose import section

ui.header("generate")
text = writing.prompt()


@ui.fragment
def page() -> None:
    model, begin = writing.opened(text)
    writing.remark(model, begin)
    controls = st.container(horizontal=True, vertical_alignment="bottom")
    with controls:
        row = st.container(width="content")
        with st.popover("Sampling", icon=":material/tune:"):
            settings = writing.settings_choice()
    written = writing.fulfil(model, begin, writing.written(model, begin), settings)
    with st.container():  # always there, so that views keep their places when the first word comes
        step = writing.step_choice(len(written))
    here = writing.scene(model, begin, written, step, settings)
    with row:
        drawing.write_buttons(here)
    large, beside = st.columns([3, 2], gap="large")
    if not writing.going_on():
        with beside:
            drawing.next_tokens(here)
    with large:
        drawing.remarks(here)
        part = drawing.part(here)
        weights = part.map_of(here.trace.calls)
        at = ui.chosen_token("asks", len(here.ids), len(here.ids) - 1)
        drawing.attention(here, weights, part.name, at)
        drawing.story(here)
        st.caption(drawing.counted(here))
    if writing.going_on():
        ui.run_again()

    left, right = st.columns(2, gap="large")
    with left:
        section("generate", "To the prompt, or to itself")
        drawing.shares(here, weights, part.name)
        section("generate", "KV cache")
        drawing.cache(here)
    with right:
        section("generate", "Attention matrix")
        drawing.matrix(at, part.name)
    section("generate", "Training data and quality")
    if quality := drawing.record(here):
        st.markdown(quality)
    ui.downloads(
        lambda: {call.name: call.token_map().numpy() for call in here.trace.calls},
        lambda: drawing.table(here),
        "generate",
    )


page()
ui.footer("generate")
