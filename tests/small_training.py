"""A network and a loss so small that a training of texts takes no time."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn


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
