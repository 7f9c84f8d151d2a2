"""Controls: maps that know nothing of the network. A method that does not beat them explains nothing.

They are shown beside every score, never offered as explanations. To add one: a function and one line in CONTROLS.
"""

from __future__ import annotations

import hashlib

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from attnviz.methods.base import outside, traced
from attnviz.types import Model, NoTokenMap, Sample, Target, Tokens, Trace


def random(
    model: Model, sample: Sample, target: Target | None = None, *, trace: Trace | None = None, seed: int = 0
) -> Float[Tensor, "*batch token"]:
    """Random relevance, drawn for every input from its digest and a seed: what an order without knowledge scores."""
    tokens = tokens_of(sample)
    drawn = hashlib.sha256(f"{sample.digest} {seed}".encode()).digest()[:7]
    generator = torch.Generator().manual_seed(int.from_bytes(drawn, "big"))
    return placed(torch.rand(len(tokens), generator=generator), tokens, traced(model, sample, trace))


def centre(
    model: Model, sample: Sample, target: Target | None = None, *, trace: Trace | None = None
) -> Float[Tensor, "*batch token"]:
    """The middle of the picture, falling off as a Gaussian of a quarter of its side; of a text, the middle words."""
    tokens = tokens_of(sample)
    rows, columns = tokens.grid or (1, len(tokens))
    down, across = ((torch.arange(n) + 0.5) / n - 0.5 for n in (rows, columns))
    down = down if tokens.grid else torch.zeros(1)
    bell = torch.exp(-(down[:, None].square() + across.square()) / (2 * 0.25**2)).flatten()
    bell = torch.cat([torch.zeros(tokens.prefix), bell]) if tokens.grid else bell
    return placed(bell, tokens, traced(model, sample, trace))


def edges(
    model: Model, sample: Sample, target: Target | None = None, *, trace: Trace | None = None
) -> Float[Tensor, "*batch token"]:
    """How many edges a patch holds: the mean strength of the picture's gradient (Sobel) over its pixels."""
    tokens, pixels = tokens_of(sample), next(iter(sample.inputs.values()))
    if tokens.grid is None or not pixels.is_floating_point():
        raise NoTokenMap("A text has no edges; this control is for pictures")
    grey = pixels.float().cpu().mean(-3, keepdim=True)
    grey = F.pad(grey[None] if grey.ndim == 3 else grey, (1, 1, 1, 1), mode="replicate")
    sobel = torch.tensor([[-1.0, 0, 1], [-2, 0, 2], [-1, 0, 1]])
    strength = torch.hypot(*(F.conv2d(grey, kernel[None, None]) for kernel in (sobel, sobel.T)))
    patches = F.adaptive_avg_pool2d(strength, tokens.grid).flatten(-3)
    patches = patches[0] if pixels.ndim == 3 else patches
    prefix = torch.zeros(*patches.shape[:-1], tokens.prefix)
    return placed(torch.cat([prefix, patches], -1), tokens, traced(model, sample, trace))


def tokens_of(sample: Sample) -> Tokens:
    """The tokens of an input."""
    return next(iter(sample.tokens.values()))


def placed(relevance: Float[Tensor, "*batch token"], tokens: Tokens, trace: Trace) -> Float[Tensor, "*wider token"]:
    """Relevance with nothing on special tokens, in the batch of a trace and where that is."""
    like = next(iter(trace.pooling.values()))
    found = relevance.masked_fill(outside(tokens), 0).to(like.device)
    return found.expand(*torch.broadcast_shapes(found.shape, like.shape))
