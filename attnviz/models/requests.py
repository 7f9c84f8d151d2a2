"""What is asked of a network, checked before it computes: every refusal says what was expected and what came.

To add an option to a network: check it here, so that all networks refuse it in the same words.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from reprlib import repr as shortened
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from attnviz.types import AttentionCall, Edit, Mask, Request, Sample, UnsupportedMask


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


def fitted(edit: Edit | None, *, tokens: int, layers: int, like: Tensor) -> Edit:
    """An edit that fits a network of so many tokens and layers, where `like` [*any feature] is and as precise.

    Raises TypeError for what are no tensors of the right kind, ValueError where their sizes do not fit. How many heads
    a layer has, each layer knows: it refuses others (`Variant.ablation_gate`).
    """
    if edit is None:
        return Edit()
    if not isinstance(edit, Edit):
        raise TypeError(f"edit is {kind(edit)}; expected an Edit, such as Edit(keep_tokens=...)")
    if edit.positions not in ("own", "none", "shuffled"):
        raise ValueError(f"positions is {edit.positions!r}; known: own, none, shuffled")
    width = like.shape[-1]
    flags("keep_tokens", edit.keep_tokens, token=tokens)
    numbers("embeddings", edit.embeddings, token=tokens, feature=width)
    flags("ablated_heads", edit.ablated_heads, layer=layers, head=None)
    numbers("head_means", edit.head_means, layer=layers, head=None, value_dim=None)
    if edit.head_means is not None and edit.ablated_heads is None:
        raise ValueError("head_means is what ablated heads give, but no ablated_heads were named")
    if (edges := edit.blocked_edges) is not None:
        flags("blocked_edges queries", edges.queries, query=tokens)
        flags("blocked_edges keys", edges.keys, key=tokens)
        flags("blocked_edges layers", edges.layers, layer=layers)
        flags("blocked_edges heads", edges.heads, head=None)
    if (patched := edit.residuals) is not None:
        numbers("residuals values", patched.values, depth=layers + 1, token=tokens, feature=width)
        flags("residuals where", patched.where, depth=layers + 1, token=tokens)
    edit.batch  # noqa: B018  # raises where the leading axes of two fields do not match
    return edit.to(like)


def flags(name: str, value: Tensor | None, **axes: int | None) -> None:
    """Refuse what is no bool tensor with these last axes; None is any size. Raises TypeError, ValueError."""
    if value is None:
        return
    if not isinstance(value, Tensor) or value.dtype != torch.bool:
        raise TypeError(f"{name} is {kind(value)}; expected a bool tensor [{' '.join(axes)}]")
    fit(name, value, axes)


def numbers(name: str, value: Tensor | None, **axes: int | None) -> None:
    """Refuse what is no floating point tensor with these last axes; None is any size. Raises TypeError, ValueError."""
    if value is None:
        return
    if not isinstance(value, Tensor) or not value.is_floating_point():
        raise TypeError(f"{name} is {kind(value)}; expected a tensor of numbers [{' '.join(axes)}]")
    fit(name, value, axes)


def fit(name: str, value: Tensor, axes: Mapping[str, int | None]) -> None:
    """Raise ValueError where the last axes of a tensor have other sizes."""
    found = value.shape[-len(axes) :] if value.ndim >= len(axes) else None
    if found is None or any(size not in (None, is_there) for size, is_there in zip(axes.values(), found, strict=True)):
        wanted = ", ".join(axis if size is None else f"{size} {axis}s" for axis, size in axes.items())
        raise ValueError(f"{name} is {kind(value)}; expected {wanted} as its last axes")


def opened(edit: Edit, base: Mask | None, layer: int) -> Mask | None:
    """The mask of one layer: what the network itself allows, without the edges that are blocked there."""
    edges = edit.mask(layer)
    return base if edges is None else edges & base


def spread(embeddings: Float[Tensor, "*batch token feature"], edit: Edit) -> Float[Tensor, "*wider token feature"]:
    """Embeddings as many as there are edits, where gradients are asked of them.

    Elsewhere layers before the first change compute once, and what follows is as wide as the edits.
    """
    batch = edit.batch
    if not batch or not embeddings.requires_grad:
        return embeddings
    return embeddings.expand(*torch.broadcast_shapes(embeddings.shape[:-2], batch), *embeddings.shape[-2:])


def as_wide(residuals: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """Residuals with the leading axes of the last; those that have them are the very tensors that gradients reach."""
    last = residuals[-1]
    return tuple(x if x.shape == last.shape else x.expand_as(last) for x in residuals)


def widened(calls: Sequence[AttentionCall], like: Float[Tensor, "*batch token feature"]) -> tuple[AttentionCall, ...]:
    """Calls with the leading axes of `like`: a layer before the first change computed once, for all edits alike."""
    batch = like.shape[:-2]
    return tuple(call if call.query.shape[:-3] == batch else wide(call, batch) for call in calls)


def wide(call: AttentionCall, batch: tuple[int, ...]) -> AttentionCall:
    """One call with these leading axes, as views: nothing is copied."""
    names = ("query", "key", "value", "output")
    found = {name: tensor for name in names if (tensor := getattr(call, name)) is not None}
    return replace(call, **{name: tensor.expand(*batch, *tensor.shape[-3:]) for name, tensor in found.items()})


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


def refuse(title: str, edit: Edit | None, honours: frozenset[Request], reason: str) -> None:
    """Raise UnsupportedMask where an edit asks for what is not honoured; the reason is a clause about the network."""
    if edit is not None and isinstance(edit, Edit) and (asked := sorted(edit.requests - honours)):
        raise UnsupportedMask(title, f"{reason}, so no edit can change its {', '.join(asked)}")


def kind(value: Any) -> str:
    """What came, in a few words."""
    if isinstance(value, Tensor):
        return f"a {str(value.dtype).removeprefix('torch.')} tensor {list(value.shape)}"
    return f"{shortened(value)}, a {type(value).__name__}"
