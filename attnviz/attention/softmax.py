"""Softmax attention: weights = softmax(query keyᵀ scale + biases), output = weights value (Vaswani et al. 2017, eq. 1).

Every variant whose weights are a softmax of scores shares this rule; what differs between them stands in the call.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention.bias import causal_lower_right

from attnviz.types import AttentionCall, Kind, NamedMap, Stage


@dataclass(frozen=True)
class Softmax:
    """Each query shares out a weight of one over the keys, by the exponential of its scores."""

    kind: Kind = "weights"
    axes: tuple[str, ...] = ("head", "query", "key")
    stochastic: bool = True
    exact: bool = True
    caveat: str = ""

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
        return {"weights": NamedMap(call.weights(), self.axes, self.kind, self.stochastic)}

    def mix(self, call: AttentionCall) -> Tensor:
        """gate * (weights @ value) [*batch head query value_dim], by the fused kernel where it serves the mask."""
        kinds = call.mask.kinds if call.mask else frozenset()
        if call.biases or len(kinds) > 1 or "band" in kinds:
            output = by_row_blocks(self, call)
        elif "groups" in kinds:
            output = by_groups(self, call)
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


def scaled_query(call: AttentionCall) -> tuple[Tensor, float]:
    """The query and the scale to hand to the fused kernel, which knows no scale per head."""
    if isinstance(call.scale, Tensor):
        return call.query * call.scale[:, None, None], 1.0
    return call.query, call.scale


def shared_heads_expanded(call: AttentionCall) -> tuple[Tensor, Tensor]:
    """Key and value for every query head; a no-op when each head has its own."""
    if call.key.shape[-3] == call.heads:
        return call.key, call.value
    heads = list(range(call.heads))
    return expanded(call.key, call, heads), expanded(call.value, call, heads)


def fused(call: AttentionCall) -> Tensor:
    """scaled_dot_product_attention; every mask it gets stays as small as it was given."""
    query, scale = scaled_query(call)
    key, value = shared_heads_expanded(call)
    mask = call.mask
    bias = None
    if mask is not None and mask.causal:
        if query.shape[-2] == key.shape[-2]:
            return F.scaled_dot_product_attention(query, key, value, is_causal=True, scale=scale)
        bias = causal_lower_right(query.shape[-2], key.shape[-2])  # the kernel's own causal flag aligns top-left
    elif mask is not None:
        bias = mask.keep if mask.keep is not None else mask.key_keep
        if bias is mask.key_keep and bias is not None:
            bias = bias[..., None, None, :]
    return F.scaled_dot_product_attention(query, key, value, attn_mask=bias, scale=scale)


def by_groups(rule: Softmax, call: AttentionCall) -> Tensor:
    """Groups of equal size as one more batch axis of the fused kernel; unequal ones by row blocks."""
    if call.mask is None or call.mask.groups is None:
        raise ValueError(f"{call.name} has no groups")
    query_groups, key_groups = call.mask.groups
    ids, sizes = query_groups.unique(return_counts=True)
    key_ids, key_sizes = key_groups.unique(return_counts=True)
    if not torch.equal(ids, key_ids) or len(sizes.unique()) > 1 or len(key_sizes.unique()) > 1:
        return by_row_blocks(rule, call)
    query, scale = scaled_query(call)
    key, value = shared_heads_expanded(call)
    to_groups, key_to_groups = query_groups.argsort(stable=True), key_groups.argsort(stable=True)

    def grouped(tensor: Tensor, order: Tensor) -> Tensor:
        return tensor[..., order, :].unflatten(-2, (len(ids), -1))

    output = F.scaled_dot_product_attention(
        grouped(query, to_groups), grouped(key, key_to_groups), grouped(value, key_to_groups), scale=scale
    )
    return output.flatten(-3, -2)[..., to_groups.argsort(), :]


def by_row_blocks(rule: Softmax, call: AttentionCall) -> Tensor:
    """The explicit formula, a block of rows at a time: memory stays linear in tokens."""
    heads = list(range(call.heads))
    value = expanded(call.value, call, heads)
    blocks = [rule.weights(call, heads, rows).to(value.dtype) @ value for rows in call.blocks()]
    return torch.cat(blocks, -2)
