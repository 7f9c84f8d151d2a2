"""What is computed once and shared by all visitors: models and traces. Nobody changes them in place."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields, is_dataclass, replace
from threading import BoundedSemaphore
from typing import Any, TypeVar

import streamlit as st
import torch
from torch import Tensor

from attnviz.models import IMAGES, TEXTS, ImageModel, TextModel, load_image, load_text, store
from attnviz.types import Sample, Tokens, Trace, unchanged
from attnviz.ui.core import bench
from attnviz.ui.core.device import best_device
from attnviz.ui.core.sized_cache import SizedCache

PATIENCE = 20  # seconds a visitor waits for a free core
MODEL_ENTRIES = 32  # the largest has 15 MB, those of a bench 3 to 6 MB
TRAINED = "attnviz:trained"  # session key: the models this visitor has trained, by name
Model = TypeVar("Model", ImageModel, TextModel)
log = logging.getLogger("attnviz")


class Busy(RuntimeError):
    """Every core has been taken for too long; the message is a sentence for the visitor."""


@st.cache_resource(show_spinner=False)
def cores() -> BoundedSemaphore:
    """As many permits to compute as there are cores; each computation takes one thread, which is fastest under load."""
    torch.set_num_threads(1)
    return BoundedSemaphore(os.cpu_count() or 1)


@contextmanager
def core() -> Iterator[None]:
    """Hold one permit to compute. Raises Busy where none comes free in time."""
    permits = cores()
    if not permits.acquire(timeout=PATIENCE):
        raise Busy("Many visitors are computing right now. Try again in a moment.")
    try:
        yield
    finally:
        permits.release()


@st.cache_resource(show_spinner=False)
def traces() -> SizedCache[Trace]:
    """The traces computed last: at most 96, at most 400 MB."""
    return SizedCache(entries=96, size=400_000_000)


def trained_here() -> dict[str, ImageModel]:
    """The models this visitor has trained, by name. They live as long as the session, and nobody else meets them."""
    return st.session_state.setdefault(TRAINED, {})


def open_model(name: str, device: str = "") -> ImageModel:
    """A model of pictures: shipped, on the best device there is, or trained by this visitor. Raises DamagedModel."""
    return trained_here()[name] if name in trained_here() else shipped(name, device)


def open_text_model(name: str, device: str = "") -> TextModel:
    """A model of texts, by its name in TEXTS or in the bench. Raises DamagedModel."""
    return shipped_text(name, device)


def open_any(name: str, device: str = "") -> ImageModel | TextModel:
    """A model of pictures or of texts."""
    return open_text_model(name, device) if store.reads_text(name) else open_model(name, device)


def model_names() -> list[str]:
    """The models this visitor can look into."""
    return [*IMAGES, *TEXTS, *bench.bench(bench.PICTURES).models, *bench.bench(bench.TEXTS).models, *trained_here()]


@st.cache_resource(max_entries=MODEL_ENTRIES, show_spinner="Opening the model")
def shipped(name: str, device: str = "") -> ImageModel:
    """A shipped model of pictures, by its name in IMAGES or in the bench."""
    return opened(load_image, name, device or best_device())


@st.cache_resource(max_entries=MODEL_ENTRIES, show_spinner="Opening the model")
def shipped_text(name: str, device: str = "") -> TextModel:
    """A shipped model of texts, by its name in TEXTS or in the bench."""
    return opened(load_text, name, device or best_device())


def opened(load: Callable[..., Model], name: str, device: str | torch.device) -> Model:
    """A model on this device; on the processor where the graphics card has no memory left."""
    try:
        return load(name, device=device)
    except torch.OutOfMemoryError:
        log.warning("no memory for %s on %s; it is opened on the processor", name, device)
        return load(name, device="cpu")


def trace(name: str, sample: Sample, *, positions: str = "own") -> Trace:
    """Everything the model computes for this sample, on the processor. Raises DamagedModel, Busy."""
    model = open_any(name)
    return traces().get((model.digest, sample.digest, positions), lambda: compute(name, sample, positions))


def compute(name: str, sample: Sample, positions: str) -> Trace:
    """One forward pass, with a word to the visitor while it runs."""
    with st.spinner("Running the model"):
        return forward(name, sample, positions)


def forward(name: str, sample: Sample, positions: str = "own") -> Trace:
    """One forward pass without gradients, not kept; on the processor where the graphics card has no memory left."""
    with core(), torch.no_grad():
        try:
            return on_processor(open_any(name)(sample, positions=positions))
        except torch.OutOfMemoryError:
            st.toast("The graphics card is out of memory, so this was computed on the processor.")
            return open_any(name, "cpu")(sample, positions=positions)


def on_processor(trace: Trace) -> Trace:
    """A trace whose tensors lie in main memory, where pages can read them as arrays."""
    if all(t.device.type == "cpu" for t in trace.logits.values()):
        return trace
    calls = tuple(replace(call, graph=None, arrange=unchanged) for call in trace.calls)
    names = ("token_embeddings", "position_embeddings", "residuals", "pooling", "logits")
    return replace(trace, **moved({"calls": calls, **{name: getattr(trace, name) for name in names}}))


def moved(value: Any, device: str = "cpu") -> Any:
    """The same tensors in main memory, with all that holds them: rules and biases keep tables of the network."""
    if isinstance(value, Tensor):
        return value.detach().to(device)
    if isinstance(value, Mapping):
        return {name: moved(item, device) for name, item in value.items()}
    if type(value) is tuple:
        return tuple(moved(item, device) for item in value)
    if is_dataclass(value) and not isinstance(value, (type, Tokens)):
        return replace(value, **{f.name: moved(getattr(value, f.name), device) for f in fields(value) if f.init})
    return value
