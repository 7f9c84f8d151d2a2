"""What tokens hand over to each other, written out as [query key feature] from a network's own matrices, in float64.

Tests of methods that follow vectors compare with it; it shares no code with them.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from attnviz.models import ViT, ViTConfig
from attnviz.types import AttentionCall, Edit, LayerParts, ModelSpec, Sample, Trace

SHAPES: dict[str, dict[str, Any]] = {
    "cls": {},
    "post-norm": {"norm_first": False},
    "registers": {"registers": 4},
    "no prefix": {"cls": False, "pooling": "mean"},
    "mqa": {"variant": "mqa"},
    "gqa": {"variant": "gqa", "norm_first": False},
    "signed": {"variant": "linformer", "size": 20},
    "gated by query": {"variant": "separable"},
}


class Opened:
    """A network and what it recorded, as a model."""

    name, title, digest, record, device = "opened", "Opened", "0", "", torch.device("cpu")
    facts, outputs, superclasses = {}, {"class": ("a", "b", "c")}, ()
    tokenizer = input_embeddings = patch_projection = None
    spec = ModelSpec("image", 2, 4, 16)
    to = prepare = logits_from = layer = staticmethod(lambda *given, **options: None)

    def __init__(self, network: ViT, trace: Trace):
        self.network, self.trace = network, trace
        self.sample = Sample("0", {}, {"main": trace.calls[0].queries})

    def __call__(self, sample: Sample, **options: Any) -> Trace:
        return self.trace

    def layer_parts(self, index: int) -> LayerParts:
        """Of the network."""
        return self.network.blocks[index].parts()


@torch.no_grad()
def opened(
    *, layers: int = 2, batch: tuple[int, ...] = (), seed: int = 0, pixels: tuple[int, int] = (12, 20), **shape: Any
) -> Opened:
    """A small network with random parameters, biases and norms, over 3 x 5 patches or as many as it needs."""
    edit = Edit(**{k: shape.pop(k) for k in ("keep_tokens", "ablated_heads") if k in shape})
    sides = (shape["size"],) * 2 if "size" in shape else pixels
    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        sizes = {"size": 12, "patch": 4, "width": 16, "layers": layers, "heads": 4, "classes": 3, "mlp": 2}
        network = ViT(ViTConfig(**{**sizes, **shape})).double().eval()
    for parameter in network.parameters():
        noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
        parameter.copy_(parameter + (0.3 if parameter.ndim == 1 else 0.1) * noise)
    network.requires_grad_(False)
    return Opened(network, network(torch.rand(*batch, 3, *sides, generator=generator, dtype=torch.float64), edit=edit))


def given(model: Opened, call: AttentionCall, item: tuple[int, ...] = ()) -> np.ndarray:
    """sum over heads of A_ij (x̂_j W_V + b_V) W_O, one pair and one head at a time [query key feature]."""
    block, maps = model.network.blocks[call.layer], call.token_map()[item].numpy()
    x = model.trace.residuals["main"][call.layer][item]
    value = block.attention.value(block.attention_norm(x) if block.norm_first else x).numpy()
    out = block.attention.out.weight.numpy()
    heads, queries, keys = maps.shape
    dim, kept = out.shape[1] // heads, np.ones(heads)
    if call.gate is not None and call.gate.shape[-2] == 1:
        kept = call.gate.reshape(heads, -1)[:, 0].numpy()
    found = np.zeros((queries, keys, len(out)))
    for h in range(heads):
        kv = h * (value.shape[-1] // dim) // heads
        found += np.einsum(
            "ij,jd,fd->ijf", kept[h] * maps[h], value[:, kv * dim : (kv + 1) * dim], out[:, h * dim : (h + 1) * dim]
        )
    return found


def with_residual(model: Opened, call: AttentionCall, item: tuple[int, ...] = ()) -> np.ndarray:
    """`given`, and each token's own residual on the diagonal."""
    found, x = given(model, call, item), model.trace.residuals["main"][call.layer][item].numpy()
    found[np.arange(len(x)), np.arange(len(x))] += x
    return found


def rolled(factors: list[np.ndarray], start: np.ndarray) -> np.ndarray:
    """The start times the row-normalised factors, last layer first; a row of zeros hands nothing on."""
    for factor in reversed(factors):
        sums = factor.sum(-1, keepdims=True)
        start = start @ np.where(sums == 0, np.eye(len(factor)), factor / np.where(sums == 0, 1, sums))
    return start
