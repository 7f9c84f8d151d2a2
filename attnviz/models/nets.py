"""Residual networks whose last blocks attend: convolutions see near, attention between 1 x 1 convolutions sees far.

With "botnet2d" in the bottleneck it is a bottleneck transformer (Srinivas et al. 2021, arXiv 2101.11605), with "axial"
an axial network (Wang et al. 2020, arXiv 2003.07853); any variant fits that reads a grid of cells. To add a kind of
network: its shape and class in Shape, Network, SHAPES and `built`, at the end of this file.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from attnviz.attention import VARIANTS
from attnviz.models.convolutions import Convolution, to_map, to_tokens
from attnviz.models.mobilevit import stage_tokens
from attnviz.models.requests import fitted, widened
from attnviz.models.vit import ViT, ViTConfig
from attnviz.types import AttentionCall, Edit, Request, Tokens, Trace, UnsupportedMask


@dataclass(frozen=True)
class BottleneckConfig:
    """The shape of a small residual network with attention; as it stands, a BoTNet for digits of 8 x 8 pixels."""

    size: int = 8  # pixels per side of the picture it is made for
    channels: int = 1  # of the picture
    width: int = 48  # channels of the feature map: what every block adds to
    inner: int = 32  # features inside a bottleneck, where attention works
    near: int = 1  # blocks of two 3 x 3 convolutions before the bottlenecks
    stride: int = 1  # of the stem
    strides: Sequence[int] = (1, 1)  # of each bottleneck: 2 takes the mean of 2 x 2 cells after the attention
    heads: int = 4
    variant: str = "botnet2d"
    options: Mapping[str, Any] = field(default_factory=dict)  # of the variant
    classes: int = 10

    def __post_init__(self):
        object.__setattr__(self, "strides", tuple(self.strides))  # a list, when it comes from a file
        if self.variant not in VARIANTS:
            raise ValueError(f"variant is {self.variant!r}; known: {', '.join(VARIANTS)}")
        if wrong := [stride for stride in (self.stride, *self.strides) if stride not in (1, 2)]:
            raise ValueError(f"a stride is {wrong[0]}; it must be 1 or 2")
        if not self.strides:
            raise ValueError("strides is empty; there must be one for each bottleneck")
        self.tokens(self.size, self.size)

    @property
    def layers(self) -> int:
        """Bottlenecks, each of which attends once."""
        return len(self.strides)

    @property
    def patch(self) -> int:
        """Pixels per side of the picture for each cell that the answer is read from."""
        return self.stride * prod(self.strides)

    @property
    def prefix(self) -> tuple[str, ...]:
        """Labels of tokens that are no cells: there are none."""
        return ()

    @property
    def pooling(self) -> str:
        """What the answer is read from."""
        return "mean"

    def tokens(self, height: int, width: int) -> list[Tokens]:
        """The cells each bottleneck reads, and those the last one leaves. Raises ValueError for sizes that fail.

        Those the answer is read from are the stream "main"; grids before a stride have streams of their own.
        """
        if min(height, width) < self.patch or height % self.patch or width % self.patch:
            raise ValueError(
                f"a picture of {width} x {height} px does not divide by the product of strides, {self.patch}"
            )
        rows, columns, named = height // self.stride, width // self.stride, []
        for left in [self.strides[index:] for index in range(self.layers + 1)]:
            stream = "main" if prod(left) == 1 else f"grid {rows} x {columns}"
            named.append(stage_tokens(rows, columns, stream))
            rows, columns = (side // left[0] if left else side for side in (rows, columns))
        return named


BOTNET = BottleneckConfig()
AXIALNET = BottleneckConfig(variant="axial", options={"terms": ("q", "k", "v")})
NETS: dict[str, BottleneckConfig] = {"botnet": BOTNET, "axialnet": AXIALNET}


class Residual(nn.Module):
    """Two 3 x 3 convolutions, added to what came in (He et al. 2016)."""

    def __init__(self, width: int):
        super().__init__()
        self.first, self.second = (Convolution(width, width, 3, active=False) for _ in range(2))

    def forward(self, x: Float[Tensor, "*batch channel row column"]) -> Float[Tensor, "*batch channel row column"]:
        """ReLU of x + f(x)."""
        return F.relu(x + self.second(F.relu(self.first(x))))


class Bottleneck(nn.Module):
    """Fewer features by 1 x 1, attention between all cells, back by 1 x 1, added to what came in.

    Srinivas et al. 2021, fig. 3: the 3 x 3 convolution of a residual block replaced by attention; where the block has a
    stride, the mean over 2 x 2 cells follows. Every convolution and the attention are batch-normalised. Unlike there,
    the attention ends in its output projection, as everywhere in this house. A branch that gives zero leaves x as it
    is, since the ReLU after the sum has nothing to cut: x comes out of one.
    """

    def __init__(self, config: BottleneckConfig, tokens: Tokens, stride: int):
        super().__init__()
        self.stride = stride
        self.narrow = Convolution(config.width, config.inner, 1, active=False)
        self.attention = VARIANTS[config.variant](config.inner, config.heads, tokens=tokens, **config.options)
        self.norm = nn.BatchNorm1d(config.inner)
        self.widen = Convolution(config.inner, config.width, 1, active=False)
        self.shortcut = Convolution(config.width, config.width, 1, stride=stride, active=False) if stride > 1 else None

    def forward(
        self, x: Float[Tensor, "*batch channel row column"], **options: Any
    ) -> tuple[Float[Tensor, "*batch channel new_row new_column"], tuple[AttentionCall, ...]]:
        """ReLU of x + f(x), and the attention calls."""
        narrow = F.relu(self.narrow(x))
        mixed, calls = self.attention(to_tokens(narrow), **options)
        y = pooled(to_map(mixed, (x.shape[-2], x.shape[-1])), self.stride)
        cells = to_tokens(y)
        normed = self.norm(cells.reshape(-1, cells.shape[-1])).reshape(cells.shape)  # torch wants one batch axis here
        y = self.widen(F.relu(to_map(normed, (y.shape[-2], y.shape[-1]))))
        return F.relu((x if self.shortcut is None else self.shortcut(x)) + y), calls


class BottleneckNet(nn.Module):
    """Blocks of convolutions, then bottlenecks whose cells attend to each other; the mean of all cells answers."""

    removable = False  # every cell has seen its neighbours by convolution: none can be taken away alone

    def __init__(self, config: BottleneckConfig):
        super().__init__()
        self.config = config
        self.stem = Convolution(config.channels, config.width, 3, stride=config.stride, active=False)
        self.near = nn.Sequential(*(Residual(config.width) for _ in range(config.near)))
        tokens = config.tokens(config.size, config.size)
        self.blocks = nn.ModuleList(
            Bottleneck(config, cells, stride) for cells, stride in zip(tokens, config.strides, strict=False)
        )
        self.classify = nn.Linear(config.width, config.classes)
        self.initialise()

    def initialise(self) -> None:
        """Convolutions as He et al. 2015, by outputs; linear layers at 1/root(inputs); the classifier small."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            elif isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=module.in_features**-0.5)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        self.classify.weight.data *= 0.1

    def forward(
        self,
        pixels: Float[Tensor, "*batch channel height width"],
        *,
        visible: Int[Tensor, "*batch patch"] | None = None,
        edit: Edit | None = None,
    ) -> Trace:
        """Everything one pass records; logits["class"] is [*batch 1 class].

        An `edit` may ablate heads; the rest, and `visible`, is refused in words: UnsupportedMask. Raises ValueError for
        sizes the strides do not divide, and for an edit that does not fit.
        """
        self.refuse(edit, visible)
        tokens = self.config.tokens(*pixels.shape[-2:])
        edit = fitted(edit, tokens=len(tokens[0]), layers=len(self.blocks), like=self.classify.weight)
        x = to_tokens(self.near(F.relu(self.stem(pixels))))
        residuals, calls = {tokens[0].stream: [x]}, []
        for index, after in enumerate(tokens[1:]):
            x, new = self.layer(index, x, tokens=tokens[index], ablation=edit.ablation(index))
            residuals.setdefault(after.stream, []).append(x)
            calls.extend(new)
        batch = x.shape[:-2]
        residuals = {
            stream: [one.expand(*batch, *one.shape[-2:]) for one in found] for stream, found in residuals.items()
        }
        pooling = self.pooling_weights(tokens[-1], x)
        return Trace(
            sample=None,
            token_embeddings={stream: cells[0] for stream, cells in residuals.items()},
            position_embeddings=dict.fromkeys(
                residuals
            ),  # it has none: convolutions and relative tables tell where things are
            calls=widened(calls, x),
            residuals={stream: tuple(cells) for stream, cells in residuals.items()},
            pooling={"main": pooling},
            logits={"class": self.logits_from(x, pooling)[..., None, :]},
        )

    def refuse(self, edit: Edit | None, visible: Tensor | None = None) -> None:
        """Say why a request cannot be met. Raises UnsupportedMask."""
        title = f"Residual network with {VARIANTS[self.config.variant].title.lower()}"
        asked = edit.requests if isinstance(edit, Edit) else frozenset[Request]()
        if "embeddings" in asked:
            raise UnsupportedMask(title, "its cells come out of convolutions, so it has no embeddings to replace")
        if visible is not None or "keep_tokens" in asked:
            raise UnsupportedMask(title, "each cell has seen its neighbours by convolution: none can be removed alone")
        if "positions" in asked:
            raise UnsupportedMask(title, "its convolutions tell where things are, so it has no positions to change")
        if asked & {"blocked_edges", "residuals"}:
            raise UnsupportedMask(title, "its layers read different grids, so no edge and no cell runs through all")

    def pooling_weights(
        self, tokens: Tokens, like: Tensor, keep_tokens: Tensor | None = None
    ) -> Float[Tensor, "*batch token"]:
        """How much each final cell feeds the answer: an equal share. Raises UnsupportedMask for `keep_tokens`."""
        self.refuse(None if keep_tokens is None else Edit(keep_tokens=keep_tokens))
        precision = torch.promote_types(like.dtype, torch.float32)  # half precision would round an equal share
        return torch.full(like.shape[:-1], 1 / len(tokens), dtype=precision, device=like.device)

    def layer(
        self, index: int, residual: Float[Tensor, "*batch token feature"], **options: Any
    ) -> tuple[Float[Tensor, "*batch new_token feature"], tuple[AttentionCall, ...]]:
        """One bottleneck: options tokens, mask, ablation (of this layer's heads)."""
        tokens = options.pop("tokens")
        named = {"queries": tokens, "name": f"layer {index + 1}", "layer": index}
        features, calls = self.blocks[index](to_map(residual, tokens.grid), **named, **options)
        return to_tokens(features), calls

    def logits_from(
        self, residual: Float[Tensor, "*batch token feature"], pooling: Float[Tensor, "*batch token"]
    ) -> Float[Tensor, "*batch class"]:
        """Class logits of a residual, at any layer (at an early one: the logit lens)."""
        return self.classify((pooling.to(residual.dtype)[..., None, :] @ residual)[..., 0, :])


def pooled(
    features: Float[Tensor, "*batch channel row column"], stride: int
) -> Float[Tensor, "*batch channel new_row new_column"]:
    """The mean of stride x stride cells."""
    if stride == 1:
        return features
    return features.unflatten(-1, (-1, stride)).unflatten(-3, (-1, stride)).mean((-3, -1))


Shape = ViTConfig | BottleneckConfig
Network = ViT | BottleneckNet
SHAPES: dict[str, type[ViTConfig] | type[BottleneckConfig]] = {"vit": ViTConfig, "bottleneck": BottleneckConfig}


def built(config: Shape) -> Network:
    """A fresh network of this shape."""
    return ViT(config) if isinstance(config, ViTConfig) else BottleneckNet(config)


def kind_of(config: Shape) -> str:
    """The name of this kind of shape in SHAPES."""
    return next(name for name, shape in SHAPES.items() if isinstance(config, shape))
