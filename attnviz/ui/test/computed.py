"""What the sections of the Test page compute: kept for all visitors, with a bar while it takes, and as Python lines."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import streamlit as st

from attnviz.interventions import Progress
from attnviz.paths import ROOT
from attnviz.types import Target
from attnviz.ui.core.cache import core, session_models
from attnviz.ui.core.sized_cache import SizedCache
from attnviz.ui.inputs.model_run import ModelRun
from attnviz.ui.inputs.samples import ENDINGS, FOLDER, owner_of, samples_of
from attnviz.ui.test.again import OF_SESSION, YOURS, given

Value = TypeVar("Value")
PATIENT = 0.5  # seconds before a bar is shown


@st.cache_resource(show_spinner=False)
def results() -> SizedCache[Any]:
    """What was computed last: at most 128 results, at most 100 MB."""
    return SizedCache(entries=128, size=100_000_000)


def computed(key: Sequence[object], make: Callable[[Progress], Value], said: str) -> Value:
    """What is kept under this key, or made now, with a bar that says `said` where that takes. Raises Busy."""

    def run() -> Value:
        place, began = st.empty(), time.monotonic()

        def progress(share: float) -> None:
            if time.monotonic() - began > PATIENT:
                place.progress(min(1.0, share), said)

        with core():
            value = make(progress)
        place.empty()
        return value

    return results().get(tuple(map(str, key)), run)


def opening(about: ModelRun, *imports: str, raw: str | None = None) -> list[str]:
    """The Python lines that open this model and this input; `raw` is a text in the place of the one in the sidebar."""
    prepared = given(about) if raw is None else repr(raw)
    pictures = ["from PIL import Image"] if "Image." in prepared else []
    return [
        "import attnviz",
        *imports,
        *pictures,
        "",
        f"model = attnviz.load({about.name!r})",
        f"sample = model.prepare({prepared})",
    ]


def picture_file(model: str, name: str) -> str:
    """The file of a sample picture, from the folder that holds the app; a made-up name for a visitor's own."""
    if name not in samples_of(model):
        return YOURS
    owner = owner_of(model)
    return (FOLDER / owner / f"{name}.{ENDINGS[owner]}").relative_to(ROOT).as_posix()


def target_line(target: Target) -> str:
    """A target as Python writes it."""
    return f"Target({target.output!r}, {target.row}, {target.label})"


def show_lines(about: ModelRun, lines: Sequence[str]) -> None:
    """The Python lines that compute this again, on demand."""
    with st.expander("Python", icon=":material/code:"):
        if about.name in session_models():
            st.caption(OF_SESSION)
            return
        st.code("\n".join(lines), language="python", wrap_lines=True)
