"""Additive attention (Bahdanau, Cho, Bengio 2015, appendix A.1.2) and the score functions of Luong et al. 2015, eq. 8.

Before dot products were the rule, a small network compared query and key. Its hidden layer is computed for a tile of
query-key pairs at a time and once more where a gradient is taken, so memory stays linear in tokens.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from attnviz.attention.rules.softmax import Softmax, at_least_float32, expanded, full_precision
from attnviz.attention.variants.base import Cost, Variant, split_heads
from attnviz.types import AttentionCall, Stage, Tokens

TILE = 2**21  # numbers of the hidden layer computed at a time; never less than one row of queries

SCORES = ("additive", "dot", "general", "concat")


@dataclass(frozen=True, eq=False, kw_only=True)
class Additive(Softmax):
    """Softmax over scores of a one-layer network: vector · tanh(from_query q_i + from_key k_j)."""

    from_query: Float[Tensor, "hidden dim"] | None  # W of Bahdanau; None: the queries have come through it already
    from_key: Float[Tensor, "hidden dim"] | None  # U, likewise
    vector: Float[Tensor, " hidden"]  # v

    @full_precision
    def scores(self, call: AttentionCall, heads: list[int], rows: list[int], stage: Stage) -> Tensor:
        """[*batch head row key]: raw scores of the network, then scaled, with biases, and -inf where masked."""
        query = half(call.query[..., heads, :, :][..., rows, :], self.from_query)
        raw = self.compare(query, half(expanded(call.key, call, heads), self.from_key))
        if stage == "raw":
            return raw
        scale = call.scale[heads, None, None] if isinstance(call.scale, Tensor) else call.scale
        scaled = raw * scale
        if stage == "scaled":
            return scaled

        def own(call: AttentionCall, heads: list[int], rows: list[int]) -> Tensor:
            return scaled

        # Vectors of no dimension have dot products of zero, so the rest is Softmax's own way with biases and masks.
        biases = (("network", own), *call.biases)
        silent = replace(call, query=call.query[..., :0], key=call.key[..., :0], biases=biases)
        return super().scores(silent, heads, rows, stage)

    @full_precision
    def mix(self, call: AttentionCall) -> Tensor:
        """gate * (weights @ value), a block of rows at a time; query and key pass their halves of the network once."""
        heads = list(range(call.heads))
        ready = replace(call, query=half(call.query, self.from_query), key=half(call.key, self.from_key))
        rule = replace(self, from_query=None, from_key=None)
        value = at_least_float32(expanded(call.value, call, heads))

        def block(rows: list[int]) -> Tensor:
            return rule.weights(ready, heads, rows) @ value

        pairs = ready.key[..., 0].numel() * call.heads // call.key.shape[-3]
        size = max(1, TILE // max(1, pairs * len(self.vector)))
        if torch.is_grad_enabled():  # the hidden layer is not kept for the gradient but computed once more
            blocks = [
                cast(Tensor, checkpoint(block, rows, use_reentrant=False, preserve_rng_state=False))
                for rows in call.blocks(size)
            ]
        else:
            blocks = [block(rows) for rows in call.blocks(size)]
        output = torch.cat(blocks, -2).to(call.value.dtype)
        return output if call.gate is None else call.gate * output

    def compare(
        self, query: Float[Tensor, "*batch head row hidden"], key: Float[Tensor, "*batch head key hidden"]
    ) -> Float[Tensor, "*batch head row key"]:
        """vector · tanh(query_i + key_j) for every pair, a tile of rows at a time."""
        vector = self.vector.to(query.dtype)[:, None]
        size = max(1, TILE // max(1, key.numel()))
        tiles = [
            ((tile[..., :, None, :] + key[..., None, :, :]).tanh() @ vector)[..., 0] for tile in query.split(size, -2)
        ]
        return torch.cat(tiles, -2)


def half(
    vectors: Float[Tensor, "*batch head token dim"], matrix: Float[Tensor, "hidden dim"] | None
) -> Float[Tensor, "*batch head token hidden"]:
    """One half of the hidden layer, before tanh; without a matrix the vectors are that half already."""
    vectors = at_least_float32(vectors)
    return vectors if matrix is None else vectors @ matrix.to(vectors.dtype).T


class AdditiveAttention(Variant):
    """A small network, shared by the heads, compares each query with each key, instead of a dot product.

    `score` is "additive" (Bahdanau) or one of Luong's: "dot", "general" (query W key) and "concat", which is the
    additive network with one matrix over query and key side by side: the same function, written otherwise. None of them
    is divided by the root of the dimension, as in the papers.
    """

    title = "Additive attention"
    paper = "Bahdanau, Cho, Bengio 2015, arXiv 1409.0473; Luong, Pham, Manning 2015, arXiv 1508.04025"
    formula = r"\mathrm{softmax}_j\!\left(v^\top \tanh(W q_i + U k_j)\right) V"
    meaning = (
        "Row i says how the query of token i shares out its attention over all tokens; it sums to one. "
        "The score behind each weight comes from a small learned network, so it stays within bounds that v sets."
    )

    def __init__(
        self,
        width: int,
        heads: int,
        *,
        tokens: Tokens | None = None,
        score: str = "additive",
        hidden: int | None = None,
        bias: bool = True,
    ):
        super().__init__(width, heads, tokens=tokens)
        if score not in SCORES:
            raise ValueError(f"score is {score!r}; known: {', '.join(SCORES)}")
        self.score, self.hidden = score, hidden or self.dim
        self.rule = Softmax()  # what it says of itself holds for the network too, whose rule is made for each call
        self.query, self.key, self.value, self.out = (nn.Linear(width, width, bias=bias) for _ in range(4))
        if score == "additive":
            self.from_query = nn.Linear(self.dim, self.hidden, bias=False)
            self.from_key = nn.Linear(self.dim, self.hidden, bias=False)
        elif score == "concat":
            self.from_both = nn.Linear(2 * self.dim, self.hidden, bias=False)
        elif score == "general":
            self.between = nn.Linear(self.dim, self.dim, bias=False)
        if score in ("additive", "concat"):
            self.vector = nn.Parameter(torch.empty(self.hidden).uniform_(-1, 1) * self.hidden**-0.5)

    def network(self) -> Additive:
        """The rule with the parameters as they are now."""
        if self.score == "concat":
            from_query, from_key = self.from_both.weight.split(self.dim, -1)
        else:
            from_query, from_key = self.from_query.weight, self.from_key.weight
        return Additive(from_query=from_query, from_key=from_key, vector=self.vector)

    def project_inputs(self, x: Tensor, context: Tensor, queries: Tokens, keys: Tokens) -> dict[str, Any]:
        """Query, key and value as in multi-head attention; "general" turns the query before its dot product."""
        query = split_heads(self.query(x), self.heads)
        return {
            "query": self.between(query) if self.score == "general" else query,
            "key": split_heads(self.key(context), self.heads),
            "value": split_heads(self.value(context), self.heads),
            "rule": self.rule if self.score in ("dot", "general") else self.network(),
        }

    def cost(self, n_q: int, n_k: int) -> Cost:
        """mha's, and 2 d_h d_a + d_a parameters, (n_q + n_k) d d_a + n² h d_a multiply-adds for a d_a wide network."""
        d, pairs = self.width, n_q * n_k
        extra, network = {"dot": (0, pairs * d), "general": (self.dim**2, n_q * d * self.dim + pairs * d)}.get(
            self.score,
            ((2 * self.dim + 1) * self.hidden, (n_q + n_k) * d * self.hidden + pairs * self.heads * self.hidden),
        )
        return Cost(
            parameters=4 * d * d + (0 if self.out.bias is None else 4 * d) + extra,
            multiply_adds=2 * (n_q + n_k) * d * d + network + pairs * d,
            map_bytes=4 * self.heads * pairs,
            state_bytes=4 * 2 * n_k * d,
        )
