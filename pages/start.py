"""Start: a picture, the model's answer, and one map to move the pointer over."""

import streamlit as st

from attnviz import ui, views
from attnviz.ui.core.recorded import middle
from attnviz.ui.widgets import mean_map
from attnviz.ui.widgets.display import kind_words, network_choice

ui.header("start")
visit = ui.visit()
model, tokens = visit.model, visit.sample.tokens["main"]

pictures, own = st.columns([4, 1], vertical_alignment="center")
with pictures:
    ui.gallery(visit)
with own:
    with st.popover("Your picture", icon=":material/add_photo_alternate:"):
        ui.bring_picture("start:image")
    st.button("Use a sentence", icon=":material/notes:", on_click=ui.go, kwargs={"model": "sentences"})

picture, answer = st.columns([2, 1], gap="large")
with picture:
    view, below = st.container(), st.container()
with below:
    network = network_choice()
with view:
    picked = ui.chosen_tokens("token", len(tokens), (0 if tokens.prefix else middle(tokens),))
    ui.share_picture(visit)
    title, maps, reason = mean_map.send_mean(visit, picked)
    views.picture_view(
        "start:view",
        picture="picture",
        maps=maps,
        tokens=picked,
        label=title,
        height=480,
        style=views.ViewStyle(overlay="light", hide_special=True, model_input=network),
        on_pick=lambda chosen: ui.set_tokens("token", chosen),
    )
    if said := " ".join(filter(None, (reason, kind_words(visit.trace.calls[-1])))):
        st.caption(said)
with answer:
    st.subheader("The model's answer", anchor=False)
    ui.predictions(visit)
    st.caption(model.record)

for column, question in zip(st.columns(4), ui.experiments(ui.section("start", "Questions")), strict=True):
    with column.container(border=True, height="stretch"):
        ui.offer("start", question, f"question:{question.page}")
with st.expander("What the model can answer, and what it cannot"):
    ui.knows(model)
ui.footer("start")
