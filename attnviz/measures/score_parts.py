"""How much of an attention score is content meeting content, and how much is position.

Where position vectors are added to the input, what the first layer's attention reads is a sum: at a fixed divisor the
layer norm is linear, so the query is the sum of a part from the content, a part from the position and one from biases,
and so is the key. Their products make up the score exactly (the four terms of Ke, He, Liu 2021, arXiv 2006.15595, eq.
7, and those of biases).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from attnviz.types import AttentionCall, LayerParts, Model, NoTokenMap, Trace, unrounded

SOURCES = ("content", "position", "bias")  # the order of both first axes of the parts
GROUPS = {  # what is told apart of a score: content meeting content, either meeting the other, positions, the rest
    "content": (("content", "content"),),
    "mixed": (("content", "position"), ("position", "content")),
    "position": (("position", "position"),),
    "bias": tuple((query, key) for query in SOURCES for key in SOURCES if "bias" in (query, key)),
}


class ScoreParts(NamedTuple):
    """The parts of the scaled scores of one head: their sum over the first two axes is the score."""

    parts: Float[Tensor, "query_source key_source *batch row key"]
    score: Float[Tensor, "*batch row key"]

    def of(self, query: str, key: str) -> Float[Tensor, "*batch row key"]:
        """One part, by names in SOURCES: of("content", "position") is content of the query, position of the key."""
        return self.parts[SOURCES.index(query), SOURCES.index(key)]

    def grouped(self) -> Float[Tensor, "group *batch row key"]:
        """The parts put together as in GROUPS, in that order; their sum is the score too."""
        sums = [sum(self.of(*pair) for pair in pairs) for pairs in GROUPS.values()]
        return torch.stack([torch.as_tensor(one) for one in sums])


def variance_shares(
    parts: Float[Tensor, "part *row key"], keys: Bool[Tensor, " key"] | None = None
) -> Float[Tensor, "part *row"]:
    """How much of what a score varies over the keys comes from each part: cov(part, sum) / var(sum).

    What is alike for all keys has no share, as softmax does not see it. The shares add up to 1, and a part that works
    against the others has a negative one. `keys`: only these count. Not a number where the score is flat.
    """
    parts = (parts if keys is None else parts[..., keys.to(parts.device)]).to(torch.float64)
    centred = parts - parts.mean(-1, keepdim=True)
    total = centred.sum(0)
    return (centred * total).sum(-1) / total.square().sum(-1)


@torch.no_grad()
def score_parts(
    model: Model, trace: Trace, layer: int, head: int, rows: Sequence[int] | None = None, *, stream: str = "main"
) -> ScoreParts:
    """The parts of the scaled scores of one head of the first layer, before anything is added to them and softmax.

    Raises NoTokenMap, in words, for a later layer, where content and position are mixed; where positions are not added
    to the input; and where queries, keys or scores are no such products. Raises UnsupportedMask for a model that does
    not say what its layers are made of.
    """
    content, position = trace.token_embeddings.get(stream), trace.position_embeddings.get(stream)
    if layer != 0:
        raise NoTokenMap("after the first layer a token's content and its position are mixed: no exact parts exist")
    if content is None or position is None or not position.any():
        raise NoTokenMap("positions are not added to the input, so no part of a score comes from a position vector")
    (call, *others) = [c for c in trace.calls if c.queries.stream == stream and c.layer == layer]
    if others or call.keys.stream != stream:
        raise NoTokenMap("the first layer attends more than once, so its scores do not come from the input alone")
    parts = model.layer_parts(layer)
    with unrounded(content.device):
        read = sources(parts, content, position)
        query, key = projected(parts, call, read, model)
        chosen = list(range(query.shape[-2])) if rows is None else list(rows)
        query, key = query[..., head, chosen, :], key[..., call.kv_heads_of([head])[0], :, :]
        scale = call.scale_of([head])
        scale = scale[0] if isinstance(scale, Tensor) else scale
        found = query[:, None] @ key[None].transpose(-1, -2) * scale
        score = call.scores([head], chosen, "scaled")[..., 0, :, :]
    if not alike(found.sum((0, 1)), score):
        raise NoTokenMap(f"{call.name}: its scores are no products of query and key, so they have no such parts")
    return ScoreParts(found, score)


def sources(
    parts: LayerParts, content: Float[Tensor, "*batch token feature"], position: Float[Tensor, "*batch token feature"]
) -> Float[Tensor, "source *batch token feature"]:
    """What attention reads of content, of position and of the norm's own bias; their sum is what it reads."""
    position = position.expand_as(content)
    if not parts.norm_first:
        return torch.stack([content, position, torch.zeros_like(content)])
    norm = parts.attention_norm
    divisor = norm.divisor(content + position)
    bias = torch.zeros_like(content) if norm.bias is None else norm.bias.to(content).expand_as(content)
    return torch.stack([norm.linear(content) / divisor, norm.linear(position) / divisor, bias])


def projected(
    parts: LayerParts, call: AttentionCall, read: Float[Tensor, "source *batch token feature"], model: Model
) -> tuple[Tensor, Tensor]:
    """Queries and keys [source *batch head token dim] of every source; the projection's bias goes to the last one."""
    read = read.to(model.device)
    nothing = [x.to(call.query) for x in parts.project(torch.zeros_like(read[-1]), call.queries)]
    made = [x.to(call.query) for x in parts.project(read, call.queries)]
    for each, bias, used in zip(made, nothing, (call.query, call.key), strict=True):
        each[:-1] -= bias
        if each.shape[1:] != used.shape or not alike(each.sum(0), used):
            raise NoTokenMap(f"{call.name}: queries and keys are normalised or turned, so they are no sums of parts")
    return made[0], made[1]


def alike(one: Tensor, other: Tensor) -> bool:
    """Whether two arrays are equal but for rounding."""
    tolerance = torch.finfo(other.dtype).eps ** 0.5 * max(1.0, float(other.abs().max()))
    return one.shape == other.shape and bool((one - other).abs().max() <= tolerance)
