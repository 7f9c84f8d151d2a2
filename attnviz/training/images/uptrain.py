"""Uptraining (Ainslie et al. 2023, arXiv 2305.13245): a variant goes on from a trained multi-head network.

It takes over every parameter that fits by name and shape; shared key and value heads start as the mean of the heads
that share them (section 2.1 there). What is left starts as in a new network.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from jaxtyping import Float
from torch import Tensor

from attnviz.models.nets import Network, Shape, built
from attnviz.seeding import seeded

SHARED = ("key.weight", "key.bias", "value.weight", "value.bias")  # of attention; rows are head after head


class InitialParameters(NamedTuple):
    """What a network starts from, as a state dict, and where each learned parameter comes from, by name."""

    tensors: dict[str, Tensor]
    copied: tuple[str, ...]
    pooled: tuple[str, ...]  # means of heads
    new: tuple[str, ...]


def uptrain_from(base: Mapping[str, Tensor], config: Shape, seed: int = 0) -> InitialParameters:
    """What a network of this shape starts from, given the parameters of a trained multi-head network.

    Buffers, such as fixed positions and directions that are drawn once, are those of a new network. Raises ValueError
    where no parameter can be taken over.
    """
    with seeded(seed):
        network = built(config)
    own, learned, shared = network.state_dict(), dict(network.named_parameters()), shared_heads(network)
    copied = tuple(name for name in learned if name in base and base[name].shape == own[name].shape)
    pooled = tuple(name for name in learned if name in shared and name in base and name not in copied)
    if not copied and not pooled:
        raise ValueError(f"no parameter of {config.variant} fits the network it is to go on from")
    tensors = own | {name: base[name].float() for name in copied}
    tensors |= {name: mean_of_heads(base[name].float(), *shared[name]) for name in pooled}
    new = tuple(name for name in learned if name not in copied and name not in pooled)
    return InitialParameters(tensors, copied, pooled, new)


def shared_heads(network: Network) -> dict[str, tuple[int, int]]:
    """(heads, key-value heads) of each parameter whose heads share keys and values, by name."""
    found: dict[str, tuple[int, int]] = {}
    for index, block in enumerate(network.blocks):
        heads, shared = (getattr(block.attention, name, 0) for name in ("heads", "kv_heads"))
        if 0 < shared < heads:
            found |= {f"blocks.{index}.attention.{name}": (heads, shared) for name in SHARED}
    return found


def mean_of_heads(
    tensor: Float[Tensor, "row *feature"], heads: int, shared: int
) -> Float[Tensor, "shared_row *feature"]:
    """The rows of `shared` heads, each the mean of the heads / shared neighbouring heads that read it.

    Head q reads key-value head floor(q shared / heads) (Ainslie et al. 2023, figure 2). Raises ValueError where heads
    do not divide.
    """
    if heads % shared or len(tensor) % heads:
        raise ValueError(f"{len(tensor)} rows of {heads} heads are not shared evenly by {shared} heads")
    return tensor.unflatten(0, (shared, heads // shared, len(tensor) // heads)).mean(1).flatten(0, 1)
