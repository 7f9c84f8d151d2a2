"""The state of a training on disk: written whole or not at all, and gone on from as if there had been no break."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn


class OtherTraining(ValueError):
    """A state that was kept does not lie on the way of this training; the message says what to do."""


@runtime_checkable
class Training(Protocol):
    """What is kept of every training."""

    step: int
    made_of: str  # `fingerprint` of what decides how it goes
    seconds: float  # spent so far, over all resumed parts
    device: torch.device
    average: Any  # the moving average of the parameters
    optimisers: list[torch.optim.Optimizer]

    @property
    def network(self) -> nn.Module: ...


def fingerprint(*parts: Any) -> str:
    """sha256 of what decides how a training goes: recipes by their fields, parameters by name and content."""
    total = hashlib.sha256()
    for part in parts:
        if isinstance(part, Mapping) and all(isinstance(value, Tensor) for value in part.values()):
            for name, tensor in sorted(part.items()):
                total.update(f"{name} {tuple(tensor.shape)}".encode())
                total.update(tensor.detach().cpu().float().contiguous().numpy().tobytes())
        else:
            total.update(repr(part).encode())
    return total.hexdigest()


def save_state(run: Training, path: Path, **more: Any) -> None:
    """Everything needed to go on from here; written beside and moved over, so that a cut never leaves half."""
    state = {
        "step": run.step,
        "made_of": run.made_of,
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
    """Put a training where a saved one stood; the whole saved state is returned. Raises OtherTraining.

    It is read into main memory, and each part moves where it belongs: the steps that AdamW counts belong there, because
    reading one from a graphics card waits for the card, twice for every parameter in every step.
    """
    state = torch.load(path, map_location="cpu", weights_only=True)
    if "made_of" not in state:  # kept by an earlier version; hours of training are not thrown away for that
        sys.stderr.write(f"{path} does not say which recipe it is of. If it is of another, start with --fresh.\n")
    elif state["made_of"] != run.made_of:
        raise OtherTraining(
            f"{path} was kept by a training with another recipe, or one that began with other weights; going on from "
            "it would ship what neither recipe makes. Start with --fresh, or delete the file."
        )
    run.step, run.seconds = state["step"], state["seconds"]
    run.network.load_state_dict(state["network"])
    run.average.load_state_dict(state["average"])
    for optimiser, saved in zip(run.optimisers, state["optimisers"], strict=True):
        optimiser.load_state_dict(saved)
    return state
