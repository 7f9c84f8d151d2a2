"""What a page is about: a model, what it was given, and everything it computed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from attnviz.types import Sample, Trace


@dataclass(frozen=True, eq=False, kw_only=True)
class ModelRun:
    """One model, one input, and everything the model computed for it."""

    model: Any  # Visit and Reading say which kind
    name: str  # of the model, in MODELS, in the bench or among those trained here
    sample: Sample
    trace: Trace
    source: str  # a sample picture's name, "upload", "camera" or "text"
