"""What stands under the map: how faithful it is here, why it may mislead, what a weight is made of, stored scores."""

from __future__ import annotations

from attnviz.ui.explain import badge, diagnostics, parts, scores
from attnviz.ui.explain.choice import Choice
from attnviz.ui.explain.steps import Result
from attnviz.ui.inputs.model_run import ModelRun


def show(about: ModelRun, choice: Choice, result: Result) -> None:
    """Scores and diagnostics of the shown map, where there is one; parts of attention scores; the stored table."""
    if not result.why:
        badge.show(about, choice, result)
        diagnostics.show(about, choice, result)
    parts.show(about, choice)
    scores.show(about)
