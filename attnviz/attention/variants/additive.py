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

from attnviz.attention.rules.softmax import Softmax, add_biases, at_least_float32, expand_kv, full_precision, select
from attnviz.attention.variants.base import Cost, Variant, split_heads
from attnviz.types import AttentionCall, Stage, Tokens

TILE = 2**21  # activations of the hidden layer computed at a time; at least one row of queries

SCORES = ("additive", "dot", "general", "concat")


@dataclass(frozen=True, eq=False, kw_only=True)
class Additive(Softmax):
    """Softmax over scores of a one-layer network: vector · tanh(from_query q_i + from_key k_j)."""

    from_query: Float[Tensor, "hidden dim"] | None  # W of Bahdanau; None: already applied to the queries
    from_key: Float[Tensor, "hidden dim"] | None  # U, likewise
    vector: Float[Tensor, " hidden"]  # v

    @full_precision
    def scores(self, call: AttentionCall, heads: list[int], rows: list[int], stage: Stage) -> Tensor:
        """[*batch head row key]: raw scores of the network, then scaled, with biases, and -inf where masked."""
        query = project(select(call.query, heads, rows), self.from_query)
        raw = self.compare(query, project(expand_kv(call.key, call, heads), self.from_key))
        if stage == "raw":
            return raw
        scaled = raw * call.scale_of(heads)
        return scaled if stage == "scaled" else add_biases(scaled, call, heads, rows, stage)

    @full_precision
    def mix(self, call: AttentionCall) -> Tensor:
        """gate * (weights @ value), by row blocks; queries and keys are projected into the hidden layer once."""
        heads = list(range(call.heads))
        hidden = replace(call, query=project(call.query, self.from_query), key=project(call.key, self.from_key))
        rule = replace(self, from_query=None, from_key=None)
        value = at_least_float32(expand_kv(call.value, call, heads))

        def block(rows: list[int]) -> Tensor:
            return rule.weights(hidden, heads, rows) @ value

        pairs = hidden.key[..., 0].numel() * call.heads // call.key.shape[-3]
        size = max(1, TILE // max(1, pairs * len(self.vector)))
        if torch.is_grad_enabled():  # recomputes the hidden layer for the gradient instead of storing it
            blocks = [
                cast(Tensor, checkpoint(block, rows, use_reentrant=False, preserve_rng_state=False))
                for rows in call.blocks(size)
            ]
        else:
            blocks = [block(rows) for rows in call.blocks(size)]
        return call.gated(torch.cat(blocks, -2).to(call.value.dtype))

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


def project(
    vectors: Float[Tensor, "*batch head token dim"], matrix: Float[Tensor, "hidden dim"] | None
) -> Float[Tensor, "*batch head token hidden"]:
    """The share of queries or keys in the hidden layer, before tanh; without a matrix it is the vectors themselves."""
    vectors = at_least_float32(vectors)
    return vectors if matrix is None else vectors @ matrix.to(vectors.dtype).T


class AdditiveAttention(Variant):
    """A one-layer network, shared by the heads, scores each pair of query and key instead of a dot product.

    `score` is "additive" (Bahdanau) or one of Luong's: "dot", "general" (query W key) and "concat", which is the
    additive network with one matrix over the concatenated query and key: an equal function in another form. As in the
    papers, none of them is divided by the root of the dimension.
    """

    title = "Additive attention"
    paper = "Bahdanau, Cho, Bengio 2015, arXiv 1409.0473; Luong, Pham, Manning 2015, arXiv 1508.04025"
    formula = r"\mathrm{softmax}_j\!\left(v^\top \tanh(W q_i + U k_j)\right) V"
    meaning = (
        "Row i holds the weights of the query of token i over all tokens; it sums to 1. "
        "Each score comes from a small learned network, and v bounds its size."
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
        self.rule = Softmax()  # describes the map of every score function; `Additive` is built for each call
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
        """The rule with the current parameters."""
        if self.score == "concat":
            from_query, from_key = self.from_both.weight.split(self.dim, -1)
        else:
            from_query, from_key = self.from_query.weight, self.from_key.weight
        return Additive(from_query=from_query, from_key=from_key, vector=self.vector)

    def project_inputs(self, x: Tensor, context: Tensor, queries: Tokens, keys: Tokens) -> dict[str, Any]:
        """Query, key and value as in multi-head attention; "general" multiplies queries by W."""
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
        if self.score == "dot":
            extra, network = 0, pairs * d
        elif self.score == "general":
            extra, network = self.dim**2, n_q * d * self.dim + pairs * d
        else:
            extra = (2 * self.dim + 1) * self.hidden
            network = (n_q + n_k) * d * self.hidden + pairs * self.heads * self.hidden
        return Cost(
            parameters=4 * d * d + (0 if self.out.bias is None else 4 * d) + extra,
            multiply_adds=2 * (n_q + n_k) * d * d + network + pairs * d,
            map_bytes=4 * self.heads * pairs,
            state_bytes=4 * 2 * n_k * d,
        )
