"""What stands under the map: how faithful it is for this input, why it may mislead, how methods score elsewhere."""

from __future__ import annotations

from attnviz.ui.explain import badge, diagnostics, scores
from attnviz.ui.explain.choice import Choice
from attnviz.ui.explain.steps import Result
from attnviz.ui.inputs.model_run import ModelRun


def show(about: ModelRun, choice: Choice, result: Result) -> None:
    """Scores and diagnostics of the shown map, where there is one, and the stored table of all methods."""
    if not result.why:
        badge.show(about, choice, result)
        diagnostics.show(about, choice, result)
    scores.show(about)
