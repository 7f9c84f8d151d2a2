"""Linear attention and Performer: variants around the feature rules, with decoding from a state of constant size."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from attnviz.attention.rules.kernel import EluKernel, RandomKernel, State, orthogonal_directions
from attnviz.attention.variants.base import Cost
from attnviz.attention.variants.projections import Projected
from attnviz.types import AttentionCall, Mask, Tokens

SEEDS = 2048  # half precision, in which parameters are shipped, holds whole numbers up to here


class Past(NamedTuple):
    """What decoding hands on: two tensors, as for every variant, so that a choice of texts can choose among them too.

    The output comes from `kept` alone; keys and values are for the pictures.
    """

    kept: Tensor  # [*batch head feature value_dim+1]: sums; one more column, the largest exponents, where there are any
    seen: Tensor  # [*batch head token 2*dim]: keys and values side by side

    @staticmethod
    def of(state: State, seen: Tensor) -> Past:
        """A state packed up."""
        plain = state.top.ndim == 2  # the one 0 of sums without a reference
        return Past(state.sums if plain else torch.cat([state.sums, state.top.transpose(-1, -2)], -1), seen)

    @property
    def state(self) -> State:
        """The state, unpacked."""
        width = self.seen.shape[-1] // 2 + 1
        sums, top = self.kept[..., :width], self.kept[..., width:].transpose(-1, -2)
        return State(sums, top if top.numel() else top.new_zeros(1, 1))


class LinearAttention(Projected):
    """Each token adds to one running summary of the past, and queries read that summary: cost grows with n, not n²."""

    title = "Linear attention"
    paper = "Katharopoulos et al. 2020, arXiv 2006.16236"
    formula = r"\phi(Q)\left(\phi(K)^\top V\right) / \phi(Q)\textstyle\sum_j \phi(K_j),\ \phi = \mathrm{elu} + 1"
    meaning = (
        "Row i says how much of each token the output of token i holds; it is positive and sums to one. "
        "The layer never makes this map: it is worked out from the features for the picture."
    )
    supported_masks = frozenset({"key_padding", "causal", "cross", "prefix"})
    rule = EluKernel()

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
        """New tokens after a `Past`, by the recurrent state alone: equals the causal forward."""
        self.check(Mask(causal=True), False, queries, keys)
        fields = self.project_inputs(x, x, queries, queries)
        fields = {"projection": self.out.weight.T.unflatten(0, (self.heads, -1)), "rule": self.rule, **fields}
        call = AttentionCall(**fields, queries=queries, keys=queries, name=name, layer=layer)
        past = None if past is None else Past(*past)  # a plain pair, where a choice was made
        output, state = fields["rule"].advance(call, None if past is None else past.state)
        seen = torch.cat([call.key, call.value], -1)
        seen = seen if past is None else torch.cat([past.seen, seen], -2)
        key, value = seen.split(self.dim, -1)
        call = replace(call, key=key, value=value, keys=keys, mask=Mask(causal=True), output=output)
        return self.out(output.transpose(-3, -2).flatten(-2)), (call,), Past.of(state, seen)

    def cost(self, n_q: int, n_k: int) -> Cost:
        """4 d² parameters and biases; 4 n d² + 2 n d d_h multiply-adds; h (d_h² + d_h) numbers of state.

        The sums of weights, a column more beside the values, are left out of the multiply-adds, as usual.
        """
        return self.kernel_cost(n_q, n_k, features=self.dim, drawn=0, kept=self.dim + 1)

    def kernel_cost(self, n_q: int, n_k: int, *, features: int, drawn: int, kept: int) -> Cost:
        """Cost with so many features, `drawn` of them products with random directions, `kept` numbers each."""
        return Cost(
            parameters=self.projection_parameters,
            multiply_adds=self.projection_products(n_q, n_k) + (n_q + n_k) * self.width * (features + drawn),
            map_bytes=0,  # none is ever stored
            state_bytes=4 * self.heads * features * kept,
        )


class Performer(LinearAttention):
    """Softmax attention is estimated with random features, whose products are right on average: cost grows with n."""

    title = "Performer"
    paper = "Choromanski et al. 2021, arXiv 2009.14794"
    formula = r"\phi(Q)\left(\phi(K)^\top V\right) / \dots,\ \phi(q) = e^{\omega x - \|x\|^2/2},\ x = q\,d_h^{-1/4}"
    meaning = (
        "Row i estimates the softmax weights of token i with random features; it is positive and sums to one. "
        "Another draw of the features gives another map: read it beside its error."
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

    def current(self) -> RandomKernel:
        """The rule with the directions that were drawn."""
        return RandomKernel(self.directions, int(self.seed))

    def project_inputs(self, x: Tensor, context: Tensor, queries: Tokens, keys: Tokens) -> dict[str, Any]:
        """As multi-head attention, under a rule made for this call: buffers may have moved or been loaded."""
        return {**super().project_inputs(x, context, queries, keys), "rule": self.current()}

    def cost(self, n_q: int, n_k: int) -> Cost:
        """4 d² parameters and biases; 4 n d² + 4 n m d multiply-adds; h m (d_h + 1) sums and h m exponents of state."""
        features = len(self.directions)
        return self.kernel_cost(n_q, n_k, features=features, drawn=features, kept=self.dim + 2)
