"""Models of others, opened by visitors: shared by all of them, within a budget of bytes; a session knows their names.

An address never starts a download. What was opened before on this server, and is still there, opens by its address.
"""

from __future__ import annotations

from threading import Lock

import streamlit as st

from attnviz.hub.load import load
from attnviz.hub.source import FOLDER, HUB, read_policy, source_of
from attnviz.types import Modality, Model
from attnviz.ui.core.device import best_device
from attnviz.ui.core.sized_cache import SizedCache

OPENED = "attnviz:others"  # session key: what each model opened in this session reads, by its name
PREFIXES = (HUB, FOLDER)


@st.cache_resource(show_spinner=False)
def others() -> SizedCache[Model]:
    """The models of others used last, at most as many bytes as the operator allows; the one in use is always there."""
    return SizedCache(entries=64, size=int(read_policy().memory))


@st.cache_resource(show_spinner=False)
def loading() -> Lock:
    """Held by whoever opens a model: one at a time."""
    return Lock()


def opened_others() -> dict[str, Modality]:
    """What the models opened in this session read, by name; that of the address is among them if it is open already."""
    if OPENED not in st.session_state:
        st.session_state[OPENED] = {}
        asked = st.query_params.get("model", "")
        if asked.startswith(PREFIXES) and (asked,) in others():
            st.session_state[OPENED][asked] = open_other(asked).spec.modality
    return st.session_state[OPENED]


def open_other(name: str) -> Model:
    """A model that was opened before; read again from the disk if it had to leave meanwhile. Raises CannotOpen."""

    def again() -> Model:
        source = source_of(name, read_policy())
        with st.spinner("Opening the model again"):
            return load(source.folder or name).to(best_device())  # type: ignore[return-value]

    return others().get((name,), again)
