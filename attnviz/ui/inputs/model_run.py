"""What a page is about: a model, what it was given, and everything it computed."""

from __future__ import annotations

from dataclasses import dataclass

from attnviz.types import Model, Sample, Trace


@dataclass(frozen=True, eq=False, kw_only=True)
class ModelRun:
    """One model, one input, and everything the model computed for it."""

    model: Model
    name: str  # of the model: in MODELS, of a bench, or among this visitor's own
    sample: Sample
    trace: Trace
    source: str  # a sample picture's name, "upload", "camera" or "text"
