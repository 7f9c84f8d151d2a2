"""Which part of a network's attention one map shows: a layer or all of them, a head or all of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float

from attnviz.types import AttentionCall
from attnviz.ui.core.labels import head_name, layer_name
from attnviz.ui.core.state import buttons

ALL = "All"


@dataclass(frozen=True)
class Part:
    """One layer and one head; None = the mean over all."""

    layer: int | None = None
    head: int | None = None

    @property
    def name(self) -> str:
        """What it is called on screen."""
        layer = "mean of all layers" if self.layer is None else layer_name(self.layer).lower()
        return f"{layer}, {'mean of all heads' if self.head is None else head_name(self.head).lower()}"

    def map_of(self, calls: Sequence[AttentionCall]) -> Float[np.ndarray, "query key"]:
        """Its map, from one call for each layer."""
        chosen = calls if self.layer is None else [calls[self.layer]]
        heads = None if self.head is None else [self.head]
        return torch.stack([call.token_map(heads).float().mean(-3) for call in chosen]).mean(0).numpy()


def part_choice(layers: int, heads: int) -> Part:
    """Two rows of buttons, over layers and heads."""
    layer = buttons("Layer", [ALL, *range(1, layers + 1)], "of_layer", at=0) - 1
    head = buttons("Head", [ALL, *range(1, heads + 1)], "of_head", at=0) - 1
    return Part(None if layer < 0 else layer, None if head < 0 else head)
