"""Cross-covariance attention: the channels of a token attend to each other (El-Nouby et al. 2021, XCiT, eq. 3)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from attnviz.attention.rules.softmax import full_precision
from attnviz.attention.variants.base import Cost
from attnviz.attention.variants.projections import (
    Projected,
    fully_masked,
    key_padding,
    refuse_cross,
    refuse_unsupported,
    widen,
)
from attnviz.types import AttentionCall, MapType, NamedMap, NoTokenMap, Stage, Tokens

REASON = "it attends over channels, and each token mixes its own channels"


@dataclass(frozen=True, eq=False)
class Channel:
    """y_c = sum over c' of softmax_c'(q̂_c . k̂_c' / temperature) v_c', with channels q̂_c and k̂_c of unit length.

    A channel is a column over all tokens. Masked tokens are rows of zero in queries and keys; their values need no
    mask, since the output of a token mixes only its own channels. The rule reads no scale.
    """

    temperature: Float[Tensor, " head"] | None = None  # None = 1

    title = "Cross-covariance attention"
    map_type: MapType = "channel"
    axes = ("head", "channel", "channel read")
    stochastic = False  # there is no token map
    exact = False
    caveat = (
        "A map of channels, equal for every token: row c holds the weights of output channel c over value channels."
    )

    @full_precision
    def channel_map(self, call: AttentionCall) -> Float[Tensor, "*batch head channel channel_read"]:
        """The weights of all heads; zero where every key is masked."""
        refuse_unsupported(call, self.title, {"key_padding"})
        refuse_cross(call, self.title)
        wide, keep = widen(call), key_padding(call)
        query, key = wide.query, wide.key
        if keep is not None:
            masked = ~keep[..., None, :, None]
            query, key = query.masked_fill(masked, 0), key.masked_fill(masked, 0)
        query, key = F.normalize(query, dim=-2), F.normalize(key, dim=-2)
        scores = query.transpose(-1, -2) @ key
        if self.temperature is not None:
            scores = scores / self.temperature.to(scores.dtype)[:, None, None]
        weights, empty = scores.softmax(-1), fully_masked(call)
        return weights if empty is None else weights.masked_fill(empty, 0)

    def scores(self, call: AttentionCall, heads: list[int], rows: list[int], stage: Stage) -> Tensor:
        """Raises NoTokenMap: there are no scores between tokens."""
        raise NoTokenMap(REASON)

    def weights(self, call: AttentionCall, heads: list[int], rows: list[int]) -> Tensor:
        """[*batch head channel channel_read], whole: for chosen rows, which are tokens, it raises NoTokenMap."""
        if len(rows) != len(call.queries):
            raise NoTokenMap(REASON)
        return self.channel_map(call)[..., heads, :, :]

    def token_map(self, call: AttentionCall, heads: list[int], rows: list[int]) -> Tensor:
        """Raises NoTokenMap: there is no token map."""
        raise NoTokenMap(REASON)

    def maps(self, call: AttentionCall) -> dict[str, NamedMap]:
        """One native map: the weights between channels."""
        return {"channels": NamedMap(call.weights(), self.axes, self.map_type, True)}

    @full_precision
    def mix(self, call: AttentionCall) -> Tensor:
        """gate * (value @ weightsᵀ) [*batch head token value_dim]."""
        output = widen(call).value @ self.channel_map(call).transpose(-1, -2)
        return call.gated(output.to(call.value.dtype))

    def map_gradient(self, call: AttentionCall, d_output: Tensor, heads: list[int], rows: list[int]) -> Tensor:
        """Raises NoTokenMap: there is no token map to differentiate by."""
        raise NoTokenMap(REASON)


class CrossCovariance(Projected):
    """Channels attend to channels: the weights are the softmax of the cross-covariance of query and key channels.

    The temperature of each head is learned as its logarithm, so that it stays positive; it starts at 1.
    """

    title = "Cross-covariance attention"
    paper = "El-Nouby et al. 2021, arXiv 2106.09681"
    formula = r"V\,\mathrm{softmax}\!\left(\hat K^\top \hat Q / \tau\right)"
    meaning = (
        "Row c holds the weights of output channel c over the channels of the value; it sums to 1 and is equal for "
        "every token."
    )
    supported_masks = frozenset({"key_padding", "prefix"})
    rule = Channel()  # describes the map; one with the learned temperatures is built for each call

    def __init__(self, width: int, heads: int, *, tokens: Tokens | None = None, bias: bool = True):
        super().__init__(width, heads, tokens=tokens, bias=bias)
        self.log_temperature = nn.Parameter(torch.zeros(heads))

    def project_inputs(self, x: Tensor, context: Tensor, queries: Tokens, keys: Tokens) -> dict[str, Any]:
        """As multi-head attention, with the learned temperatures."""
        return {**super().project_inputs(x, context, queries, keys), "rule": Channel(self.log_temperature.exp())}

    def cost(self, n_q: int, n_k: int) -> Cost:
        """4 d² + h parameters and biases; 4 n d² + 2 n d d_h multiply-adds; h d_h² map entries, whatever n is."""
        return Cost(
            parameters=self.projection_parameters + self.heads,
            multiply_adds=self.projection_products(n_q, n_k) + (n_q + n_k) * self.width * self.dim,
            map_bytes=4 * self.heads * self.dim**2,
            state_bytes=0,  # it has no causal form to decode with
        )
