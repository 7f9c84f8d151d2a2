"""Where an error becomes a calm sentence. Nothing else in the app catches what it does not understand."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any

import streamlit as st

from attnviz.models import DamagedModel
from attnviz.training.track import out_of_memory
from attnviz.types import NoTokenMap, UnsupportedMask
from attnviz.ui.cache import Busy
from attnviz.ui.uploads import BadImage

CALM = (DamagedModel, BadImage, UnsupportedMask, Busy)  # errors whose message is for the visitor
NO_MEMORY = "There was not enough memory for this. Try again in a moment, or open the smaller model."
WRONG = "Something went wrong on our side; it has been logged. Reload the page to start again."
ELSE = "Choose another model in the sidebar, or see what this one has on the Compare page."
log = logging.getLogger("attnviz")


@contextmanager
def guard() -> Iterator[None]:
    """Run a page body: what a visitor or a damaged file caused is said in a sentence, a bug is logged."""
    try:
        yield
    except NoTokenMap as error:
        st.info(f"This page has no true picture of this model. The reason: {str(error).rstrip('.')}. {ELSE}")
    except CALM as error:
        st.error(str(error), icon=":material/info:")
    except Exception as error:
        log.exception("a page failed")
        st.error(NO_MEMORY if out_of_memory(error) else WRONG)


def fragment(body: Callable[..., Any], run_every: float | None = None) -> Callable[..., Any]:
    """A part of a page that runs again by itself, under the same guard: `@ui.fragment`; also every so many seconds."""

    @wraps(body)
    def guarded(*args: Any, **kwargs: Any) -> Any:
        with guard():
            return body(*args, **kwargs)

    return st.fragment(guarded, run_every=run_every)
