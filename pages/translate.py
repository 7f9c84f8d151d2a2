"""Translate: English becomes French piece by piece, and every piece shows which English words it was written from."""

import streamlit as st

from attnviz import ui
from attnviz.ui import translate, translate_show
from attnviz.ui.prose import section
from attnviz.ui.translate import TRANSFORMER

ui.header("translate")
text = translate.sentence()


def page() -> None:
    model = translate.translator(TRANSFORMER)
    sample = model.prepare(text)
    if not sample.text:
        st.info(f"Type an English sentence, such as: {translate.TIRED}", icon=":material/info:")
        return
    for said in translate.remarks(sample, model):
        st.caption(said)
    controls = st.container()
    large, beside = st.columns([3, 2], gap="large")
    with beside:
        steps = st.container()
        width = translate.beam_choice()
        here = translate.written(TRANSFORMER, sample, translate.alternative(
            model, translate.found(TRANSFORMER, sample, width)))  # fmt: skip
    with controls:
        step = translate.step_choice(here)
        look = translate_show.look_choice(model)
    at = translate.piece_choice(here, step)
    row = translate_show.asking_choice(here, look, at)
    translate_show.send(here, look, step)
    with steps:
        translate_show.next_pieces(here, at)
    with large:
        translate_show.texts(here, look, step, at, row)

    section("translate", "Two ways to look back")
    translate_show.alignments(here, lambda: translate.recurrent(sample, width), look, at)
    ui.downloads(lambda: {call.name: call.token_map().numpy() for call in here.trace.calls},
                 lambda: translate_show.row_table(here, look, row), "translate")  # fmt: skip


ui.fragment(page, run_every=translate.PACE if translate.playing() else None)()
ui.footer("translate")
