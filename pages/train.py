"""Train: a small network of any variant learns to read digits in front of you, alone or against another."""

import streamlit as st

from attnviz import ui
from attnviz.ui.shell import training_status
from attnviz.ui.shell.prose import section
from attnviz.ui.train import choices, runs

ui.header("train")
plan = choices.chosen()
race = runs.race_of(plan)
runs.remark(race, plan)
runs.buttons(race, plan)
active = race.active


def body() -> None:
    runs.status(race, training_status.track().look(race))
    if race.lanes:
        runs.curves(race)
        replay()
    if active and not race.active:
        st.rerun()  # it has ended: other buttons, and no more looking every second


def replay() -> None:
    st.subheader("What it looks at, epoch by epoch", anchor=False)
    with st.container(horizontal=True, vertical_alignment="bottom", gap="medium"):
        epoch, digit = runs.moment_choice(race), runs.digit_choice()
        style = ui.display(small=False)
    runs.send_picture(digit)
    for number, place in enumerate(st.columns(len(race.lanes), gap="large")):
        with place:
            runs.lane_view(race, number, epoch, digit, style)


ui.fragment(body, run_every=training_status.EVERY if active else None)()
section("train", "How it learns")
runs.seeds_table()
ui.footer("train")
