"""Small networks in double precision to explain, and their forward passes written out with every map in the graph."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from attnviz.models import ViT, ViTConfig
from attnviz.models.image import ImageModel, Preparation
from attnviz.models.subwords import load_subwords
from attnviz.models.text import Reader, ReaderConfig, Translator, TranslatorConfig
from attnviz.models.text_model import TextModel
from attnviz.models.vit import grid_tokens
from attnviz.types import Sample

Pair = tuple[Any, Sample]  # a model and something it reads


def randomised(network: nn.Module, seed: int = 0) -> Any:
    """The network in float64 with random biases and norms, so that no term of a formula is zero or one."""
    generator = torch.Generator().manual_seed(seed)
    network = network.double().eval()
    with torch.no_grad():
        for parameter in network.parameters():
            noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            parameter.add_(0.2 * noise if parameter.ndim == 1 else 0.05 * noise)
    return network


def picture_model(grid: tuple[int, int] = (4, 4), seed: int = 0, batch: tuple[int, ...] = (), **shape: Any) -> Pair:
    """A vision transformer of three layers and a picture of noise whose patches are this grid."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = ViT(
            ViTConfig(**({"size": 16, "patch": 4, "width": 24, "layers": 3, "heads": 4, "classes": 5} | shape))
        )
    network = randomised(network, seed)
    names = [str(i) for i in range(5)]
    model = ImageModel("small", network, Preparation(16, (0.0,) * 3, (1.0,) * 3), names, names)
    generator = torch.Generator().manual_seed(seed + 1)
    pixels = torch.randn(*batch, 3, 4 * grid[0], 4 * grid[1], generator=generator, dtype=torch.float64)
    return model, Sample("small", {"main": pixels}, {"main": grid_tokens(*grid, network.config.prefix)})


def text_model(text: str = "the cat sleeps all day", seed: int = 0, **shape: Any) -> Pair:
    """An encoder or decoder of two layers over subword tokens, and a text."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = Reader(ReaderConfig(**({"width": 24, "layers": 2, "heads": 4, "context_length": 24} | shape)))
    model = TextModel("small-text", randomised(network, seed), load_subwords())
    return model, model.prepare(text)


def translator(seed: int = 0, layers: int = 2) -> Translator:
    """An encoder-decoder whose parameters ask for gradients, so that its traces have a graph."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = Translator(TranslatorConfig(width=24, layers=layers, heads=4, vocabulary=30, context_length=12))
    return randomised(network, seed)


@dataclass
class Dense:
    """A forward pass with every map as a tensor of the graph."""

    maps: list[Tensor]  # [head query key], in the order of the calls
    residuals: list[Tensor]
    logits: Tensor  # [row class]

    def gradients(self, y: Tensor) -> list[Tensor]:
        """d y / d map of every layer, by autograd."""
        return list(torch.autograd.grad(y, self.maps, retain_graph=True))


def attend(module: Any, x: Tensor, context: Tensor, allowed: Tensor, maps: list[Tensor]) -> Tensor:
    """Multi-head attention by its formula; its map is appended."""
    query, key, value = (
        made(source).unflatten(-1, (module.heads, -1)).transpose(-2, -3)
        for made, source in ((module.query, x), (module.key, context), (module.value, context))
    )
    scores = query @ key.transpose(-1, -2) / query.shape[-1] ** 0.5
    maps.append(scores.masked_fill(~allowed, float("-inf")).softmax(-1))
    return module.out((maps[-1] @ value).transpose(-2, -3).flatten(-2))


def dense(blocks: Any, x: Tensor, answer: Callable[[Tensor], Tensor], allowed: Tensor | None = None) -> Dense:
    """Pre-norm blocks of self-attention and MLP over a residual [token feature]."""
    maps, residuals = list[Tensor](), [x.detach().clone().requires_grad_()]
    allowed = torch.ones(x.shape[-2], x.shape[-2], dtype=torch.bool) if allowed is None else allowed
    for block in blocks:
        x, normed = residuals[-1], block.attention_norm(residuals[-1])
        x = x + attend(block.attention, normed, normed, allowed, maps)
        residuals.append(x + block.mlp(block.mlp_norm(x)))
    return Dense(maps, residuals, answer(residuals[-1]))


def dense_picture(model: Any, sample: Sample, keep: Tensor | None = None) -> Dense:
    """The forward pass of a `picture_model`, read from CLS or from the mean of the kept patches."""
    network, count = model.network, len(sample.tokens["main"])
    keep = torch.ones(count, dtype=torch.bool) if keep is None else keep
    with torch.no_grad():
        start = model(sample).residuals["main"][0]

    def answer(x: Tensor) -> Tensor:
        return network.classify(pooled_by(network, keep) @ network.norm(x))[None]

    return dense(network.blocks, start, answer, keep.expand(count, count))


def pooled_by(network: Any, keep: Tensor) -> Tensor:
    """The weights of the final tokens [token], written out."""
    prefix = len(network.config.prefix)
    share = torch.zeros(len(keep), dtype=torch.float64)
    share[slice(0, 1) if network.config.pooling == "cls" else slice(prefix, None)] = 1
    share = share * keep
    return share / share.sum()


def dense_text(model: Any, sample: Sample) -> Dense:
    """The forward pass of a `text_model`, its answer for every token."""
    network, count = model.network, len(sample.tokens["main"])
    with torch.no_grad():
        start = model(sample).residuals["main"][0]
    allowed = torch.ones(count, count, dtype=torch.bool)
    return dense(
        network.blocks,
        start,
        lambda x: network.pieces.unembed(network.norm(x)),
        allowed.tril() if network.config.causal else allowed,
    )
