"""What every network over subword tokens is surrounded by: its vocabulary, its digest, its folder on disk."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

import torch
from torch import Tensor, nn

from attnviz.models.files import DamagedModel, reading, with_weights, write
from attnviz.models.image import digest_of
from attnviz.models.subwords import SubwordTokenizer, load_subwords

Net = TypeVar("Net", bound=nn.Module)
Opened = TypeVar("Opened", bound="TokenModel[Any]")


class TokenModel(Generic[Net]):
    """A trained network that reads or writes subword tokens, opened."""

    modality: ClassVar[str]
    kinds: ClassVar[Mapping[str, tuple[type, type]]]  # the name of each kind in config.json: its shape, its network

    def __init__(
        self,
        name: str,
        network: Net,
        subwords: SubwordTokenizer,
        *,
        title: str = "",
        digest: str | None = None,
        facts: Mapping[str, Any] | None = None,
    ):
        self.name, self.title = name, title or name
        self.network: Net = network.eval().requires_grad_(False)
        self.tokenizer = subwords
        self.digest = digest or digest_of(network)
        self.facts = dict(facts or {})

    superclasses: tuple[str, ...] = ()
    patch_projection = None

    @property
    def device(self) -> torch.device:
        """Where the network computes."""
        return next(self.network.parameters()).device

    def to(self: Opened, device: torch.device | str) -> Opened:
        """This model on another device."""
        self.network.to(device)
        return self

    def save(self, folder: Path, card: str, facts: Mapping[str, Any]) -> None:
        """Write half-precision weights, config.json with their checksum and that of the vocabulary, and card.md."""
        kind = next(kind for kind, (_, network) in self.kinds.items() if isinstance(self.network, network))
        shape: Any = self.network.config
        config = {
            "name": self.name,
            "title": self.title,
            "kind": kind,
            "subwords": self.tokenizer.digest,
            "network": asdict(shape),
            "facts": dict(facts),
        }
        write(folder, self.network.state_dict(), config, card)

    @classmethod
    def open(cls: type[Opened], folder: Path) -> Opened:
        """A model from its folder, its checksum verified. Raises DamagedModel."""
        with reading(folder) as (config, weights):
            subwords = load_subwords()
            if config.get("subwords") != subwords.digest:
                raise DamagedModel(folder, "config.json", "belongs to another vocabulary")
            shape, kind = cls.kinds[config["kind"]]
            network = with_weights(lambda: kind(shape(**config["network"])), weights)
            return cls(
                folder.name, network, subwords, title=config["title"], digest=config["sha256"], facts=config["facts"]
            )


def digest_of_text(ids: Tensor, text: str) -> str:
    """The cache key of a text that is read: of its numbers, and of how it is written, since pages show that."""
    return hashlib.sha256(ids.numpy().tobytes() + text.encode()).hexdigest()


@lru_cache(maxsize=4)
def token_labels(tokenizer: SubwordTokenizer) -> tuple[str, ...]:
    """What every token of a vocabulary is called."""
    return tuple(tokenizer.label(i) for i in range(len(tokenizer)))
