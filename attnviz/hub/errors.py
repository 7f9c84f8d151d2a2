"""Why a model of Hugging Face is not opened or not recorded: one sentence each, with the next step."""

from __future__ import annotations


class CannotOpen(ValueError):
    """A name, a folder or an object that cannot be opened as a model."""


class CannotRecord(CannotOpen):
    """A model whose attention cannot be recorded truly, so that nothing of it is shown."""
