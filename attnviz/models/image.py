"""A network for pictures with what surrounds it: its input preparation, its classes, its digest."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar, cast

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image, ImageOps
from torch import Tensor

from attnviz.attention import POSITIONS, VARIANTS, Variant
from attnviz.models.layers import Block
from attnviz.models.nets import Network, Shape
from attnviz.models.pictures import picture_from
from attnviz.models.requests import input_of
from attnviz.models.vit import ViT, ViTConfig, grid_tokens
from attnviz.types import Edit, LayerParts, ModelSpec, PatchProjection, Request, Sample, Tokens, Trace, UnsupportedMask

SIZES = (1, 2, 4, 8)  # times its own size that a vision transformer can read
Opened = TypeVar("Opened", bound="Classifier")
EVERYTHING: frozenset[Request] = frozenset(
    {"embeddings", "keep_tokens", "positions", "ablated_heads", "blocked_edges", "residuals"}
)


@dataclass(frozen=True)
class Crop:
    """Which square of a picture a network sees: the largest in its middle, a smaller one, or one elsewhere.

    Raises ValueError for a zoom below 1 or a place outside of the picture.
    """

    zoom: float = 1.0  # how many times smaller than the largest square its side is
    across: float = 0.5  # 0 = at the left edge, 1 = at the right edge
    down: float = 0.5  # 0 = at the upper edge, 1 = at the lower edge

    def __post_init__(self) -> None:
        if not (self.zoom >= 1 and 0 <= self.across <= 1 and 0 <= self.down <= 1):
            raise ValueError(f"{self} has a zoom below 1, or a place outside of 0 to 1")

    def box(self, width: int, height: int) -> tuple[int, int, int, int]:
        """The square in a picture of this size, in pixels: left, top, right, bottom."""
        side = max(1, round(min(width, height) / self.zoom))
        left, top = int((width - side) * self.across), int((height - side) * self.down)
        return left, top, left + side, top + side


CENTER_CROP = Crop()


@dataclass(frozen=True)
class Preparation:
    """How a picture becomes pixels the network reads."""

    size: int  # pixels per side
    mean: tuple[float, ...]  # one per channel, of pixels in 0..1
    std: tuple[float, ...]
    invert: bool = False  # turn dark ink on a light ground into light ink on a dark one
    jpeg: int | None = None  # quality at which the small picture is coded, as those were that it learned from

    def picture(self, raw: Image.Image, framing: Crop = CENTER_CROP, size: int | None = None) -> Image.Image:
        """The picture the network sees in its own channels, at its own size or at `size` pixels a side."""
        grey = len(self.mean) == 1
        square = raw.convert("L" if grey else "RGB").crop(framing.box(*raw.size))
        small = downscale(square, size or self.size)
        if self.invert and np.asarray(small).mean() > 127:
            small = ImageOps.invert(small)
        return small if self.jpeg is None else jpeg_coded(small, self.jpeg)

    def pixels(self, picture: Image.Image) -> Float[Tensor, "channel height width"]:
        """Normalised pixels: about zero mean and unit deviation over the training pictures."""
        values = np.asarray(picture, dtype=np.float32) / 255
        values = values[..., None] if values.ndim == 2 else values
        return torch.from_numpy((values - self.mean) / self.std).float().permute(2, 0, 1)


def honoured(variant: str) -> frozenset[Request]:
    """The fields of an Edit that a network of plain blocks takes: some variants support no removal, or no cut edge."""
    supported = VARIANTS[variant].supported_masks
    missing: set[Request] = set()
    if "key_padding" not in supported:
        missing.add("keep_tokens")
    if "keep" not in supported:
        missing.add("blocked_edges")
    return EVERYTHING - missing


class Classifier:
    """A trained network of any kind, opened: give it a picture, get everything it computed."""

    modality = "image"
    tokenizer = None
    input_embeddings: Tensor | None = None  # pixels are projected, not looked up

    def __init__(
        self,
        name: str,
        network: Network,
        preparation: Preparation,
        classes: Sequence[str],
        groups: Sequence[str],
        *,
        title: str = "",
        digest: str | None = None,
        facts: dict[str, Any] | None = None,
    ):
        if network.config.classes != len(classes) or len(classes) != len(groups):
            raise ValueError(f"{network.config.classes} outputs but {len(classes)} classes and {len(groups)} groups")
        self.name, self.title = name, title or name
        self._network = network.eval().requires_grad_(False)
        self.preparation = preparation
        self.classes, self.superclasses = tuple(classes), tuple(groups)
        self.digest = digest or digest_of(network)
        self.facts = facts or {}

    @property
    def network(self) -> Network:
        """The network, which does not learn any more."""
        return self._network

    @property
    def config(self) -> Shape:
        """The shape of the network."""
        return self.network.config

    @property
    def spec(self) -> ModelSpec:
        """What a page may know of it."""
        config = self.config
        return ModelSpec(
            "image",
            config.layers,
            self.heads,
            config.width,
            None,
            patch_size=config.patch,
            input_size=(config.size, config.size),
            variant=config.variant,
            positions=getattr(config, "positions", ""),
            answer_from=self.answer_from,
            honours=self.honours,
            input_sizes=self.input_sizes,
        )

    @property
    def input_sizes(self) -> tuple[int, ...]:
        """Pixels per side of the squares it can read; () where that is its own size only."""
        return ()

    @property
    def heads(self) -> int:
        """How many heads every layer has; some variants have one, whatever they are asked for."""
        first = next(module for module in self.network.modules() if isinstance(module, Variant))
        return first.heads

    @property
    def answer_from(self) -> str:
        """What the class is read from, in words."""
        return "CLS" if getattr(self.config, "pooling", "mean") == "cls" else "the mean of all patches"

    @property
    def honours(self) -> frozenset[Request]:
        """What it can be asked in a call."""
        return honoured(self.config.variant) if self.network.removable else frozenset({"ablated_heads"})

    @property
    def outputs(self) -> Mapping[str, Sequence[str]]:
        """The labels of its one output."""
        return {"class": self.classes}

    @property
    def patch_projection(self) -> PatchProjection | None:
        """The linear map from pixels to the embedding of a patch; None where convolutions come first."""
        return None

    @property
    def record(self) -> str:
        """How often it is right on pictures it has not seen, in words; empty where nobody has measured it."""
        facts = self.facts
        if not {"held_out", "top1", "top5"} <= facts.keys():
            return ""
        told = f"Of {facts['held_out']:,} held-out pictures it classified {facts['top1']:.1f}\u00a0% correctly"
        told += f", {facts['top5']:.1f}\u00a0% within its top five classes"
        if len(set(self.superclasses)) > 1 and "superclass_summed" in facts:
            told += f"; the likeliest superclass was correct for {facts['superclass_summed']:.1f}\u00a0%"
        return f"{told}."

    @property
    def device(self) -> torch.device:
        """Where the network computes."""
        return self.network.classify.weight.device

    def to(self: Opened, device: torch.device | str) -> Opened:
        """This model on another device."""
        self.network.to(device)
        return self

    def prepare(self, raw: object, framing: Crop = CENTER_CROP, size: int | None = None) -> Sample:
        """A picture as a Sample: one square of it, the network's size or one of `input_sizes`, normalised.

        `raw` is a PIL image, a path, the bytes of a file, an open binary file, a numpy array [height width] or
        [height width channel], or a torch tensor [channel height width]; arrays and tensors are uint8, or floats in 0
        to 1, of one channel, three, or four with transparency. Each is read as the app reads an upload
        (`pictures.py`); `crop` counts in pixels of what comes of it: upright, no side above 2048. Raises ValueError for
        a size that the network cannot read.
        """
        size = size or self.config.size
        if size not in (self.config.size, *self.input_sizes):
            raise ValueError(f"{self.name} reads {self.input_sizes or self.config.size} pixels a side, not {size}")
        picture = picture_from(channels_last(raw) if isinstance(raw, Tensor) else raw)
        image = self.preparation.picture(picture, framing, size)
        pixels = self.preparation.pixels(image)
        side = size // self.config.patch
        return Sample(
            digest=hashlib.sha256(pixels.numpy().tobytes()).hexdigest(),
            inputs={"main": pixels},
            tokens={"main": grid_tokens(side, side, self.config.prefix)},
            image=image,
            crop=framing.box(*picture.size),
        )

    def __call__(self, sample: Sample, *, edit: Edit | None = None) -> Trace:
        """One forward pass, changed by `edit`. Gradients flow only from its `embeddings`, where they ask for them."""
        like = self.network.classify.weight
        pixels = input_of(sample, picture=True).to(like.device, like.dtype)
        return replace(self.network(pixels, edit=edit), sample=sample)

    def logits_from(
        self,
        residual: Float[Tensor, "*batch token feature"],
        *,
        output: str | None = None,
        pooling: Float[Tensor, "*batch token"] | None = None,
    ) -> Float[Tensor, "*batch row class"]:
        """Class logits of a residual at any layer, by the network's own pooling or that of a trace."""
        if pooling is None:
            pooling = self.network.pooling_weights(self.tokens_of(residual), residual)
        return self.network.logits_from(residual, pooling)[..., None, :]

    def layer(
        self, index: int, residual: Float[Tensor, "*batch token feature"], **options: Any
    ) -> Float[Tensor, "*batch token feature"]:
        """The residual after layer `index`, given the residual before it."""
        return self.network.layer(index, residual, tokens=self.tokens_of(residual), **options)[0]

    def layer_parts(self, index: int) -> LayerParts:
        """Layer `index` without its mixing. Raises UnsupportedMask where attention stands between convolutions."""
        block = self.network.blocks[index]
        if not isinstance(block, Block):
            raise UnsupportedMask(self.title, "its attention stands between convolutions, so a layer is no such block")
        return block.parts()

    def tokens_of(self, residual: Float[Tensor, "*batch token feature"]) -> Tokens:
        """The tokens of a residual, by their number: those of the grid of one of the sizes that it can read.

        Raises ValueError for any other number of tokens.
        """
        for size in self.input_sizes or (self.config.size,):
            side = size // self.config.patch
            if residual.shape[-2] == side * side + len(self.config.prefix):
                return grid_tokens(side, side, self.config.prefix)
        side = self.config.size // self.config.patch
        raise ValueError(f"residual has {residual.shape[-2]} tokens, expected {side * side + len(self.config.prefix)}")


class ImageModel(Classifier):
    """A trained vision transformer, opened: what the pages read."""

    @property
    def network(self) -> ViT:
        """The network, which does not learn any more."""
        return cast(ViT, self._network)

    @property
    def patch_projection(self) -> PatchProjection:
        """The linear map from the pixels of a patch to its embedding."""
        embed, side = self.network.embed, self.config.patch
        return PatchProjection(embed.weight.unflatten(-1, (self.config.channels, side, side)), embed.bias)

    @property
    def config(self) -> ViTConfig:
        """The shape of the network."""
        return self.network.config

    @property
    def input_sizes(self) -> tuple[int, ...]:
        """Its own size and up to eight times that, by bicubic interpolation of its position table (`resize_table`).

        () where no table can be interpolated: relative positions, and attention built for one number of tokens or grid.
        """
        attention = VARIANTS[self.config.variant]
        if POSITIONS[self.config.positions].relative or attention.requirements or attention.requires_order:
            return ()
        return tuple(self.config.size * times for times in SIZES)


def opened_as(network: Network) -> type[Classifier]:
    """What a network of this kind is opened as: pages read a vision transformer, scripts and tests any network."""
    return ImageModel if isinstance(network, ViT) else Classifier


def channels_last(pixels: Tensor) -> np.ndarray:
    """A tensor [channel height width] as an array [height width channel], or [height width] where there is one channel.

    Raises ValueError for any other shape.
    """
    if pixels.ndim != 3 or len(pixels) not in (1, 3, 4):
        raise ValueError(
            f"a tensor of a picture is [channel height width] of 1, 3 or 4 channels; got {tuple(pixels.shape)}"
        )
    pixels = pixels.detach().cpu()
    pixels = pixels.float() if pixels.is_floating_point() else pixels  # numpy has no bfloat16
    return (pixels[0] if len(pixels) == 1 else pixels.permute(1, 2, 0)).numpy()


def downscale(square: Image.Image, size: int) -> Image.Image:
    """A square picture at `size` pixels: by way of twice that, which leaves it as sharp as the training pictures."""
    if square.width <= size:
        return square.resize((size, size), Image.Resampling.BICUBIC)
    return square.resize((2 * size, 2 * size), Image.Resampling.LANCZOS).reduce(2)


def jpeg_coded(picture: Image.Image, quality: int) -> Image.Image:
    """The picture as it comes back from a JPEG file."""
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=quality)
    with Image.open(file) as coded:
        return coded.convert(picture.mode)


def digest_of(network: torch.nn.Module) -> str:
    """sha256 of the configuration and every parameter and buffer, names included.

    Variants can share parameters and differ in what they do with them.
    """
    total = hashlib.sha256(str(getattr(network, "config", "")).encode())
    for name, tensor in sorted(network.state_dict().items()):
        total.update(name.encode())
        total.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return total.hexdigest()
