"""`attnviz.load`: our own models by name, others by their folder or their name on the hub."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, overload

import torch

from attnviz.hub.model import HubModel
from attnviz.hub.source import HUB
from attnviz.models import ImageModel, TextModel, TranslationModel
from attnviz.models import load as load_shipped
from attnviz.models.guess import GuessModel
from attnviz.models.store import is_known
from attnviz.models.words import WordVectors


@overload  # any other str is none of these: pyright cannot be told
def load(  # pyright: ignore[reportOverlappingOverload]
    name: Literal["word2vec"], *, device: str | torch.device = "cpu", folder: Path | None = None
) -> WordVectors:
    """The table of word vectors."""


@overload
def load(
    name: str | Path, *, device: str | torch.device = "cpu", folder: Path | None = None
) -> ImageModel | TextModel | TranslationModel | GuessModel | HubModel:
    """A model that can be asked for a trace."""


def load(name: str | Path, *, device: str | torch.device = "cpu", folder: Path | None = None) -> Any:
    """Open a model: by its name in MODELS, by its folder, or as "hf:owner/name" (or "hf:owner/name@revision").

    A folder is a path, or a name that is none of ours and where a folder with a config.json lies. Raises ValueError for
    another name, DamagedModel for a bad file of ours, CannotOpen for what cannot be opened of others.
    """
    from attnviz.hub.opening import open_folder, open_hub

    if isinstance(name, Path):
        return open_folder(name, device=device)
    if name.startswith(HUB):
        return open_hub(name.removeprefix(HUB), device=device)
    if is_known(name):
        return load_shipped(name, device=device, folder=folder)
    if Path(name, "config.json").is_file() or name.startswith((".", "/", "~")):
        return open_folder(Path(name).expanduser(), device=device)
    try:
        return load_shipped(name)  # which says what there is
    except ValueError as error:
        raise ValueError(f'{error}; or a folder with a config.json, or "hf:owner/name"') from None
