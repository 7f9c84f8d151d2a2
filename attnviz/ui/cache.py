"""What is computed once and shared by all visitors: models and traces. Keys are strings, entries are bounded."""

from __future__ import annotations

import streamlit as st
import torch

from attnviz.models import ImageModel, load
from attnviz.types import Sample, Trace
from attnviz.ui.device import best_device


@st.cache_resource(max_entries=8, show_spinner="Opening the model")
def open_model(name: str) -> ImageModel:
    """A shipped model by its name in MODELS, on the best device there is."""
    return load(name, device=best_device())


def trace(name: str, sample: Sample, *, positions: str = "own") -> Trace:
    """Everything the model computes for this sample; shared by all visitors, so never changed in place."""
    model = open_model(name)
    return _trace(model.digest, sample.digest, positions, model, sample)


@st.cache_resource(max_entries=32, show_spinner="Running the model")
def _trace(model_digest: str, sample_digest: str, positions: str, _model: ImageModel, _sample: Sample) -> Trace:
    with torch.no_grad():
        return _model(_sample, positions=positions)
