"""Multi-head attention (Vaswani et al. 2017, section 3.2.2); groups of heads may share keys and values."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from attnviz.attention.rules.normalisers import Normalisation
from attnviz.attention.variants.base import Cost, Variant, split_heads
from attnviz.types import Tokens


class MultiHead(Variant):
    """Each head has its own queries, keys and values; its weights are the softmax of scaled dot products.

    `qk_norm`: RMS norm of queries and keys with learned factors (Henry et al. 2020, arXiv 2010.04245, in the form of
    Qwen3). `normalisation`: normaliser "softmax", "sigmoid", "entmax15" or "top" (with `top` keys), talking "before",
    "after" or "both" (Shazeer et al. 2020, arXiv 2003.02436), sink "score" or "key".
    """

    title = "Multi-head attention"
    paper = "Vaswani et al. 2017, arXiv 1706.03762"
    formula = r"\mathrm{softmax}\!\left(Q K^\top / \sqrt{d_h}\right) V"
    meaning = "Row i holds the weights of the query of token i over the keys of all tokens; it sums to 1."
    supports_relative_positions = True
    supports_options = True

    def __init__(
        self,
        width: int,
        heads: int,
        *,
        tokens: Tokens | None = None,
        kv_heads: int | None = None,
        bias: bool = True,
        qk_norm: bool = False,
        **normalisation: Any,
    ):
        super().__init__(width, heads, tokens=tokens)
        kv_heads = heads if kv_heads is None else kv_heads
        if kv_heads < 1 or heads % kv_heads:
            raise ValueError(f"{heads} heads do not share {kv_heads} key-value heads evenly")
        self.kv_heads = kv_heads
        self.normalisation = Normalisation(heads, (kv_heads, self.dim), **normalisation)
        self.rule = self.normalisation.rule()  # describes the map; with learned options one is built for each call
        self.query = nn.Linear(width, width, bias=bias)
        self.key = nn.Linear(width, kv_heads * self.dim, bias=bias)
        self.value = nn.Linear(width, kv_heads * self.dim, bias=bias)
        self.out = nn.Linear(width, width, bias=bias)
        self.norms = nn.ModuleList(nn.RMSNorm(self.dim, eps=1e-6) for _ in range(2 * qk_norm))  # of query and key

    def project_inputs(self, x: Tensor, context: Tensor, queries: Tokens, keys: Tokens) -> dict[str, Any]:
        """Query from x, key and value from the context; scores are divided by the root of the head dimension."""
        query, key = split_heads(self.query(x), self.heads), split_heads(self.key(context), self.kv_heads)
        if len(self.norms):
            query, key = self.norms[0](query), self.norms[1](key)
        fields = {"query": query, "key": key, "value": split_heads(self.value(context), self.kv_heads)}
        fields["scale"] = self.dim**-0.5
        if self.normalisation.chosen:
            fields["rule"] = self.normalisation.rule()
        return fields

    def cost(self, n_q: int, n_k: int) -> Cost:
        """2 d (d + g d_h) parameters and biases; n d (2 d + 2 g d_h) + 2 n² d multiply-adds; h n² map entries.

        Options add their parameters, and talking heads h² n² multiply-adds for each mixing matrix.
        """
        d, shared = self.width, self.kv_heads * self.dim
        biases = 0 if self.query.bias is None else 2 * d + 2 * shared
        mixings = (self.normalisation.before is not None) + (self.normalisation.after is not None)
        added = [
            p.numel() for part in (self.normalisation, self.norms, self.relative) if part for p in part.parameters()
        ]
        return Cost(
            parameters=2 * d * d + 2 * d * shared + biases + sum(added),
            multiply_adds=2 * n_q * d * d + 2 * n_k * d * shared + (2 * d + mixings * self.heads**2) * n_q * n_k,
            map_bytes=4 * self.heads * n_q * n_k,
            state_bytes=4 * 2 * n_k * shared,
        )


class MultiQuery(MultiHead):
    """All heads share one set of keys and values; each head has its own queries.

    An encoder has no KV cache, so there it saves only the projections; while decoding the cache shrinks to one head's.
    """

    title = "Multi-query attention"
    paper = "Shazeer 2019, arXiv 1911.02150"
    formula = r"\mathrm{softmax}\!\left(Q_h K^\top / \sqrt{d_h}\right) V"
    meaning = "Row i holds the weights of one head's query of token i over the keys that all heads share; it sums to 1."

    def __init__(self, width: int, heads: int, *, tokens: Tokens | None = None, **options: Any):
        super().__init__(width, heads, tokens=tokens, kv_heads=1, **options)


class GroupedQuery(MultiHead):
    """Groups of heads share keys and values; each head has its own queries.

    Head q reads key-value head floor(q groups / heads). Without `groups`, the largest divisor of the heads up to half.
    """

    title = "Grouped-query attention"
    paper = "Ainslie et al. 2023, arXiv 2305.13245"
    formula = (
        r"\mathrm{softmax}\!\left(Q_h K_{g(h)}^\top / \sqrt{d_h}\right) V_{g(h)},\ g(h) = \lfloor h\,g / H \rfloor"
    )
    meaning = (
        "Row i holds the weights of one head's query of token i over the keys that its group shares; it sums to 1."
    )

    def __init__(
        self, width: int, heads: int, *, tokens: Tokens | None = None, groups: int | None = None, **options: Any
    ):
        if groups is None:
            groups = max(g for g in range(1, max(1, heads // 2) + 1) if heads % g == 0)
        super().__init__(width, heads, tokens=tokens, kv_heads=groups, **options)
