"""Multi-head latent attention: keys and values of all heads from one short vector per token (DeepSeek-V2, 2024)."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from attnviz.attention.positions.schemes import Coordinates, Rotary
from attnviz.attention.rules.softmax import Softmax
from attnviz.attention.variants.base import Cost, Variant, appended, split_heads
from attnviz.types import Tokens


class DecoupledRotary(Rotary):
    """Rotary positions of the last `dim` channels of query and key; the others carry no position."""

    def apply_to(self, fields: dict[str, Any], coordinates: Coordinates) -> dict[str, Any]:
        """Query and key with their last channels rotated, values unchanged."""
        positions = {"query": coordinates.values[-coordinates.queries :], "key": coordinates.values}
        turned = dict[str, Any]()
        for name, values in positions.items():
            content, rest = fields[name][..., : -self.dim], fields[name][..., -self.dim :]
            turned[name] = torch.cat([content, self.rotate(rest, values)], -1)
        return {**fields, **turned}


class MultiHeadLatent(Variant):
    """Keys and values of all heads are computed from one short latent vector per token, and only that is cached.

    DeepSeek-V2, section 2.1, eq. 9 to 11 and 14 to 19. A query and a key have d_h channels of content and a few that
    are rotated by position; the rotated channels of the key are shared by all heads and kept beside the latent, since a
    rotated key cannot be computed from it by a fixed matrix. The latent is normalised (RMS norm, section 3.1.2 there).
    Not included: compressed queries (eq. 12 and 13), which DeepSeek-V2-Lite leaves out too, and the merging of the
    up-projections into those of query and output (section 2.1.2), which changes no result.
    Without `rank`, 4 d_h numbers as in the paper, but at most half of the width. Without `rotated`, half of d_h,
    rounded up to a multiple of four. On a grid, half of them rotates by row and half by column.
    """

    title = "Multi-head latent attention"
    paper = "DeepSeek-AI 2024, arXiv 2405.04434"
    formula = r"\mathrm{softmax}\!\left([Q;\tilde{Q}]\,[C U;\tilde{K}]^\top / \sqrt{d_h + d_r}\right) C U',\ C = X D"
    meaning = (
        "Row i holds the weights of one head's query of token i over the keys that are computed from every token's "
        "latent; it sums to 1."
    )
    supported_masks = frozenset({"keep", "key_padding", "causal", "band", "groups", "prefix"})
    requires_order = True
    positions_reason = "some channels of its queries and keys are rotated by position already"
    rule = Softmax()

    def __init__(
        self,
        width: int,
        heads: int,
        *,
        tokens: Tokens | None = None,
        rank: int | None = None,
        rotated: int | None = None,
        bias: bool = True,
    ):
        super().__init__(width, heads, tokens=tokens)
        self.rank = max(1, min(4 * self.dim, width // 2)) if rank is None else rank
        self.rotated = 4 * -(-self.dim // 8) if rotated is None else rotated
        if not 1 <= self.rank <= width:
            raise ValueError(f"a latent of {self.rank} numbers for a width of {width}; expected from 1 to {width}")
        self.relative = DecoupledRotary(heads, self.rotated, tokens=tokens)
        self.query = nn.Linear(width, width, bias=bias)
        self.rotated_query = nn.Linear(width, heads * self.rotated, bias=bias)
        self.rotated_key = nn.Linear(width, self.rotated, bias=bias)
        self.down = nn.Linear(width, self.rank, bias=bias)
        self.norm = nn.RMSNorm(self.rank, eps=1e-6)
        self.up_key = nn.Linear(self.rank, width, bias=bias)
        self.up_value = nn.Linear(self.rank, width, bias=bias)
        self.out = nn.Linear(width, width, bias=bias)

    def compress(self, x: Float[Tensor, "*batch token feature"]) -> tuple[Tensor, Tensor]:
        """What is cached of each token: its latent [*batch token rank] and the key to be rotated."""
        return self.norm(self.down(x).to(self.norm.weight.dtype)), self.rotated_key(x)  # also under autocast

    def expand(self, x: Tensor, latent: Tensor, rotated_key: Tensor) -> dict[str, Any]:
        """Query from x; key and value of every head from the latents; no position yet."""
        query = split_heads(self.query(x), self.heads), split_heads(self.rotated_query(x), self.heads)
        key = split_heads(self.up_key(latent), self.heads)
        shared = rotated_key[..., None, :, :].expand(*key.shape[:-1], -1)
        return {
            "query": torch.cat(query, -1),
            "key": torch.cat([key, shared], -1),
            "value": split_heads(self.up_value(latent), self.heads),
            "scale": (self.dim + self.rotated) ** -0.5,
        }

    def project_inputs(self, x: Tensor, context: Tensor, queries: Tokens, keys: Tokens) -> dict[str, Any]:
        """Query, key and value; scores are divided by the root of all channels of a key."""
        return self.expand(x, *self.compress(context))

    def extend(
        self, x: Tensor, past: tuple[Tensor, Tensor] | None, queries: Tokens
    ) -> tuple[dict[str, Any], tuple[Tensor, Tensor]]:
        """Only latents and keys to be rotated are cached; keys and values are computed from them again."""
        cache = appended(past, self.compress(x))
        return self.expand(x, *cache), cache

    def cost(self, n_q: int, n_k: int) -> Cost:
        """2 d² + h r d + r d + 3 c d + c parameters and biases, with c numbers of latent and r rotated channels.

        2 n d² + n d (h r + r + 3 c) + n² (2 d + h r) multiply-adds; n (c + r) numbers of state.
        """
        d, c, r, h = self.width, self.rank, self.rotated, self.heads
        biases = 0 if self.out.bias is None else 4 * d + h * r + r + c
        return Cost(
            parameters=2 * d * d + (h + 1) * r * d + 3 * c * d + c + biases,
            multiply_adds=n_q * d * (2 * d + h * r) + n_k * d * (r + 3 * c) + n_q * n_k * (2 * d + h * r),
            map_bytes=4 * h * n_q * n_k,
            state_bytes=4 * n_k * (c + r),
        )
