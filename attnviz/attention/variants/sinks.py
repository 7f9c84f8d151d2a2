"""A sliding window with an attention sink for each head, as in gpt-oss (OpenAI 2025)."""

from __future__ import annotations

from attnviz.attention.variants.window import Window
from attnviz.types import Tokens


class SinkWindow(Window):
    """Each token attends only to tokens within a few positions of it, and may leave part of its weight unused.

    OpenAI 2025, section 2.2: each head learns one more score, without a key or a value, that is added to the
    denominator of every row's softmax. With a causal mask and `radius` w, a token attends to itself and the w before
    it: their window of 128 tokens is a radius of 127. Without one the band lies on both sides. `groups` of heads share
    keys and values, as there; without it, all heads have their own. Not included: every second layer of gpt-oss
    attends without a window, and its positions are rotary, which is an option of the network here.
    """

    title = "Window attention with sinks"
    paper = "OpenAI 2025, arXiv 2508.10925"
    formula = (
        r"\frac{\exp(q_i \cdot k_j / \sqrt{d_h})}{\exp(s_h) + \sum_{|i-l| \le w} \exp(q_i \cdot k_l / \sqrt{d_h})}\,V"
    )
    meaning = (
        "Row i holds the weights of token i over the tokens of its window; all others are exactly 0. What the head's "
        "sink takes is missing from the row, so it sums to less than 1."
    )
    supports_options = False  # the sink is one of them

    def __init__(
        self,
        width: int,
        heads: int,
        *,
        tokens: Tokens | None = None,
        radius: int = 8,
        global_prefix: bool = False,
        groups: int | None = None,
        bias: bool = True,
    ):
        shared = {"kv_heads": groups, "bias": bias, "sink": "score"}
        super().__init__(width, heads, tokens=tokens, radius=radius, global_prefix=global_prefix, **shared)
