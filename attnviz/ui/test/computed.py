"""What the sections of the Test page compute: kept for all visitors, with a bar while it takes."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import streamlit as st

from attnviz.interventions import Progress
from attnviz.ui.core.cache import core
from attnviz.ui.core.sized_cache import SizedCache

Value = TypeVar("Value")
PATIENT = 0.5  # seconds before a bar is shown


@st.cache_resource(show_spinner=False)
def results() -> SizedCache[Any]:
    """What was computed last: at most 1,024 results, at most 150 MB."""
    return SizedCache(entries=1024, size=150_000_000)


def computed(key: Sequence[object], make: Callable[[Progress], Value], said: str) -> Value:
    """What is kept under this key, or made now, with a bar that says `said` where that takes. Raises Busy."""
    place = st.empty()  # always there, so that what follows keeps its place

    def run() -> Value:
        began = time.monotonic()

        def progress(share: float) -> None:
            if time.monotonic() - began > PATIENT:
                place.progress(min(1.0, share), said)

        try:
            with core():
                return make(progress)
        finally:
            place.empty()

    return results().get(tuple(map(str, key)), run)
