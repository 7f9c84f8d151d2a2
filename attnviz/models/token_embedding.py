"""The table of tokens and the table of places, which begin and end every network for text."""

from __future__ import annotations

from functools import lru_cache
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from attnviz.models.layers import hold_positions
from attnviz.models.requests import placed
from attnviz.types import Tokens


@runtime_checkable
class Vocabulary(Protocol):
    """What the tables need to know of their network."""

    @property
    def vocabulary(self) -> int: ...
    @property
    def width(self) -> int: ...
    @property
    def context_length(self) -> int: ...
    @property
    def positions(self) -> str: ...


class TokenEmbedding(nn.Module):
    """The table of tokens and the table of positions, of one side of a network."""

    positions: Tensor  # [token feature]

    def __init__(self, config: Vocabulary, prefix: int = 0):
        super().__init__()
        self.width = config.width
        room = numbered(config.context_length, prefix)
        self.table = nn.Parameter(torch.randn(config.vocabulary, config.width) * config.width**-0.5)
        self.bias = nn.Parameter(torch.zeros(config.vocabulary))
        hold_positions(self, config.positions, room, config.width, persistent=False)
        self.prefix = prefix

    def token_embeddings(self, ids: Int[Tensor, "*batch token"]) -> Float[Tensor, "*batch token feature"]:
        """The rows of these tokens, times the root of the width (Vaswani et al. 2017, section 3.4)."""
        return self.table[ids] * self.width**0.5

    def position_embeddings(self, count: int, how: str = "own", begin: int = 0) -> Float[Tensor, "token feature"]:
        """The rows of places begin to begin + count; "none" and "shuffled" change them, but not the prefix's.

        Raises ValueError for more places than the table has.
        """
        if begin + count > len(self.positions):
            raise ValueError(f"{begin + count} tokens; this network reads at most {len(self.positions)}")
        return placed(self.positions[begin : begin + count], max(0, self.prefix - begin), how)

    def unembed(self, features: Float[Tensor, "*batch feature"]) -> Float[Tensor, "*batch vocabulary"]:
        """How well every token fits normalised features."""
        return features @ self.table.T + self.bias


@lru_cache(maxsize=512)
def numbered(count: int, prefix: int = 0, stream: str = "main") -> Tokens:
    """Tokens called by their numbers, while nobody looks."""
    return Tokens(tuple(map(str, range(count))), None, prefix, stream)


def numbered_streams(source: int, target: int) -> dict[str, Tokens]:
    """The tokens of a translator's two streams, called by their numbers."""
    return {"source": numbered(source, stream="source"), "target": numbered(target, stream="target")}
