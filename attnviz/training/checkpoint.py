"""The state of a training on disk: written whole or not at all, and gone on from as if there had been no break."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from torch import nn


@runtime_checkable
class Training(Protocol):
    """What is kept of every training."""

    step: int
    seconds: float  # spent so far, over all resumed parts
    device: torch.device
    average: Any  # the moving average of the parameters
    optimisers: list[torch.optim.Optimizer]

    @property
    def network(self) -> nn.Module: ...


def save_state(run: Training, path: Path, **more: Any) -> None:
    """Everything needed to go on from here; written beside and moved over, so that a cut never leaves half."""
    state = {
        "step": run.step,
        "seconds": run.seconds,
        "network": run.network.state_dict(),
        "average": run.average.state_dict(),
        "optimisers": [optimiser.state_dict() for optimiser in run.optimisers],
        **more,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(state, path.with_suffix(".part"))
    path.with_suffix(".part").replace(path)


def load_state(run: Training, path: Path) -> dict[str, Any]:
    """Put a training where a saved one stood; the whole saved state is returned."""
    state = torch.load(path, map_location=run.device, weights_only=True)
    run.step, run.seconds = state["step"], state["seconds"]
    run.network.load_state_dict(state["network"])
    run.average.load_state_dict(state["average"])
    for optimiser, saved in zip(run.optimisers, state["optimisers"], strict=True):
        optimiser.load_state_dict(saved)
    return state
