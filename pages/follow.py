"""Follow a token: one token of a picture or text through one transformer block, stage by stage, and all layers."""

import streamlit as st

from attnviz import ui
from attnviz.ui.follow import animation, scene
from attnviz.ui.shell.prose import section
from attnviz.views.token_path import path_view

about = ui.model_run()
words = "text/follow" if ui.reads_text() else "follow"
tokens = about.sample.tokens["main"]

ui.header(words)
if isinstance(about, ui.TextRun):
    ui.remarks(about)


def follow(token: int) -> None:
    """Follow the token that was clicked."""
    ui.set_tokens("token", (token,))


@ui.fragment
def page() -> None:
    with st.container(horizontal=True, vertical_alignment="bottom"):
        layer = ui.call_choice(about.trace)
        head = ui.head_choice(about.trace.calls[layer])
    token = ui.chosen_token("token", len(tokens), scene.start_token(about))
    stages, path = scene.stages_of(about, layer, head, token)
    if not stages:
        st.info(scene.NOTHING, icon=":material/info:")
        return
    shown = scene.scene_of(about, path)
    path_view(
        "follow:path",
        scene=shown,
        stages=stages,
        token=token,
        stage=scene.chosen_stage(stages),
        dark=ui.dark(),
        on_token=follow,
        on_stage=scene.rest_on,
    )
    if path is not None and (caveat := about.trace.calls[layer].rule.caveat):
        st.caption(caveat)
    animation.offer(about, shown, stages, token)


page()
section("follow", "In formulas")
ui.footer(words)
