"""Tokens removed from the input, and what the answer loses."""

from __future__ import annotations

from attnviz.ui.inputs.model_run import ModelRun


def show(about: ModelRun) -> None:
    """The controls, the main view and the numbers of this change."""
