"""What the sections of the Test page compute: kept for all visitors, with a bar while it takes, and as Python lines."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import streamlit as st

from attnviz.interventions import Progress
from attnviz.paths import ROOT
from attnviz.types import Target
from attnviz.ui.core.cache import core
from attnviz.ui.core.sized_cache import SizedCache
from attnviz.ui.inputs.image_run import ImageRun
from attnviz.ui.inputs.model_run import ModelRun
from attnviz.ui.inputs.samples import FOLDER, owner_of, samples_of

Value = TypeVar("Value")
PATIENT = 0.5  # seconds before a bar is shown
YOURS = "your-picture.jpg"


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


def opening(about: ModelRun, *imports: str) -> list[str]:
    """The Python lines that open this model and this input."""
    return [
        "import attnviz",
        *imports,
        "",
        f"model = attnviz.load({about.name!r})",
        f"sample = model.prepare({raw_of(about)!r})",
    ]


def raw_of(about: ModelRun) -> str:
    """What `prepare` is given: the text, or the file of the picture."""
    if not isinstance(about, ImageRun):
        return about.sample.text
    return picture_file(about.name, about.source)


def picture_file(model: str, name: str) -> str:
    """The file of a sample picture; a made-up name for a visitor's own."""
    if name not in samples_of(model):
        return YOURS
    return next((FOLDER / owner_of(model)).glob(f"{name}.*")).relative_to(ROOT).as_posix()


def target_line(target: Target) -> str:
    """A target as Python writes it."""
    return f"Target({target.output!r}, {target.row}, {target.label})"


def show_lines(lines: Sequence[str]) -> None:
    """The Python lines that compute this again, on demand."""
    with st.popover("Python", icon=":material/code:"):
        st.code("\n".join(lines), language="python")
