"""The transformer block of every network here: self-attention, attention over another sequence if asked, and an MLP.

Each is a residual branch: x + sublayer(norm(x)) (pre-norm), or norm(x + sublayer(x)) (post-norm, Vaswani et al. 2017,
section 5.4). With `norm` "rms" and a gated MLP it is the block of Llama (Touvron et al. 2023, arXiv 2302.13971).
Beside it stands what networks begin and end with: parameters, positions, pooling.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from attnviz.attention import POSITIONS, VARIANTS
from attnviz.edits import HeadAblation
from attnviz.types import AttentionCall, LayerParts, Mask, Norm, Tokens

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
    norm_first: bool = True  # pre-norm; else the norm stands behind each sum (post-norm)

    def __post_init__(self):
        check_names(self)


@runtime_checkable
class BlockConfig(Protocol):
    """What a block needs to know of its network."""

    @property
    def width(self) -> int: ...
    @property
    def heads(self) -> int: ...
    @property
    def mlp(self) -> float: ...
    @property
    def norm(self) -> str: ...
    @property
    def gated(self) -> bool: ...
    @property
    def norm_first(self) -> bool: ...
    @property
    def positions(self) -> str: ...
    @property
    def variant(self) -> str: ...
    @property
    def options(self) -> Mapping[str, Any]: ...


def check_names(config: BlockConfig) -> None:
    """Raise ValueError for a scheme of positions or a variant that there is not."""
    for name, value, table in (("positions", config.positions, POSITIONS), ("variant", config.variant, VARIANTS)):
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


def norm_of(config: BlockConfig) -> nn.Module:
    """A normalisation of the features of each token."""
    return nn.RMSNorm(config.width, eps=1e-6) if config.norm == "rms" else nn.LayerNorm(config.width, eps=1e-6)


def final_norm_of(config: BlockConfig) -> nn.Module:
    """The normalisation before the outputs; behind post-norm blocks there is none left to do."""
    return norm_of(config) if config.norm_first else nn.Identity()


def mlp_of(config: BlockConfig) -> nn.Module:
    """Two matrices with a GELU between them, or three with a gate."""
    hidden = round(config.mlp * config.width)
    if config.gated:
        return Gated(config.width, hidden)
    return nn.Sequential(nn.Linear(config.width, hidden), nn.GELU(), nn.Linear(hidden, config.width))


def norm_record(norm: nn.Module) -> Norm:
    """A layer norm or RMS norm of ours as a record. Raises TypeError for any other module."""
    if not isinstance(norm, nn.LayerNorm | nn.RMSNorm):
        raise TypeError(f"expected a layer norm or an RMS norm, but got a {type(norm).__name__}")
    eps = torch.finfo(norm.weight.dtype).eps if norm.eps is None else norm.eps  # as torch has it
    return Norm(norm.weight, getattr(norm, "bias", None), eps, isinstance(norm, nn.LayerNorm))


class Block(nn.Module):
    """x + self-attention, + attention over `context` if it was built to `cross`, + MLP."""

    def __init__(self, config: BlockConfig, tokens: Tokens, index: int, *, cross: bool = False):
        super().__init__()
        kind, self.norm_first = VARIANTS[config.variant], config.norm_first
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

    def entering(self, norm: nn.Module, x: Tensor) -> Tensor:
        """What a sublayer reads of the residual [*batch token feature]."""
        return norm(x) if self.norm_first else x

    def leaving(self, norm: nn.Module, x: Tensor) -> Tensor:
        """The residual [*batch token feature] after a sublayer was added."""
        return x if self.norm_first else norm(x)

    @property
    def writers(self) -> list[nn.Linear]:
        """The linear layers that write into the residual."""
        last = next(module for module in reversed(list(self.mlp.modules())) if isinstance(module, nn.Linear))
        return [self.attention.out, last, *([self.cross.out] if hasattr(self, "cross") else [])]

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
        ablation: HeadAblation | None = None,
        positions: str = "own",
    ) -> tuple[Float[Tensor, "*wider token feature"], tuple[AttentionCall, ...]]:
        """The residual after this layer, and its attention calls: one, or two with a context.

        One x may come with a batch of masks or of ablations, and then has as many residuals.
        """
        y, calls = self.attention(
            self.entering(self.attention_norm, x),
            queries=queries,
            mask=mask,
            name=name,
            layer=layer,
            ablation=ablation,
            positions=positions,
        )
        x = self.leaving(self.attention_norm, x + y)
        if context is not None:
            y, crossed = self.cross(
                self.entering(self.cross_norm, x),
                context,
                queries=queries,
                keys=keys,
                mask=context_mask,
                name=f"{name} cross",
                layer=layer,
                branch=1,
            )
            x, calls = self.leaving(self.cross_norm, x + y), (*calls, *crossed)
        return self.feed_forward(x), calls

    def feed_forward(self, x: Tensor) -> Tensor:
        """The residual [*batch token feature] after the MLP."""
        return self.leaving(self.mlp_norm, x + self.mlp(self.entering(self.mlp_norm, x)))

    def project(self, x: Float[Tensor, "*batch token feature"], tokens: Tokens) -> tuple[Tensor, Tensor]:
        """Query and key [*batch head token dim] of what attention reads, without relative positions."""
        fields = self.attention.project_inputs(x, x, tokens, tokens)
        return fields["query"], fields["key"]

    def parts(self) -> LayerParts:
        """This layer without its mixing."""
        norms = norm_record(self.attention_norm), norm_record(self.mlp_norm)
        return LayerParts(self.norm_first, *norms, self.attention.output_bias, self.project, self.feed_forward)

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
        y, _, past = self.attention.decode(self.entering(self.attention_norm, x), past, queries=queries, keys=keys)
        x = self.leaving(self.attention_norm, x + y)
        if context is not None:
            y, _ = self.cross(self.entering(self.cross_norm, x), context, queries=queries, keys=context_tokens)
            x = self.leaving(self.cross_norm, x + y)
        return self.feed_forward(x), past


def initialise(modules: Sequence[nn.Module]) -> None:
    """Linear layers at 1/root(inputs); in blocks, those that write into the residual are smaller, by their number."""
    for module in modules:
        for linear in module.modules():
            if isinstance(linear, nn.Linear):
                nn.init.trunc_normal_(linear.weight, std=linear.in_features**-0.5)
                if linear.bias is not None:
                    nn.init.zeros_(linear.bias)
    writers = [writer for block in modules if isinstance(block, Block) for writer in block.writers]
    for writer in writers:
        writer.weight.data *= len(writers) ** -0.5


def hold_positions(module: nn.Module, scheme: str, tokens: Tokens, width: int, *, persistent: bool = True) -> None:
    """Give a network the table `positions` [token feature] of a scheme: learned, or a buffer, kept on disk or not."""
    table = POSITIONS[scheme].table(tokens, width).float()
    if POSITIONS[scheme].learned:
        module.register_parameter("positions", nn.Parameter(table))
    else:
        module.register_buffer("positions", table, persistent=persistent)


LAST = slice(-1, None)  # an answer that is read from the last token alone


def pooling_weights(
    like: Float[Tensor, "*batch token feature"],
    pooled: slice,
    keep_tokens: Bool[Tensor, "*choices token"] | None = None,
) -> Float[Tensor, "*batch token"]:
    """How much each final token feeds the answer: an equal share of every kept token that is pooled.

    Where none of them is kept, all weights are 0.
    """
    precision = torch.promote_types(like.dtype, torch.float32)  # half precision would round an equal share
    share = torch.zeros(like.shape[-2], dtype=precision, device=like.device)
    share[pooled] = 1
    share = share.expand(like.shape[:-1])
    share = share if keep_tokens is None else share * keep_tokens
    return share / share.sum(-1, keepdim=True).clamp_min(1e-12)
