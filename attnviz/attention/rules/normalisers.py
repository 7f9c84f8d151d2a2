"""Normalisation of scores other than plain softmax, for every variant that multiplies query and key.

To add a normaliser: a function (scores with -inf where masked, sink or None) -> (weights, weight of the sink), and one
line in NORMALISERS.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor, nn

from attnviz.attention.rules.softmax import Softmax, add_biases, at_least_float32, expand_kv, full_precision, select
from attnviz.types import AttentionCall, Mask, NamedMap, Stage

Normalised = tuple[Tensor, Tensor | None]  # weights [*batch head row key], weight of the sink [*batch head row 1]
Normaliser = Callable[..., Normalised]
SINK = "An attention sink receives part of each row's weight, so rows sum to less than 1."
TALKING_HEADS = "Talking heads mix the weights after softmax, so entries can be negative and rows need not sum to 1."
SIGMOID = "Sigmoid normalises each weight by itself, so rows do not sum to 1."
NO_SINK = "a sink needs weights that sum to 1 over the keys, and those of a sigmoid do not"


def softmax(scores: Tensor, sink: Tensor | None) -> Normalised:
    """exp(score), divided by the sum of the row (Vaswani et al. 2017, eq. 1)."""
    return normalise_rows(partial(torch.softmax, dim=-1), scores, sink)


def entmax15(scores: Tensor, sink: Tensor | None) -> Normalised:
    """Sparse softmax, alpha = 1.5: rows sum to 1, small weights are 0 (Peters et al. 2019, arXiv 1905.05702)."""
    return normalise_rows(entmax, scores, sink)


def top(scores: Tensor, sink: Tensor | None, *, count: int = 8) -> Normalised:
    """Softmax over the `count` highest scores of each row, ties kept (Zhao et al. 2019, arXiv 1912.11637)."""
    lowest = scores.topk(min(count, scores.shape[-1]), dim=-1).values[..., -1:]
    return softmax(scores.masked_fill(scores < lowest, float("-inf")), sink)


def sigmoid(scores: Tensor, sink: Tensor | None) -> Normalised:
    """sigmoid(score - log n) of each pair, with n allowed keys in its row (Ramapuram et al. 2024, arXiv 2409.04431)."""
    if sink is not None:
        raise ValueError(NO_SINK)
    count = (scores > float("-inf")).sum(-1, keepdim=True).clamp_min(1)
    return (scores - count.to(scores.dtype).log()).sigmoid(), None


NORMALISERS: dict[str, Normaliser] = {"softmax": softmax, "sigmoid": sigmoid, "entmax15": entmax15, "top": top}


def normalise_rows(normalise: Callable[[Tensor], Tensor], scores: Tensor, sink: Tensor | None) -> Normalised:
    """Weights of the keys and of the sink, which together sum to 1; a row without allowed keys and sink is zero."""
    if sink is not None:
        scores = torch.cat([scores, sink.expand(*scores.shape[:-1], 1).to(scores.dtype)], -1)
    empty = (scores == float("-inf")).all(-1, keepdim=True)
    weights = normalise(scores.masked_fill(empty, 0)).masked_fill(empty, 0)
    return (weights, None) if sink is None else (weights[..., :-1], weights[..., -1:])


def entmax(scores: Float[Tensor, "*row key"]) -> Float[Tensor, "*row key"]:
    """max(scores / 2 - t, 0) squared, with t such that a row sums to 1; exact, by sorting."""
    halves = (scores - scores.amax(-1, keepdim=True)) / 2
    with torch.no_grad():  # which keys are in the support; given that, t is smooth
        ranked = halves.sort(-1, descending=True).values.clamp_min(-2)  # below -1 no key is in the support
        rank = torch.arange(1, scores.shape[-1] + 1, dtype=scores.dtype, device=scores.device)
        mean, squares = ranked.cumsum(-1) / rank, ranked.square().cumsum(-1)
        threshold = mean - ((1 - squares + rank * mean.square()) / rank).clamp_min(0).sqrt()
        count = (threshold <= ranked).sum(-1, keepdim=True)
        support = halves >= ranked.gather(-1, count - 1)
    size = support.sum(-1, keepdim=True).to(scores.dtype)
    kept = halves.masked_fill(~support, 0)
    mean = kept.sum(-1, keepdim=True) / size
    squared = (kept - mean).masked_fill(~support, 0).square().sum(-1, keepdim=True)
    threshold = mean - ((1 - squared) / size).sqrt()
    return (kept - threshold).clamp_min(0).square().masked_fill(~support, 0)


@dataclass(frozen=True, eq=False)
class NormalisedAttention(Softmax):
    """Weights by any normaliser, optionally with an attention sink and talking heads."""

    normalise: Normaliser = softmax
    before: Tensor | None = None  # [head head]: mixes the scaled scores of the heads, before biases and mask
    after: Tensor | None = None  # [head head]: mixes the weights of the heads
    sink: Tensor | None = None  # [head]: one score for all queries; or [kv_head dim]: a key without a value

    @full_precision
    def scores(self, call: AttentionCall, heads: list[int], rows: list[int], stage: Stage) -> Tensor:
        """As for softmax, with the heads mixed before biases are added."""
        if self.before is None or stage in ("raw", "scaled"):
            return super().scores(call, heads, rows, stage)
        scaled = super().scores(call, list(range(call.heads)), rows, "scaled")
        return add_biases(mix_heads(self.before[heads], scaled), call, heads, rows, stage)

    def normalised(self, call: AttentionCall, heads: list[int], rows: list[int]) -> Normalised:
        """Weights on tokens and on the sink, before talking heads mix them."""
        sink = None if self.sink is None else self.sink_scores(call, heads, rows)
        return self.normalise(self.scores(call, heads, rows, "masked"), sink)

    def sink_scores(self, call: AttentionCall, heads: list[int], rows: list[int]) -> Tensor:
        """[*batch head row 1]."""
        if self.sink is None or self.sink.ndim == 1:
            return at_least_float32(self.sink[heads, None, None])  # type: ignore[index]
        key = at_least_float32(self.sink[call.kv_heads_of(heads), None])
        return (select(call.query, heads, rows) * key).sum(-1, keepdim=True) * call.scale_of(heads)

    @full_precision
    def weights(self, call: AttentionCall, heads: list[int], rows: list[int]) -> Tensor:
        """[*batch head row key], 0 where masked; of talking heads, what a head multiplies its values by."""
        if self.after is None:
            return self.normalised(call, heads, rows)[0]
        own = self.normalised(call, list(range(call.heads)), rows)[0]
        return call.masked(mix_heads(self.after[heads], own), heads, rows, 0)

    def maps(self, call: AttentionCall) -> dict[str, NamedMap]:
        """The weights; of talking heads also those before mixing; of a sink also those with its column."""
        maps = super().maps(call)
        if self.after is None and self.sink is None:
            return maps
        own, sink = self.normalised(call, *call.pick(None, None))
        stochastic = self.normalise is not sigmoid and sink is None
        if self.after is not None:
            maps["before head mixing"] = NamedMap(own, self.axes, self.map_type, stochastic)
        if sink is not None:
            slots = torch.cat([own, sink], -1)
            maps["with the sink"] = NamedMap(slots, ("head", "query", "slot"), "slots", True)
        return maps

    @full_precision
    def mix(self, call: AttentionCall) -> Tensor:
        """gate * (weights @ value), a block of rows at a time, over the keys that causal masks and bands leave it."""
        heads, blocks = list(range(call.heads)), []
        for rows in call.blocks():
            near, within = near_rows(call, rows)
            value = expand_kv(near.value, near, heads)
            blocks.append(self.weights(near, heads, within).to(value.dtype) @ value)
        return call.gated(torch.cat(blocks, -2))


def near_rows(call: AttentionCall, rows: list[int]) -> tuple[AttentionCall, list[int]]:
    """A call without the keys that none of these consecutive rows may attend to, and the numbers of the rows in it.

    A bias knows the positions of all keys, so a call with biases keeps them.
    """
    queries, keys = call.query.shape[-2], call.key.shape[-2]
    start, stop = (0, keys) if call.mask is None or call.biases else call.mask.key_range(rows, queries, keys)
    if stop - start == keys:
        return call, rows
    allowed = call.allowed(list(range(call.heads)), rows)
    keep = None if allowed is None else allowed[..., start:stop]
    parts = {"query": call.query[..., rows, :], "key": call.key[..., start:stop, :]}
    return replace(call, **parts, value=call.value[..., start:stop, :], mask=Mask(keep=keep)), list(range(len(rows)))


def mix_heads(matrix: Float[Tensor, "chosen head"], maps: Float[Tensor, "*batch head row key"]) -> Tensor:
    """Each chosen head's mixture of the maps of all heads."""
    return torch.einsum("ch,...hrk->...crk", matrix.to(maps.dtype), maps)


class Normalisation(nn.Module):
    """The learned parameters of a variant's normalisation options, and the rule; plain softmax without options."""

    before: nn.Parameter | None
    after: nn.Parameter | None
    sink: nn.Parameter | None

    def __init__(
        self,
        heads: int,
        key_shape: tuple[int, int],
        *,
        normaliser: str = "softmax",
        top: int = 8,
        talking: str = "",
        sink: str = "",
    ):
        super().__init__()
        for name, value, known in (
            ("normaliser", normaliser, list(NORMALISERS)),
            ("talking", talking, ["", "before", "after", "both"]),
            ("sink", sink, ["", "score", "key"]),
        ):
            if value not in known:
                raise ValueError(f"{name} is {value!r}; known: {', '.join(map(repr, known))}")
        if top < 1:
            raise ValueError(f"top is {top}; a row needs at least one key")
        if sink and normaliser == "sigmoid":
            raise ValueError(NO_SINK)
        self.normaliser, self.top = normaliser, top
        before, after = talking in ("before", "both"), talking in ("after", "both")
        self.register_parameter("before", nn.Parameter(torch.eye(heads)) if before else None)
        self.register_parameter("after", nn.Parameter(torch.eye(heads)) if after else None)
        shapes = {"": None, "score": (heads,), "key": key_shape}
        shape = shapes[sink]
        self.register_parameter("sink", None if shape is None else nn.Parameter(torch.zeros(shape)))

    @property
    def chosen(self) -> bool:
        """Whether any option differs from plain softmax."""
        return self.normaliser != "softmax" or any(p is not None for p in (self.before, self.after, self.sink))

    def rule(self) -> Softmax:
        """The rule of one call."""
        if not self.chosen:
            return Softmax()
        reasons = [TALKING_HEADS] * (self.after is not None) + [SINK] * (self.sink is not None)
        reasons += [SIGMOID] * (self.normaliser == "sigmoid")
        chosen = NORMALISERS[self.normaliser]
        normalise = partial(chosen, count=self.top) if self.normaliser == "top" else chosen
        return NormalisedAttention(
            stochastic=not reasons,
            caveat=" ".join(reasons),
            normalise=normalise,
            before=self.before,
            after=self.after,
            sink=self.sink,
        )
