"""The training run of this visitor, on every page: its heartbeat, and its progress in the sidebar."""

from __future__ import annotations

import streamlit as st

from attnviz.training.live import runs
from attnviz.training.live.queue import Queue
from attnviz.ui.core.cache import cores
from attnviz.ui.shell.errors import fragment

RUN = "attnviz:training"  # session key: what this visitor trains
BEFORE, BACK = "attnviz:train:before", "attnviz:train:back"  # session keys: the page before; whether it was another one
EVERY = 1.5  # seconds between two heartbeats of a running training


@st.cache_resource(show_spinner=False)
def queue() -> Queue:
    """The one queue of this server; every run takes one thread of the processor."""
    cores()
    return Queue()


def watch() -> runs.TrainingRun | None:
    """Send the heartbeat of this visitor's run, if there is one."""
    run = st.session_state.get(RUN)
    if run is not None:
        queue().heartbeat(run)
    return run


def beat(page: str) -> None:
    """On every script run of every page: send the heartbeat; on other pages, show the progress in the sidebar."""
    arrive(page)
    run = watch()
    if run is not None and run.active and page != "train":
        with st.sidebar:
            fragment(beside, run_every=2 * EVERY)(run)


def beside(run: runs.TrainingRun) -> None:
    """The progress of the training, in the sidebar of another page."""
    place = queue().heartbeat(run)
    names = " and ".join(model.title for model in run.models)
    st.progress(run.step / run.steps, f"Training {names}" if not place else f"Training queued (position {place})")
    if not run.active:
        st.rerun()


def arrive(page: str) -> None:
    """On every run of every page: note when the visitor comes to Train from another one."""
    if page == "train" and st.session_state.get(BEFORE, page) != page:
        st.session_state[BACK] = True
    st.session_state[BEFORE] = page
