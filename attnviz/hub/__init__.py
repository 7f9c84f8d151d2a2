"""Models of Hugging Face, recorded as our own: transformers is imported here alone, and only when a model is opened."""

from attnviz.hub.errors import CannotOpen, CannotRecord
from attnviz.hub.load import load
from attnviz.hub.opening import from_transformers
from attnviz.hub.record import record

__all__ = ["CannotOpen", "CannotRecord", "from_transformers", "load", "record"]
