"""Which part of the picture the model reads: what the visitor chooses in the sidebar, kept in the address."""

from __future__ import annotations

from math import gcd

import streamlit as st

from attnviz.models import Crop
from attnviz.ui.core.state import go
from attnviz.ui.inputs.uploads import Picture

WHOLE = {"zoom": 1.0, "across": 50, "down": 50}  # what the sliders say to begin with, by their names in the address
LAST = "attnviz:cropped"  # session key: the last picture, and the part that was read of it
MOST = 4.0  # a zoom: beyond it a photograph has few pixels left


def choose_crop(picture: Picture, input_size: tuple[int, int] | None = None) -> None:
    """The sliders that move and shrink the crop. A new picture begins with its middle."""
    asked = {key: st.session_state.get(key, value) for key, value in WHOLE.items()}
    before, same = st.session_state.get(LAST, (picture.digest, {}))
    if before != picture.digest and same == asked:  # an address may say another picture and another crop at once
        go(**WHOLE)
    left, top, right, bottom = crop_box(Crop(), picture.image.size, input_size)
    width, height = picture.image.size
    # No popover: while it is closed its sliders are not in the browser, and a change of page drops them from the
    # address.
    with st.expander("Crop", icon=":material/crop:"):
        st.caption("The model reads this part of the picture only. Move it over what the model should name.")
        zoom = st.slider("Zoom", 1.0, MOST, WHOLE["zoom"], 0.1, format="%.1f x", key="zoom", bind="query-params")
        for key, title, fixed in (
            ("across", "From left to right", right - left == width),
            ("down", "From top to bottom", bottom - top == height),
        ):
            stuck = zoom == 1 and fixed
            st.slider(title, 0, 100, WHOLE[key], format="%d %%", key=key, bind="query-params", disabled=stuck)
        st.button("Back to the middle", icon=":material/center_focus_strong:", on_click=go, kwargs=WHOLE)
    st.session_state[LAST] = (picture.digest, {key: st.session_state[key] for key in WHOLE})


def chosen_crop() -> Crop:
    """The crop the visitor asks for."""
    zoom, across, down = (st.session_state.get(key, value) for key, value in WHOLE.items())
    return Crop(zoom, across / 100, down / 100)


def crop_box(crop: Crop, size: tuple[int, int], input_size: tuple[int, int] | None = None) -> tuple[int, int, int, int]:
    """A crop in pixels (left, top, right, bottom) of a picture of this width and height.

    It is as broad and high as the model's input, (rows, columns); a square where that is not known.
    """
    rows, columns = input_size or (1, 1)
    rows, columns = rows // gcd(rows, columns), columns // gcd(rows, columns)
    width, height = size
    # On a picture stretched so that the input is a square, the crop is one too.
    left, top, right, bottom = crop.box(width * rows, height * columns)
    wide, high = left // rows, top // columns
    return wide, high, max(wide + 1, right // rows), max(high + 1, bottom // columns)
