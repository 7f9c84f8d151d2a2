"""Checkpoints: the state of a training run on disk, written atomically, from which it resumes exactly."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn


class CheckpointMismatch(ValueError):
    """A checkpoint does not belong to this training run; the message says what to do."""


@runtime_checkable
class Training(Protocol):
    """The state of a training run that a checkpoint saves."""

    step: int
    recipe_digest: str  # `fingerprint` of everything that determines the result
    seconds: float  # of training so far, over all resumed parts
    device: torch.device
    average: Any  # the moving average of the parameters
    optimisers: list[torch.optim.Optimizer]

    @property
    def network(self) -> nn.Module: ...


def fingerprint(*parts: Any) -> str:
    """sha256 of all that determines a training run: recipes by their fields, parameters by name and content."""
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
    """Save everything needed to resume; a temporary file replaces the last one, so it is never incomplete."""
    state = {
        "step": run.step,
        "recipe_digest": run.recipe_digest,
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
    """Restore a training run from a checkpoint, whose content is returned. Raises CheckpointMismatch.

    It is loaded into main memory, and each part is moved where it belongs: the step counters of AdamW stay in main
    memory, because reading one from a GPU waits for the GPU, twice for every parameter in every step.
    """
    state = torch.load(path, map_location="cpu", weights_only=True)
    digest = state.get("recipe_digest", state.get("made_of"))  # the key of earlier versions
    if digest is None:  # from before checkpoints had one; hours of training are not thrown away for that
        sys.stderr.write(f"{path} does not name its recipe. If it belongs to another, start with --fresh.\n")
    elif digest != run.recipe_digest:
        raise CheckpointMismatch(
            f"{path}: the checkpoint was saved by a different recipe, or from different initial weights. "
            "Start again with --fresh, or delete the file."
        )
    run.step, run.seconds = state["step"], state["seconds"]
    run.network.load_state_dict(state["network"])
    run.average.load_state_dict(state["average"])
    for optimiser, saved in zip(run.optimisers, state["optimisers"], strict=True):
        optimiser.load_state_dict(saved)
    return state
