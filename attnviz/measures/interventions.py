"""What changed forward passes show of one answer: heads ablated alone, in pairs and step by step; patching; the lens.

Every number is of one answer: a label of one row of one output (`answer_of`). An effect is what it changes to, minus
what it was: below zero, the change takes something away from it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from attnviz.edits import Edit, PatchedResiduals, token_flags
from attnviz.interventions import BATCH, Progress, ablate, answers, count_of
from attnviz.targets import asked
from attnviz.types import Model, Sample, Target, Trace

Head = tuple[int, int]  # layer, head
MOST_STEPS = 8  # heads that `greedy_heads` ablates before it gives up
MOST_LABELS = 5  # of every place, in `lens`


class Answer(NamedTuple):
    """One number of a forward pass: the logit of one label in one row of one output."""

    output: str
    row: int
    label: int

    def logits(self, trace: Trace) -> Float[Tensor, "*edit class"]:
        """All labels of its row, in float32 and in main memory."""
        return trace.logits[self.output][..., self.row, :].float().cpu()


def answer_of(trace: Trace, target: Target | None = None) -> Answer:
    """Which number a target names (`asked`, which says what it raises), in a trace without leading axes."""
    score = asked(trace, target)
    return Answer(score.output, score.row, int(score.label))


class HeadEffects(NamedTuple):
    """What ablating each head alone changes the answer by."""

    logit: Float[Tensor, "layer head"]
    probability: Float[Tensor, "layer head"]


@torch.no_grad()
def head_effects(
    model: Model,
    sample: Sample,
    target: Target | None = None,
    means: Tensor | None = None,
    *,
    batch: int = BATCH,
    progress: Progress | None = None,
) -> HeadEffects:
    """The change of one logit and of its probability with each head ablated alone: all heads in few passes.

    `means` [layer head value_dim] is what an ablated head gives (`head_means`), None = zero. Raises as `answer_of`
    does, UnsupportedMask for a model that ablates no heads.
    """
    spec, plain = model.spec, model(sample)
    answer = answer_of(plain, target)
    each = [[(layer, head)] for layer in range(spec.layers) for head in range(spec.heads)]
    found = answers_of(model, sample, ablate(model, *each, means=means), answer, batch, progress)
    clean = answer.logits(plain)
    shape = (spec.layers, spec.heads)
    logit = found[:, answer.label] - clean[answer.label]
    probability = found.softmax(-1)[:, answer.label] - clean.softmax(-1)[answer.label]
    return HeadEffects(logit.reshape(shape), probability.reshape(shape))


def answers_of(
    model: Model, sample: Sample, edit: Edit, answer: Answer, batch: int = BATCH, progress: Progress | None = None
) -> Float[Tensor, "edit class"]:
    """The logits of the answer's row for every edit of a batch, in float32 and in main memory."""
    found = answers(model, sample, edit, output=answer.output, batch=batch, progress=progress)
    return found[:, answer.row].float().cpu()


@dataclass(frozen=True)
class PairEffect:
    """What ablating two heads changes a logit by: each alone, and both."""

    first: float
    second: float
    both: float

    @property
    def sum(self) -> float:
        """What both would change if neither noticed that the other is gone."""
        return self.first + self.second

    @property
    def interaction(self) -> float:
        """Both minus the sum. Below zero: each made up for the other while that one alone was gone (self-repair)."""
        return self.both - self.sum


@torch.no_grad()
def pair_effect(
    model: Model, sample: Sample, pair: tuple[Head, Head], target: Target | None = None, means: Tensor | None = None
) -> PairEffect:
    """Two heads ablated, each alone and together: the change of one logit.

    Later layers may make up for an ablated head: the "Hydra effect" (McGrath et al. 2023, arXiv 2307.15771), or
    self-repair (Rushing and Nanda 2024, arXiv 2402.15390). Raises ValueError where both are one head, and as
    `answer_of` does.
    """
    if pair[0] == pair[1]:
        raise ValueError(f"a pair is two heads, but both are layer {pair[0][0]}, head {pair[0][1]}")
    plain = model(sample)
    answer = answer_of(plain, target)
    found = answers_of(model, sample, ablate(model, [pair[0]], [pair[1]], list(pair), means=means), answer)
    return PairEffect(*(found[:, answer.label] - answer.logits(plain)[answer.label]).tolist())


class Step(NamedTuple):
    """One step of `greedy_heads`: the head that was ablated in it, and the answer after it."""

    head: Head
    margin: float  # of the first answer over the likeliest other one; below zero: the answer has changed
    logits: Float[Tensor, " class"]


class Search(NamedTuple):
    """The steps of a greedy search, and whether the answer is another after the last one."""

    steps: tuple[Step, ...]
    changed: bool


@torch.no_grad()
def greedy_heads(
    model: Model,
    sample: Sample,
    target: Target | None = None,
    means: Tensor | None = None,
    *,
    most: int = MOST_STEPS,
    batch: int = BATCH,
    progress: Progress | None = None,
) -> Search:
    """Few heads that change the predicted answer, found greedily: in each step the head that costs its margin most.

    The margin is the logit of the answer minus the largest other logit of the row. The search ends when that is below
    zero, after `most` heads, or where no head lowers the margin any more. It is no proof that fewer heads do not:
    for that, all sets would have to be tried. `target` says whose answer; its label, if any, is not used. Raises
    ValueError as `answer_of` does.
    """
    plain = model(sample)
    answer = answer_of(plain, None if target is None else Target(target.output, target.row))
    left = [(layer, head) for layer in range(model.spec.layers) for head in range(model.spec.heads)]
    steps, margin = list[Step](), float(margins(answer.logits(plain), answer.label))
    while left and len(steps) < most and margin >= 0:
        gone = [step.head for step in steps]
        begun = len(steps) / most
        told = None if progress is None else lambda share, begun=begun: progress(begun + share / most)
        edit = ablate(model, *([*gone, head] for head in left), means=means)
        logits = answers_of(model, sample, edit, answer, batch, told)
        found = margins(logits, answer.label)
        best = int(found.argmin())
        if float(found[best]) >= margin:
            break
        margin = float(found[best])
        steps.append(Step(left.pop(best), margin, logits[best]))
    return Search(tuple(steps), margin < 0)


def margins(logits: Float[Tensor, "*edit class"], label: int) -> Float[Tensor, "*edit"]:
    """The logit of one label minus the largest of the others."""
    others = logits.clone()
    others[..., label] = -torch.inf
    return logits[..., label] - others.amax(-1)


class Crossing(NamedTuple):
    """How far an answer crosses over to another input's, with some of its residuals in place of its own."""

    share: Float[Tensor, "depth group"]  # 0 = its own answer, 1 = the other's; neither is a bound
    own: int  # label of either answer
    other: int
    logits: Float[Tensor, "depth group class"]


def same_length(sample: Sample, donor: Trace) -> bool:
    """Whether residuals can be carried over: the other input has as many tokens."""
    return next(iter(donor.residuals.values()))[0].shape[-2] == count_of(sample)


@torch.no_grad()
def crossing(
    model: Model,
    sample: Sample,
    donor: Trace,
    target: Target | None = None,
    *,
    groups: Sequence[Sequence[int]] | None = None,
    batch: int = BATCH,
    progress: Progress | None = None,
) -> Crossing:
    """Activation patching: another input's residuals at one depth in place of this one's, one group of tokens each.

    With D = logit(the other's answer) - logit(own answer), the share is (D_patched - D_clean) / (D_other - D_clean)
    (Meng et al. 2022, arXiv 2202.05262; as in Wang et al. 2022, arXiv 2211.00593, by logit difference). Depth 0 is what
    enters the first layer, the last depth what leaves the last. `groups` None is every token by itself. Raises
    ValueError for inputs of different length or with the same answer, and as `answer_of` does.
    """
    count, depths = count_of(sample), model.spec.layers + 1
    values = torch.stack(list(next(iter(donor.residuals.values()))))
    if values.shape[-2] != count:
        raise ValueError(f"the other input has {values.shape[-2]} tokens and this one {count}; they have to be as many")
    plain = model(sample)
    answer = answer_of(plain, None if target is None else Target(target.output, target.row))
    clean, given = answer.logits(plain), answer.logits(donor)
    other = int(given.argmax())
    if other == answer.label:
        raise ValueError("both inputs have the same answer, so nothing can cross over")
    chosen = torch.stack([token_flags(count, group) for group in groups or [[token] for token in range(count)]])
    where = (
        torch.eye(depths, dtype=torch.bool)[:, None, :, None] & chosen[None, :, None, :]
    )  # [depth group depth token]
    edit = Edit(residuals=PatchedResiduals(values, where.flatten(0, 1)))
    logits = answers_of(model, sample, edit, answer, batch, progress).unflatten(0, (depths, len(chosen)))
    before, whole = (float(one[other] - one[answer.label]) for one in (clean, given.to(clean)))
    share = (logits[..., other] - logits[..., answer.label] - before) / (whole - before)
    return Crossing(share, answer.label, other, logits)


class Lens(NamedTuple):
    """What every token would answer at every depth: its likeliest labels, and their probabilities."""

    output: str
    labels: Int[Tensor, "depth token best"]
    probabilities: Float[Tensor, "depth token best"]


@torch.no_grad()
def lens(
    model: Model, trace: Trace, *, best: int = MOST_LABELS, batch: int = BATCH, progress: Progress | None = None
) -> Lens:
    """The logit lens (nostalgebraist 2020): the residual of every token, at every depth, read as if it were the last.

    `model.logits_from` is the final norm and the output. Where the model answers once for the whole input, it pools:
    then the residual of one token is put in the place of all, so that whatever it pools from is that vector alone.
    Raises ValueError for a model with no output that is read from a residual.
    """
    residuals = next(iter(trace.residuals.values()))
    found, output = list[tuple[Tensor, Tensor]](), ""
    for depth, residual in enumerate(residuals):
        told = None if progress is None else lambda share, depth=depth: progress((depth + share) / len(residuals))
        logits = token_logits(model, residual.to(model.device), batch, told)
        output = output or output_of(model, logits.shape[-1])
        top = logits.softmax(-1).topk(min(best, logits.shape[-1]))
        found.append((top.indices, top.values))
    labels, probabilities = (torch.stack(one) for one in zip(*found, strict=True))
    return Lens(output, labels, probabilities)


def token_logits(
    model: Model, residual: Float[Tensor, "token feature"], batch: int = BATCH, progress: Progress | None = None
) -> Float[Tensor, "token class"]:
    """The logits of every token, each read from its own vector alone, in float32 and in main memory."""
    count = len(residual)
    whole = model.logits_from(residual)
    if whole.shape[-2] == count:  # every token has an answer of its own
        if progress is not None:
            progress(1.0)
        return whole.float().cpu()
    found = list[Tensor]()
    for start in range(0, count, batch):
        alike = residual[start : start + batch, None].expand(-1, count, -1)  # one vector in the place of every token
        found.append(model.logits_from(alike)[..., 0, :].float().cpu())
        if progress is not None:
            progress(min(1.0, (start + batch) / count))
    return torch.cat(found)


def output_of(model: Model, count: int) -> str:
    """The output that `logits_from` gives: the first with as many labels. Raises ValueError where there is none."""
    for name, labels in model.outputs.items():
        if len(labels) == count:
            return name
    raise ValueError(f"{model.title} has no output that can be read from the residual of one token")
