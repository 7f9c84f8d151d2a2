"""MobileViT (Mehta & Rastegari 2022, arXiv 2110.02178): convolutions that see near, attention that sees far.

A stem and two stages of convolutions, then three stages of convolutions around attention layers. Every attention stage
has a grid of its own, so the trace has one stream a stage: "stage 3", "stage 4", "stage 5". Between streams lie
convolutions, which no attention map describes: a rollout starts at the readout, in stage 5, and ends where it began.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate
from math import prod
from operator import mul
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from attnviz.attention import Variant
from attnviz.attention.variants.mobilevit import MobileViT2d
from attnviz.edits import UNCHANGED
from attnviz.models.convolutions import Convolution, InvertedResidual, to_map, to_tokens
from attnviz.models.requests import fitted, refuse
from attnviz.types import AttentionCall, Edit, Tokens, Trace


@dataclass(frozen=True)
class MobileViTConfig:
    """The shape of a MobileViT; as it stands, the one the paper calls XXS.

    Strides change what the network costs and how fine its grids are, not its parameters. Pictures of 64 px leave stage
    5 only 2 x 2 pixels, one patch, where attention has nothing to choose from. With (2, 1, 2, 2, 1, 1) stages 3 to 5
    have 8 x 8 pixels each, with (2, 1, 1, 2, 2, 1) they have 16 x 16, 8 x 8 and 8 x 8.
    """

    size: int = 256  # pixels per side of the picture it is made for; it reads any size its strides and patches divide
    inputs: int = 3  # channels of the picture
    channels: Sequence[int] = (16, 16, 24, 48, 64, 80)  # of the stem and of stages 1 to 5
    final: int = 320  # channels of the last 1 x 1 convolution; 0 = there is none
    widths: Sequence[int] = (64, 80, 96)  # features of a token in stages 3 to 5
    layers: Sequence[int] = (2, 4, 3)  # attention layers in stages 3 to 5
    depths: Sequence[int] = (1, 3)  # inverted residuals in stages 1 and 2
    strides: Sequence[int] = (2, 1, 2, 2, 2, 2)  # of the stem and of stages 1 to 5
    heads: int = 4
    expansion: float = 2  # of the inverted residuals
    mlp: float = 2  # hidden features of the MLP, as a multiple of a stage's width
    patch: Sequence[int] = (2, 2)
    dropout: float = 0.1  # of attention and MLP outputs and of the classifier, while training
    classes: int = 1000

    def __post_init__(self):
        expected = {"channels": 6, "strides": 6, "widths": 3, "layers": 3, "depths": 2, "patch": 2}
        for name, count in expected.items():
            if len(getattr(self, name)) != count:
                raise ValueError(f"{name} has {len(getattr(self, name))} entries, expected {count}")
        if wrong := [stride for stride in self.strides if stride not in (1, 2)]:
            raise ValueError(f"a stride is {wrong[0]}; it must be 1 or 2")
        self.grids(self.size, self.size)

    def grids(self, height: int, width: int) -> list[tuple[int, int]]:
        """Rows and columns of the feature maps after the stem and each stage. Raises ValueError for sizes that fail."""
        total = prod(self.strides)
        if min(height, width) < total or height % total or width % total:
            raise ValueError(f"a picture of {width} x {height} px does not divide by {total}, the strides multiplied")
        grids = [(height // step, width // step) for step in accumulate(self.strides, mul)]
        for stage, (rows, columns) in enumerate(grids[3:], 3):
            if rows % self.patch[0] or columns % self.patch[1]:
                raise ValueError(
                    f"a picture of {width} x {height} px leaves stage {stage} a grid of {rows} x {columns}, which does "
                    f"not divide into patches of {self.patch[0]} x {self.patch[1]}"
                )
        return grids


MOBILEVITS: dict[str, MobileViTConfig] = {
    "xxs": MobileViTConfig(),
    "xs": MobileViTConfig(channels=(16, 32, 48, 64, 80, 96), final=384, widths=(96, 120, 144), expansion=4),
    "s": MobileViTConfig(channels=(16, 32, 64, 96, 128, 160), final=640, widths=(144, 192, 240), expansion=4),
}


class TransformerLayer(nn.Module):
    """x + attention(norm(x)), then x + MLP(norm(x))."""

    def __init__(self, attention: Variant, norms: Sequence[nn.Module], hidden: int, dropout: float):
        super().__init__()
        self.attention_norm, self.mlp_norm = norms
        self.attention, self.dropout = attention, nn.Dropout(dropout)
        width = attention.width
        self.mlp = nn.Sequential(nn.Linear(width, hidden), nn.SiLU(), nn.Linear(hidden, width))

    def forward(self, x: Tensor, **options: Any) -> tuple[Tensor, tuple[AttentionCall, ...]]:
        """The residual after this layer, and its attention calls."""
        y, calls = self.attention(self.attention_norm(x), **options)
        x = x + self.dropout(y)
        return x + self.dropout(self.mlp(self.mlp_norm(x))), calls


class Passed(NamedTuple):
    """What one part of the network made of its input."""

    name: str  # "stem", "stage 1", ..
    features: Float[Tensor, "*batch channel row column"]
    residuals: tuple[Tensor, ...] = ()  # one [*batch token feature] per attention layer, input first
    calls: tuple[AttentionCall, ...] = ()


class HybridStage(nn.Module):
    """A smaller feature map; what is near by convolution; what is far by layers of attention; back to a feature map.

    A kind of MobileViT says in `layer`, `norm_of` and `joined` what its layers, its norm and its way back are.
    """

    depthwise = False  # whether the 3 x 3 convolution looks at each channel alone
    active = True  # whether the way back to the feature map ends in SiLU

    def __init__(self, config: MobileViTConfig, number: int):
        super().__init__()
        inputs, channels, width = config.channels[number - 1], config.channels[number], config.widths[number - 3]
        self.name = f"stage {number}"
        self.down = InvertedResidual(inputs, channels, stride=config.strides[number], expansion=config.expansion)
        self.near = nn.Sequential(
            Convolution(channels, channels, 3, depthwise=self.depthwise),
            Convolution(channels, width, 1, norm=False, active=False),
        )
        self.blocks = nn.ModuleList(self.layer(config, width) for _ in range(config.layers[number - 3]))
        self.norm = self.norm_of(width)
        self.back = Convolution(width, channels, 1, active=self.active)

    def layer(self, config: MobileViTConfig, width: int) -> TransformerLayer:
        """One attention layer."""
        raise NotImplementedError

    def norm_of(self, width: int) -> nn.Module:
        """The norm before attention, before the MLP and after the last layer."""
        raise NotImplementedError

    def joined(self, before: Tensor, far: Tensor) -> Tensor:
        """The stage's feature map, from the one before the local convolutions and the one after the attention."""
        raise NotImplementedError

    def forward(self, x: Tensor, first: int = 0, edit: Edit = UNCHANGED) -> Passed:
        """The new feature map, the residual after each layer, the calls.

        `first` is the number of its first layer; of an `edit`, heads are ablated.
        """
        before = self.down(x)
        near = self.near(before)
        tokens = stage_tokens(*near.shape[-2:], self.name)
        residuals, calls = [to_tokens(near)], []
        for index, block in enumerate(self.blocks):
            name, number = f"{self.name}, layer {index + 1}", first + index
            x, new = block(residuals[-1], queries=tokens, name=name, layer=number, ablation=edit.ablation(number))
            residuals.append(x)
            calls.extend(new)
        far = to_map(self.norm(residuals[-1]), near.shape[-2:])
        return Passed(self.name, self.joined(before, self.back(far)), tuple(residuals), tuple(calls))


class Hybrid(nn.Module):
    """A stem, two stages of convolutions, three stages of attention, and a classifier on the mean of all pixels."""

    stage: type[HybridStage]

    def __init__(self, config: MobileViTConfig):
        super().__init__()
        self.config, channels, strides = config, config.channels, config.strides
        self.stem = Convolution(config.inputs, channels[0], 3, stride=strides[0])
        self.early = nn.ModuleList()
        for number, depth in enumerate(config.depths, 1):
            inputs = [channels[number - 1]] + [channels[number]] * (depth - 1)
            steps = [strides[number]] + [1] * (depth - 1)
            made = [
                InvertedResidual(i, channels[number], stride=s, expansion=config.expansion)
                for i, s in zip(inputs, steps, strict=True)
            ]
            self.early.append(nn.Sequential(*made))
        self.stages = nn.ModuleList(self.stage(config, number) for number in (3, 4, 5))
        self.final = Convolution(channels[5], config.final, 1) if config.final else nn.Identity()
        self.dropout = nn.Dropout(config.dropout)
        self.classify = nn.Linear(config.final or channels[5], config.classes)
        self.initialise()

    def initialise(self) -> None:
        """Convolutions as He et al. 2015, by outputs; linear layers at 1/root(inputs); the classifier small."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out")
            elif isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=module.in_features**-0.5)
                nn.init.zeros_(module.bias)
        self.classify.weight.data *= 0.1

    def passes(
        self, pixels: Float[Tensor, "*batch channel height width"], edit: Edit | None = None
    ) -> Iterator[Passed]:
        """What the stem and each stage make of a picture, one after the other."""
        passed = Passed("stem", self.stem(pixels))
        yield passed
        for number, stage in enumerate(self.early, 1):
            passed = Passed(f"stage {number}", stage(passed.features))
            yield passed
        edit = fitted(edit, tokens=0, layers=sum(self.config.layers), like=self.classify.weight)
        for stage, first in zip(self.stages, (0, *accumulate(self.config.layers)), strict=False):
            passed = stage(passed.features, first, edit)
            yield passed

    def forward(self, pixels: Float[Tensor, "*batch channel height width"], *, edit: Edit | None = None) -> Trace:
        """Everything one pass records; logits["class"] is [*batch 1 class].

        The readout gives every pixel of stage 5 an equal share: the answer is the mean over its feature map. Layers are
        numbered through all stages, in calls as in an `edit`, which may ablate heads; the rest is refused in words
        (UnsupportedMask). Raises ValueError for sizes that strides and patches do not divide.
        """
        refuse("MobileViT", edit, frozenset({"ablated_heads"}), "its convolutions have mixed neighbouring pixels")
        self.config.grids(*pixels.shape[-2:])
        passed = list(self.passes(pixels, edit))
        residuals = {p.name: p.residuals for p in passed if p.residuals}
        last = residuals[passed[-1].name][-1]
        precision = torch.promote_types(last.dtype, torch.float32)
        share = torch.full(last.shape[:-1], 1 / last.shape[-2], dtype=precision, device=last.device)
        pooled = self.final(passed[-1].features).mean((-2, -1))
        return Trace(
            sample=None,
            token_embeddings={name: tokens[0] for name, tokens in residuals.items()},
            position_embeddings=dict.fromkeys(residuals),  # it has none: the convolutions tell where things are
            calls=tuple(call for p in passed for call in p.calls),
            residuals=residuals,
            pooling={passed[-1].name: share},
            logits={"class": self.classify(self.dropout(pooled))[..., None, :]},
        )


class MobileViTStage(HybridStage):
    """Attention between pixels of equal phase; its map is joined with the stage's own by a 3 x 3 convolution."""

    def __init__(self, config: MobileViTConfig, number: int):
        super().__init__(config, number)
        self.fuse = Convolution(2 * config.channels[number], config.channels[number], 3)

    def layer(self, config: MobileViTConfig, width: int) -> TransformerLayer:
        """Multi-head attention of each phase and an MLP."""
        attention = MobileViT2d(width, config.heads, patch=tuple(config.patch))
        return TransformerLayer(
            attention, (self.norm_of(width), self.norm_of(width)), round(config.mlp * width), config.dropout
        )

    def norm_of(self, width: int) -> nn.Module:
        """Layer norm: each token by itself."""
        return nn.LayerNorm(width, eps=1e-5)

    def joined(self, before: Tensor, far: Tensor) -> Tensor:
        """A 3 x 3 convolution of both, stacked in this order."""
        return self.fuse(torch.cat([before, far], -3))


class MobileViT(Hybrid):
    """Convolutions shrink the picture; between them, attention joins pixels of equal phase across the whole of it."""

    stage = MobileViTStage


@lru_cache(maxsize=64)
def stage_tokens(rows: int, columns: int, stream: str) -> Tokens:
    """The pixels of one stage's grid as tokens."""
    return Tokens.patches(rows, columns, stream=stream)
