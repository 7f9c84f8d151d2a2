"""Softmax attention: weights = softmax(query keyᵀ scale + biases), output = weights value (Vaswani et al. 2017, eq. 1).

Every variant whose weights are a softmax of scores shares this rule; its call holds what differs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import reduce, wraps
from typing import Any, TypeVar, cast

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from attnviz.attention.rules.groups import GroupPacking, PairBias, packing_of, pair_biases
from attnviz.types import BLOCK, AttentionCall, MapType, NamedMap, Stage, unrounded
from attnviz.types import at_least_float32 as at_least_float32

Computation = TypeVar("Computation", bound=Callable[..., Any])
MASK_ENTRIES = 2**19  # of a block of rows of the mask, unless BLOCK rows are more


def full_precision(compute: Computation) -> Computation:
    """A computation (rule, call, ...) without autocast, which would round its products to half precision.

    For weights, maps, and mixing without the fused kernel. The fused kernel keeps its softmax in float32 by itself, so
    it runs in the precision the network trains in.
    """

    @wraps(compute)
    def computed(rule: Any, call: AttentionCall, *rest: Any, **named: Any) -> Any:
        with unrounded(call.query.device):
            return compute(rule, call, *rest, **named)

    return cast(Computation, computed)


@dataclass(frozen=True)
class Softmax:
    """The weights of a query are the softmax of its scores over the keys: positive, and each row sums to 1."""

    map_type: MapType = "weights"
    axes: tuple[str, ...] = ("head", "query", "key")
    stochastic: bool = True
    exact: bool = True
    caveat: str = ""

    @full_precision
    def scores(self, call: AttentionCall, heads: list[int], rows: list[int], stage: Stage) -> Tensor:
        """[*batch head row key]: raw dot products, then scaled, then with biases, then -inf where masked."""
        scores = select(call.query, heads, rows) @ at_least_float32(expand_kv(call.key, call, heads)).transpose(-1, -2)
        if stage == "raw":
            return scores
        scores = scores.mul_(call.scale_of(heads))  # in place, as below: new memory costs as much as the product
        return scores if stage == "scaled" else add_biases(scores, call, heads, rows, stage)

    def weights(self, call: AttentionCall, heads: list[int], rows: list[int]) -> Tensor:
        """[*batch head row key]; a row without an allowed key is zero."""
        scores = self.scores(call, heads, rows, "masked")
        if call.mask is None:
            return scores.softmax(-1) if scores.requires_grad else torch.softmax(scores, -1, out=scores)
        empty = (scores == float("-inf")).all(-1, keepdim=True)
        return scores.masked_fill(empty, 0).softmax(-1).masked_fill(empty, 0)

    def token_map(self, call: AttentionCall, heads: list[int], rows: list[int]) -> Tensor:
        """The weights themselves."""
        return self.weights(call, heads, rows)

    def maps(self, call: AttentionCall) -> dict[str, NamedMap]:
        """One native map: the weights."""
        return {"weights": NamedMap(call.weights(), self.axes, self.map_type, self.stochastic)}

    def mix(self, call: AttentionCall) -> Tensor:
        """gate * (weights @ value) [*batch head query value_dim] by the fused kernel: whole, by groups or by rows."""
        kinds = call.mask.kinds if call.mask else frozenset()
        rectangular = call.query.shape[-2] != call.key.shape[-2]  # the kernel's own causal flag aligns top-left
        packing, biases = packing_of(call.mask, call.query.device), pair_biases(call.biases)
        if packing is not None and biases is not None:
            output = attend_by_groups(call, packing, biases)
        elif call.biases or len(kinds) > 1 or kinds & {"band", "groups"} or ("causal" in kinds and rectangular):
            output = attend_by_rows(call)
        else:
            output = attend(call)
        return call.gated(output)

    def map_gradient(self, call: AttentionCall, d_output: Tensor, heads: list[int], rows: list[int]) -> Tensor:
        """d y / d weights = (d y / d output * gate) valueᵀ; masked entries are 0."""
        value = at_least_float32(expand_kv(call.value, call, heads))
        return call.masked(select(call.gated(d_output), heads, rows) @ value.transpose(-1, -2), heads, rows, 0)


def add_biases(scores: Tensor, call: AttentionCall, heads: list[int], rows: list[int], stage: Stage) -> Tensor:
    """Scaled scores with the biases of the call, and with -inf where masked unless the stage is "biased"."""
    for _, bias in call.biases:
        scores = scores + bias(call, heads, rows).to(scores.dtype)
    return scores if stage == "biased" else call.masked(scores, heads, rows, float("-inf"))


def select(
    vectors: Float[Tensor, "*batch head query dim"], heads: list[int], rows: list[int]
) -> Float[Tensor, "*batch chosen row dim"]:
    """The vectors of the requested heads and rows, in float32 at least."""
    return at_least_float32(picked(picked(vectors, -3, heads), -2, rows))


def picked(vectors: Tensor, axis: int, places: list[int]) -> Tensor:
    """Some entries along an axis: a view where they follow each other, since copies cost more than short products."""
    if places and places == list(range(places[0], places[0] + len(places))):
        return vectors.narrow(axis, places[0], len(places))
    return vectors.index_select(axis, torch.tensor(places, device=vectors.device, dtype=torch.long))


def expand_kv(shared: Tensor, call: AttentionCall, heads: list[int]) -> Tensor:
    """Keys or values of the requested query heads: [*batch kv_head key dim] -> [*batch head key dim]."""
    return picked(shared, -3, call.kv_heads_of(heads))


def kernel_inputs(call: AttentionCall) -> tuple[Tensor, Tensor, Tensor, float]:
    """Query, key and value of every query head, and the single scale the fused kernel takes."""
    key, value, heads = call.key, call.value, list(range(call.heads))
    if key.shape[-3] != call.heads:
        key, value = expand_kv(key, call, heads), expand_kv(value, call, heads)
    if isinstance(call.scale, Tensor):
        return call.query * call.scale_of(heads), key, value, 1.0
    return call.query, key, value, call.scale


def fused_attention(
    query: Float[Tensor, "*batch head query dim"],
    key: Float[Tensor, "*batch head key dim"],
    value: Float[Tensor, "*batch head key value_dim"],
    scale: float,
    *,
    allowed: Tensor | None = None,
    causal: bool = False,
) -> Float[Tensor, "*wider head query value_dim"]:
    """scaled_dot_product_attention with exactly one batch axis: with any other number it stores n x n weights.

    So it does where values are wider or narrower than keys: the narrower are filled up with zeros, which add nothing.
    `allowed` is [*batch head|1 query|1 key], bool (True = may attend) or numbers added to the scores; its batch may be
    wider than the query's.
    """
    missing, value_dim = query.shape[-1] - value.shape[-1], value.shape[-1]
    if missing > 0:
        value = F.pad(value, (0, missing))
    elif missing < 0:
        query, key = F.pad(query, (0, -missing)), F.pad(key, (0, -missing))
    batch = query.shape[:-3]
    if allowed is not None and allowed.shape[:-3]:  # broadcast_shapes is slow, so only where there is a batch
        batch = torch.broadcast_shapes(batch, allowed.shape[:-3])
    if batch:
        query, key, value = (t.expand(*batch, *t.shape[-3:]).reshape(-1, *t.shape[-3:]) for t in (query, key, value))
        if allowed is not None:
            allowed = allowed.expand(*batch, *allowed.shape[-3:]).reshape(-1, *allowed.shape[-3:])
    else:
        query, key, value = query[None], key[None], value[None]
        allowed = None if allowed is None else allowed[None]
    output = F.scaled_dot_product_attention(query, key, value, attn_mask=allowed, is_causal=causal, scale=scale)
    output = output[..., :value_dim] if missing > 0 else output
    return output.reshape(*batch, *output.shape[-3:]) if batch else output[0]


def attend(call: AttentionCall) -> Tensor:
    """One call of the kernel, for no mask, square causal, key_padding or keep; the mask is not expanded before."""
    query, key, value, scale = kernel_inputs(call)
    if call.mask is None:
        return fused_attention(query, key, value, scale)
    if call.mask.causal:
        return fused_attention(query, key, value, scale, causal=True)
    allowed = call.mask.keep if call.mask.key_padding is None else call.mask.key_padding[..., None, None, :]
    return fused_attention(query, key, value, scale, allowed=allowed)


def attend_by_groups(call: AttentionCall, packing: GroupPacking, biases: list[PairBias]) -> Tensor:
    """Groups as one more batch axis of the kernel."""
    query, key, value, scale = kernel_inputs(call)
    query, key, value = packing.pack_queries(query), packing.pack_keys(key), packing.pack_keys(value)
    allowed = packing.allowed(call, biases, query.dtype)
    return packing.unpack(fused_attention(query, key, value, scale, allowed=allowed))


def attend_by_rows(call: AttentionCall) -> Tensor:
    """The kernel on a block of rows at a time, each with its rows of the mask: memory stays linear in tokens."""
    query, key, value, scale = kernel_inputs(call)
    queries, keys, heads = query.shape[-2], key.shape[-2], list(range(call.heads))
    blocks = []
    for rows in call.blocks(max(BLOCK, MASK_ENTRIES // keys)):
        start, stop = call.mask.key_range(rows, queries, keys) if call.mask else (0, keys)
        if call.mask is not None and len(rows) == queries:
            allowed = call.mask.all_rows(heads, queries, keys, query.device)
        else:
            allowed = call.allowed(heads, rows)
        if call.biases:
            added = reduce(torch.add, (bias(call, heads, rows).to(query.dtype) for _, bias in call.biases))
            allowed = added if allowed is None else torch.where(allowed, added, float("-inf"))
        block = query[..., rows[0] : rows[-1] + 1, :]
        allowed = None if allowed is None else allowed[..., start:stop]
        near = key[..., start:stop, :], value[..., start:stop, :]
        blocks.append(fused_attention(block, *near, scale, allowed=allowed))
    return torch.cat(blocks, -2) if len(blocks) > 1 else blocks[0]
