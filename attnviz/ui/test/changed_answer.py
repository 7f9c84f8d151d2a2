"""The answer before and after a change: which labels it is about, and bars of both."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from attnviz import plots
from attnviz.types import Target
from attnviz.ui.core.state import select
from attnviz.ui.inputs.model_run import ModelRun
from attnviz.ui.test.answer import tested
from attnviz.ui.widgets.answers import percent
from attnviz.ui.widgets.output import dark, plot
from attnviz.ui.widgets.whole_answer import label_of

BEST = 5  # labels to choose from


def answered(about: ModelRun) -> Target | None:
    """The answer for the whole input: output, row and likeliest label; None where the model gives none."""
    found = tested(about)
    return None if found is None else found.target


def logits_of(about: ModelRun, target: Target) -> Float[Tensor, " class"]:
    """The logits of the row a target names."""
    return about.trace.logits[str(target.output)][target.row or 0].float()


def answer_choice(about: ModelRun, target: Target, key: str = "tested") -> Target:
    """One of the likeliest labels, the first to begin with: whose change is measured."""
    logits = logits_of(about, target)
    best = logits.topk(min(BEST, len(logits))).indices.tolist()
    names = {str(i): label_of(about, str(target.output), i) for i in best}
    label = select("Answer", names, key=key, width=220, help="The label whose logit and probability are measured.")
    return Target(target.output, target.row, int(label))


def answer_bars(
    about: ModelRun,
    target: Target,
    answers: dict[str, Float[Tensor, " class"]],
    key: str,
    colours: dict[str, str | int],
    count: int = 3,
) -> None:
    """Probabilities of the likeliest labels of some answers (their logits by name) side by side."""
    shares = {name: logits.softmax(-1) for name, logits in answers.items()}
    best = dict.fromkeys(i for one in shares.values() for i in one.topk(min(count, len(one))).indices.tolist())
    index, labels = torch.tensor(list(best)), [label_of(about, str(target.output), i) for i in best]
    figure = plots.bars(
        {name: one[index].numpy() for name, one in shares.items()},
        labels=labels,
        colours=colours,
        form=".1%",
        limits=(0, 1.2),
        shown=True,
        horizontal=True,
        dark=dark(),
        height=70 + 22 * len(labels) * len(answers),
    )
    parts = "; ".join(f"{name}: {spoken(about, target, logits)}" for name, logits in answers.items())
    plot(figure, key, alt=f"Bars of the likeliest answers. {parts}")


def spoken(about: ModelRun, target: Target, logits: Float[Tensor, " class"]) -> str:
    """The likeliest label of an answer and its probability, in words."""
    label = int(logits.argmax())
    return f"{label_of(about, str(target.output), label)} ({percent(float(logits.softmax(-1)[label]))})"
