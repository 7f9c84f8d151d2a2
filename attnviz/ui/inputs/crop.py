"""Which square of the picture the network sees: what the visitor asks for in the sidebar, kept in the address."""

from __future__ import annotations

import streamlit as st

from attnviz.models import Crop
from attnviz.ui.core.state import go
from attnviz.ui.inputs.uploads import Picture

WHOLE = {"zoom": 1.0, "across": 50, "down": 50}  # what the sliders say to begin with, by their names in the address
LAST = "attnviz:framed"  # session key: the last picture, and the square that was seen of it
MOST = 4.0  # a zoom: beyond it a photograph has few pixels left


def choose_framing(picture: Picture) -> None:
    """The sliders that move and shrink the square. A new picture begins with its middle."""
    asked = {key: st.session_state.get(key, value) for key, value in WHOLE.items()}
    before, same = st.session_state.get(LAST, (picture.digest, {}))
    if before != picture.digest and same == asked:  # an address may say another picture and another square at once
        go(**WHOLE)
    width, height = picture.image.size
    # No popover: while it is closed its sliders are not in the browser, and a change of page drops them from the
    # address.
    with st.expander("Crop", icon=":material/crop:"):
        st.caption("The network sees one square of the picture. Bring what it should name into it.")
        zoom = st.slider("Zoom", 1.0, MOST, WHOLE["zoom"], 0.1, format="%.1f x", key="zoom", bind="query-params")
        st.slider(
            "From left to right",
            0,
            100,
            WHOLE["across"],
            format="%d %%",
            key="across",
            bind="query-params",
            disabled=zoom == 1 and width <= height,
        )
        st.slider(
            "From top to bottom",
            0,
            100,
            WHOLE["down"],
            format="%d %%",
            key="down",
            bind="query-params",
            disabled=zoom == 1 and height <= width,
        )
        st.button("Back to the middle", icon=":material/center_focus_strong:", on_click=go, kwargs=WHOLE)
    st.session_state[LAST] = (picture.digest, {key: st.session_state[key] for key in WHOLE})


def framing() -> Crop:
    """The square the visitor asks for."""
    zoom, across, down = (st.session_state.get(key, value) for key, value in WHOLE.items())
    return Crop(zoom, across / 100, down / 100)
