"""Pictures to start from: assets/samples/MODEL/NAME and .jpg or .png, their origin in assets/samples/LICENSES.md.

To add one: put the file there, its origin in LICENSES.md, its name in SAMPLES. The first is what a visitor sees first.
"""

from __future__ import annotations

import streamlit as st

from attnviz import paths
from attnviz.models.pictures import picture_from
from attnviz.ui.core.assets import reading
from attnviz.ui.inputs.uploads import Picture, picture_of

FOLDER = paths.SAMPLES
ENDINGS = {"vit": "jpg", "vit-digits": "png", "vit-scenes": "png"}  # model -> how the names of its files end
SAMPLES: dict[str, tuple[str, ...]] = {  # model -> names
    "vit": ("coffee", "cat", "rocket", "palace", "astronaut", "flower", "motorcycle"),
    "vit-digits": ("three", "eight", "zero", "two", "five", "seven", "nine", "drawn"),
    "vit-scenes": ("colour", "shape", "two", "mosaic", "shortcut", "relation"),
}
TRAINED_HERE = "Trained here: "  # how the names of models begin that a visitor trained, all of them on digits


def samples_of(model: str) -> tuple[str, ...]:
    """The names of the sample pictures for a model."""
    return SAMPLES[owner_of(model)]


def owner_of(model: str) -> str:
    """Whose sample pictures a model gets: its own, the digits, or else photographs: those of the first model."""
    if model.startswith(TRAINED_HERE):
        return "vit-digits"
    return model if model in SAMPLES else next(iter(SAMPLES))


def open_sample(model: str, name: str) -> Picture:
    """One sample picture. Raises DamagedFile."""
    return _open(owner_of(model), name)


@st.cache_resource(max_entries=64, show_spinner=False)
def _open(owner: str, name: str) -> Picture:
    path = FOLDER / owner / f"{name}.{ENDINGS[owner]}"
    with reading(path):
        return picture_of(picture_from(path))
