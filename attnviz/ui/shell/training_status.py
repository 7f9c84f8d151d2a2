"""The training of this visitor, on every page: that somebody still watches, and how far it is."""

from __future__ import annotations

import streamlit as st

from attnviz.training.live import runs
from attnviz.training.live.queue import Queue
from attnviz.ui.core.cache import cores
from attnviz.ui.shell.errors import fragment

RACE = "attnviz:race"  # session key: what this visitor trains
BEFORE, BACK = "attnviz:train:before", "attnviz:train:back"  # session keys: the page before; whether it was another one
EVERY = 1.5  # seconds between two looks at a race that learns


@st.cache_resource(show_spinner=False)
def track() -> Queue:
    """The one track of this server; every race takes one thread of the processor."""
    cores()
    return Queue()


def watch() -> runs.TrainingRun | None:
    """Tell the track that this visitor's race, if there is one, is still watched."""
    race = st.session_state.get(RACE)
    if race is not None:
        track().look(race)
    return race


def beat(page: str) -> None:
    """On every run of every page: somebody still watches; beside other pages, the sidebar says how far it is."""
    arrive(page)
    race = watch()
    if race is not None and race.active and page != "train":
        with st.sidebar:
            fragment(beside, run_every=2 * EVERY)(race)


def beside(race: runs.TrainingRun) -> None:
    """How far the training is, in the sidebar of another page."""
    place = track().look(race)
    names = " and ".join(lane.title for lane in race.lanes)
    st.progress(race.step / race.steps, f"Training {names}" if not place else f"Training: number {place} in line")
    if not race.active:
        st.rerun()


def arrive(page: str) -> None:
    """On every run of every page: note when the visitor comes to Train from another one."""
    if page == "train" and st.session_state.get(BEFORE, page) != page:
        st.session_state[BACK] = True
    st.session_state[BEFORE] = page
