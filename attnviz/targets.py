"""Which number of a model's logits a target asks for: what methods explain, measures score, and edits change."""

from __future__ import annotations

from numbers import Integral
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from attnviz.types import NoTokenMap, Target, Trace, at_least_float32


class Score(NamedTuple):
    """Which number of the logits is explained: one class of one row of one output, or the difference of two classes."""

    output: str
    row: int
    label: Int[Tensor, "*batch"]  # of each item of a batch by itself, where it is what the model predicts
    against: int | None = None

    def of(self, logits: Float[Tensor, "*batch row class"]) -> Float[Tensor, "*batch"]:
        """The number itself, from these logits of the output, in float32 at least."""
        logits = at_least_float32(logits[..., self.row, :])
        label = self.label.to(logits.device).expand(logits.shape[:-1])
        score = logits.gather(-1, label[..., None])[..., 0]
        return score if self.against is None else score - logits[..., self.against]


def score_of(trace: Trace, target: Target | None = None) -> Float[Tensor, "*batch"]:
    """The logit that is explained, or the difference of two; without a class that of what the model predicts.

    Raises as `asked`.
    """
    score = asked(trace, target)
    return score.of(trace.logits[score.output])


def asked(trace: Trace, target: Target | None = None) -> Score:
    """Which number a target asks for.

    Without a row, an output that answers for every token is read at the one token that the pooling names. Raises
    NoTokenMap for a network without outputs, ValueError for a target there is not, for an answer read from several
    tokens that each have one, and where every token that the answer is read from was removed.
    """
    check_target(trace, target)
    if not trace.logits:
        raise NoTokenMap("it has no output whose score could be asked for")
    target, output = target or Target(), output_of(trace, target)
    logits, row = trace.logits[output].detach(), target.row
    if position_of(trace, target) is None:
        check_answered(trace)
    if row is None and logits.shape[-2] == 1:
        row = 0
    if row is None:
        pooling = next(iter(trace.pooling.values()))
        read = pooling.reshape(-1, pooling.shape[-1]).any(0).nonzero().flatten().tolist()
        if len(read) != 1:
            raise ValueError(f"every token has an answer of its own in {output!r}; name one, as Target(row=...)")
        (row,) = read
    label = logits[..., row, :].argmax(-1)
    label = label if target.label is None else torch.full_like(label, target.label)
    if target.against is not None and (label == target.against).any():
        raise ValueError(f"target compares the class {target.against} with itself, which is what the model predicts")
    return Score(output, int(row), label, target.against)


def output_of(trace: Trace, target: Target | None) -> str:
    """The output a target names; if it names none and no row, the first that answers about the whole input, if any."""
    if target is not None and target.output is not None:
        return target.output
    whole = [name for name, logits in trace.logits.items() if logits.shape[-2] == 1]
    return whole[0] if whole and (target is None or target.row is None) else next(iter(trace.logits))


def check_answered(trace: Trace) -> None:
    """Raise ValueError where every token that the answer is read from was removed."""
    if any((row.sum(-1) == 0).any() for row in trace.pooling.values()):
        raise ValueError("the tokens that the answer is read from were removed, so it came from none of them")


def check_target(trace: Trace, target: Target | None) -> None:
    """Raise TypeError for what is no Target, ValueError for an output, a row or a class that there is not."""
    if target is None:
        return
    if not isinstance(target, Target):
        raise TypeError(
            f"target is {target!r}; expected Target(output, row, label), or None for what the model predicts"
        )
    if not trace.logits:
        raise ValueError("the trace has no logits, so there is no answer for a target to name")
    output = output_of(trace, target)
    if output not in trace.logits:
        raise ValueError(f"target names the output {output!r}; this network has {', '.join(trace.logits)}")
    rows, classes = trace.logits[output].shape[-2:]
    named = (("row", target.row, rows), ("label", target.label, classes), ("label", target.against, classes))
    for name, chosen, count in named:
        if chosen is not None and not (isinstance(chosen, Integral) and 0 <= int(chosen) < count):
            raise ValueError(f"target names the {name} {chosen!r}; output {output!r} has {name}s 0 to {count - 1}")
    if target.against is not None and target.against == target.label:
        raise ValueError(f"target compares the class {target.label} with itself, so there is no difference to explain")


def position_of(trace: Trace, target: Target | None) -> int | None:
    """The token a target reads its answer from, where every token has an answer of its own (language models)."""
    if target is None or target.row is None:
        return None
    output = target.output or next(iter(trace.logits))
    return target.row if trace.logits[output].shape[-2] > 1 else None
