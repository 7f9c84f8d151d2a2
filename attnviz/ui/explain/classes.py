"""Which score is explained: an output, of which token where each has an answer, a class, and one to hold against it."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st
from jaxtyping import Float
from torch import Tensor

from attnviz.types import Target
from attnviz.ui.core.labels import plain, token_name
from attnviz.ui.core.recorded import middle
from attnviz.ui.core.state import select
from attnviz.ui.inputs.model_run import ModelRun

NONE = "none"
ALL_LISTED, LISTED = 200, 40  # classes that are all offered; of more, so many of the likeliest
WHY_OUTPUT = "The question whose answer is explained; this model answers several."
WHY_ROW = "Every token has an answer of its own here: the one whose answer is explained."
WHY_CLASS = "The class whose score is explained; the one the model predicts to begin with."
WHY_AGAINST = (
    "A second class, whose score is subtracted: what speaks for the first rather than for this one. It changes methods "
    "that explain a class and no others."
)


def class_choice(visit: ModelRun) -> Target | None:
    """The score to explain, in the address; None where the model names no class."""
    outputs = visit.model.outputs
    if not outputs:
        return None
    with st.popover("Class", icon=":material/label:", key="class-popover"):
        output = usual = usual_output(visit)
        if len(outputs) > 1:
            names = {name: name.capitalize() for name in outputs}
            output = select("Output", names, default=output, key="output", help=WHY_OUTPUT)
        rows = visit.trace.logits[output].shape[-2]
        row = row_choice(visit, rows) if rows > 1 else 0
        keys = [key if output == usual else f"{key}-{output}" for key in ("class", "against-class")]
        names = offered(outputs[output], visit.trace.logits[output][row], keys)
        label = select("Class", names, key=keys[0], help=WHY_CLASS)
        others = {NONE: "No other class"} | {other: name for other, name in names.items() if other != label}
        against = select("Against", others, key=keys[1], help=WHY_AGAINST)
    return Target(output, row, int(label), None if against == NONE else int(against))


def usual_output(visit: ModelRun) -> str:
    """The first output with one answer about the whole input, or the first there is."""
    outputs = visit.model.outputs
    return next((name for name in outputs if visit.trace.logits[name].shape[-2] == 1), next(iter(outputs)))


def row_choice(visit: ModelRun, rows: int) -> int:
    """The token whose answer is explained: the one that the model's answer is read from, or one in the middle."""
    tokens, pooling = visit.sample.tokens["main"], next(iter(visit.trace.pooling.values()))
    read = int(pooling.argmax()) if float(pooling.max()) == 1 else middle(tokens)
    names = {str(i): f"{i + 1} · {plain(token_name(tokens, i))}" for i in range(min(rows, len(tokens)))}
    return int(select("Answer at token", names, default=str(read), key="answer-at", help=WHY_ROW))


def offered(labels: Sequence[str], logits: Float[Tensor, " class"], keys: Sequence[str]) -> dict[str, str]:
    """The classes to choose from, the predicted one first: all, or the likeliest and those chosen under these keys."""
    order = [int(i) for i in logits.argsort(descending=True)]
    if len(labels) <= ALL_LISTED:
        return {str(i): plain(labels[i]) for i in (order[0], *(i for i in range(len(labels)) if i != order[0]))}
    named = [said for key in keys for said in (st.query_params.get(key, ""), str(st.session_state.get(key, "")))]
    asked = [int(one) for one in named if one.isdecimal() and len(one) < 7 and int(one) < len(labels)]
    return {str(i): plain(labels[i]) for i in dict.fromkeys([*order[:LISTED], *asked])}


def class_words(visit: ModelRun, target: Target | None) -> str:
    """The class that is explained, in words, and the one it is held against."""
    if target is None or target.output is None or target.label is None:
        return ""
    labels, rows = visit.model.outputs[target.output], visit.trace.logits[target.output].shape[-2]
    against = "" if target.against is None else f" against {plain(labels[target.against])}"
    at = f" at {plain(token_name(visit.sample.tokens['main'], target.row or 0))}" if rows > 1 else ""
    return f"{plain(labels[target.label])}{against}{at}"
