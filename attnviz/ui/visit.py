"""What this visitor looks at: the sidebar's choices, and the record of them that pages read."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import streamlit as st
from PIL import Image

from attnviz.models import MODELS, ImageModel
from attnviz.types import Sample, Trace
from attnviz.ui.cache import open_model, trace
from attnviz.ui.samples import open_sample, samples_of
from attnviz.ui.uploads import decode


@dataclass(frozen=True, eq=False)
class Visit:
    """One model, one picture, and everything the model computed for it."""

    model: ImageModel
    name: str  # of the model, in MODELS
    picture: Image.Image  # the visitor's picture, upright RGB
    sample: Sample
    trace: Trace
    source: str  # "dog", "upload", "camera"


def sidebar() -> None:
    """Draw the choices shared by all pages: the model and the picture."""
    with st.sidebar:
        names = [n for n, entry in MODELS.items() if entry.modality == "image"]
        name = st.selectbox("Model", names, key="model", bind="query-params")
        options = list(samples_of(name))
        if st.session_state.get("sample") not in options:
            st.session_state.pop("sample", None)
        st.selectbox("Picture", options, key="sample", bind="query-params")
        st.file_uploader("Your own picture", type=["png", "jpg", "jpeg", "webp"], key="image", max_upload_size=10)


def visit() -> Visit:
    """What the sidebar has chosen, with its trace. Raises BadImage, DamagedModel."""
    name = st.session_state["model"]
    upload = st.session_state.get("image")
    source = "upload" if upload else st.session_state["sample"]
    picture = decode(upload.getvalue()) if upload else open_sample(name, source)
    model = open_model(name)
    digest = hashlib.sha256(picture.tobytes() + repr(picture.size).encode()).hexdigest()
    sample = _prepared(model.digest, digest, model, picture)
    return Visit(model, name, picture, sample, trace(name, sample), source)


@st.cache_resource(max_entries=64, show_spinner=False)
def _prepared(model_digest: str, picture_digest: str, _model: ImageModel, _picture: Image.Image) -> Sample:
    return _model.prepare(_picture)
