"""Translate: English becomes French piece by piece, and every piece shows which English words it was written from."""

import streamlit as st

from attnviz import ui
from attnviz.models import DamagedModel
from attnviz.ui import translate, translate_show
from attnviz.ui.prose import section

ui.header("translate")
text = translate.sentence()


def page() -> None:
    width = st.session_state.get("beam", translate.BEAM)
    here = translate.written(translate.TRANSFORMER, text, width, translate.alternative())
    if not here.sample.text:
        st.info(f"Type an English sentence, such as: {translate.SAMPLES[0]}", icon=":material/info:")
        return
    for said in translate.remarks(here.sample, here.model):
        st.caption(said)
    step = translate.step_choice(here)
    at = translate.piece_choice(step)
    look = translate_show.look_choice(here.model)
    translate_show.send(here, look, step)

    large, beside = st.columns([3, 2], gap="large")
    with large:
        translate_show.texts(here, look, step, at)
    with beside:
        translate_show.next_pieces(here, at)
        translate.beam_choice()
        translate.alternatives(here)

    section("translate", "Two ways to look back")
    try:
        other = translate.written(translate.RECURRENT, text, width)
    except DamagedModel:
        other = None
    translate_show.alignments(here, other, look, at)
    ui.downloads(lambda: {call.name: call.token_map().numpy() for call in here.trace.calls},
                 lambda: translate_show.row_table(here, look, at), "translate")  # fmt: skip


ui.fragment(page, run_every=translate.PACE if translate.playing() else None)()
ui.footer("translate")
