"""One layer of a network for text: self-attention, attention over another sequence where there is one, and an MLP.

Each adds to its input what it makes of the normalised input (pre-norm). With `norm` "rms" and a gated MLP it is the
layer of today's language models (Touvron et al. 2023, arXiv 2302.13971), else that of Vaswani et al. 2017.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from attnviz.attention import POSITIONS, VARIANTS
from attnviz.types import AttentionCall, Mask, Tokens

Past = tuple[Tensor, Tensor] | None


@dataclass(frozen=True, kw_only=True)
class LayerConfig:
    """What a layer needs to know of its network."""

    width: int = 192
    layers: int = 4
    heads: int = 6
    mlp: float = 4  # hidden features of the MLP, as a multiple of width
    norm: Literal["layer", "rms"] = "layer"
    gated: bool = False  # the MLP: W2 (silu(W1 x) * W3 x) instead of W2 gelu(W1 x)
    positions: str = "sine"
    variant: str = "mha"
    options: Mapping[str, Any] = field(default_factory=dict)  # of the variant

    def __post_init__(self):
        for name, value, table in (("positions", self.positions, POSITIONS), ("variant", self.variant, VARIANTS)):
            if value not in table:
                raise ValueError(f"{name} is {value!r}; known: {', '.join(table)}")


class Gated(nn.Module):
    """W2 (silu(W1 x) * W3 x) (Shazeer 2020, arXiv 2002.05202)."""

    def __init__(self, width: int, hidden: int):
        super().__init__()
        self.gate, self.up = nn.Linear(width, hidden, bias=False), nn.Linear(width, hidden, bias=False)
        self.down = nn.Linear(hidden, width, bias=False)

    def forward(self, x: Float[Tensor, "*batch token feature"]) -> Float[Tensor, "*batch token feature"]:
        """down(silu(gate(x)) * up(x)), of the shape of x."""
        return self.down(F.silu(self.gate(x)) * self.up(x))


def norm_of(config: LayerConfig) -> nn.Module:
    """A normalisation of the features of each token."""
    return nn.RMSNorm(config.width, eps=1e-6) if config.norm == "rms" else nn.LayerNorm(config.width, eps=1e-6)


def mlp_of(config: LayerConfig) -> nn.Module:
    """Two matrices with a bend between them, or three with a gate."""
    hidden = round(config.mlp * config.width)
    if config.gated:
        return Gated(config.width, hidden)
    return nn.Sequential(nn.Linear(config.width, hidden), nn.GELU(), nn.Linear(hidden, config.width))


class Layer(nn.Module):
    """x + self-attention, + attention over `context` if it was built to `cross`, + MLP."""

    def __init__(self, config: LayerConfig, tokens: Tokens, index: int, *, cross: bool = False):
        super().__init__()
        kind = VARIANTS[config.variant]
        self.attention_norm = norm_of(config)
        self.attention = kind(
            config.width, config.heads, tokens=tokens, **kind.options_for_layer(index, tokens, config.options)
        )
        if (relative := POSITIONS[config.positions].relative) is not None:
            self.attention.use_relative_positions(relative(self.attention.heads, self.attention.dim, tokens=tokens))
        if cross:
            self.cross_norm = norm_of(config)
            self.cross = kind(config.width, config.heads, tokens=tokens, **config.options)
        self.mlp_norm = norm_of(config)
        self.mlp = mlp_of(config)

    def forward(
        self,
        x: Float[Tensor, "*batch token feature"],
        *,
        queries: Tokens,
        mask: Mask | None = None,
        context: Float[Tensor, "*batch key feature"] | None = None,
        keys: Tokens | None = None,
        context_mask: Mask | None = None,
        name: str = "layer",
        layer: int = 0,
        ablated_heads: Sequence[int] = (),
        positions: str = "own",
    ) -> tuple[Float[Tensor, "*batch token feature"], tuple[AttentionCall, ...]]:
        """The residual after this layer, and its attention calls: one, or two with a context."""
        y, calls = self.attention(
            self.attention_norm(x),
            queries=queries,
            mask=mask,
            name=name,
            layer=layer,
            ablated_heads=ablated_heads,
            positions=positions,
        )
        x = x + y
        if context is not None:
            y, looked = self.cross(
                self.cross_norm(x),
                context,
                queries=queries,
                keys=keys,
                mask=context_mask,
                name=f"{name} cross",
                layer=layer,
                branch=1,
            )
            x, calls = x + y, (*calls, *looked)
        return x + self.mlp(self.mlp_norm(x)), calls

    def decode(
        self,
        x: Float[Tensor, "*batch token feature"],
        past: Past,
        *,
        queries: Tokens,
        keys: Tokens,
        context: Float[Tensor, "*batch key feature"] | None = None,
        context_tokens: Tokens | None = None,
    ) -> tuple[Float[Tensor, "*batch token feature"], Past]:
        """New tokens after a cached past: the residual after this layer, and the past with them in it."""
        y, _, past = self.attention.decode(self.attention_norm(x), past, queries=queries, keys=keys)
        x = x + y
        if context is not None:
            x = x + self.cross(self.cross_norm(x), context, queries=queries, keys=context_tokens)[0]
        return x + self.mlp(self.mlp_norm(x)), past


def start(layers: Sequence[Layer]) -> None:
    """Linear layers at 1/root(inputs); those that write into the residual smaller, so that depth starts calm."""
    writers = 0
    for layer in layers:
        for module in layer.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=module.in_features**-0.5)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        writers += 3 if hasattr(layer, "cross") else 2
    for layer in layers:
        last = next(m for m in reversed(list(layer.mlp.modules())) if isinstance(m, nn.Linear))
        for writer in (layer.attention.out, last, *([layer.cross.out] if hasattr(layer, "cross") else [])):
            writer.weight.data *= writers**-0.5
