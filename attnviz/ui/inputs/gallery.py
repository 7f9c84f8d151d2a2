"""The sample pictures as a row of buttons: one click and the whole app shows another picture."""

from __future__ import annotations

from pathlib import Path

import streamlit as st
from PIL import Image
from streamlit.components.v2 import component

from attnviz.models import CENTER_CROP, DamagedFile
from attnviz.ui.core.assets import picture_address
from attnviz.ui.inputs.image_run import ImageRun, own_pictures
from attnviz.ui.inputs.samples import label_of, open_sample, samples_of

SIDE = 96  # pixels of a thumbnail
HERE = Path(__file__).parent

_gallery = component(
    "attnviz_gallery",
    html='<div class="gallery" role="group" aria-label="Sample pictures"></div>',
    css=(HERE / "gallery.css").read_text(),
    js=(HERE / "gallery.js").read_text(),
)


def gallery(visit: ImageRun, key: str = "gallery") -> None:
    """Show the pictures to choose from; the chosen one is marked, and one that cannot be opened is named."""
    pictures, lacking = [], []
    for name in samples_of(visit.name):
        try:
            pictures.append((name, thumbnail(visit.name, name)))
        except DamagedFile as error:
            lacking.append(str(error))
    pictures += [(kind, address_of(picture.image)) for kind, picture in own_pictures().items()]

    def picked() -> None:
        if name := st.session_state[key].get("name"):
            st.session_state["sample"] = name

    shown = [{"name": name, "label": label_of(visit.name, name), "address": address} for name, address in pictures]
    data = {"pictures": shown, "chosen": visit.source}
    _gallery(key=key, data=data, on_name_change=picked)
    for sentence in lacking:
        st.caption(sentence)


@st.cache_resource(max_entries=64, show_spinner=False)  # cache_data wants a server, which is not there at import
def thumbnail(model: str, name: str) -> str:
    """A small square of a sample picture, as a data address. Raises DamagedFile."""
    return address_of(open_sample(model, name).image)


def address_of(image: Image.Image) -> str:
    """The middle square of a picture as a small data address; tiny pictures keep their pixels."""
    side = min(image.size)
    square = image.crop(CENTER_CROP.box(*image.size))
    size = (SIDE * 2, SIDE * 2)
    if side > SIDE:
        return picture_address(square.resize(size, Image.Resampling.LANCZOS), "JPEG", quality=80)
    return picture_address(square.resize(size, Image.Resampling.NEAREST), "PNG")
