"""Linformer: keys and values are projected along the tokens to a few slots (Wang et al. 2020, eq. 7)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from attnviz.attention.rules.softmax import Softmax, at_least_float32, full_precision
from attnviz.attention.variants.base import Cost
from attnviz.attention.variants.projections import Projected, fully_masked, key_padding, refuse_unsupported, widen
from attnviz.types import AttentionCall, MapType, NamedMap, Stage, Tokens, UnsupportedMask

SLOTS = 16  # the default; a quarter of 64 patches


@dataclass(frozen=True, eq=False)
class Linformer:
    """weights = softmax(Q (Eᵀ K)ᵀ scale) over slots, output = weights (Fᵀ V); masked keys and values are zero first.

    The token map weights Fᵀ gives the output exactly, but F has either sign.
    """

    of_key: Float[Tensor, "token slot"]  # E
    of_value: Float[Tensor, "token slot"]  # F

    title = "Linformer"
    map_type: MapType = "effective"
    axes = ("head", "query", "key")
    stochastic = False
    exact = True
    caveat = "Derived: slot weights times the learned projection of each slot. Signed; rows do not sum to 1."

    @full_precision
    def short(self, call: AttentionCall) -> AttentionCall:
        """The softmax call over slots instead of tokens."""
        refuse_unsupported(call, self.title, {"key_padding"})
        if len(call.keys) != len(self.of_key):
            raise UnsupportedMask(self.title, f"it projects {len(self.of_key)} tokens and cannot read {len(call.keys)}")
        wide, keep = widen(call), key_padding(call)
        key, value = wide.key, wide.value
        if keep is not None:
            masked = ~keep[..., None, :, None]
            key, value = key.masked_fill(masked, 0), value.masked_fill(masked, 0)
        key, value = (t.to(key.dtype).T @ tensor for t, tensor in ((self.of_key, key), (self.of_value, value)))
        slots = Tokens(tuple(f"slot {i + 1}" for i in range(self.of_key.shape[-1])), stream=call.keys.stream)
        return replace(wide, key=key, value=value, keys=slots, mask=None)

    def scores(self, call: AttentionCall, heads: list[int], rows: list[int], stage: Stage) -> Tensor:
        """[*batch head row slot]: dot products of each query with the projected keys."""
        return Softmax().scores(self.short(call), heads, rows, stage)

    def weights(self, call: AttentionCall, heads: list[int], rows: list[int]) -> Tensor:
        """[*batch head row slot]; zero where every key is masked."""
        weights, empty = Softmax().weights(self.short(call), heads, rows), fully_masked(call)
        return weights if empty is None else weights.masked_fill(empty, 0)

    @full_precision
    def token_map(self, call: AttentionCall, heads: list[int], rows: list[int]) -> Tensor:
        """weights Fᵀ [*batch head row key]; masked keys are zero."""
        weights, keep = self.weights(call, heads, rows), key_padding(call)
        derived = weights @ self.of_value.to(weights.dtype).T
        return derived if keep is None else derived.masked_fill(~keep[..., None, None, :], 0)

    def maps(self, call: AttentionCall) -> dict[str, NamedMap]:
        """The weights over slots, and the projections of keys and values to slots."""
        return {
            "weights over slots": NamedMap(call.weights(), ("head", "query", "slot"), "slots", True),
            "keys in each slot": NamedMap(at_least_float32(self.of_key).T, ("slot", "key"), "slots", False),
            "values in each slot": NamedMap(at_least_float32(self.of_value).T, ("slot", "key"), "slots", False),
        }

    @full_precision
    def mix(self, call: AttentionCall) -> Tensor:
        """gate * (weights (Fᵀ V)) [*batch head query value_dim]; with every key masked Fᵀ V is zero."""
        return call.gated(Softmax().mix(self.short(call)).to(call.value.dtype))

    def map_gradient(self, call: AttentionCall, d_output: Tensor, heads: list[int], rows: list[int]) -> Tensor:
        """d y / d token_map = (d y / d output * gate) valueᵀ; masked entries are 0."""
        return Softmax().map_gradient(call, d_output, heads, rows)


class LinformerAttention(Projected):
    """Keys and values are projected along the tokens to a few learned slots, and queries attend to the slots.

    E and F are learned and shared by all heads; they start with standard deviation 1 / √n, which keeps the variance of
    keys. Without `slots` there are 16 or, of fewer tokens, as many as tokens. `shared`: E = F. `shorter`: shorter
    sequences are read with the first rows of E and F, which equals padding them with masked tokens.
    """

    title = "Linformer"
    paper = "Wang et al. 2020, arXiv 2006.04768"
    formula = r"\mathrm{softmax}\!\left(Q (E^\top K)^\top / \sqrt{d_h}\right) F^\top V"
    meaning = (
        "Row i holds the weights of token i over the slots, each a learned projection of all tokens. "
        "Multiplied by the projection they give a token map, which is signed and whose rows do not sum to 1."
    )
    supported_masks = frozenset({"key_padding", "prefix"})
    requirements = frozenset({"length"})

    def __init__(
        self,
        width: int,
        heads: int,
        *,
        tokens: Tokens | None = None,
        slots: int | None = None,
        shared: bool = False,
        shorter: bool = False,
        bias: bool = True,
    ):
        if shorter:
            self.requirements = frozenset()
        super().__init__(width, heads, tokens=tokens, bias=bias)
        count = len(self.built_for or ())
        self.slots = min(SLOTS, count) if slots is None else slots
        if not 1 <= self.slots <= count:
            raise ValueError(f"{self.slots} slots for {count} tokens; expected from 1 to {count}")
        self.of_key = nn.Parameter(torch.randn(count, self.slots) * count**-0.5)
        self.of_value = None if shared else nn.Parameter(torch.randn(count, self.slots) * count**-0.5)
        self.rule = self.current()

    def current(self, count: int | None = None) -> Linformer:
        """The rule with the current projections, for `count` tokens where the network reads shorter sequences."""
        of_value = self.of_key if self.of_value is None else self.of_value
        if count is None or "length" in self.requirements:
            return Linformer(self.of_key, of_value)
        return Linformer(self.of_key[:count], of_value[:count])

    def project_inputs(self, x: Tensor, context: Tensor, queries: Tokens, keys: Tokens) -> dict[str, Any]:
        """As multi-head attention, with a rule built for this call."""
        return {**super().project_inputs(x, context, queries, keys), "rule": self.current(len(keys))}

    def cost(self, n_q: int, n_k: int) -> Cost:
        """4 d² + 2 n k parameters (n k if shared) and biases; 4 n d² + 4 n k d multiply-adds; h n k map entries."""
        projections = 1 if self.of_value is None else 2
        return Cost(
            parameters=self.projection_parameters + projections * n_k * self.slots,
            multiply_adds=self.projection_products(n_q, n_k) + 2 * (n_q + n_k) * self.slots * self.width,
            map_bytes=4 * self.heads * n_q * self.slots,
            state_bytes=0,  # it has no causal form to decode with
        )
