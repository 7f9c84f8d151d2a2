"""What other people's models add to scores, as biases of a call: stored tables, soft-caps, tables of windows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from attnviz.types import AttentionCall


@dataclass(frozen=True, eq=False)
class StoredBias:
    """Numbers for each pair, as the network computed them: T5's buckets, BEiT's table read at its offsets."""

    values: Tensor  # [*batch head|1 query|1 key]

    def __call__(self, call: AttentionCall, heads: list[int], rows: list[int]) -> Tensor:
        """[*batch head|1 row|1 key]."""
        values = self.values if self.values.shape[-3] == 1 else self.values[..., heads, :, :]
        return values if values.shape[-2] == 1 else values[..., rows, :]


@dataclass(frozen=True, eq=False)
class SoftCap:
    """cap tanh(score / cap) in place of the score, as what that adds to it (Gemma 2, arXiv 2408.00118, section 2)."""

    cap: float

    def __call__(self, call: AttentionCall, heads: list[int], rows: list[int]) -> Tensor:
        """[*batch head row key]."""
        scores = call.rule.scores(call, heads, rows, "scaled")
        return self.cap * torch.tanh(scores / self.cap) - scores


@dataclass(frozen=True, eq=False)
class SlotBias:
    """Numbers for each pair of places in a window, and the place of each token (Swin, arXiv 2103.14030, eq. 4).

    Pairs of different windows are masked, so what it says of them is never read.
    """

    values: Float[Tensor, "heads place place"]
    place: Int[Tensor, " token"]

    def __call__(self, call: AttentionCall, heads: list[int], rows: list[int]) -> Tensor:
        """[head row key]."""
        return self.values[heads][:, self.place[rows]][:, :, self.place]

    def within_groups(self, call: AttentionCall, queries: Tensor, keys: Tensor) -> Tensor:
        """[group head query key]."""
        place: Any = self.place
        return self.values[:, place[queries][..., :, None], place[keys][..., None, :]].movedim(0, 1)
