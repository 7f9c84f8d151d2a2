"""Train: a small network of any variant learns to read digits in front of you, alone or beside another."""

import streamlit as st

from attnviz import ui
from attnviz.ui.shell import training_status
from attnviz.ui.shell.prose import section
from attnviz.ui.train import charts, choices, replay, runs

ui.header("train")
row = st.container(horizontal=True, vertical_alignment="bottom")
plan = choices.chosen(row)
run = runs.run_of(plan)
runs.describe_run(run, plan)
runs.buttons(run, plan, row)
active = run.active


def body() -> None:
    runs.show_status(run, training_status.queue().heartbeat(run))
    if run.models:
        charts.draw_curves(run)
        maps()
    if active and not run.active:
        st.rerun()  # it has ended: other buttons, and no more heartbeats from here


def maps() -> None:
    st.subheader("Attention maps by epoch", anchor=False)
    with st.container(horizontal=True, vertical_alignment="bottom", gap="medium"):
        epoch, digit = replay.choose_epoch(run), replay.choose_digit()
        style = ui.display(small=False)
    replay.send_picture(digit)
    for number, column in enumerate(st.columns(len(run.models), gap="large")):
        with column:
            replay.draw_model(run, number, epoch, digit, style)


ui.fragment(body, run_every=training_status.EVERY if active else None)()
section("train", "How it is trained")
runs.seeds_table()
ui.footer("train")
