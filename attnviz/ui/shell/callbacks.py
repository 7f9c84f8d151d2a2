"""Errors in callbacks are reported too: a click whose callback fails leaves the page whole, with a sentence on top.

Streamlit calls them before the script runs, so an error in one would leave nothing but its red box. All of them, those
of components, of forms and of fragments too, pass through one method of its session state, which is where they are
caught: no widget can forget it. The sentence waits in the session, because what a callback draws is lost.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import streamlit as st
from streamlit.runtime.state.session_state import SessionState

from attnviz.ui.shell.errors import message_of, say

FAILED = "attnviz:failed"  # session key: what a callback left to be said, until it is
PASS = "_run_callback_and_record_rerun"  # Streamlit's method; its version is pinned, and tests/ui/test_callbacks.py
WATCHED = "attnviz_watched"


def watch_callbacks() -> None:
    """Report the errors of every callback there is and will be; once for the whole process."""
    run_one: Callable[..., None] = getattr(SessionState, PASS)
    if hasattr(run_one, WATCHED):
        return

    def guarded(state: SessionState, votes: Any, run: Callable[[], None]) -> None:
        run_one(state, votes, lambda: attempt(run))

    setattr(guarded, WATCHED, True)
    setattr(SessionState, PASS, guarded)


def attempt(run: Callable[[], None]) -> None:
    """Run a callback; where it fails, keep what is to be said, and run the whole page, also from within a fragment."""
    try:
        run()
    except Exception as error:  # st.rerun and st.switch_page are none
        st.session_state[FAILED] = message_of(error)
        st.rerun()


def say_what_failed() -> None:
    """What went wrong in a callback before this run, said once, at the top of the page."""
    with st.empty():  # always there, so that what follows keeps its place and its state
        if FAILED in st.session_state:
            say(*st.session_state.pop(FAILED))
