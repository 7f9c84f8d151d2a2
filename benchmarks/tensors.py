"""The tensors both tools are given: softmax of random scores, 12 layers of 12 heads, like those of a trained model."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

GRIDS = {64: (8, 8), 128: (8, 16), 197: (14, 14)}  # tokens -> patch grid; 197 has a CLS before it


def attention(tokens: int, layers: int = 12, heads: int = 12) -> Float[Tensor, "layer head query key"]:
    """Weights whose rows sum to one; each head with a sharpness of its own."""
    random = torch.Generator().manual_seed(tokens)
    sharpness = torch.rand(layers, heads, 1, 1, generator=random) * 3
    return (torch.randn(layers, heads, tokens, tokens, generator=random) * sharpness).softmax(-1)
