"""Linear attention and Performer: variants with feature maps, which decode from a recurrent state of constant size."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from attnviz.attention.rules.feature_maps import EluFeatures, RandomFeatures, State, orthogonal_directions
from attnviz.attention.variants.base import Cost
from attnviz.attention.variants.projections import Projected
from attnviz.types import AttentionCall, Mask, Tokens

SEEDS = 2048  # half precision, in which parameters are shipped, holds every integer below


class Cache(NamedTuple):
    """The cache of decoding: two tensors, as for every variant, so that beam search can select entries of a batch.

    The output is computed from `sums` alone; keys and values are for the maps.
    """

    sums: Tensor  # [*batch head feature value_dim+1], and one more column for the largest exponents, if there are any
    keys_values: Tensor  # [*batch head token 2*dim], concatenated

    @staticmethod
    def pack(state: State, keys_values: Tensor) -> Cache:
        """A recurrent state as a cache."""
        plain = state.top.ndim == 2  # the single 0 of sums without a reference
        sums = state.sums if plain else torch.cat([state.sums, state.top.transpose(-1, -2)], -1)
        return Cache(sums, keys_values)

    @property
    def state(self) -> State:
        """The recurrent state."""
        width = self.keys_values.shape[-1] // 2 + 1
        sums, top = self.sums[..., :width], self.sums[..., width:].transpose(-1, -2)
        return State(sums, top if top.numel() else top.new_zeros(1, 1))


class LinearAttention(Projected):
    """Keys and values are summed into one state that every query reads, so cost grows with n instead of n²."""

    title = "Linear attention"
    paper = "Katharopoulos et al. 2020, arXiv 2006.16236"
    formula = r"\phi(Q)\left(\phi(K)^\top V\right) / \phi(Q)\textstyle\sum_j \phi(K_j),\ \phi = \mathrm{elu} + 1"
    meaning = (
        "Row i holds the weights of token i over all tokens; they are positive and sum to 1. "
        "The layer never forms this matrix: it is computed from the features for display."
    )
    supported_masks = frozenset({"key_padding", "causal", "cross", "prefix"})
    rule = EluFeatures()

    def decode(
        self,
        x: Float[Tensor, "*batch query feature"],
        past: Any = None,
        *,
        queries: Tokens,
        keys: Tokens,
        name: str = "attention",
        layer: int = 0,
    ) -> tuple[Tensor, tuple[AttentionCall, ...], Any]:
        """New tokens after a cached past, by the recurrent state alone: equals the causal forward."""
        self.check(Mask(causal=True), False, queries, keys)
        fields = self.project_inputs(x, x, queries, queries)
        fields = {"projection": self.out.weight.T.unflatten(0, (self.heads, -1)), "rule": self.rule, **fields}
        call = AttentionCall(**fields, queries=queries, keys=queries, name=name, layer=layer)
        past = None if past is None else Cache(*past)  # a plain pair, after entries of a batch were selected
        output, state = fields["rule"].advance(call, None if past is None else past.state)
        keys_values = torch.cat([call.key, call.value], -1)
        keys_values = keys_values if past is None else torch.cat([past.keys_values, keys_values], -2)
        key, value = keys_values.split(self.dim, -1)
        call = replace(call, key=key, value=value, keys=keys, mask=Mask(causal=True), output=output)
        return self.out(output.transpose(-3, -2).flatten(-2)), (call,), Cache.pack(state, keys_values)

    def cost(self, n_q: int, n_k: int) -> Cost:
        """4 d² parameters and biases; 4 n d² + 2 n d d_h multiply-adds; h (d_h² + d_h) numbers of state.

        The sums of the weights are left out of the multiply-adds, as usual.
        """
        return self.feature_cost(n_q, n_k, features=self.dim, random=0, state=self.dim + 1)

    def feature_cost(self, n_q: int, n_k: int, *, features: int, random: int, state: int) -> Cost:
        """Cost with `features`, `random` of them products with random directions, and `state` numbers for each."""
        return Cost(
            parameters=self.projection_parameters,
            multiply_adds=self.projection_products(n_q, n_k) + (n_q + n_k) * self.width * (features + random),
            map_bytes=0,  # no map is stored
            state_bytes=4 * self.heads * features * state,
        )


class Performer(LinearAttention):
    """Random features give an unbiased estimate of the softmax kernel, so cost grows with n instead of n²."""

    title = "Performer"
    paper = "Choromanski et al. 2021, arXiv 2009.14794"
    formula = r"\phi(Q)\left(\phi(K)^\top V\right) / \dots,\ \phi(q) = e^{\omega x - \|x\|^2/2},\ x = q\,d_h^{-1/4}"
    meaning = (
        "Row i estimates the softmax weights of token i with random features; it is positive and sums to 1. "
        "Other random features give another map, so read it together with its error."
    )

    def __init__(
        self,
        width: int,
        heads: int,
        *,
        tokens: Tokens | None = None,
        features: int = 64,
        seed: int | None = None,
        bias: bool = True,
    ):
        super().__init__(width, heads, tokens=tokens, bias=bias)
        if features < 1:
            raise ValueError(f"a Performer needs at least one random feature, got {features}")
        seed = int(torch.randint(SEEDS, ())) if seed is None else seed
        if not 0 <= seed < SEEDS:
            raise ValueError(f"the seed of a Performer is from 0 to {SEEDS - 1}, got {seed}")
        self.directions: Tensor
        self.seed: Tensor
        drawn = orthogonal_directions(features, self.dim, torch.Generator().manual_seed(seed))
        self.register_buffer("directions", drawn.to(self.query.weight.dtype))
        self.register_buffer("seed", torch.tensor(seed))
        self.rule = self.current()

    def current(self) -> RandomFeatures:
        """The rule with the current random directions."""
        return RandomFeatures(self.directions, int(self.seed))

    def project_inputs(self, x: Tensor, context: Tensor, queries: Tokens, keys: Tokens) -> dict[str, Any]:
        """As multi-head attention, with a rule built for this call: buffers may have moved or been loaded."""
        return {**super().project_inputs(x, context, queries, keys), "rule": self.current()}

    def cost(self, n_q: int, n_k: int) -> Cost:
        """4 d² parameters and biases; 4 n d² + 4 n m d multiply-adds; h m (d_h + 1) sums and h m exponents of state."""
        features = len(self.directions)
        return self.feature_cost(n_q, n_k, features=features, random=features, state=self.dim + 2)
