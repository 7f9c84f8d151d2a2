"""The logit lens: what every patch or word would answer if a depth were the last one."""

from __future__ import annotations

from functools import partial

import streamlit as st

from attnviz.measures.interventions import Lens, lens
from attnviz.ui.core.labels import plain, token_name
from attnviz.ui.core.state import chosen_token, set_tokens
from attnviz.ui.inputs.image_run import ImageRun
from attnviz.ui.inputs.model_run import ModelRun
from attnviz.ui.test import lens_pictures, lens_texts
from attnviz.ui.test.again import opening, show_lines
from attnviz.ui.test.computed import computed
from attnviz.ui.test.pair import depth_name
from attnviz.ui.widgets.answers import percent
from attnviz.ui.widgets.output import downloads
from attnviz.ui.widgets.whole_answer import label_of

CELL = "read"  # the pick of a depth and a token, numbered depth by depth
NO_LENS = "This model has no output that can be read from the residual of a single token, so there is no lens."
READ_FROM = "The model itself reads its answer from {where} after the last layer."
POOLED = (
    "Each cell is read from that token alone: its residual goes through the final norm and the output, as if all that "
    "is pooled were this one vector."
)
EACH = "Each cell is the residual of that token, put through the final norm and the output: every token has its answer."


def show(about: ModelRun) -> None:
    """A cell for every token and depth, and the likeliest answers at the chosen one."""
    found = lens_of(about)
    if found is None:
        st.info(NO_LENS, icon=":material/info:")
        return
    depths, count = found.labels.shape[:2]
    first = (depths - 1) * count + int(about.trace.pooling["main"].argmax())
    cell = chosen_token(CELL, depths * count, first)
    left, right = st.columns([3, 1], gap="large")
    with left:
        if isinstance(about, ImageRun):
            lens_pictures.draw(about, found, cell, pick)
        else:
            lens_texts.draw(about, found, cell, pick)
    with right:
        likeliest(about, found, cell)
    pooled = len(about.trace.logits[found.output]) != count
    where = about.model.spec.answer_from or "its tokens"
    st.caption(f"{POOLED} {READ_FROM.format(where=where)}" if pooled else EACH)
    output(about, found)


def lens_of(about: ModelRun) -> Lens | None:
    """What every token would answer at every depth, kept; None for a model that answers nothing from a residual."""
    if not about.model.outputs or not about.trace.residuals:
        return None
    make = partial(lens, about.model, about.trace)
    try:
        key = ("lens", about.model.digest, about.sample.digest)
        return computed(key, lambda told: make(progress=told), "Reading every token after every layer")
    except ValueError:
        return None


def pick(chosen: tuple[int, ...]) -> None:
    """Keep the clicked cell; a deselected one stays."""
    if chosen:
        set_tokens(CELL, chosen[-1:])


def likeliest(about: ModelRun, found: Lens, cell: int) -> None:
    """The likeliest labels of one cell with their probabilities."""
    depth, token = divmod(cell, found.labels.shape[1])
    name = token_name(about.sample.tokens["main"], token)
    st.markdown(f"**{plain(name)}, {depth_name(depth).lower()}**")
    for label, share in zip(
        found.labels[depth, token].tolist(), found.probabilities[depth, token].tolist(), strict=True
    ):
        st.progress(share, f"{plain(label_of(about, found.output, label))} · {percent(share)}")


def output(about: ModelRun, found: Lens) -> None:
    """Exact numbers as files, and the Python lines that compute them."""
    tokens = about.sample.tokens["main"]

    def rows() -> tuple[list[str], list[list[object]]]:
        header = ["depth", "token", "rank", "answer", "probability"]
        table: list[list[object]] = []
        for depth, (labels, shares) in enumerate(zip(found.labels.tolist(), found.probabilities.tolist(), strict=True)):
            for token, (some, of) in enumerate(zip(labels, shares, strict=True)):
                for rank, (label, share) in enumerate(zip(some, of, strict=True), 1):
                    name = label_of(about, found.output, label)
                    table.append([depth, token_name(tokens, token), rank, name, share])
        return header, table

    arrays = {"labels": found.labels, "probabilities": found.probabilities}
    downloads(lambda: {name: one.numpy() for name, one in arrays.items()}, rows, "logit-lens")
    show_lines(about, lines(about))


def lines(about: ModelRun) -> list[str]:
    """The Python lines that compute the lens again."""
    return [
        *opening(about, "from attnviz.measures.interventions import lens"),
        "found = lens(model, model(sample))  # labels and probabilities [depth token best]",
    ]
