"""Networks and a loss so small that a training of texts takes no time, and one whose answers are given."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from attnviz.attention.rules.softmax import Softmax
from attnviz.models.text import Reader, ReaderConfig
from attnviz.models.token_embedding import numbered
from attnviz.types import AttentionCall, Trace


class Small(nn.Module):
    """A network of one matrix inside and one beside."""

    def __init__(self):
        super().__init__()
        self.blocks = nn.ModuleList([nn.Linear(4, 4)])
        self.last = nn.Linear(4, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.blocks[0](x).tanh())


def loss(network: Small, progress: float, random: np.random.Generator) -> Tensor:
    """Learn the sum of four numbers."""
    x = torch.from_numpy(random.standard_normal((16, 4))).float()
    return (network(x)[:, 0] - x.sum(-1)).square().mean()


class FixedAnswers(Reader):
    """A reader that gives the answers it is told, and remembers what it has read.

    `weights` are [head token token] of each layer, `logits` what each output says of every text alike, `pieces` how
    likely it finds a piece wherever it is asked.
    """

    def __init__(
        self,
        logits: Mapping[str, Tensor] | None = None,
        weights: Sequence[Tensor] = (),
        pieces: Mapping[int, float] | None = None,
    ):
        super().__init__(ReaderConfig(width=8, layers=1, heads=2, context_length=64, prefix=1))
        self.logits, self.weights, self.inputs = dict(logits or {}), list(weights), list[Tensor]()
        for piece, score in (pieces or {}).items():
            self.pieces.bias.data[piece] = score
        self.requires_grad_(False)

    def forward(self, ids: Tensor, **options: Any) -> Trace:
        self.inputs.append(ids)
        tokens = numbered(ids.shape[-1])
        ground = torch.eye(len(tokens)).expand(len(ids), 2, -1, -1)
        calls = [
            AttentionCall(
                f"layer {i + 1}",
                i,
                Softmax(),
                shares.log().expand(len(ids), -1, -1, -1),
                ground,
                ground,
                tokens,
                tokens,
            )
            for i, shares in enumerate(self.weights)
        ]
        logits = {name: said.expand(len(ids), *said.shape) for name, said in self.logits.items()}
        last = torch.zeros(*ids.shape, self.config.width)
        return Trace(None, {}, {}, tuple(calls), {"main": (last,)}, {}, logits)
