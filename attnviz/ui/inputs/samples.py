"""Pictures to start from: assets/samples/MODEL/NAME and .jpg or .png, their origin in assets/samples/LICENSES.md.

To add one: put the file there, its origin in LICENSES.md, its name in SAMPLES. The first is what a visitor sees first.
A photograph also needs a line in assets/samples/photographs.json, and `python -m attnviz.curate` has to find that the
model names it right, or that it is worth showing because the model does not.
"""

from __future__ import annotations

import json
from functools import lru_cache

import streamlit as st

from attnviz import paths
from attnviz.models.pictures import picture_from
from attnviz.ui.core.assets import reading
from attnviz.ui.inputs.uploads import Picture, picture_of

FOLDER = paths.SAMPLES
ENDINGS = {"vit": "jpg", "vit-digits": "png", "vit-scenes": "png"}  # model -> how the names of its files end
SAMPLES: dict[str, tuple[str, ...]] = {  # model -> names
    "vit": (
        "pepper",
        "snail",
        "butterfly",
        "barn",
        "albatross",
        "espresso",
        "alligator",
        "ladybug",
        "alp",
        "car",
        "train",
        "pizza",
        "cat",
    ),
    "vit-digits": ("three", "eight", "zero", "two", "five", "seven", "nine", "drawn"),
    "vit-scenes": ("colour", "shape", "two", "mosaic", "shortcut", "relation"),
}
WRONG = ("cat",)  # those that `vit` names wrongly, which teaches
REPLACED = {  # name in old addresses -> what is shown in its place
    "coffee": "espresso",
    "rocket": "barn",
    "palace": "barn",
    "astronaut": "pepper",
    "flower": "butterfly",
    "motorcycle": "car",
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


def replaced(model: str, name: str | None) -> str | None:
    """The sample picture shown in the place of one that an old address names; None where there is none to replace."""
    return None if name is None or name in samples_of(model) else REPLACED.get(name) if photographed(model) else None


def photographed(model: str) -> bool:
    """Whether the sample pictures of a model are the photographs."""
    return owner_of(model) == next(iter(SAMPLES))


def label_of(model: str, name: str) -> str:
    """What stands under a sample picture."""
    return f"{name} (wrong)" if photographed(model) and name in WRONG else name


def origin_of(model: str, name: str) -> tuple[str, str] | None:
    """What a photograph shows, and in Markdown whose it is; None for other pictures. Raises DamagedFile."""
    found = photographs().get(name) if photographed(model) else None
    if found is None:
        return None
    title = f"{found['title']}{'. `vit` names it wrongly' if name in WRONG else ''}"
    changes = f", {found['changes']}" if found["changes"] else ""
    return title, f"By [{found['author']}]({found['address']}), {found['licence']}{changes}"


@lru_cache(maxsize=1)
def photographs() -> dict[str, dict[str, str]]:
    """What is recorded of each photograph, by name. Raises DamagedFile."""
    path = FOLDER / "photographs.json"
    with reading(path):
        return {entry["name"]: entry for entry in json.loads(path.read_text(encoding="utf-8"))}


def open_sample(model: str, name: str) -> Picture:
    """One sample picture. Raises DamagedFile."""
    return _open(owner_of(model), name)


@st.cache_resource(max_entries=64, show_spinner=False)
def _open(owner: str, name: str) -> Picture:
    path = FOLDER / owner / f"{name}.{ENDINGS[owner]}"
    with reading(path):
        return picture_of(picture_from(path))
