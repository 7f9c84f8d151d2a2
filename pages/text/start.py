"""Start, for a text: a sentence, the model's answer, and one map to move the pointer over."""

import streamlit as st

from attnviz import ui, views
from attnviz.ui.inputs import treebank
from attnviz.ui.inputs.sentences import sentences_of
from attnviz.ui.inputs.text_run import use
from attnviz.ui.widgets import mean_map, text_answers, text_display

SHOWN = 3  # sentences beside each other; the others wait in a popover

ui.header("text/start")
about = ui.reading()
model, tokens = about.model, about.sample.tokens["main"]

with st.container(horizontal=True):
    for number, text in enumerate(sentences_of(about.name)[:SHOWN]):
        st.button(text, key=f"sample:{number}", on_click=use, args=(text,))
    with st.popover("More", icon=":material/format_quote:"):
        for number, text in enumerate(sentences_of(about.name)[SHOWN:]):
            st.button(text, key=f"sample:{SHOWN + number}", on_click=use, args=(text,), type="tertiary")
    st.button("Use a picture", icon=":material/image:", on_click=ui.go, kwargs={"model": "vit"})
    with st.popover("A treebank sentence", icon=":material/account_tree:"), ui.report_errors():
        for number, text in enumerate(treebank.treebank()):
            st.button(text, key=f"treebank:{number}", on_click=use, args=(text,), type="tertiary")
ui.remarks(about)

text, answer = st.columns([2, 1], gap="large")
with text:
    look = text_display.look_at(tokens)
    chosen = look.picked(text_display.middle(tokens))
    title, slot, reason = mean_map.send_text_mean(about, look)
    if slot is None:
        st.markdown(reason)
    else:
        st.markdown(f"**{title}:** what {ui.spoken_name(look.tokens, chosen[0])} attends to")
        views.text_view("start:view", maps=slot, tokens=chosen, style=look.style, label=title, on_pick=look.pick)
with answer:
    st.subheader("The model's answer", anchor=False)
    text_answers.answers(about, look.groups.first(chosen[0]))
    st.caption(model.record)

for column, question in zip(st.columns(4), ui.experiments(ui.section("text/start", "Questions")), strict=True):
    with column.container(border=True, height="stretch"):
        ui.offer("text/start", question, f"question:{question.page}")
ui.footer("text/start")
