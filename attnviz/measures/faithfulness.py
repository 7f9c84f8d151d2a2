"""Faithfulness of attribution maps: remove parts of an input in the order a map gives, and watch the answer.

A part is a patch or a word; CLS and other special tokens are never removed. The target class is the one explained and
stays fixed. Every score takes relevance [*map part], so that the maps of all methods of one input are scored together,
and works in float64. Removal by attention mask is in-distribution only for a model that was trained with it; fills
never are quite. No single score decides: they disagree (Hooker et al. 2019; Hesse et al. 2024; Wu et al. 2024).
To add a way of removing: a function that returns a Perturbation. To add a score: a function of one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from attnviz.edits import Edit
from attnviz.interventions import answers
from attnviz.targets import Score, asked
from attnviz.types import Model, Sample, Target, Tokens, Trace

BATCH = 64  # edited inputs in one forward pass
STEPS = 16  # of a curve, besides the clean input
GROUPS = 10  # of SaCo
SHARES = (0.01, 0.05, 0.1, 0.2, 0.5)  # removed for sufficiency and comprehensiveness (DeYoung et al. 2020)


@dataclass(frozen=True, eq=False)
class Perturbation:
    """An input whose parts can be removed, and the class that is watched."""

    logits: Callable[[Bool[Tensor, "edit part"]], Float[Tensor, "edit class"]]  # of what is left; True = stays
    parts: Int[Tensor, " token"]  # the part each token belongs to, -1 for tokens that always stay
    label: int  # the class that is watched

    @property
    def count(self) -> int:
        """How many parts there are."""
        return int(self.parts.max()) + 1

    def answers(self, keep: Bool[Tensor, "*edit part"]) -> Answers:
        """Logit and probability of the class for every edit, in one batch."""
        logits = self.logits(keep.reshape(-1, keep.shape[-1])).to(torch.float64)
        chosen = logits[:, self.label], logits.softmax(-1)[:, self.label]
        return Answers(*(values.reshape(keep.shape[:-1]) for values in chosen))


class Answers(NamedTuple):
    """The watched class after each edit."""

    logit: Float[Tensor, "*edit"]
    probability: Float[Tensor, "*edit"]


class Curve(NamedTuple):
    """The watched class as more and more is removed; the first point is the clean input."""

    removed: Float[Tensor, " step"]  # share of the parts, from 0 to 1
    logit: Float[Tensor, "*map step"]
    probability: Float[Tensor, "*map step"]


class Areas(NamedTuple):
    """Areas under both curves and between them; the curves of the least relevant first, mirrored, are insertion."""

    deletion: Float[Tensor, "*map"]  # most relevant first (MoRF): low is faithful
    insertion: Float[Tensor, "*map"]  # least relevant first (LeRF): high is faithful
    abpc: Float[Tensor, "*map"]  # LeRF - MoRF (Schulz et al. 2020): 0 for an order that knows nothing


def parts_of(tokens: Tokens) -> Int[Tensor, " token"]:
    """The part each token belongs to: patches by themselves, subword tokens by their word; -1 for special tokens."""
    if tokens.words is None:
        return torch.arange(len(tokens)).sub(tokens.prefix).clamp_min(-1)
    order = {word: part for part, word in enumerate(dict.fromkeys(w for w in tokens.words if w >= 0))}
    return torch.tensor([order.get(word, -1) for word in tokens.words])


def by_part(relevance: Float[Tensor, "*map token"], parts: Int[Tensor, " token"]) -> Float[Tensor, "*map part"]:
    """Relevance summed over the tokens of each part, in float64; that of special tokens is left out."""
    inside = parts >= 0
    total = torch.zeros(*relevance.shape[:-1], int(parts.max()) + 1, dtype=torch.float64, device=relevance.device)
    return total.index_add_(-1, parts[inside].to(relevance.device), relevance[..., inside].to(torch.float64))


def removal(
    model: Model,
    sample: Sample,
    target: Target | None = None,
    *,
    trace: Trace | None = None,
    parts: Int[Tensor, " token"] | None = None,
    batch: int = BATCH,
) -> Perturbation:
    """Parts removed by the attention mask: no query attends to them, and the answer is not read from them.

    `parts` None is what `parts_of` says of the tokens; the clean pass is run unless its `trace` is given.
    """
    parts = parts_of(next(iter(sample.tokens.values()))) if parts is None else parts
    score = watched(model, sample, target) if trace is None else asked(trace, target)

    @torch.no_grad()
    def logits(keep: Bool[Tensor, "edit part"]) -> Tensor:
        kept = torch.ones(len(keep), len(parts), dtype=torch.bool)
        kept[:, parts >= 0] = keep.cpu()[:, parts[parts >= 0]]
        found = answers(model, sample, Edit(keep_tokens=kept), output=score.output, batch=batch)
        return found[:, score.row].float().cpu()

    return Perturbation(logits, parts, int(score.label))


def filling(
    model: Model,
    sample: Sample,
    fill: Float[Tensor, "channel height width"],
    target: Target | None = None,
    *,
    batch: int = BATCH,
) -> Perturbation:
    """Patches replaced by those of another picture (see `mean_fill`, `blur_fill`). Raises ValueError for a text."""
    (stream, tokens), *_ = sample.tokens.items()
    side, pixels = model.spec.patch_size, sample.inputs[stream]
    if tokens.grid is None or side is None:
        raise ValueError("only a picture of patches can be filled; remove words by the attention mask")
    grid, score = tokens.grid, watched(model, sample, target)

    @torch.no_grad()
    def logits(keep: Bool[Tensor, "edit part"]) -> Tensor:
        found = []
        for some in keep.split(batch):
            stays = some.cpu().unflatten(-1, grid).repeat_interleave(side, -2).repeat_interleave(side, -1)
            filled = torch.where(stays[:, None], pixels.cpu(), fill.cpu())
            logits = model(replace(sample, inputs={stream: filled})).logits
            found.append(logits[score.output][..., score.row, :].float().cpu())
        return torch.cat(found)

    return Perturbation(logits, parts_of(tokens), int(score.label))


@torch.no_grad()
def watched(model: Model, sample: Sample, target: Target | None) -> Score:
    """The number that is watched: the target's class, or the one that the model predicts of the clean input."""
    return asked(model(sample), target)


def mean_fill(pixels: Float[Tensor, "channel height width"]) -> Float[Tensor, "channel height width"]:
    """The mean colour of the training pictures: 0, since pixels are normalised by it."""
    return torch.zeros_like(pixels)


def blur_fill(pixels: Float[Tensor, "channel height width"], sigma: float) -> Float[Tensor, "channel height width"]:
    """The picture itself, blurred by a Gaussian of this standard deviation in pixels, mirrored at its edges."""
    reach = min(int(3 * sigma), pixels.shape[-1] - 1, pixels.shape[-2] - 1)
    line = torch.exp(-0.5 * (torch.arange(-reach, reach + 1) / sigma).square())
    line = (line / line.sum()).to(pixels)
    padded = F.pad(pixels[None], (reach, reach, reach, reach), mode="reflect")[0][:, None]
    return F.conv2d(F.conv2d(padded, line[None, None, :, None]), line[None, None, None])[:, 0]


def order_of(relevance: Float[Tensor, "*map part"], seed: int = 0) -> Int[Tensor, "*map part"]:
    """Parts by falling relevance; ties in an order that the seed decides, so that a flat map is a random order."""
    shuffled = torch.randperm(relevance.shape[-1], generator=torch.Generator().manual_seed(seed))
    shuffled = shuffled.to(relevance.device)
    return shuffled[relevance[..., shuffled].argsort(dim=-1, descending=True, stable=True)]


def kept_after(order: Int[Tensor, "*map part"], counts: Sequence[int]) -> Bool[Tensor, "*map step part"]:
    """What is left once the first so many parts of an order are removed."""
    rank = order.argsort(-1)
    return rank[..., None, :] >= torch.tensor(list(counts), device=order.device)[:, None]


def curve(perturbation: Perturbation, order: Int[Tensor, "*map part"], steps: int = STEPS) -> Curve:
    """The watched class while parts are removed in this order, in equal steps from none to all of them."""
    counts = [round(step * perturbation.count / steps) for step in range(steps + 1)]
    answers = perturbation.answers(kept_after(order, counts))
    removed = torch.tensor(counts, dtype=torch.float64) / perturbation.count
    return Curve(removed, answers.logit, answers.probability)


def area(removed: Float[Tensor, " step"], values: Float[Tensor, "*map step"]) -> Float[Tensor, "*map"]:
    """Area by trapezoids over [0, 1], with the clean input as the first point.

    For equal steps it is (sum - (first + last) / 2) / steps, the form of RISE (Petsiuk et al. 2018). Raises ValueError
    for a curve that does not run from 0 to 1.
    """
    if float(removed[0]) != 0 or float(removed[-1]) != 1:
        raise ValueError(f"the curve runs from {float(removed[0]):g} to {float(removed[-1]):g}, expected 0 to 1")
    return torch.trapezoid(values, removed.to(values), dim=-1)


def removal_areas(
    perturbation: Perturbation, relevance: Float[Tensor, "*map part"], steps: int = STEPS, seed: int = 0
) -> dict[str, Areas]:
    """Areas of deletion and insertion, by "logit" and by "probability"."""
    order = order_of(relevance, seed)
    both = curve(perturbation, torch.stack([order, order.flip(-1)]), steps)
    found = {}
    for name in ("logit", "probability"):
        deletion, insertion = area(both.removed, getattr(both, name))
        found[name] = Areas(deletion, insertion, insertion - deletion)
    return found


def single_drops(perturbation: Perturbation) -> Float[Tensor, " part"]:
    """How much the logit of the class falls when each part alone is removed."""
    keep = torch.cat([torch.ones(1, perturbation.count, dtype=torch.bool), ~torch.eye(perturbation.count).bool()])
    logit = perturbation.answers(keep).logit
    return logit[0] - logit[1:]


def ranks(values: Float[Tensor, "*map part"]) -> Float[Tensor, "*map part"]:
    """Rank of each value from 1; tied values share the mean of theirs."""
    values = values.contiguous()
    ordered = values.sort(-1).values
    less, not_more = (torch.searchsorted(ordered, values, right=right) for right in (False, True))
    return (less + not_more + 1).to(torch.float64) / 2


def rank_correlation(first: Float[Tensor, "*map part"], second: Float[Tensor, "*other part"]) -> Float[Tensor, "*both"]:
    """Spearman's correlation; not a number where one of the two is flat."""
    one, other = (ranks(values) for values in (first, second))
    one, other = (values - values.mean(-1, keepdim=True) for values in (one, other))
    return (one * other).sum(-1) / (one.square().sum(-1) * other.square().sum(-1)).sqrt()


def single_deletion(relevance: Float[Tensor, "*map part"], drops: Float[Tensor, " part"]) -> Float[Tensor, "*map"]:
    """Single-deletion score: rank correlation of a map with `single_drops` (IDSDS, Hesse et al., NeurIPS 2024).

    In-domain, as its authors ask for, only for a model that was trained with patches removed.
    """
    return rank_correlation(relevance, drops)


def saco(
    perturbation: Perturbation, relevance: Float[Tensor, "*map part"], groups: int = GROUPS, seed: int = 0
) -> Float[Tensor, "*map"]:
    """Salience-guided faithfulness coefficient, from -1 to 1 (SaCo, Wu et al., CVPR 2024, algorithm 1).

    Parts are split by relevance into groups of equal size; for each pair, the difference of their summed relevance
    counts for the map where removing the more relevant group costs at least as much probability, else against it. Not
    a number where all groups are equally relevant.
    """
    count = relevance.shape[-1]
    groups = min(groups, count)
    rank = order_of(relevance, seed).argsort(-1)
    group = rank * groups // count  # [*map part], 0 = most relevant
    inside = group[..., None, :] == torch.arange(groups, device=group.device)[:, None]  # [*map group part]
    salience = (inside * relevance.to(torch.float64)[..., None, :]).sum(-1)
    clean = perturbation.answers(torch.ones(count, dtype=torch.bool)).probability
    drop = clean - perturbation.answers(~inside).probability  # [*map group]
    sign = torch.where(drop[..., :, None] >= drop[..., None, :], 1.0, -1.0).to(torch.float64)
    weight = (salience[..., :, None] - salience[..., None, :]).triu(1)
    return (sign * weight).sum((-2, -1)) / weight.abs().sum((-2, -1))


class Rationale(NamedTuple):
    """How the probability falls without the most relevant parts, and with nothing but them."""

    comprehensiveness: Float[Tensor, "*map"]  # high is faithful
    sufficiency: Float[Tensor, "*map"]  # low is faithful


def rationale(
    perturbation: Perturbation, relevance: Float[Tensor, "*map part"], shares: Sequence[float] = SHARES, seed: int = 0
) -> Rationale:
    """Comprehensiveness and sufficiency, each averaged over the shares (ERASER, DeYoung et al. 2020, section 4.2).

    With r the most relevant share of the parts, at least one: p(all) - p(all without r), and p(all) - p(r alone).
    """
    count = perturbation.count
    without = kept_after(order_of(relevance, seed), [max(1, round(share * count)) for share in shares])
    clean = perturbation.answers(torch.ones(count, dtype=torch.bool)).probability
    removed, alone = (perturbation.answers(keep).probability.mean(-1) for keep in (without, ~without))
    return Rationale(clean - removed, clean - alone)


def completeness_error(
    relevance: Float[Tensor, "*map token"], difference: Float[Tensor, "*map"]
) -> Float[Tensor, "*map"]:
    """|sum of relevance - difference| / |difference|, for a method that claims they are equal.

    `difference` is the target's logit minus that of the method's baseline (completeness, Sundararajan et al. 2017).
    The relevance of special tokens counts here.
    """
    difference = difference.to(torch.float64)
    return (relevance.to(torch.float64).sum(-1) - difference).abs() / difference.abs()
