"""What is done once, before the first visitor comes."""

from __future__ import annotations

import torch

from attnviz.models import MODELS
from attnviz.ui.cache import open_model


def warm() -> None:
    """Open the default model; one thread a forward pass is fastest where visitors share the cores."""
    torch.set_num_threads(1)
    open_model(next(iter(MODELS)))
