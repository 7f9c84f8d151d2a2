"""Multi-head attention (Vaswani et al. 2017, section 3.2.2); groups of heads can share keys and values."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from attnviz.attention.base import Cost, Variant, split_heads
from attnviz.attention.softmax import Softmax
from attnviz.types import Tokens


class MultiHead(Variant):
    """Every head has its own queries, keys and values, compares them by dot product and shares out its attention."""

    title = "Multi-head attention"
    paper = "Vaswani et al. 2017, arXiv 1706.03762"
    formula = r"\mathrm{softmax}\!\left(Q K^\top / \sqrt{d_h}\right) V"
    meaning = "Row i says how the query of token i shares out its attention over the keys of all tokens; it sums to one."

    def __init__(
        self, width: int, heads: int, *, tokens: Tokens | None = None, kv_heads: int | None = None, bias: bool = True
    ):
        super().__init__(width, heads, tokens=tokens)
        kv_heads = heads if kv_heads is None else kv_heads
        if heads % kv_heads:
            raise ValueError(f"{heads} heads do not share {kv_heads} key-value heads evenly")
        self.kv_heads, self.rule = kv_heads, Softmax()
        self.query = nn.Linear(width, width, bias=bias)
        self.key = nn.Linear(width, kv_heads * self.dim, bias=bias)
        self.value = nn.Linear(width, kv_heads * self.dim, bias=bias)
        self.out = nn.Linear(width, width, bias=bias)

    def parts(self, x: Tensor, context: Tensor, queries: Tokens, keys: Tokens) -> dict[str, Any]:
        """Query from x; key and value from the context; scores divided by the root of the head dimension."""
        return {
            "query": split_heads(self.query(x), self.heads),
            "key": split_heads(self.key(context), self.kv_heads),
            "value": split_heads(self.value(context), self.kv_heads),
            "scale": self.dim**-0.5,
        }

    def cost(self, n_q: int, n_k: int) -> Cost:
        """2 d (d + g d_h) parameters and biases; n d (2 d + 2 g d_h) + 2 n² d multiply-adds; h n² map entries."""
        d, shared = self.width, self.kv_heads * self.dim
        biases = 0 if self.query.bias is None else 2 * d + 2 * shared
        return Cost(
            parameters=2 * d * d + 2 * d * shared + biases,
            multiply_adds=2 * n_q * d * d + 2 * n_k * d * shared + 2 * n_q * n_k * d,
            map_bytes=4 * self.heads * n_q * n_k,
            state_bytes=4 * 2 * n_k * shared,
        )
