"""Where an error becomes a sentence for the visitor. Nothing else in the app catches what it does not understand."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any, Literal

import streamlit as st
from streamlit.runtime.scriptrunner import get_script_run_ctx

from attnviz.hub import CannotOpen
from attnviz.models import DamagedFile
from attnviz.training.live.queue import out_of_memory
from attnviz.types import NoTokenMap, UnsupportedMask
from attnviz.ui.core.budget import TooLarge
from attnviz.ui.core.cache import Busy
from attnviz.ui.inputs.image_run import NoPicture
from attnviz.ui.inputs.uploads import BadImage

USER_ERRORS = (
    CannotOpen,
    DamagedFile,
    BadImage,
    UnsupportedMask,
    Busy,
    TooLarge,
)  # errors whose message is for the visitor
NO_MEMORY = "There was not enough memory for this. Try again in a moment, or choose a smaller input or model."
WRONG = "Something went wrong on our side; it has been logged. Reload the page to start again."
ELSE = "Choose another model in the sidebar, or open the Compare page, which shows what this one has instead."
BREATH = 0.1  # seconds between two steps that follow each other, in which the browser draws and a click comes through
Tone = Literal["info", "user", "bug"]
log = logging.getLogger("attnviz")


@contextmanager
def report_errors() -> Iterator[None]:
    """Run a page body: what a visitor or a damaged file caused is said in a sentence, a bug is logged."""
    try:
        yield
    except Exception as error:
        say(*message_of(error))


def message_of(error: Exception) -> tuple[Tone, str]:
    """What a visitor reads about an error, and in which tone; a bug is logged."""
    if isinstance(error, NoTokenMap | NoPicture):
        return "info", f"This page does not apply to this model. The reason: {str(error).rstrip('.')}. {ELSE}"
    if isinstance(error, USER_ERRORS):
        return "user", str(error)
    log.error("a page failed", exc_info=error)
    return "bug", NO_MEMORY if out_of_memory(error) else WRONG


def say(tone: Tone, sentence: str) -> None:
    """Show a sentence about something that went wrong."""
    if tone == "info":
        st.info(sentence)
    else:
        st.error(sentence, icon=":material/info:" if tone == "user" else None)


def fragment(body: Callable[..., Any], run_every: float | None = None) -> Callable[..., Any]:
    """A part of a page that runs again by itself, under the same guard: `@ui.fragment`; also every so many seconds."""

    @wraps(body)
    def guarded(*args: Any, **kwargs: Any) -> Any:
        with report_errors():
            return body(*args, **kwargs)

    return st.fragment(guarded, run_every=run_every)


def run_again() -> None:
    """Run the fragment at hand once more, or the page where all of it runs: something on it grows step by step.

    What comes after on the page stands as it was.
    """
    time.sleep(BREATH)
    context = get_script_run_ctx(suppress_warning=True)
    st.rerun(scope="fragment" if context is not None and context.fragment_ids_this_run else "app")
