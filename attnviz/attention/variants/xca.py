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
    finished,
    key_padding,
    refuse_cross,
    refuse_others,
    widened,
    without_key,
)
from attnviz.types import AttentionCall, MapType, NamedMap, NoTokenMap, Stage, Tokens

REASON = "attends over channels: every token mixes its own channels, and there is no map from token to token"


@dataclass(frozen=True, eq=False)
class Channel:
    """y_c = sum over c' of softmax_c'(q̂_c . k̂_c' / temperature) v_c', with q̂_c and k̂_c channels of length one.

    A channel is a column over all tokens. Masked tokens are rows of zero in queries and keys; their values need no
    mask, since a token's output mixes only its own. Query, key and value are all the rule reads: no scale.
    """

    temperature: Float[Tensor, " head"] | None = None  # None = one

    title = "Cross-covariance attention"
    map_type: MapType = "channel"
    axes = ("head", "channel", "channel read")
    stochastic = False  # of the token map, which there is none of
    exact = False
    caveat = (
        "A map of channels, the same for every token: row c says which channels of its value a token's channel c reads."
    )

    @full_precision
    def channel_map(self, call: AttentionCall) -> Float[Tensor, "*batch head channel channel_read"]:
        """The weights of all heads; zero where every key is masked."""
        refuse_others(call, self.title, {"key_padding"})
        refuse_cross(call, self.title)
        wide, keep = widened(call), key_padding(call)
        query, key = wide.query, wide.key
        if keep is not None:
            closed = ~keep[..., None, :, None]
            query, key = query.masked_fill(closed, 0), key.masked_fill(closed, 0)
        query, key = F.normalize(query, dim=-2), F.normalize(key, dim=-2)
        scores = query.transpose(-1, -2) @ key
        if self.temperature is not None:
            scores = scores / self.temperature.to(scores.dtype)[:, None, None]
        weights, nothing = scores.softmax(-1), without_key(call)
        return weights if nothing is None else weights.masked_fill(nothing, 0)

    def scores(self, call: AttentionCall, heads: list[int], rows: list[int], stage: Stage) -> Tensor:
        """There are none between tokens: raises NoTokenMap."""
        raise NoTokenMap(REASON)

    def weights(self, call: AttentionCall, heads: list[int], rows: list[int]) -> Tensor:
        """[*batch head channel channel_read], whole: for chosen rows, which are tokens, it raises NoTokenMap."""
        if len(rows) != len(call.queries):
            raise NoTokenMap(REASON)
        return self.channel_map(call)[..., heads, :, :]

    def token_map(self, call: AttentionCall, heads: list[int], rows: list[int]) -> Tensor:
        """There is none: raises NoTokenMap."""
        raise NoTokenMap(REASON)

    def maps(self, call: AttentionCall) -> dict[str, NamedMap]:
        """One native map: the weights between channels."""
        return {"channels": NamedMap(call.weights(), self.axes, self.map_type, True)}

    @full_precision
    def mix(self, call: AttentionCall) -> Tensor:
        """gate * (value @ weightsᵀ) [*batch head token value_dim]."""
        return finished(call, widened(call).value @ self.channel_map(call).transpose(-1, -2))

    def map_gradient(self, call: AttentionCall, d_output: Tensor, heads: list[int], rows: list[int]) -> Tensor:
        """Without a token map there is no gradient of one: raises NoTokenMap."""
        raise NoTokenMap(REASON)


class CrossCovariance(Projected):
    """Channels attend to channels: what two features have in common over all tokens decides how much one reads another.

    The temperature of each head is learned as its logarithm, so that it stays positive; it starts at one.
    """

    title = "Cross-covariance attention"
    paper = "El-Nouby et al. 2021, arXiv 2106.09681"
    formula = r"V\,\mathrm{softmax}\!\left(\hat K^\top \hat Q / \tau\right)"
    meaning = (
        "Row c says which channels of its value a token's channel c reads; it sums to one, the same for every token."
    )
    supported_masks = frozenset({"key_padding", "prefix"})
    rule = Channel()  # what it says of itself; each call gets one with the temperatures learned so far

    def __init__(self, width: int, heads: int, *, tokens: Tokens | None = None, bias: bool = True):
        super().__init__(width, heads, tokens=tokens, bias=bias)
        self.log_temperature = nn.Parameter(torch.zeros(heads))

    def project_inputs(self, x: Tensor, context: Tensor, queries: Tokens, keys: Tokens) -> dict[str, Any]:
        """As multi-head attention, with the temperatures learned so far."""
        return {**super().project_inputs(x, context, queries, keys), "rule": Channel(self.log_temperature.exp())}

    def cost(self, n_q: int, n_k: int) -> Cost:
        """4 d² + h parameters and biases; 4 n d² + 2 n d d_h multiply-adds; h d_h² map entries, whatever n is."""
        return Cost(
            parameters=self.projection_parameters + self.heads,
            multiply_adds=self.projection_products(n_q, n_k) + (n_q + n_k) * self.width * self.dim,
            map_bytes=4 * self.heads * self.dim**2,
            state_bytes=0,  # it has no causal form to decode with
        )
