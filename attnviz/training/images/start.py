"""Initialisation: random, mimetic (like trained attention), or the parameters of a shipped network."""

from __future__ import annotations

from collections.abc import Mapping
from fnmatch import fnmatch
from typing import Literal, cast

import torch
from torch import Tensor, nn

from attnviz.attention import Variant
from attnviz.models.nets import Network

Start = Literal["random", "mimetic"]
MIMETIC_SCALE = 0.4  # of the negative identity in value and output, and of the noise (Trockman & Kolter 2023)


@torch.no_grad()
def init_mimetic(network: Network) -> None:
    """Initialise attention as in trained vision transformers: tokens attend to tokens similar to themselves.

    Query and key start equal, so that scores are similarities; the product of value and output starts at
    0.4 (noise - identity), which subtracts what similar tokens share. After Trockman & Kolter 2023, arXiv 2305.09828,
    section 4, where query and key come from a singular value decomposition. Raises ValueError for attention without
    four square matrices.
    """
    for block in network.blocks:
        attention = cast(Variant, block.attention)
        candidates = [getattr(attention, name, None) for name in ("query", "key", "value", "out")]
        square = [m for m in candidates if isinstance(m, nn.Linear) and m.in_features == m.out_features]
        if len(square) < 4:
            raise ValueError(f"{attention.title} has no four square matrices, which mimetic initialisation needs")
        query, key, value, out = square
        key.weight.copy_(query.weight)
        size = len(value.weight)
        rotation = torch.linalg.qr(torch.randn(size, size, device=value.weight.device))[0]
        noise = torch.randn(size, size, device=rotation.device) / size**0.5
        value.weight.copy_(rotation)
        out.weight.copy_(MIMETIC_SCALE * (noise - torch.eye(size, device=rotation.device)) @ rotation.T)


@torch.no_grad()
def copy_parameters(network: Network, tensors: Mapping[str, Tensor], except_for: tuple[str, ...] = ()) -> None:
    """Copy the parameters of another network, except those whose names match a pattern in `except_for`.

    Raises ValueError where a name or a shape differs.
    """
    own = network.state_dict()
    if own.keys() != tensors.keys() or any(own[name].shape != tensors[name].shape for name in own):
        raise ValueError("the shipped network has other shapes than this recipe; train it from scratch")
    kept = {name: own[name] for name in own if any(fnmatch(name, pattern) for pattern in except_for)}
    network.load_state_dict({name: tensor.float() for name, tensor in tensors.items()} | kept)
