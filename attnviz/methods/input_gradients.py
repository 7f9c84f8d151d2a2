"""Gradients with respect to the token embeddings: times the input, along a path from a baseline, under noise.

The features of a token are its embedding before positions are added. CLS, registers and other special tokens are the
same for every input, so a baseline and noise leave them as they are.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from attnviz.methods.base import Option, Progress, differentiable, outside, repeat, tokens_of
from attnviz.methods.gradients import source_of
from attnviz.targets import asked, score_of
from attnviz.types import Model, NoTokenMap, Sample, Target, Trace, UnsupportedMask, at_least_float32, unrounded

TOGETHER = 8  # changed inputs that are computed at a time
PER_TOKEN = {"sum": "Sum", "norm": "Length (L2)"}
BASELINES = {"zero": "Zero", "mean": "Mean"}
WHY_PER_TOKEN = (
    "How the numbers of a token's features become one. Their sum has a sign; their length says how much there is of "
    "either sign."
)


def per_token_option(default: str) -> Option:
    """How features become one number for each token."""
    return Option("per_token", "Per token", "choice", default, WHY_PER_TOKEN, PER_TOKEN)


TIMES_INPUT = (per_token_option("sum"),)
INTEGRATED = (
    per_token_option("sum"),
    Option(
        "baseline",
        "Baseline",
        "choice",
        "zero",
        "Where the path starts: every patch or word with an embedding of zero, or with the mean of all in this input. "
        "CLS and other special tokens stay.",
        BASELINES,
    ),
    Option("steps", "Steps", "number", 20, "Points on the path; with more of them, the sum is closer.", range=(5, 100)),
)
SMOOTHGRAD = (
    per_token_option("norm"),
    Option(
        "noise",
        "Noise",
        "share",
        0.15,
        "Standard deviation of the noise, as a share of the range of the embeddings.",
        range=(0.0, 0.5),
    ),
    Option("samples", "Samples", "number", 16, "Noisy copies whose gradients are averaged.", range=(4, 64)),
    Option(
        "seed", "Seed", "number", 0, "Another seed draws other noise: what changes with it is noise.", range=(0, 99)
    ),
)


class Integrated(NamedTuple):
    """Integrated gradients with what they should add up to."""

    features: Float[Tensor, "*batch token feature"]
    change: Float[Tensor, "*batch"]  # score of the input minus that of the baseline

    @property
    def error(self) -> Float[Tensor, "*batch"]:
        """How far the sum over all tokens is from the change of the score (completeness)."""
        return self.features.sum((-1, -2)) - self.change


def explain_times_input(
    model: Model,
    sample: Sample,
    target: Target | None = None,
    *,
    trace: Trace | None = None,
    per_token: str = "sum",
    stream: str | None = None,
) -> Float[Tensor, "*batch token"]:
    """Input times gradient multiplies every embedding by the gradient of the score: what it adds, to first order.

    It is exact for a linear model. A network is not, and where the score saturates, gradients are small though the
    token matters (Shrikumar et al. 2016, arXiv 1605.01713).
    """
    trace = differentiable(model, sample, trace)
    stream = stream or source_of(trace)
    content = trace.token_embeddings.get(stream)
    if content is None or not content.requires_grad:
        raise NoTokenMap(f"the stream {stream!r} has no token embeddings that the answer has a gradient for")
    with torch.enable_grad(), unrounded(content.device):
        (slope,) = torch.autograd.grad(score_of(trace, target).sum(), content, retain_graph=True)
    return reduced(at_least_float32(content.detach()) * at_least_float32(slope), per_token)


def explain_integrated(
    model: Model,
    sample: Sample,
    target: Target | None = None,
    *,
    trace: Trace | None = None,
    per_token: str = "sum",
    baseline: str = "zero",
    steps: int = 20,
    progress: Progress | None = None,
) -> Float[Tensor, "*batch token"]:
    """Integrated gradients average the gradient along the way from a baseline to the input, times the difference.

    Summed over all tokens they give the score of the input minus that of the baseline, up to the error of counting
    finitely many steps (Sundararajan et al. 2017, eq. 1). The baseline decides what counts as absent, and is stated.
    """
    found = integrate(model, sample, target, trace=trace, baseline=baseline, steps=steps, progress=progress)
    return reduced(found.features, per_token)


def explain_smoothgrad(
    model: Model,
    sample: Sample,
    target: Target | None = None,
    *,
    trace: Trace | None = None,
    per_token: str = "norm",
    noise: float = 0.15,
    samples: int = 16,
    seed: int = 0,
    progress: Progress | None = None,
) -> Float[Tensor, "*batch token"]:
    """SmoothGrad averages the gradient over copies of the input with noise, so that what is left is not chance.

    It is the gradient of the score alone, not times the input: how strongly the score reacts to a token, and not what
    the token adds to it (Smilkov et al. 2017, arXiv 1706.03825). The noise is drawn from a seed.
    """
    trace = differentiable(model, sample, trace)
    content = inputs_of(model, trace)
    drawn = draw_noise(trace, content, noise, samples, seed)
    parts = [slopes.sum(0) for slopes in slopes_at(model, sample, trace, target, content + drawn, progress)]
    return reduced(torch.stack(parts).sum(0) / samples, per_token)


def integrate(
    model: Model,
    sample: Sample,
    target: Target | None = None,
    *,
    trace: Trace | None = None,
    baseline: str = "zero",
    steps: int = 20,
    progress: Progress | None = None,
) -> Integrated:
    """Integrated gradients of every feature, by Gauss-Legendre points on the path, and the change of the score.

    Raises ValueError for an unknown baseline or less than one step, UnsupportedMask for a model without embeddings.
    """
    if steps < 1:
        raise ValueError(f"steps is {steps}; expected 1 or more")
    trace = differentiable(model, sample, trace)
    content, score = inputs_of(model, trace), asked(trace, target)
    start = baseline_of(trace, content, baseline)
    points, weights = (
        torch.from_numpy(numbers).to(at_least_float32(content)) for numbers in np.polynomial.legendre.leggauss(steps)
    )
    way = ((1 + points) / 2).view(-1, *[1] * content.ndim)
    path = start + way.to(content.dtype) * (content - start)
    slopes = torch.cat(list(slopes_at(model, sample, trace, target, path, progress)))
    mean = torch.tensordot(weights / 2, slopes, 1)
    before = score.of(repeat(model, sample, trace, start).logits[score.output]).detach()
    change = score.of(trace.logits[score.output]).detach() - before
    return Integrated(mean * at_least_float32(content - start), change)


def inputs_of(model: Model, trace: Trace) -> Float[Tensor, "*batch token feature"]:
    """The token embeddings that a model can be given others for. Raises UnsupportedMask where there are none."""
    content = next(iter(trace.token_embeddings.values()), None)
    if content is None or "embeddings" not in model.spec.honours:
        raise UnsupportedMask(model.title, "it takes no embeddings, so it cannot be given changed ones")
    return content.detach()


def slopes_at(
    model: Model,
    sample: Sample,
    trace: Trace,
    target: Target | None,
    copies: Float[Tensor, "copy *batch token feature"],
    progress: Progress | None = None,
) -> Iterator[Float[Tensor, "part *batch token feature"]]:
    """The gradient of the score by each of these embeddings, some at a time; of the class of the unchanged input."""
    score, done = asked(trace, target), 0
    for part in copies.split(TOGETHER):
        part = part.detach().clone().requires_grad_()
        logits = repeat(model, sample, trace, part).logits[score.output]
        with torch.enable_grad(), unrounded(part.device):
            (slopes,) = torch.autograd.grad(score.of(logits).sum(), part)
        done += len(part)
        if progress is not None:
            progress(done / len(copies))
        yield at_least_float32(slopes)


def inside_of(trace: Trace, content: Tensor) -> Float[Tensor, "token 1"]:
    """1 for every patch or word, 0 for CLS and other special tokens."""
    return (~outside(tokens_of(trace, next(iter(trace.token_embeddings))))).to(content)[:, None]


def baseline_of(trace: Trace, content: Float[Tensor, "*batch token feature"], name: str) -> Tensor:
    """Embeddings without what the input says; special tokens stay. Raises ValueError for an unknown name."""
    inside = inside_of(trace, content)
    if name == "zero":
        return content * (1 - inside)
    if name == "mean":
        mean = (content * inside).sum(-2, keepdim=True) / inside.sum().clamp_min(1)
        return torch.where(inside > 0, mean, content)
    raise ValueError(f"baseline is {name!r}; known: {', '.join(BASELINES)}")


def draw_noise(
    trace: Trace, content: Float[Tensor, "*batch token feature"], noise: float, samples: int, seed: int
) -> Float[Tensor, "sample *batch token feature"]:
    """Normal noise on every patch or word, alike on every machine. Raises ValueError for options out of range."""
    if noise < 0 or samples < 1:
        raise ValueError(f"noise is {noise} and samples is {samples}; expected 0 or more and 1 or more")
    random = torch.Generator().manual_seed(seed)
    drawn = torch.randn(samples, *content.shape, generator=random, dtype=torch.float32).to(content)
    return drawn * noise * (content.amax((-1, -2), True) - content.amin((-1, -2), True)) * inside_of(trace, content)


def reduced(features: Float[Tensor, "*batch token feature"], how: str) -> Float[Tensor, "*batch token"]:
    """One number for each token: the sum of its features, or their length. Raises ValueError for another name."""
    if how not in PER_TOKEN:
        raise ValueError(f"per token is {how!r}; known: {', '.join(PER_TOKEN)}")
    return features.sum(-1) if how == "sum" else features.norm(dim=-1)
