"""The files of a trained model, NAME/{model.safetensors, config.json, card.md}, and the tables that training writes.

Weights are tensors without code, in half precision; config.json holds their sha256, and what differs is refused.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load as read_tensors
from safetensors.torch import save as tensor_bytes
from torch import nn

from attnviz import paths
from attnviz.seeding import seeded

ASSETS = paths.MODELS
BENCHES = ("bench", "text-bench")  # folders of ASSETS that hold many models each
Net = TypeVar("Net", bound=nn.Module)


class DamagedFile(RuntimeError):
    """A file that comes with the app cannot be read; the message says which and how to restore it.

    In a checkout, `place` is what git restores: the file itself, or the folder it belongs to; `else_` is another way.
    """

    def __init__(self, file: str, reason: str, place: str = "", else_: str = ""):
        again = "Restore it with `pip install --force-reinstall --no-deps attnviz`"
        restore = again if paths.INSTALLED else f"Restore it with `git checkout -- {place or file}`{else_}"
        super().__init__(f"{file} {reason}. {restore}.")


class DamagedModel(DamagedFile):
    """A shipped model, or a table that training has written, cannot be read."""

    def __init__(self, folder: Path, file: str, reason: str):
        if folder == ASSETS:  # a table that stands alone
            place, recipe = f"assets/models/{file}", file.partition(".")[0]
            super().__init__(place, reason, else_=f", or train again with `make train NAME={recipe}`")
            return
        inside = f"{folder.parent.name}/{folder.name}" if folder.parent.name in BENCHES else folder.name
        again = f", or train it again with `make train NAME={inside.split('/')[0]}`"
        super().__init__(f"assets/models/{inside}/{file}", reason, f"assets/models/{inside}", again)


def read_rows(folder: Path, file: str, needed: Set[str] = frozenset()) -> list[dict[str, Any]]:
    """A table that training has written, with these columns; no rows where it has not. Raises DamagedModel."""
    try:
        rows = json.loads((folder / file).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return []
    except (OSError, ValueError) as error:
        raise DamagedModel(folder, file, "cannot be read") from error
    if not isinstance(rows, list) or not all(isinstance(row, dict) and needed <= row.keys() for row in rows):
        raise DamagedModel(folder, file, "is no table of results")
    return rows


def write_rows(folder: Path, file: str, rows: Sequence[dict[str, Any]]) -> None:
    """A table for `read_rows`."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / file).write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


def write(folder: Path, tensors: Mapping[str, torch.Tensor], config: dict[str, Any], card: str) -> None:
    """The three files of anything trained: tensors in half precision, config.json with their sha256, card.md."""
    folder.mkdir(parents=True, exist_ok=True)
    weights = tensor_bytes({name: halved(tensor).cpu().contiguous() for name, tensor in tensors.items()})
    config = {"sha256": hashlib.sha256(weights).hexdigest(), **config}
    (folder / "model.safetensors").write_bytes(weights)
    (folder / "config.json").write_text(json.dumps(config, indent=1) + "\n", encoding="utf-8")
    (folder / "card.md").write_text(card, encoding="utf-8")


def halved(tensor: torch.Tensor) -> torch.Tensor:
    """A tensor as it is shipped: in half precision, unless it counts."""
    return tensor.detach().half() if tensor.is_floating_point() else tensor.detach()


def as_shipped(network: nn.Module) -> None:
    """Round the parameters of a network as `write` will, so that what is tested is what is shipped."""
    network.load_state_dict({name: halved(tensor).float() for name, tensor in network.state_dict().items()})


def read_config(folder: Path) -> dict[str, Any]:
    """config.json of a model."""
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        if not isinstance(config, dict):
            raise ValueError("not a table of names")
        return config
    except FileNotFoundError as error:
        raise DamagedModel(folder, "config.json", "is missing") from error
    except (OSError, ValueError) as error:
        raise DamagedModel(folder, "config.json", "cannot be read") from error


def read_weights(folder: Path, expected: str) -> dict[str, torch.Tensor]:
    """The tensors of model.safetensors, which holds no code; refused when the checksum differs."""
    try:
        raw = (folder / "model.safetensors").read_bytes()
    except OSError as error:
        raise DamagedModel(folder, "model.safetensors", "is missing") from error
    if hashlib.sha256(raw).hexdigest() != expected:
        raise DamagedModel(folder, "model.safetensors", "is damaged: its checksum differs from config.json")
    try:
        return read_tensors(raw)
    except SafetensorError as error:
        raise DamagedModel(folder, "model.safetensors", "holds no tensors") from error


@contextmanager
def reading(folder: Path) -> Iterator[tuple[dict[str, Any], dict[str, torch.Tensor]]]:
    """config.json and the tensors of a model; whatever does not fit to them inside is raised as DamagedModel."""
    config = read_config(folder)
    weights = read_weights(folder, config.get("sha256", ""))
    try:
        yield config, weights
    except DamagedModel:
        raise
    except (AttributeError, KeyError, TypeError, ValueError, RuntimeError) as error:
        raise DamagedModel(folder, "config.json", "does not describe the weights beside it") from error


def with_weights(build: Callable[[], Net], weights: Mapping[str, torch.Tensor]) -> Net:
    """The network that is built, with these parameters in full precision."""
    with seeded(0):  # what is drawn is replaced, but must not reach into what another thread draws
        network = build()
    network.load_state_dict({name: tensor.float() for name, tensor in weights.items()})
    return network
