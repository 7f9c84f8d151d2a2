"""Where training starts: at random, at what trained attention looks like, or at a network that is shipped.

And how much of that one is in the network which comes of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from fnmatch import fnmatch
from typing import Literal, cast

import torch
from torch import Tensor, nn

from attnviz.attention import Variant
from attnviz.models.nets import Network

Start = Literal["random", "mimetic"]
SHARE = 0.4  # of the identity taken away by value and output, and of the noise beside it (Trockman & Kolter 2023)


@torch.no_grad()
def mimetic(network: Network) -> None:
    """Attention starts as trained vision transformers look: tokens attend to tokens like themselves.

    Query and key start equal, so that scores are likenesses; value and output together start at 0.4 (noise - identity):
    what is seen alike is taken away, and differences stand out. After Trockman & Kolter 2023, arXiv 2305.09828, section
    4, where query and key are made by a singular value decomposition. Raises ValueError for attention without four
    square matrices.
    """
    for block in network.blocks:
        attention = cast(Variant, block.attention)
        found = [getattr(attention, name, None) for name in ("query", "key", "value", "out")]
        square = [m for m in found if isinstance(m, nn.Linear) and m.in_features == m.out_features]
        if len(square) < 4:
            raise ValueError(f"{attention.title} has no four square matrices for a mimetic start")
        query, key, value, out = square
        key.weight.copy_(query.weight)
        size = len(value.weight)
        turn = torch.linalg.qr(torch.randn(size, size, device=value.weight.device))[0]
        noise = torch.randn(size, size, device=turn.device) / size**0.5
        value.weight.copy_(turn)
        out.weight.copy_(SHARE * (noise - torch.eye(size, device=turn.device)) @ turn.T)


@torch.no_grad()
def take_over(network: Network, tensors: Mapping[str, Tensor], new: tuple[str, ...] = ()) -> None:
    """Start from another network's parameters, but for those whose names match a pattern in `new`.

    Raises ValueError where a name or a shape differs.
    """
    own = network.state_dict()
    if own.keys() != tensors.keys() or any(own[name].shape != tensors[name].shape for name in own):
        raise ValueError("the shipped network has another shape than this recipe; train it from the start")
    kept = {name: own[name] for name in own if any(fnmatch(name, pattern) for pattern in new)}
    network.load_state_dict({name: tensor.float() for name, tensor in tensors.items()} | kept)
