"""The answer that is tested: one label of an output, its logit before and after a change, and controls beside it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import streamlit as st
import torch
from jaxtyping import Float
from torch import Tensor

from attnviz import plots
from attnviz.interventions import Progress, answers
from attnviz.models.text import WORD
from attnviz.types import Edit, Target
from attnviz.ui.core.cache import digest_of, open_model
from attnviz.ui.core.labels import plain, written
from attnviz.ui.inputs.model_run import ModelRun
from attnviz.ui.test.computed import computed
from attnviz.ui.widgets.answers import percent
from attnviz.ui.widgets.output import dark, plot
from attnviz.ui.widgets.whole_answer import answer_of, label_of

CHUNK = 8  # edits in one forward pass: few enough for progress to be told
DRAWS = 16  # random sets that a choice is held against
SHOWN = 3  # labels of each answer that have bars
NO_ANSWER = "This model gives no answer for the whole input, so only its attention maps are compared."


@dataclass(frozen=True, eq=False)
class Tested:
    """One label of an output: what the model predicts for the whole input before anything is changed."""

    run: ModelRun
    output: str
    row: int
    label: int
    logits: Float[Tensor, " class"]  # before

    @property
    def name(self) -> str:
        """What the label is called."""
        return label_of(self.run, self.output, self.label)

    @property
    def target(self) -> Target:
        """The label as what methods explain."""
        return Target(self.output, self.row % self.run.trace.logits[self.output].shape[-2], self.label)

    @property
    def read_from(self) -> tuple[int, ...]:
        """The tokens that the answer is read from."""
        count = len(self.run.sample.tokens["main"])
        if self.output == WORD:
            return (self.row % count,)
        pooling = self.run.trace.pooling.get(self.run.sample.tokens["main"].stream)
        return () if pooling is None else tuple(pooling.flatten().nonzero()[:, 0].tolist())

    def change(self, after: Float[Tensor, "*edit class"]) -> Float[Tensor, "*edit"]:
        """How much the logit of the label changes."""
        return after[..., self.label] - self.logits[self.label]


def tested(run: ModelRun) -> Tested | None:
    """What the model predicts for the whole input; None where it answers for single tokens only, or not at all."""
    if (found := answer_of(run)) is None:
        return None
    output, row = found
    logits = run.trace.logits[output][row].detach().float().cpu()
    spoken, tokenizer = logits.clone(), run.model.tokenizer
    if output == WORD and tokenizer is not None:  # special tokens are no answer, but an end is
        spoken[sorted(tokenizer.special_ids - {tokenizer.special.get("eos")})] = -torch.inf
    return Tested(run, output, row, int(spoken.argmax()), logits)


def logits_of(test: Tested, edit: Edit, doing: str) -> Float[Tensor, "edit class"]:
    """The answer of every edit of a batch, with a word to the visitor while it is computed. Raises Busy.

    Raises UnsupportedMask for an edit the model does not take.
    """
    run = test.run

    def compute(progress: Progress) -> Tensor:
        model = open_model(run.name)
        found = answers(model, run.sample, edit, output=test.output, batch=CHUNK, progress=progress)
        return found[:, test.row].float().cpu()

    key = ("answers", run.model.digest, run.sample.digest, test.output, digest_of(edit))
    return computed(key, compute, doing)


def prose(run: ModelRun) -> str:
    """The file of the page's words: of pictures, or of texts."""
    return "text/test" if run.model.spec.modality == "text" else "test"


def best_labels(test: Tested, after: Float[Tensor, " class"], count: int = SHOWN) -> list[int]:
    """The likeliest labels of both answers, those of the answer before first."""
    both = [logits.topk(min(count, len(logits))).indices.tolist() for logits in (test.logits, after)]
    return list(dict.fromkeys([test.label, *both[0], *both[1]]))


def figure(test: Tested, after: Float[Tensor, " class"]) -> Any:
    """Both answers as bars, label by label with its change in points of percent."""
    best = best_labels(test, after)
    before, then = (logits.softmax(-1)[best].numpy() for logits in (test.logits, after))
    moved = [f"{signed(100 * float(b - a), 1)} points" for a, b in zip(before, then, strict=True)]
    short = test.run.model.outputs[test.output]  # without superclasses: the chart may be narrow
    names = [f"{short[i]}<br>{change}" for i, change in zip(best, moved, strict=True)]
    return plots.bars(
        {"Before": before, "After": then},
        labels=names,
        colours={"Before": "muted", "After": "key"},
        form=".1%",
        limits=(0, 1.35),
        shown=True,
        horizontal=True,
        dark=dark(),
        height=64 + 50 * len(best),
    )


def sentence(test: Tested, after: Float[Tensor, " class"]) -> str:
    """What happens to the answer, in words."""
    before, then = test.logits.softmax(-1), after.softmax(-1)
    best, name = int(then.argmax()), plain(test.name)
    was = f"Before, the model predicts **{name}** ({percent(float(before[test.label]))})"
    if best == test.label:
        return f"{was}, and it still does ({percent(float(then[best]))})."
    return f"{was}; after, **{plain(label_of(test.run, test.output, best))}** ({percent(float(then[best]))})."


def said_change(test: Tested, change: float, controls: Sequence[float]) -> str:
    """The change of the logit in words, beside what random sets of the same size change."""
    said = f"Logit of {plain(test.name)}: **{signed(change)}**."
    if not controls:
        return said
    mean, low, high = sum(controls) / len(controls), min(controls), max(controls)
    return (
        f"{said} {len(controls)} random sets of the same size: **{signed(mean)}** on average, "
        f"from {signed(low)} to {signed(high)}."
    )


def signed(number: float, digits: int = 2) -> str:
    """A number with its sign, as it is written in a text."""
    return written(number, f"+.{digits}f")


def show_answer(test: Tested, after: Float[Tensor, " class"], controls: Float[Tensor, "draw class"] | None) -> None:
    """The answer before and after, in words and bars, and the change of its logit beside the controls."""
    st.markdown(sentence(test, after))
    changes = [] if controls is None else test.change(controls).tolist()
    st.markdown(said_change(test, float(test.change(after)), changes))
    plot(figure(test, after), "test:answer", alt=f"Bars: {sentence(test, after)}")


def answer_rows(test: Tested, after: Float[Tensor, " class"]) -> tuple[list[str], list[list]]:
    """Every label with its logit and probability before and after, for a CSV."""
    columns = [one.tolist() for one in (test.logits, after, test.logits.softmax(-1), after.softmax(-1))]
    names = [label_of(test.run, test.output, i) for i in range(len(test.logits))]
    header = ["label", "logit before", "logit after", "probability before", "probability after"]
    return header, [list(row) for row in zip(names, *columns, strict=True)]
