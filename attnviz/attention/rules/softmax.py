"""Softmax attention: weights = softmax(query keyᵀ scale + biases), output = weights value (Vaswani et al. 2017, eq. 1).

Every variant whose weights are a softmax of scores shares this rule; what differs between them stands in the call.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial, reduce, wraps
from typing import Any, TypeVar, cast

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from attnviz.attention.rules.groups import GroupPacking, PairBias, fold_of, pair_biases
from attnviz.types import BLOCK, AttentionCall, MapType, NamedMap, Stage, unrounded

Computation = TypeVar("Computation", bound=Callable[..., Any])
PIECE = 2**19  # entries of a mask computed at a time, where a row is not longer than that over BLOCK


def full_precision(compute: Computation) -> Computation:
    """A computation (rule, call, ...) without autocast, which would round what its products give to half precision.

    For whatever multiplies tensors it has widened: weights, maps, and mixing without the fused kernel. The fused kernel
    keeps its softmax in float32 by itself, so it stays outside and runs in the precision the network trains in.
    """

    @wraps(compute)
    def computed(rule: Any, call: AttentionCall, *rest: Any, **named: Any) -> Any:
        with unrounded(call.query.device):
            return compute(rule, call, *rest, **named)

    return cast(Computation, computed)


@dataclass(frozen=True)
class Softmax:
    """Each query shares out a weight of one over the keys, by the exponential of its scores."""

    map_type: MapType = "weights"
    axes: tuple[str, ...] = ("head", "query", "key")
    stochastic: bool = True
    exact: bool = True
    caveat: str = ""

    @full_precision
    def scores(self, call: AttentionCall, heads: list[int], rows: list[int], stage: Stage) -> Tensor:
        """[*batch head row key]: raw dot products, then scaled, then with biases, then -inf where masked."""
        query = at_least_float32(call.query[..., heads, :, :][..., rows, :])
        scores = query @ at_least_float32(expanded(call.key, call, heads)).transpose(-1, -2)
        if stage == "raw":
            return scores
        scale = call.scale[heads, None, None] if isinstance(call.scale, Tensor) else call.scale
        scores = scores * scale
        if stage == "scaled":
            return scores
        for _, bias in call.biases:
            scores = scores + bias(call, heads, rows).to(scores.dtype)
        if stage == "biased" or call.mask is None:
            return scores
        keep = call.mask.rows(heads, rows, call.query.shape[-2], call.key.shape[-2], scores.device)
        return scores.masked_fill(~keep, float("-inf"))

    def weights(self, call: AttentionCall, heads: list[int], rows: list[int]) -> Tensor:
        """[*batch head row key]; a row with nothing to attend to is zero."""
        scores = self.scores(call, heads, rows, "masked")
        if call.mask is None:
            return scores.softmax(-1)
        nothing = (scores == float("-inf")).all(-1, keepdim=True)
        return scores.masked_fill(nothing, 0).softmax(-1).masked_fill(nothing, 0)

    def token_map(self, call: AttentionCall, heads: list[int], rows: list[int]) -> Tensor:
        """The weights themselves."""
        return self.weights(call, heads, rows)

    def maps(self, call: AttentionCall) -> dict[str, NamedMap]:
        """One native map: the weights."""
        return {"weights": NamedMap(call.weights(), self.axes, self.map_type, self.stochastic)}

    def mix(self, call: AttentionCall) -> Tensor:
        """gate * (weights @ value) [*batch head query value_dim] by the fused kernel: at once, by groups or by rows."""
        kinds = call.mask.kinds if call.mask else frozenset()
        lopsided = call.query.shape[-2] != call.key.shape[-2]  # the kernel's own causal flag aligns top-left
        fold, inside = fold_of(call.mask, call.query.device), pair_biases(call.biases)
        if fold is not None and inside is not None:
            output = by_groups(call, fold, inside)
        elif call.biases or len(kinds) > 1 or kinds & {"band", "groups"} or ("causal" in kinds and lopsided):
            output = by_row_blocks(call)
        else:
            output = fused(call)
        return output if call.gate is None else call.gate * output

    def map_gradient(self, call: AttentionCall, d_output: Tensor, heads: list[int], rows: list[int]) -> Tensor:
        """d y / d weights = (d y / d output * gate) valueᵀ; masked entries are 0."""
        if call.gate is not None:
            d_output = d_output * call.gate
        d_rows = at_least_float32(d_output[..., heads, :, :][..., rows, :])
        gradient = d_rows @ at_least_float32(expanded(call.value, call, heads)).transpose(-1, -2)
        if call.mask is None:
            return gradient
        keep = call.mask.rows(heads, rows, call.query.shape[-2], call.key.shape[-2], gradient.device)
        return gradient.masked_fill(~keep, 0)


def at_least_float32(tensor: Tensor) -> Tensor:
    """Half precision widened, so that rows of weights sum to one within 1e-3; float64 stays."""
    return tensor.float() if tensor.dtype in (torch.float16, torch.bfloat16) else tensor


def expanded(shared: Tensor, call: AttentionCall, heads: list[int]) -> Tensor:
    """Keys or values of the requested query heads: [*batch kv_head key dim] -> [*batch head key dim]."""
    return shared[..., call.kv_heads_of(heads), :, :]


def kernel_inputs(call: AttentionCall) -> tuple[Tensor, Tensor, Tensor, float]:
    """Query, key and value of every query head, and the one scale the fused kernel takes."""
    key, value = call.key, call.value
    if key.shape[-3] != call.heads:
        heads = list(range(call.heads))
        key, value = expanded(key, call, heads), expanded(value, call, heads)
    if isinstance(call.scale, Tensor):
        return call.query * call.scale[:, None, None], key, value, 1.0
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

    `allowed` is [*choices head|1 query|1 key], bool (True = may attend) or numbers added to the scores; one query may
    come with a batch of them.
    """
    batch = query.shape[:-3]
    if allowed is not None and allowed.shape[:-3]:  # else torch would work out in Python what is known
        batch = torch.broadcast_shapes(batch, allowed.shape[:-3])
    if batch:
        query, key, value = (t.expand(*batch, *t.shape[-3:]).reshape(-1, *t.shape[-3:]) for t in (query, key, value))
        if allowed is not None:
            allowed = allowed.expand(*batch, *allowed.shape[-3:]).reshape(-1, *allowed.shape[-3:])
    else:
        query, key, value = query[None], key[None], value[None]
        allowed = None if allowed is None else allowed[None]
    output = F.scaled_dot_product_attention(query, key, value, attn_mask=allowed, is_causal=causal, scale=scale)
    return output.reshape(*batch, *output.shape[-3:]) if batch else output[0]


def fused(call: AttentionCall) -> Tensor:
    """One call of the kernel, for no mask, square causal, key_padding or keep; a mask stays as small as it is given."""
    query, key, value, scale = kernel_inputs(call)
    if call.mask is None:
        return fused_attention(query, key, value, scale)
    if call.mask.causal:
        return fused_attention(query, key, value, scale, causal=True)
    allowed = call.mask.keep if call.mask.key_padding is None else call.mask.key_padding[..., None, None, :]
    return fused_attention(query, key, value, scale, allowed=allowed)


def by_groups(call: AttentionCall, fold: GroupPacking, biases: list[PairBias]) -> Tensor:
    """Groups of equal size as one more batch axis of the kernel."""
    query, key, value, scale = kernel_inputs(call)
    allowed = fold.allowed(call, biases, query.dtype)
    return fold.unfold(fused_attention(fold.query(query), fold.key(key), fold.key(value), scale, allowed=allowed))


def by_row_blocks(call: AttentionCall) -> Tensor:
    """The kernel on a block of rows at a time, each with its own piece of the mask: memory stays linear in tokens."""
    query, key, value, scale = kernel_inputs(call)
    queries, keys, heads = query.shape[-2], key.shape[-2], list(range(call.heads))
    blocks = []
    for rows in call.blocks(max(BLOCK, PIECE // keys)):
        start, stop = call.mask.reach(rows, queries, keys) if call.mask else (0, keys)
        allowed = None
        if call.mask is not None:
            whole = len(rows) == queries
            open_to = call.mask.whole if whole else partial(call.mask.rows, rows=rows)
            allowed = open_to(heads=heads, queries=queries, keys=keys, device=query.device)
        if call.biases:
            added = reduce(torch.add, (bias(call, heads, rows).to(query.dtype) for _, bias in call.biases))
            allowed = added if allowed is None else torch.where(allowed, added, float("-inf"))
        block = query[..., rows[0] : rows[-1] + 1, :]
        piece = None if allowed is None else allowed[..., start:stop]
        blocks.append(fused_attention(block, key[..., start:stop, :], value[..., start:stop, :], scale, allowed=piece))
    return torch.cat(blocks, -2) if len(blocks) > 1 else blocks[0]
