"""Which part of the picture the model reads: what the visitor chooses in the sidebar, kept in the address."""

from __future__ import annotations

import streamlit as st

from attnviz.models import Crop
from attnviz.ui.core.state import go
from attnviz.ui.inputs.uploads import Picture

WHOLE = {"zoom": 1.0, "across": 50, "down": 50}  # what the sliders say to begin with, by their names in the address
LAST = "attnviz:cropped"  # session key: the last picture, and the part that was read of it
MOST = 4.0  # a zoom: beyond it a photograph has few pixels left


def choose_crop(picture: Picture) -> None:
    """The sliders that move and shrink the crop. A new picture begins with its middle."""
    asked = {key: st.session_state.get(key, value) for key, value in WHOLE.items()}
    before, same = st.session_state.get(LAST, (picture.digest, {}))
    if before != picture.digest and same == asked:  # an address may say another picture and another crop at once
        go(**WHOLE)
    width, height = picture.image.size
    # No popover: while it is closed its sliders are not in the browser, and a change of page drops them from the
    # address.
    with st.expander("Crop", icon=":material/crop:"):
        st.caption("The model reads one square of the picture. Move it over what the model should name.")
        zoom = st.slider("Zoom", 1.0, MOST, WHOLE["zoom"], 0.1, format="%.1f x", key="zoom", bind="query-params")
        for key, title, fixed in (
            ("across", "From left to right", width <= height),
            ("down", "From top to bottom", height <= width),
        ):
            stuck = zoom == 1 and fixed  # the crop is as large as the picture
            st.slider(title, 0, 100, WHOLE[key], format="%d %%", key=key, bind="query-params", disabled=stuck)
        st.button("Back to the middle", icon=":material/center_focus_strong:", on_click=go, kwargs=WHOLE)
    st.session_state[LAST] = (picture.digest, {key: st.session_state[key] for key in WHOLE})


def chosen_crop() -> Crop:
    """The crop the visitor asks for."""
    zoom, across, down = (st.session_state.get(key, value) for key, value in WHOLE.items())
    return Crop(zoom, across / 100, down / 100)
