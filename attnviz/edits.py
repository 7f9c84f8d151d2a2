"""What is changed in a forward pass: tokens removed or replaced, heads ablated, edges blocked, residuals patched.

One frozen record for every model. Its tensors may carry leading axes `*edit`, which broadcast: hundreds of edits of one
input then run as one batch. Removing tokens, silencing heads and cutting edges are ablations; carrying residuals over
from another input is activation patching (Vig et al. 2020, arXiv 2004.12265; Meng et al. 2022, arXiv 2202.05262).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from operator import index
from typing import Any, Literal, NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from attnviz.masks import Mask

Request = Literal["keep_tokens", "embeddings", "positions", "ablated_heads", "blocked_edges", "residuals"]


class BlockedEdges(NamedTuple):
    """These queries may not attend to those keys; in these layers and heads, or (None) in all of them."""

    queries: Tensor  # bool [*edit query]
    keys: Tensor  # bool [*edit key]
    layers: Tensor | None = None  # bool [*edit layer]
    heads: Tensor | None = None  # bool [*edit head]


class PatchedResiduals(NamedTuple):
    """Residuals that replace the network's own; index 0 is what enters the first layer, the last what leaves the last.

    `values` are those of another input: `torch.stack(trace.residuals["main"])`.
    """

    values: Tensor  # float [*edit depth token feature]; depth = layers + 1
    where: Tensor  # bool [*edit depth token]; True = replaced


class HeadAblation(NamedTuple):
    """The ablated heads of one layer, and what they give instead of nothing."""

    off: Bool[Tensor, "*edit head"]
    means: Float[Tensor, "head value_dim"] | None = None

    def filled(self, output: Float[Tensor, "*batch head query value_dim"]) -> Tensor:
        """The outputs of all heads, with the means in place of those that were ablated."""
        if self.means is None:
            return output
        return torch.where(self.off[..., None, None], self.means[:, None].to(output), output)


@dataclass(frozen=True, eq=False)
class Edit:
    """What is changed in a forward pass; a field that is None changes nothing.

    `spec.honours` of a model says which fields it takes; it refuses the others (UnsupportedMask).
    """

    keep_tokens: Tensor | None = None  # bool [*edit token]; False = removed: no query attends to it, it is not pooled
    embeddings: Tensor | None = None  # float [*edit token feature], in place of the token embeddings
    positions: str = "own"  # position information: its own, none, or that of shuffled places
    ablated_heads: Tensor | None = None  # bool [*edit layer head]; True = its output is zero, or its mean
    head_means: Tensor | None = None  # float [layer head value_dim]: what ablated heads give, instead of zero
    blocked_edges: BlockedEdges | None = None
    residuals: PatchedResiduals | None = None

    @property
    def requests(self) -> frozenset[Request]:
        """Which changes are asked for, as `ModelSpec.honours` names them."""
        asked: dict[Request, bool] = {
            "keep_tokens": self.keep_tokens is not None,
            "embeddings": self.embeddings is not None,
            "positions": self.positions != "own",
            "ablated_heads": self.ablated_heads is not None or self.head_means is not None,
            "blocked_edges": self.blocked_edges is not None,
            "residuals": self.residuals is not None,
        }
        return frozenset(name for name, given in asked.items() if given)

    @property
    def tensors(self) -> dict[str, tuple[Tensor, int]]:
        """Every tensor that may carry leading axes, by name, and how many axes it has without them."""
        found: dict[str, tuple[Tensor | None, int]] = {
            "keep_tokens": (self.keep_tokens, 1),
            "embeddings": (self.embeddings, 2),
            "ablated_heads": (self.ablated_heads, 2),
        }
        if self.blocked_edges is not None:
            found |= {f"blocked_edges.{name}": (value, 1) for name, value in self.blocked_edges._asdict().items()}
        if self.residuals is not None:
            found["residuals.values"], found["residuals.where"] = (self.residuals.values, 3), (self.residuals.where, 2)
        return {name: (tensor, own) for name, (tensor, own) in found.items() if tensor is not None}

    @property
    def batch(self) -> tuple[int, ...]:
        """The leading axes of all its tensors together; () for a single edit. Raises ValueError where they differ."""
        shapes = [tensor.shape[: tensor.ndim - own] for tensor, own in self.tensors.values()]
        try:
            return tuple(torch.broadcast_shapes(*shapes)) if shapes else ()
        except RuntimeError as error:
            raise ValueError(f"the tensors of this edit have the leading axes {shapes}, which do not match") from error

    def pick(self, chosen: Tensor | slice) -> Edit:
        """Some of the edits of a batch with one leading axis."""
        count = len(self.batch)
        if count != 1:
            raise ValueError(f"expected a batch of edits with one leading axis, but it has {count}")

        def picked(name: str, tensor: Tensor | None) -> Tensor | None:
            own = self.tensors[name][1] if tensor is not None else 0
            batched = tensor is not None and tensor.ndim > own and len(tensor) > 1
            return tensor[chosen] if batched and tensor is not None else tensor

        return self.mapped(picked)

    def to(self, like: Tensor) -> Edit:
        """This edit where `like` is, its numbers as precise."""

        def moved(name: str, tensor: Tensor | None) -> Tensor | None:
            if tensor is None:
                return None
            return tensor.to(like.device, like.dtype) if tensor.is_floating_point() else tensor.to(like.device)

        means = None if self.head_means is None else self.head_means.to(like.device, like.dtype)
        return replace(self.mapped(moved), head_means=means)

    def mapped(self, change: Callable[[str, Tensor | None], Tensor | None]) -> Edit:
        """This edit with every tensor that may carry leading axes changed."""
        changed: dict[str, Any] = {
            name: change(name, getattr(self, name)) for name in ("keep_tokens", "embeddings", "ablated_heads")
        }
        for name in ("blocked_edges", "residuals"):
            if (parts := getattr(self, name)) is not None:
                changed[name] = type(parts)(*(change(f"{name}.{part}", t) for part, t in parts._asdict().items()))
        return replace(self, **changed)

    def ablation(self, layer: int) -> HeadAblation | None:
        """The heads that are ablated in one layer; None where there are none."""
        if self.ablated_heads is None or not (off := self.ablated_heads[..., layer, :]).any():
            return None
        return HeadAblation(off, None if self.head_means is None else self.head_means[layer])

    def mask(self, layer: int) -> Mask | None:
        """The edges that are open in one layer; None where none is blocked."""
        if (edges := self.blocked_edges) is None:
            return None
        pairs = edges.queries[..., :, None] & edges.keys[..., None, :]
        if edges.layers is not None:
            pairs = pairs & edges.layers[..., layer, None, None]
        pairs = pairs[..., None, :, :]
        if edges.heads is not None:
            pairs = pairs & edges.heads[..., :, None, None]
        return Mask(keep=~pairs) if pairs.any() else None

    def patched(self, depth: int, residual: Float[Tensor, "*batch token feature"]) -> Tensor:
        """A residual with the given rows in place of its own; `depth` 0 is what enters the first layer."""
        if self.residuals is None or not (where := self.residuals.where[..., depth, :]).any():
            return residual
        return torch.where(where[..., None], self.residuals.values[..., depth, :, :], residual)

    def first_layer(self) -> Tensor:
        """The first layer that each edit changes, of a batch with one leading axis: the layers before are shared."""
        (count,) = self.batch
        if self.requests & {"keep_tokens", "embeddings", "positions"}:
            return torch.zeros(count, dtype=torch.long)
        layers: list[Tensor] = []
        if self.ablated_heads is not None:
            layers.append(self.ablated_heads.any(-1))
        if (edges := self.blocked_edges) is not None:
            layers.append(torch.ones(1, dtype=torch.bool) if edges.layers is None else edges.layers)
        if self.residuals is not None:
            layers.append(self.residuals.where.any(-1))
        firsts = [first_true(one).expand(count) for one in layers]
        return torch.stack(firsts).amin(0) if firsts else torch.zeros(count, dtype=torch.long)


def first_true(flags: Bool[Tensor, "*edit layer"]) -> Tensor:
    """The first True of each row; the length of the row where there is none."""
    found = flags.long().argmax(-1)
    return torch.where(flags.any(-1), found, flags.shape[-1])


def token_flags(count: int, tokens: Sequence[int]) -> Bool[Tensor, " token"]:
    """True for the named ones of so many tokens. Raises TypeError, and ValueError for a token there is not."""
    return flagged("token", tokens, count)


def head_flags(layers: int, heads: int, pairs: Sequence[tuple[int, int]]) -> Bool[Tensor, "layer head"]:
    """True for the named (layer, head) pairs. Raises TypeError, and ValueError for a layer or head there is not."""
    try:
        named = [(index(layer), index(head)) for layer, head in pairs]
    except (TypeError, ValueError) as error:
        raise TypeError(f"heads are {pairs!r}; expected (layer, head) pairs, such as [(0, 2)]") from error
    found = torch.zeros(layers, heads, dtype=torch.bool)
    for layer, head in named:
        if not 0 <= layer < layers:
            raise ValueError(f"heads name layer {layer}; this network has layers 0 to {layers - 1}")
        if not 0 <= head < heads:
            raise ValueError(f"heads name head {head}; this network has heads 0 to {heads - 1}")
        found[layer, head] = True
    return found


def flagged(name: str, chosen: Sequence[int], count: int) -> Bool[Tensor, " item"]:
    """True for the named items. Raises TypeError for what are no whole numbers, ValueError for what there is not."""
    try:
        named = [index(one) for one in chosen]
    except TypeError as error:
        raise TypeError(f"{name}s are {chosen!r}; expected their numbers, such as [0, 2]") from error
    if wrong := [one for one in named if not 0 <= one < count]:
        raise ValueError(f"{name} {wrong[0]} is named; there are {name}s 0 to {count - 1}")
    found = torch.zeros(count, dtype=torch.bool)
    found[named] = True
    return found


UNCHANGED = Edit()
