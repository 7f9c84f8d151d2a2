"""Figures of attnviz.plots as plotly's own objects, which check every property and are read by attributes."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

import plotly.graph_objects as go


def checked(plot: Callable[..., dict[str, Any]]) -> Callable[..., go.Figure]:
    """The same plot, whose figures plotly has found valid. Raises ValueError where one is not."""

    @wraps(plot)
    def made(*args: Any, **options: Any) -> go.Figure:
        return go.Figure(plot(*args, **options))

    return made
