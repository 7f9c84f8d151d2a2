"""What is asked of a network, checked before it computes: every refusal says what was expected and what came.

To add an option to a network: check it here, so that all networks refuse it in the same words.
"""

from __future__ import annotations

from collections.abc import Sequence
from operator import index
from reprlib import repr as shortened
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from attnviz.types import Sample, UnsupportedMask


def input_of(sample: Sample, stream: str = "main", *, picture: bool = False) -> Tensor:
    """What the network reads of a sample: pixels of a picture, else ids. Raises TypeError, ValueError."""
    if not isinstance(sample, Sample):
        raise TypeError(f"expected a Sample, as this model's prepare() makes it, but got {kind(sample)}")
    expected = "pixels [channel height width]" if picture else "ids [token]"
    found = sample.inputs.get(stream)
    if found is None:
        raise ValueError(f"expected {expected} in the stream {stream!r}, but the sample has {', '.join(sample.inputs)}")
    if found.is_floating_point() != picture or found.ndim < (3 if picture else 1):
        raise ValueError(f"expected {expected}, but the sample holds {kind(found)}: it was prepared for another model")
    return found


def heads_by_layer(ablated_heads: Sequence[tuple[int, int]], layers: int) -> list[list[int]]:
    """The heads to silence in each layer, from (layer, head) pairs. Raises TypeError, and ValueError for no such layer.

    Each layer knows how many heads it has and refuses others (`Variant.switch`).
    """
    found: list[list[int]] = [[] for _ in range(layers)]
    try:
        pairs = [(index(layer), index(head)) for layer, head in ablated_heads]
    except (TypeError, ValueError) as error:
        raise TypeError(
            f"ablated_heads is {kind(ablated_heads)}; expected (layer, head) pairs, such as [(0, 2)]"
        ) from error
    for layer, head in pairs:
        if not 0 <= layer < layers:
            raise ValueError(f"ablated_heads names layer {layer}; this network has layers 0 to {layers - 1}")
        found[layer].append(head)
    return found


def kept_tokens(keep_tokens: Tensor | None, tokens: int, like: Tensor) -> Tensor | None:
    """Which tokens stay [*choices token], where `like` is. Raises TypeError for what is not bool, else ValueError."""
    if keep_tokens is None:
        return None
    if not isinstance(keep_tokens, Tensor) or keep_tokens.dtype != torch.bool:
        raise TypeError(f"keep_tokens is {kind(keep_tokens)}; expected a bool tensor [token], True = stays")
    if keep_tokens.ndim == 0 or keep_tokens.shape[-1] != tokens:
        raise ValueError(f"keep_tokens is {kind(keep_tokens)}, but there are {tokens} tokens")
    return keep_tokens.to(like.device)


def replaced(embeddings: Tensor, tokens: int, table: Tensor) -> Tensor:
    """Vectors [*copies token feature] in place of the content, in the precision of a table with as many features.

    Raises TypeError for what are not numbers, ValueError where they do not fit.
    """
    if not isinstance(embeddings, Tensor) or not embeddings.is_floating_point():
        raise TypeError(f"embeddings is {kind(embeddings)}; expected a tensor of numbers [token feature]")
    if embeddings.shape[-2:] != (tokens, table.shape[-1]):
        raise ValueError(f"embeddings is {kind(embeddings)}; expected {tokens} tokens of {table.shape[-1]} features")
    return embeddings.to(table.device, table.dtype)


def placed(table: Float[Tensor, "token feature"], prefix: int, how: str) -> Float[Tensor, "token feature"]:
    """The rows of a table of places as asked for; "none" and "shuffled" change them, but not the prefix's."""
    if how == "own":
        return table
    if how == "none":
        return torch.cat([table[:prefix], torch.zeros_like(table[prefix:])])
    if how == "shuffled":
        order = torch.randperm(len(table) - prefix, generator=torch.Generator().manual_seed(0)).to(table.device)
        return torch.cat([table[:prefix], table[prefix:][order]])
    raise ValueError(f"positions is {how!r}; known: own, none, shuffled")


def refuse(title: str, reason: str, **asked: Any) -> None:
    """Raise UnsupportedMask where any of these options was asked for; None, "own" and () ask for nothing."""
    if names := [name for name, value in asked.items() if not (value is None or value == "own" or value == ())]:
        raise UnsupportedMask(title, f"{reason}, so it takes no {', '.join(names)}")


def kind(value: Any) -> str:
    """What came, in a few words."""
    if isinstance(value, Tensor):
        return f"a {str(value.dtype).removeprefix('torch.')} tensor {list(value.shape)}"
    return f"{shortened(value)}, a {type(value).__name__}"
