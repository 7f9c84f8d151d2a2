"""Two inputs of one model, between which residuals are carried over."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from attnviz.types import Sample
from attnviz.ui.inputs.model_run import ModelRun


@dataclass(frozen=True, eq=False)
class Pair:
    """One input and another beside it, the places that are patched, and how the shares are drawn."""

    about: ModelRun  # the input whose answer is to cross over
    other: Sample
    groups: tuple[tuple[int, ...], ...]  # of tokens that are patched together
    places: Sequence[str]  # what each is called
    draw: Callable[[np.ndarray, int, Callable[[tuple[int, ...]], None]], None]  # shares [depth place], the chosen cell
    beside: Callable[[], None]  # shows the other input, where it is not shown already
    restart: Callable[[], None]  # offers an input that works
    lines: Callable[[], Sequence[str]]  # the same in Python


def depth_name(depth: int) -> str:
    """What a depth of the residual is called."""
    return "Enters layer 1" if depth == 0 else f"After layer {depth}"
