"""Query, key, value and output projections of a variant whose heads all have their own.

And what the variants share that form no token-to-token array: refusing unsupported masks and biases, and a call in the
precision they compute in.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from attnviz.attention.rules.softmax import Softmax, at_least_float32, expand_kv
from attnviz.attention.variants.base import Variant, split_heads
from attnviz.types import AttentionCall, Tokens, UnsupportedMask


class Projected(Variant):
    """Four projections of the full width, named and laid out as in multi-head attention."""

    def __init__(self, width: int, heads: int, *, tokens: Tokens | None = None, bias: bool = True):
        super().__init__(width, heads, tokens=tokens)
        self.query, self.key, self.value, self.out = (nn.Linear(width, width, bias=bias) for _ in range(4))

    def project_inputs(self, x: Tensor, context: Tensor, queries: Tokens, keys: Tokens) -> dict[str, Any]:
        """Query from x; key and value from the context; the scale of multi-head attention."""
        return {
            "query": split_heads(self.query(x), self.heads),
            "key": split_heads(self.key(context), self.heads),
            "value": split_heads(self.value(context), self.heads),
            "scale": self.dim**-0.5,
        }

    @property
    def projection_parameters(self) -> int:
        """4 d² and the biases."""
        return 4 * self.width**2 + (0 if self.query.bias is None else 4 * self.width)

    def projection_products(self, n_q: int, n_k: int) -> int:
        """Multiply-adds of the four projections: query and output of n_q tokens, key and value of n_k."""
        return 2 * (n_q + n_k) * self.width**2


def refuse_unsupported(call: AttentionCall, title: str, supported: set[str]) -> None:
    """Raise UnsupportedMask where a call has biases, or a mask of other conditions than these."""
    if call.biases:
        raise UnsupportedMask(
            title, f"it does not support {call.biases[0][0]}, which is added to scores of token pairs"
        )
    if call.mask is not None and (missing := call.mask.kinds - supported):
        raise UnsupportedMask(title, f"it does not support the mask {', '.join(sorted(missing))}")


def refuse_cross(call: AttentionCall, title: str) -> None:
    """Raise UnsupportedMask where queries and keys are not the same tokens."""
    if call.queries.stream != call.keys.stream or len(call.queries) != len(call.keys):
        raise UnsupportedMask(title, "queries and keys must come from the same tokens")


def key_padding(call: AttentionCall) -> Tensor | None:
    """Which keys may be attended to [*batch key]; None = all."""
    return None if call.mask is None else call.mask.key_padding


def widen(call: AttentionCall) -> AttentionCall:
    """A softmax call of these tensors in float32 at least, with keys and values of every head and no gate."""
    keep, heads = key_padding(call), list(range(call.heads))
    batch = () if keep is None else keep.shape[:-1]

    def wide(tensor: Tensor) -> Tensor:
        return at_least_float32(tensor).expand(*torch.broadcast_shapes(tensor.shape[:-3], batch), *tensor.shape[-3:])

    key, value = (wide(expand_kv(shared, call, heads)) for shared in (call.key, call.value))
    return replace(
        call,
        query=wide(call.query),
        key=key,
        value=value,
        gate=None,
        projection=None,
        output=None,
        graph=None,
        rule=Softmax(),
    )


def fully_masked(call: AttentionCall) -> Tensor | None:
    """True where every key is masked [*batch 1 1 1]; None = nowhere."""
    keep = key_padding(call)
    return None if keep is None else ~keep.any(-1)[..., None, None, None]
