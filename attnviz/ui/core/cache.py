"""What is computed once and shared by all visitors: models and traces. Nobody changes them in place."""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import fields, is_dataclass, replace
from threading import BoundedSemaphore
from typing import Any, cast

import streamlit as st
import torch
from streamlit.runtime.scriptrunner import get_script_run_ctx
from torch import Tensor

from attnviz.edits import UNCHANGED
from attnviz.models import IMAGES, MODELS, TEXTS, load, store
from attnviz.types import Edit, Modality, Model, Sample, Tokens, Trace, unchanged
from attnviz.ui.core import bench
from attnviz.ui.core.device import best_device
from attnviz.ui.core.others import open_other, opened_others
from attnviz.ui.core.sized_cache import SizedCache

PATIENCE = 20  # seconds a visitor waits for a free core
LARGE = 4_000  # tokens from which a forward pass takes seconds: it may take two cores, and is not repeated unasked
WAITING: list[None] = []  # one entry for each visitor who waits for a core
SESSION_MODELS = "attnviz:models"  # session key: the models of this visitor alone, by name
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
    """Hold one permit to compute, with one thread. Raises Busy where none comes free in time."""
    permits = cores()
    if not permits.acquire(blocking=False):
        WAITING.append(None)  # so that nobody takes a second one meanwhile
        try:
            if not permits.acquire(timeout=PATIENCE):
                raise Busy("Many visitors are computing right now. Try again in a moment.")
        finally:
            WAITING.pop()
    try:
        torch.set_num_threads(1)
        yield
    finally:
        permits.release()


@contextmanager
def second_core() -> Iterator[bool]:
    """Whether a second permit is free while nobody waits for one; it is held meanwhile, for long work."""
    permits = cores()
    free = not WAITING and permits.acquire(blocking=False)
    try:
        yield free
    finally:
        if free:
            permits.release()


@st.cache_resource(show_spinner=False)
def traces() -> SizedCache[Trace]:
    """The traces computed last: at most 96, at most 1 GB, which holds two of the largest pictures.

    A trace holds views of the parameters of its network (biases, projections by head), which are there anyway: they are
    not counted.
    """
    return SizedCache(entries=96, size=1_000_000_000)


@st.cache_resource(show_spinner=False)
def records() -> SizedCache[bytes]:
    """What was packed last for the views: at most 512 records, at most 64 MB."""
    return SizedCache(entries=512, size=64_000_000)


def keep_record(*numbers: object) -> Callable[[str, Callable[[], bytes]], bytes]:
    """Pack maps once for all visitors: the `keep` of `views.send_maps`. `numbers` says which numbers they are."""
    return lambda described, pack: records().get((*map(str, numbers), described), pack)


def session_models() -> dict[str, Model]:
    """The models of this visitor alone, by name: trained on the Train page, or opened in this session.

    They live as long as the session, and nobody else meets them.
    """
    return st.session_state.setdefault(SESSION_MODELS, {})


def open_model(name: str, device: str = "") -> Model:
    """A model by its name: shipped, of a bench, this visitor's own, or of others. Raises DamagedModel, CannotOpen.

    Without a `device`, on the best there is.
    """
    if name in opened_others():
        return open_other(name)
    return session_models()[name] if name in session_models() else shipped(name, device)


def modality_of(name: str) -> Modality:
    """What a model reads, by its name and without opening what is shipped; "image" for a name that nobody knows."""
    if name in session_models():
        return session_models()[name].spec.modality
    if name in opened_others():
        return opened_others()[name]
    if name in MODELS:
        return cast(Modality, MODELS[name].modality)
    return "text" if store.reads_text(name) else "image"


def is_text_model(name: str) -> bool:
    """Whether a model reads a text, by its name."""
    return modality_of(name) == "text"


def model_names() -> list[str]:
    """The models this visitor can look into."""
    benches = bench.read_bench(bench.PICTURES).models + bench.read_bench(bench.TEXTS).models
    return [*IMAGES, *TEXTS, *benches, *session_models(), *opened_others()]


@st.cache_resource(show_spinner=False)
def models() -> SizedCache[Model]:
    """The shipped models used last: at most 64, whose parameters take at most 600 MB."""
    return SizedCache(entries=64, size=600_000_000)


def shipped(name: str, device: str = "") -> Model:
    """A shipped model on a device; on the processor where the graphics card has no memory left. Raises DamagedModel."""
    return models().get((name, device), lambda: opened(name, device or best_device()))


def opened(name: str, device: str | torch.device) -> Model:
    """A model read from its folder, with a word to the visitor while that takes, where there is one."""
    with st.spinner("Opening the model") if get_script_run_ctx(suppress_warning=True) else nullcontext():
        try:
            return load(name, device=device)
        except torch.OutOfMemoryError:
            log.warning("no memory for %s on %s; it is opened on the processor", name, device)
            return load(name, device="cpu")


def trace(name: str, sample: Sample, *, positions: str = "own") -> Trace:
    """Everything the model computes for this sample, on the processor. Raises DamagedModel, Busy."""
    model = open_model(name)
    key = (model.digest, sample.digest, positions)
    return traces().get(key, lambda: compute(name, sample, Edit(positions=positions)), beside=model)


def edited_trace(name: str, sample: Sample, edit: Edit) -> Trace:
    """Everything the model computes for a changed forward pass; a batch of edits is one pass. Kept as `trace` does.

    Raises UnsupportedMask for an edit the model does not take, DamagedModel, Busy.
    """
    model = open_model(name)
    key = (model.digest, sample.digest, digest_of(edit))
    return traces().get(key, lambda: compute(name, sample, edit), beside=model)


def digest_of(edit: Edit) -> str:
    """The sha256 of what is changed: a cache key."""
    given = {name: tensor for name, (tensor, _) in edit.tensors.items()} | {"head_means": edit.head_means}
    found = hashlib.sha256(edit.positions.encode())
    for name, tensor in given.items():
        if tensor is not None:
            found.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
            found.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return found.hexdigest()


def compute(name: str, sample: Sample, edit: Edit) -> Trace:
    """One forward pass, with a word to the visitor while it runs."""
    with st.spinner("Running the model"):
        return forward(name, sample, edit)


def forward(name: str, sample: Sample, edit: Edit = UNCHANGED) -> Trace:
    """One forward pass without gradients, not kept; on the processor where the graphics card has no memory left."""
    with core(), threads(sample), torch.no_grad():
        try:
            return on_processor(open_model(name)(sample, edit=edit))
        except torch.OutOfMemoryError:
            st.toast("The graphics card is out of memory, so this was computed on the processor.")
            return open_model(name, "cpu")(sample, edit=edit)


@contextmanager
def threads(sample: Sample) -> Iterator[None]:
    """Two threads for a large input, where a second core is free; a pass takes many seconds there."""
    if max(map(len, sample.tokens.values())) < LARGE:
        yield
        return
    with second_core() as free:
        torch.set_num_threads(2 if free else 1)
        try:
            yield
        finally:
            torch.set_num_threads(1)


def on_processor(trace: Trace) -> Trace:
    """A trace whose tensors lie in main memory, where pages can read them as arrays."""
    if all(residuals[0].device.type == "cpu" for residuals in trace.residuals.values()):  # logits there may be none
        return trace
    calls = tuple(replace(call, graph=None, arrange=unchanged) for call in trace.calls)
    names = ("token_embeddings", "position_embeddings", "residuals", "pooling", "logits")
    return replace(trace, **moved({"calls": calls, **{name: getattr(trace, name) for name in names}}))


def moved(value: Any, device: str = "cpu") -> Any:
    """A copy with every tensor on another device, those that rules and biases hold included."""
    if isinstance(value, Tensor):
        return value.detach().to(device)
    if isinstance(value, Mapping):
        return {name: moved(item, device) for name, item in value.items()}
    if type(value) is tuple:
        return tuple(moved(item, device) for item in value)
    if is_dataclass(value) and not isinstance(value, (type, Tokens)):
        return replace(value, **{f.name: moved(getattr(value, f.name), device) for f in fields(value) if f.init})
    return value
