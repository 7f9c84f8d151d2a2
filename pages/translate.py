"""Translate: English into French token by token; every French token shows which English tokens it attends to."""

import streamlit as st

from attnviz import ui
from attnviz.ui.shell.prose import section
from attnviz.ui.translate import drawing, explain, scene
from attnviz.ui.translate.scene import TRANSFORMER

ui.header("translate")
text = scene.sentence()


def page() -> None:
    model = scene.translator(TRANSFORMER)
    sample = model.prepare(text)
    if not sample.text:
        st.info(f"Type an English sentence, such as: {scene.FIRST}", icon=":material/info:")
        return
    for remark in scene.remarks(sample, model):
        st.caption(remark)
    controls = st.container(key="translate:controls")
    controls.empty()  # a container without anything in it would not keep its place, see app.css
    large, beside = st.columns([3, 2], gap="large")
    with beside:
        steps = st.container()
        width = scene.beam_choice()
        if partial := scene.growing(model, sample, width):
            scene.leading(partial)
        here = partial or scene.chosen(model, sample, width)
    with controls:
        step = scene.growth(here) if partial else scene.step_choice(here)
        look = drawing.look_choice(model)
    at = step - 1 if partial else scene.token_choice(here, step)
    row = drawing.query_choice(here, look, at)
    drawing.send(here, look, step)
    if not partial:
        with steps:
            drawing.next_tokens(here, at)
    with large:
        drawing.texts(here, look, step, at, row)
    if partial:
        ui.run_again()

    explain.show(here, at)
    section("translate", "Additive and dot-product attention")
    drawing.alignments(here, lambda: scene.recurrent(sample, width), look, at)
    ui.downloads(
        lambda: {call.name: call.token_map().numpy() for call in here.trace.calls},
        lambda: drawing.row_table(here, look, row),
        "translate",
    )


ui.fragment(page, run_every=scene.PACE if scene.playing() else None)()
ui.footer("translate")
