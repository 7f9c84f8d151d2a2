"""Pictures to start from: assets/samples/MODEL/NAME.{jpg,png}, their origin in assets/samples/LICENSES.md."""

from __future__ import annotations

from pathlib import Path

import streamlit as st
from PIL import Image

FOLDER = Path(__file__).resolve().parents[2] / "assets" / "samples"


@st.cache_resource(show_spinner=False)
def samples_of(model: str) -> dict[str, Path]:
    """The sample pictures for a model, by name."""
    found = sorted(p for p in (FOLDER / model).glob("*") if p.suffix in (".jpg", ".png"))
    return {path.stem: path for path in found}


@st.cache_resource(max_entries=32, show_spinner=False)
def open_sample(model: str, name: str) -> Image.Image:
    """One of them, upright RGB."""
    with Image.open(samples_of(model)[name]) as picture:
        return picture.convert("RGB")
