"""One transformer block over word vectors that guesses a hidden word: the smallest network that attends for a reason.

The vectors are those of `words.py` and stay as they are; what is learned is one block, what stands for a hidden word,
and the way back from features to words. Sentences have no begin and no end.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from attnviz.attention import POSITIONS
from attnviz.chance import seeded
from attnviz.models.store import ASSETS, DamagedModel, read_config, read_weights, write
from attnviz.models.vit import Block
from attnviz.models.words import WordVectors
from attnviz.types import Mask, Tokens, Trace

NAME = "one-block"


@dataclass(frozen=True)
class GuessConfig:
    """The shape of the network; width is that of the word vectors."""

    words: int
    width: int = 64
    heads: int = 4
    mlp: float = 4
    longest: int = 24
    positions: str = "sine"
    variant: str = "mha"
    options: Mapping[str, Any] = field(default_factory=dict)


class Guesser(nn.Module):
    """A sentence with hidden words goes in, and at every place the network says which word it expects there."""

    table: Tensor
    positions: Tensor

    def __init__(self, config: GuessConfig, vectors: Float[Tensor, "word feature"]):
        super().__init__()
        self.config = config
        room = Tokens(tuple(map(str, range(config.longest))))
        self.register_buffer("table", vectors, persistent=False)
        self.register_buffer(
            "positions", POSITIONS[config.positions].table(room, config.width).float(), persistent=False
        )
        self.hidden = nn.Parameter(torch.randn(config.width) / config.width**0.5)
        self.block = Block(config, room, 0)
        self.norm = nn.LayerNorm(config.width, eps=1e-6)
        self.back = nn.Linear(config.width, config.width)
        self.bias = nn.Parameter(torch.zeros(config.words))

    def forward(
        self,
        ids: Int[Tensor, "*batch token"],
        hidden: Bool[Tensor, "*batch token"] | None = None,
        *,
        labels: tuple[str, ...] | None = None,
        mask: Mask | None = None,
        read: bool = True,
    ) -> Trace:
        """Everything one pass records; logits["word"] is [*batch token word], and left out unless they are `read`."""
        count = ids.shape[-1]
        tokens = Tokens(labels or tuple(map(str, range(count))))
        content = self.content(ids, hidden)
        position = self.positions[:count].expand_as(content)
        first = content + position
        last, calls = self.block(first, queries=tokens, mask=mask, name="layer 1", layer=0)
        readout = torch.full(ids.shape, 1 / count, device=ids.device)
        return Trace(sample=None, content={"main": content}, position={"main": position}, calls=calls,
                     residuals={"main": (first, last)}, readout={"main": readout},
                     logits={"word": self.read(last)} if read else {})  # fmt: skip

    def content(
        self, ids: Int[Tensor, "*batch token"], hidden: Bool[Tensor, "*batch token"] | None = None
    ) -> Float[Tensor, "*batch token feature"]:
        """Word vectors times the root of the width (Vaswani et al. 2017, section 3.4); one for all hidden words."""
        vectors = self.table[ids]
        if hidden is not None:
            vectors = torch.where(hidden[..., None], self.hidden, vectors)
        return vectors * self.config.width**0.5

    def read(self, residual: Float[Tensor, "*batch token feature"]) -> Float[Tensor, "*batch token word"]:
        """Logits of every word at every place."""
        return self.back(self.norm(residual)) @ self.table.T * self.config.width**0.5 + self.bias


@torch.no_grad()
def guesses(
    network: Guesser, ids: Sequence[int], place: int, count: int = 5, *, alone: bool = False
) -> list[tuple[int, float]]:
    """The likeliest words for one place of a sentence, with their probabilities; `alone`, no word sees another one."""
    line = torch.tensor(ids)
    hidden = torch.arange(len(ids)) == place
    mask = Mask(keep=torch.eye(len(ids), dtype=torch.bool)[None]) if alone else None
    best = network(line, hidden, mask=mask).logits["word"][place].softmax(-1).topk(count)
    return [(int(i), float(p)) for p, i in zip(best.values, best.indices, strict=True)]


def save_guesser(network: Guesser, words_digest: str, folder: Path, card: str, facts: dict[str, Any]) -> None:
    """Write half-precision weights, config.json with their checksum and that of the word vectors, and card.md."""
    config = {"name": NAME, "words": words_digest, "network": asdict(network.config), "facts": facts}
    write(folder, network.state_dict(), config, card)


def load_guesser(words: WordVectors, folder: Path | None = None) -> tuple[Guesser, dict[str, Any]]:
    """The shipped block over these word vectors, and the facts of its training. Raises DamagedModel."""
    folder = folder or ASSETS / NAME
    config = read_config(folder)
    weights = read_weights(folder, config.get("sha256", ""))
    if config.get("words") != words.digest:
        raise DamagedModel(folder, "config.json", "belongs to other word vectors")
    try:
        with seeded(0):
            network = Guesser(GuessConfig(**config["network"]), words.vectors)
        network.load_state_dict({name: tensor.float() for name, tensor in weights.items()})
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise DamagedModel(folder, "config.json", "does not describe the weights beside it") from error
    return network.eval().requires_grad_(False), config.get("facts", {})
