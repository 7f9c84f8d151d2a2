"""Multi-head attention (Vaswani et al. 2017, section 3.2.2); groups of heads can share keys and values."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from attnviz.attention.rules.normalisers import Options
from attnviz.attention.variants.base import Cost, Variant, split_heads
from attnviz.types import Tokens


class MultiHead(Variant):
    """Every head has its own queries, keys and values, compares them by dot product and shares out its attention.

    `qk_norm`: queries and keys get a root mean square of one, times learned factors (Henry et al. 2020, arXiv
    2010.04245, in the form of Qwen3). `sharing`: normaliser "softmax", "sigmoid", "entmax15" or "top" (with `top`
    keys), talking "before", "after" or "both" (Shazeer et al. 2020, arXiv 2003.02436), sink "score" or "key".
    """

    title = "Multi-head attention"
    paper = "Vaswani et al. 2017, arXiv 1706.03762"
    formula = r"\mathrm{softmax}\!\left(Q K^\top / \sqrt{d_h}\right) V"
    meaning = (
        "Row i says how the query of token i shares out its attention over the keys of all tokens; it sums to one."
    )
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
        **sharing: Any,
    ):
        super().__init__(width, heads, tokens=tokens)
        kv_heads = heads if kv_heads is None else kv_heads
        if kv_heads < 1 or heads % kv_heads:
            raise ValueError(f"{heads} heads do not share {kv_heads} key-value heads evenly")
        self.kv_heads = kv_heads
        self.sharing = Options(heads, (kv_heads, self.dim), **sharing)
        self.rule = self.sharing.rule()  # what it says of itself; with learned options each call gets a fresh one
        self.query = nn.Linear(width, width, bias=bias)
        self.key = nn.Linear(width, kv_heads * self.dim, bias=bias)
        self.value = nn.Linear(width, kv_heads * self.dim, bias=bias)
        self.out = nn.Linear(width, width, bias=bias)
        self.norms = nn.ModuleList(nn.RMSNorm(self.dim, eps=1e-6) for _ in range(2 * qk_norm))  # of query and key

    def project_inputs(self, x: Tensor, context: Tensor, queries: Tokens, keys: Tokens) -> dict[str, Any]:
        """Query from x; key and value from the context; scores divided by the root of the head dimension."""
        query, key = split_heads(self.query(x), self.heads), split_heads(self.key(context), self.kv_heads)
        if len(self.norms):
            query, key = self.norms[0](query), self.norms[1](key)
        fields = {"query": query, "key": key, "value": split_heads(self.value(context), self.kv_heads)}
        fields["scale"] = self.dim**-0.5
        if self.sharing.chosen:
            fields["rule"] = self.sharing.rule()
        return fields

    def cost(self, n_q: int, n_k: int) -> Cost:
        """2 d (d + g d_h) parameters and biases; n d (2 d + 2 g d_h) + 2 n² d multiply-adds; h n² map entries.

        Options bring the parameters they have, and h² n² multiply-adds each time heads talk.
        """
        d, shared = self.width, self.kv_heads * self.dim
        biases = 0 if self.query.bias is None else 2 * d + 2 * shared
        talks = (self.sharing.before is not None) + (self.sharing.after is not None)
        brought = [p.numel() for part in (self.sharing, self.norms, self.relative) if part for p in part.parameters()]
        return Cost(
            parameters=2 * d * d + 2 * d * shared + biases + sum(brought),
            multiply_adds=2 * n_q * d * d + 2 * n_k * d * shared + (2 * d + talks * self.heads**2) * n_q * n_k,
            map_bytes=4 * self.heads * n_q * n_k,
            state_bytes=4 * 2 * n_k * shared,
        )


class MultiQuery(MultiHead):
    """All heads look at the same keys and values, each with queries of its own.

    An encoder has no cache of keys and values, so there it saves only their projections; while decoding the cache
    shrinks to one head's.
    """

    title = "Multi-query attention"
    paper = "Shazeer 2019, arXiv 1911.02150"
    formula = r"\mathrm{softmax}\!\left(Q_h K^\top / \sqrt{d_h}\right) V"
    meaning = "Row i says how one head's query of token i shares out its attention over keys all heads share."

    def __init__(self, width: int, heads: int, *, tokens: Tokens | None = None, **options: Any):
        super().__init__(width, heads, tokens=tokens, kv_heads=1, **options)


class GroupedQuery(MultiHead):
    """Heads in groups: each group shares its keys and values, each head has queries of its own.

    Head q reads key-value head floor(q groups / heads). Without `groups`, as near to half as many as heads as divides.
    """

    title = "Grouped-query attention"
    paper = "Ainslie et al. 2023, arXiv 2305.13245"
    formula = (
        r"\mathrm{softmax}\!\left(Q_h K_{g(h)}^\top / \sqrt{d_h}\right) V_{g(h)},\ g(h) = \lfloor h\,g / H \rfloor"
    )
    meaning = "Row i says how one head's query of token i shares out its attention over keys its group shares."

    def __init__(
        self, width: int, heads: int, *, tokens: Tokens | None = None, groups: int | None = None, **options: Any
    ):
        if groups is None:
            groups = max(g for g in range(1, max(1, heads // 2) + 1) if heads % g == 0)
        super().__init__(width, heads, tokens=tokens, kv_heads=groups, **options)
