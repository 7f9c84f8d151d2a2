"""Train: a small network of any variant learns to read digits in front of you, alone or against another."""

import streamlit as st

from attnviz import ui
from attnviz.ui import train, train_choices
from attnviz.ui.prose import section

ui.header("train")
plan = train_choices.chosen()
race = train.race_of(plan)
train.remark(race, plan)
train.buttons(race, plan)
active = race.active


def body() -> None:
    train.status(race, train.track().look(race))
    if race.lanes:
        train.curves(race)
        replay()
    if active and not race.active:
        st.rerun()  # it has ended: other buttons, and no more looking every second


def replay() -> None:
    st.subheader("What it looks at, epoch by epoch", anchor=False)
    with st.container(horizontal=True, vertical_alignment="bottom", gap="medium"):
        epoch, digit = train.moment_choice(race), train.digit_choice()
        look = ui.display(small=False)
    train.send_picture(digit)
    for number, place in enumerate(st.columns(len(race.lanes), gap="large")):
        with place:
            train.lane_view(race, number, epoch, digit, look)


ui.fragment(body, run_every=train.EVERY if active else None)()
section("train", "How it learns")
train.seeds_table()
ui.footer("train")
