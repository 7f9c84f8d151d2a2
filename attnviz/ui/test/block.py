"""Edges blocked: some queries may not attend to some keys, and what the answer loses."""

from __future__ import annotations

from attnviz.ui.inputs.model_run import ModelRun


def show(about: ModelRun) -> None:
    """The controls, the main view and the numbers of this change."""
