"""Train: a small network of any variant learns to read digits in front of you, alone or against another."""

import streamlit as st

from attnviz import ui
from attnviz.ui.shell import training_status
from attnviz.ui.shell.prose import section
from attnviz.ui.train import choices, runs

ui.header("train")
plan = choices.chosen()
run = runs.run_of(plan)
runs.describe_run(run, plan)
runs.buttons(run, plan)
active = run.active


def body() -> None:
    runs.status(run, training_status.queue().heartbeat(run))
    if run.models:
        runs.curves(run)
        replay()
    if active and not run.active:
        st.rerun()  # it has ended: other buttons, and no more looking every second


def replay() -> None:
    st.subheader("What it looks at, epoch by epoch", anchor=False)
    with st.container(horizontal=True, vertical_alignment="bottom", gap="medium"):
        epoch, digit = runs.choose_epoch(run), runs.choose_digit()
        style = ui.display(small=False)
    runs.send_picture(digit)
    for number, place in enumerate(st.columns(len(run.models), gap="large")):
        with place:
            runs.model_view(run, number, epoch, digit, style)


ui.fragment(body, run_every=training_status.EVERY if active else None)()
section("train", "How it learns")
runs.seeds_table()
ui.footer("train")
