"""What is done once, for all visitors: the default model is opened, imported modules are frozen."""

from __future__ import annotations

import gc
import logging
import sys

import streamlit as st

from attnviz.models import IMAGES
from attnviz.ui.core.cache import cores, shipped
from attnviz.ui.inputs.decoding import DECODERS

log = logging.getLogger("attnviz")
_frozen = 0  # how many modules had been imported when they were last frozen


def warm_up() -> None:
    """Open the default model and start a process that reads pictures.

    What goes wrong is logged here and said by the page: it must not end the server.
    """
    try:
        cores()
        DECODERS.start()
        default_model()
    except Exception:
        log.exception("the default model could not be opened")


@st.cache_resource(show_spinner=False)  # a cache within a cache shows no spinner either: there is no page to show it on
def default_model() -> None:
    """Open the default model as the first visitor will ask for it, with no word of a session or a page."""
    shipped(next(iter(IMAGES)), "")  # the second argument too: the cache tells calls apart by what is written


def freeze_imports() -> None:
    """Spare the garbage collector the modules imported so far; does nothing where no more have been imported since.

    Streamlit collects all garbage after every run of a script. With torch and plotly there are a quarter of a million
    objects to look through, and nothing reaches the browser meanwhile: 0.2 s of every click on two slow cores.
    """
    global _frozen
    if len(sys.modules) == _frozen:
        return
    _frozen = len(sys.modules)
    gc.collect()  # else garbage would be kept for good
    gc.freeze()
