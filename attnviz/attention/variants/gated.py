"""Gated attention: what a head has gathered passes a gate computed from the query's own input (Qiu et al. 2025)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor, nn

from attnviz.attention.rules.softmax import Softmax
from attnviz.attention.variants.base import Cost, split_heads
from attnviz.attention.variants.multihead import MultiHead
from attnviz.types import AttentionCall, NamedMap, Tokens

BY_CHANNEL, BY_HEAD = "channel", "head"
GATE = "A gate between 0 and 1 multiplies what each query has gathered; the map does not show it."


@dataclass(frozen=True)
class GatedSoftmax(Softmax):
    """Softmax whose output passes a gate; the gate is a native map too."""

    caveat: str = GATE

    def maps(self, call: AttentionCall) -> dict[str, NamedMap]:
        """The weights, and the gate of every query."""
        found = super().maps(call)
        if call.gate is not None:
            found["gate"] = NamedMap(call.gate, ("head", "query", "dim"), "channel", False)
        return found


class GatedAttention(MultiHead):
    """A sigmoid gate, computed from the query's own input, multiplies the output of each head.

    Qiu et al. 2025, section 2.2, eq. 5: Y' = Y * sigmoid(X W), behind the weighted sum and before the output projection
    (position G1 there). `gate`: one number for each "channel", or one for each "head". A head can so add nothing to a
    token without attending to tokens that mean nothing, which is what an attention sink is for.
    """

    title = "Gated attention"
    paper = "Qiu et al. 2025, arXiv 2505.06708"
    formula = r"\sigma(X\,G) \odot \mathrm{softmax}\!\left(Q K^\top / \sqrt{d_h}\right) V"
    meaning = (
        "Row i holds the weights of the query of token i over the keys of all tokens; it sums to 1. What it gathers is "
        "then multiplied by the gate of token i."
    )

    def __init__(
        self,
        width: int,
        heads: int,
        *,
        tokens: Tokens | None = None,
        gate: str = BY_CHANNEL,
        bias: bool = True,
        **options: Any,
    ):
        super().__init__(width, heads, tokens=tokens, bias=bias, **options)
        if gate not in (BY_CHANNEL, BY_HEAD):
            raise ValueError(f"gate is {gate!r}; known: {BY_CHANNEL!r}, {BY_HEAD!r}")
        self.gate = nn.Linear(width, width if gate == BY_CHANNEL else heads, bias=bias)
        if self.normalisation.chosen:
            rule = self.normalisation.rule()
            self.rule = replace(rule, caveat=f"{rule.caveat} {GATE}".strip())
        else:
            self.rule = GatedSoftmax()

    def project_inputs(self, x: Tensor, context: Tensor, queries: Tokens, keys: Tokens) -> dict[str, Any]:
        """As multi-head attention, with a gate [*batch head query dim|1] from x."""
        fields = super().project_inputs(x, context, queries, keys)
        if "rule" in fields:  # with learned options, built for this call
            fields["rule"] = replace(fields["rule"], caveat=self.rule.caveat)
        return {**fields, "gate": split_heads(self.gate(x).sigmoid(), self.heads)}

    def cost(self, n_q: int, n_k: int) -> Cost:
        """As multi-head attention, and for gates of g numbers: d g parameters, n d g multiply-adds, n g map entries."""
        cost, gate = super().cost(n_q, n_k), self.gate
        return replace(
            cost,
            parameters=cost.parameters + sum(p.numel() for p in gate.parameters()),
            multiply_adds=cost.multiply_adds + n_q * self.width * gate.out_features,
            map_bytes=cost.map_bytes + 4 * n_q * gate.out_features,
        )
