"""Ways from scores to weights other than a plain softmax: they cross with every variant that multiplies query and key.

To add a normaliser: a function (scores with -inf where closed, sink or None) -> (weights, weight of the sink), and one
line in NORMALISERS.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor, nn

from attnviz.attention.rules.softmax import Softmax, at_least_float32, expanded, full_precision
from attnviz.types import AttentionCall, NamedMap, Stage

Normaliser = tuple[Tensor, Tensor | None]  # weights [*batch head row key], weight of the sink [*batch head row 1]
SINK = "A learned sink takes what each row keeps from the tokens, so rows sum to less than one."
TALKING_HEADS = "Heads mix their weights after normalising, so entries can be negative and rows need not sum to one."
SIGMOID = "Every weight is decided alone, so rows do not sum to one."


def softmax(scores: Tensor, sink: Tensor | None) -> Normaliser:
    """Shares of one by the exponential of the scores (Vaswani et al. 2017, eq. 1)."""
    return shared_out(partial(torch.softmax, dim=-1), scores, sink)


def entmax15(scores: Tensor, sink: Tensor | None) -> Normaliser:
    """Shares of one that can be exactly zero: alpha = 1.5 (Peters et al. 2019, arXiv 1905.05702)."""
    return shared_out(entmax, scores, sink)


def top(scores: Tensor, sink: Tensor | None, *, count: int = 8) -> Normaliser:
    """Softmax over the `count` highest scores of each row, ties kept (Zhao et al. 2019, arXiv 1912.11637)."""
    bar = scores.topk(min(count, scores.shape[-1]), dim=-1).values[..., -1:]
    return softmax(scores.masked_fill(scores < bar, float("-inf")), sink)


def sigmoid(scores: Tensor, sink: Tensor | None) -> Normaliser:
    """Every weight alone, sigmoid(score - log n), n keys being open (Ramapuram et al. 2024, arXiv 2409.04431)."""
    if sink is not None:
        raise ValueError("a sink takes weight from tokens that share it, and a sigmoid shares nothing out")
    count = (scores > float("-inf")).sum(-1, keepdim=True).clamp_min(1)
    return (scores - count.to(scores.dtype).log()).sigmoid(), None


NORMALISERS: dict[str, Callable[..., Normaliser]] = {
    "softmax": softmax,
    "sigmoid": sigmoid,
    "entmax15": entmax15,
    "top": top,
}


def shared_out(share: Callable[[Tensor], Tensor], scores: Tensor, sink: Tensor | None) -> Normaliser:
    """Shares of tokens and sink; a row with nothing open and no sink is zero."""
    slots = scores if sink is None else torch.cat([scores, sink.expand(*scores.shape[:-1], 1).to(scores.dtype)], -1)
    nothing = (slots == float("-inf")).all(-1, keepdim=True)
    weights = share(slots.masked_fill(nothing, 0)).masked_fill(nothing, 0)
    return (weights, None) if sink is None else (weights[..., :-1], weights[..., -1:])


def entmax(scores: Float[Tensor, "*row key"]) -> Float[Tensor, "*row key"]:
    """max(scores / 2 - t, 0) squared, with t such that a row sums to one; exact, by sorting."""
    halves = (scores - scores.amax(-1, keepdim=True)) / 2
    with torch.no_grad():  # how many keys take part; given that, t is smooth
        ranked = halves.sort(-1, descending=True).values.clamp_min(-2)  # below -1 nothing takes part
        rank = torch.arange(1, scores.shape[-1] + 1, dtype=scores.dtype, device=scores.device)
        mean, squares = ranked.cumsum(-1) / rank, ranked.square().cumsum(-1)
        cut = mean - ((1 - squares + rank * mean.square()) / rank).clamp_min(0).sqrt()
        count = (cut <= ranked).sum(-1, keepdim=True)
        part = halves >= ranked.gather(-1, count - 1)
    size = part.sum(-1, keepdim=True).to(scores.dtype)
    inside = halves.masked_fill(~part, 0)
    mean = inside.sum(-1, keepdim=True) / size
    spread = (inside - mean).masked_fill(~part, 0).square().sum(-1, keepdim=True)
    cut = mean - ((1 - spread) / size).sqrt()
    return (inside - cut).clamp_min(0).square().masked_fill(~part, 0)


@dataclass(frozen=True, eq=False)
class NormalisedAttention(Softmax):
    """Weights by any normaliser, with a sink and with heads that talk, where asked for."""

    normalise: Callable[..., Normaliser] = softmax
    before: Tensor | None = None  # [head head]: scaled scores of the heads mixed, before biases and mask
    after: Tensor | None = None  # [head head]: weights of the heads mixed
    sink: Tensor | None = None  # [head]: one score for all queries; or [kv_head dim]: a key without a value

    @full_precision
    def scores(self, call: AttentionCall, heads: list[int], rows: list[int], stage: Stage) -> Tensor:
        """As for softmax, with the heads mixed before biases are added."""
        if self.before is None or stage in ("raw", "scaled"):
            return super().scores(call, heads, rows, stage)
        scaled = super().scores(call, list(range(call.heads)), rows, "scaled")
        scores = mixed(self.before[heads], scaled)
        for _, bias in call.biases:
            scores = scores + bias(call, heads, rows).to(scores.dtype)
        return scores if stage == "biased" else masked_out(call, heads, rows, scores, float("-inf"))

    def shares(self, call: AttentionCall, heads: list[int], rows: list[int]) -> Normaliser:
        """Weights on tokens and on the sink, before heads mix them."""
        sink = None if self.sink is None else self.sink_scores(call, heads, rows)
        return self.normalise(self.scores(call, heads, rows, "masked"), sink)

    def sink_scores(self, call: AttentionCall, heads: list[int], rows: list[int]) -> Tensor:
        """[*batch head row 1]."""
        if self.sink is None or self.sink.ndim == 1:
            return at_least_float32(self.sink[heads, None, None])  # type: ignore[index]
        query = at_least_float32(call.query[..., heads, :, :][..., rows, :])
        key = at_least_float32(self.sink[call.kv_heads_of(heads), None])
        scale = call.scale[heads, None, None] if isinstance(call.scale, Tensor) else call.scale
        return (query * key).sum(-1, keepdim=True) * scale

    @full_precision
    def weights(self, call: AttentionCall, heads: list[int], rows: list[int]) -> Tensor:
        """[*batch head row key], closed entries 0; where heads talk, what a head really multiplies its values by."""
        if self.after is None:
            return self.shares(call, heads, rows)[0]
        own = self.shares(call, list(range(call.heads)), rows)[0]
        return masked_out(call, heads, rows, mixed(self.after[heads], own), 0)

    def maps(self, call: AttentionCall) -> dict[str, NamedMap]:
        """The weights; where heads talk, each head's own before; where there is a sink, with its slot."""
        maps = super().maps(call)
        if self.after is None and self.sink is None:
            return maps
        own, sink = self.shares(call, *call.pick(None, None))
        alone = self.normalise is not sigmoid
        if self.after is not None:
            maps["before the heads talk"] = NamedMap(own, self.axes, self.map_type, alone and sink is None)
        if sink is not None:
            slots = torch.cat([own, sink], -1)
            maps["with the sink"] = NamedMap(slots, ("head", "query", "slot"), "slots", True)
        return maps

    @full_precision
    def mix(self, call: AttentionCall) -> Tensor:
        """gate * (weights @ value), a block of rows at a time."""
        heads = list(range(call.heads))
        value = expanded(call.value, call, heads)
        blocks = [self.weights(call, heads, rows).to(value.dtype) @ value for rows in call.blocks()]
        output = torch.cat(blocks, -2)
        return output if call.gate is None else call.gate * output


def mixed(matrix: Float[Tensor, "chosen head"], maps: Float[Tensor, "*batch head row key"]) -> Tensor:
    """Each chosen head's mixture of the maps of all heads."""
    return torch.einsum("ch,...hrk->...crk", matrix.to(maps.dtype), maps)


def masked_out(call: AttentionCall, heads: list[int], rows: list[int], maps: Tensor, value: float) -> Tensor:
    """The maps, with `value` wherever the mask lets a query not attend."""
    if call.mask is None:
        return maps
    keep = call.mask.rows(heads, rows, call.query.shape[-2], call.key.shape[-2], maps.device)
    return maps.masked_fill(~keep, value)


class Options(nn.Module):
    """What the normalising options of a variant learn, and the rule they make; plain softmax where none is chosen."""

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
            raise ValueError("a sink takes weight from tokens that share it, and a sigmoid shares nothing out")
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
