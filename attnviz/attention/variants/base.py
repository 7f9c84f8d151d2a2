"""The base of every attention variant: checking its inputs, recording the call, projecting the output.

To add a variant: one file with a `Variant` that overrides `project_inputs` (the fields of a call), and one line in
VARIANTS.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from attnviz.edits import HeadAblation
from attnviz.types import AttentionCall, Mask, Rule, Tokens, UnsupportedMask


@dataclass(frozen=True)
class Cost:
    """What one layer of a variant costs for n queries and keys."""

    parameters: int
    multiply_adds: int  # of the projections and the two matrix products; softmax not counted
    map_bytes: int  # float32 weights if all were stored
    state_bytes: int  # float32 numbers that one layer keeps while decoding token by token


class Variant(nn.Module):
    """An attention variant: projections around a rule.

    `tokens` are those it is built for: tables of offsets and fixed lengths take their size from them.
    """

    title: str
    paper: str  # "Vaswani et al. 2017, arXiv 1706.03762"
    formula: str  # LaTeX, one line
    meaning: str  # what its map means, for a visitor
    rule: Rule
    supported_masks: frozenset[str] = frozenset({"keep", "key_padding", "causal", "band", "groups", "cross", "prefix"})
    # "grid": patches of an image; "length": as many tokens as it was built for
    requirements: frozenset[str] = frozenset()
    # scores are scaled products of query and key, to which relative positions apply
    supports_relative_positions: bool = False
    positions_reason: str = "it has no products of query and key for relative positions to change"  # why it does not
    supports_options: bool = False  # takes the OPTIONS of normalisation
    # depends on distances between tokens: built for a grid, it cannot read patches without one
    requires_order: bool = False
    relative: nn.Module | None  # applies relative positions to the fields of every call
    out: nn.Linear

    def __init__(self, width: int, heads: int, *, tokens: Tokens | None = None):
        super().__init__()
        if heads < 1 or width % heads:
            raise ValueError(f"width {width} does not split into {heads} heads")
        if "length" in self.requirements and tokens is None:
            raise ValueError(f"{self.title} is built for a fixed number of tokens; name them: tokens=Tokens(...)")
        self.width, self.heads, self.dim, self.built_for = width, heads, width // heads, tokens
        self.relative = None

    @classmethod
    def options_for_layer(cls, index: int, tokens: Tokens, options: Mapping[str, Any]) -> dict[str, Any]:
        """The options of one layer of a network: equal in all layers, except for variants that alternate."""
        return dict(options)

    def use_relative_positions(self, relative: nn.Module) -> None:
        """Apply relative positions to every call. Raises UnsupportedMask, with the reason, where they do not apply."""
        if not self.supports_relative_positions:
            raise UnsupportedMask(self.title, self.positions_reason)
        self.relative = relative

    def project_inputs(self, x: Tensor, context: Tensor, queries: Tokens, keys: Tokens) -> dict[str, Any]:
        """The fields of a call that this variant computes: at least query, key and value."""
        raise NotImplementedError

    @property
    def output_bias(self) -> Float[Tensor, " feature"] | None:
        """What is added to every output, whatever was attended to."""
        return self.out.bias

    def cost(self, n_q: int, n_k: int) -> Cost:
        """Parameters, multiply-adds and bytes of one layer, analytically."""
        raise NotImplementedError

    def forward(
        self,
        x: Float[Tensor, "*batch query feature"],
        context: Float[Tensor, "*batch key feature"] | None = None,
        *,
        queries: Tokens,
        keys: Tokens | None = None,
        mask: Mask | None = None,
        name: str = "attention",
        layer: int = 0,
        branch: int = 0,
        ablation: HeadAblation | None = None,
        positions: str = "own",
    ) -> tuple[Float[Tensor, "*wider query feature"], tuple[AttentionCall, ...]]:
        """The new features and the calls that computed them. Raises UnsupportedMask for what is not supported.

        One x may come with a batch of masks, and then has as many outputs. `branch`: which attention branch of the
        layer this is, each added to the residual by itself.
        `positions`: of a relative scheme, "own", "none" or "shuffled"; without such a scheme it changes nothing.
        """
        cross, keys = context is not None, queries if keys is None else keys
        self.check(mask, cross, queries, keys)
        context = x if context is None else context
        check_lengths(x, queries, context, keys)
        fields = self.project_inputs(x, context, queries, keys)
        named = {"queries": queries, "keys": keys, "mask": mask, "name": name, "layer": layer, "branch": branch}
        return self.mix_and_project(fields, ablation=ablation, positions=positions, **named)

    def decode(
        self,
        x: Float[Tensor, "*batch query feature"],
        past: tuple[Tensor, Tensor] | None = None,
        *,
        queries: Tokens,
        keys: Tokens,
        name: str = "attention",
        layer: int = 0,
    ) -> tuple[Tensor, tuple[AttentionCall, ...], tuple[Tensor, Tensor]]:
        """New tokens after a cached past: equals the causal forward. `keys` names past and new tokens."""
        if "causal" not in self.supported_masks:
            raise UnsupportedMask(self.title, "it has no causal form, so it cannot decode token by token")
        self.check(Mask(causal=True), False, queries, keys)
        fields, cache = self.extend(x, past, queries)
        mask = Mask(causal=True)
        y, calls = self.mix_and_project(fields, queries=queries, keys=keys, mask=mask, name=name, layer=layer)
        return y, calls, cache

    def extend(
        self, x: Tensor, past: tuple[Tensor, Tensor] | None, queries: Tokens
    ) -> tuple[dict[str, Any], tuple[Tensor, Tensor]]:
        """The query of new tokens with keys and values of past and new ones, and what is cached of both."""
        fields = self.project_inputs(x, x, queries, queries)
        fields["key"], fields["value"] = cache = appended(past, (fields["key"], fields["value"]))
        return fields, cache

    def check(self, mask: Mask | None, cross: bool, queries: Tokens, keys: Tokens) -> None:
        """Refuse, with the reason, what this variant does not support."""
        if cross and "cross" not in self.supported_masks:
            raise UnsupportedMask(self.title, "queries and keys must come from the same tokens")
        if cross and self.relative is not None:
            raise UnsupportedMask(self.title, "relative positions do not apply to tokens of two sequences")
        if queries.prefix and "prefix" not in self.supported_masks:
            raise UnsupportedMask(self.title, f"it does not support {queries.labels[0]}, which is not a patch")
        if "grid" in self.requirements and queries.grid is None:
            raise UnsupportedMask(self.title, "it needs image patches, in rows and columns")
        needs_grid = self.requires_order and self.built_for is not None and self.built_for.grid is not None
        if needs_grid and queries.grid is None:
            raise UnsupportedMask(self.title, "it needs the position of every patch, and these tokens have no grid")
        if "length" in self.requirements and self.built_for and len(keys) != len(self.built_for):
            raise UnsupportedMask(
                self.title, f"it was built for {len(self.built_for)} tokens and cannot read {len(keys)}"
            )
        if mask is not None:
            if missing := mask.kinds - self.supported_masks:
                raise UnsupportedMask(self.title, f"it does not support the mask {', '.join(sorted(missing))}")
            mask.check(self.heads, len(queries), len(keys))

    def mix_and_project(
        self, fields: dict[str, Any], *, ablation: HeadAblation | None = None, positions: str = "own", **named: Any
    ) -> tuple[Tensor, tuple[AttentionCall, ...]]:
        """Mix the values, record the call, project the heads back to features."""
        if ablation is not None:
            gate = self.ablation_gate(ablation, fields["query"])
            fields["gate"] = gate if fields.get("gate") is None else fields["gate"] * gate
        fields.setdefault("rule", self.rule)  # a rule with learned parameters is built for each call
        if self.relative is not None:  # after the cached past was prepended, so that new tokens come last
            fields = self.relative(fields, named["queries"], named["keys"], positions)
        fields.setdefault("projection", self.out.weight.T.unflatten(0, (self.heads, -1)))
        call = AttentionCall(**fields, **named)
        output, gate = self.mix(call)
        output = output if ablation is None else ablation.filled(output)
        call = replace(call, output=output, gate=gate)  # the very tensor the network continues with
        y = self.out(output.transpose(-3, -2).flatten(-2))
        return y, (call,)

    def mix(self, call: AttentionCall) -> tuple[Tensor, Tensor | None]:
        """The output of a call and its gate; a variant that normalises what it has mixed makes that part of it."""
        return call.rule.mix(call), call.gate

    def ablation_gate(self, ablation: HeadAblation, like: Tensor) -> Float[Tensor, "*edit head 1 1"]:
        """A gate of 0 for the ablated heads and 1 for the others. Raises ValueError for another number of heads."""
        if ablation.off.shape[-1] != self.heads:
            raise ValueError(f"ablated_heads has {ablation.off.shape[-1]} heads; {self.title} here has {self.heads}")
        return (~ablation.off).to(like.dtype)[..., None, None]


def appended(past: tuple[Tensor, Tensor] | None, new: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """A cache with new tokens behind the past ones."""
    return new if past is None else (torch.cat([past[0], new[0]], -2), torch.cat([past[1], new[1]], -2))


def check_lengths(x: Tensor, queries: Tokens, context: Tensor, keys: Tokens) -> None:
    """Raise ValueError where features and token labels do not count the same."""
    for name, features, tokens in (("query", x, queries), ("key", context, keys)):
        if features.shape[-2] != len(tokens):
            raise ValueError(f"{features.shape[-2]} {name} vectors but {len(tokens)} {name} tokens")


def split_heads(x: Float[Tensor, "*batch token feature"], heads: int) -> Float[Tensor, "*batch head token dim"]:
    """Features to heads, head-major: feature = head * dim + d."""
    return x.unflatten(-1, (heads, -1)).transpose(-3, -2)
