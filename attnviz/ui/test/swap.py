"""Residuals patched from another input, one depth and place at a time: where the answer crosses over."""

from __future__ import annotations

from functools import partial

import numpy as np
import streamlit as st

from attnviz.measures.interventions import Crossing, crossing, same_length
from attnviz.types import Target
from attnviz.ui.core.cache import trace
from attnviz.ui.core.labels import plain
from attnviz.ui.core.state import chosen_token, set_tokens
from attnviz.ui.inputs.image_run import ImageRun
from attnviz.ui.inputs.model_run import ModelRun
from attnviz.ui.test import swap_pictures, swap_texts
from attnviz.ui.test.again import show_lines
from attnviz.ui.test.answer import NO_ANSWER
from attnviz.ui.test.changed_answer import answer_bars, answered, logits_of, spoken
from attnviz.ui.test.computed import computed
from attnviz.ui.test.pair import Pair, depth_name
from attnviz.ui.widgets.output import downloads
from attnviz.ui.widgets.whole_answer import label_of

CELL = "patched"  # the pick of a cell, numbered depth by depth
FORMULA = (
    r"\text{share} = (D_\text{patched} - D_\text{own}) \,/\, (D_\text{other} - D_\text{own}),\quad "
    r"D = \text{logit}(\text{the other's answer}) - \text{logit}(\text{own answer})"
)
WHAT = "0 is this input's own answer, 1 the other's. Neither is a bound: a patch may push the answer further, or back."
NO_PATCH = "The residuals of this model cannot be replaced: its forward pass takes no such change."
SAME = "Both inputs get the answer {label}, so nothing can cross over. Choose another input beside it."
LENGTHS = (
    "The first input has {own} tokens and the other {other}. A residual is carried over to the same place, so both "
    "have to have as many: exchange a word for one of as many tokens, or start again from the pair below."
)


def show(about: ModelRun) -> None:
    """Two inputs, a map of how far each patch carries the answer over, and the answers at the chosen cell."""
    if "residuals" not in about.model.spec.honours or answered(about) is None:
        st.info(NO_PATCH if answered(about) else NO_ANSWER, icon=":material/info:")
        return
    pair = swap_pictures.choose(about) if isinstance(about, ImageRun) else swap_texts.choose(about)
    target = answered(pair.about)
    donor = trace(about.name, pair.other)
    if target is None:
        return
    if not same_length(pair.about.sample, donor):
        counts = {"own": len(pair.about.sample.tokens["main"]), "other": len(pair.other.tokens["main"])}
        st.info(LENGTHS.format(**counts), icon=":material/info:")
        pair.restart()
        return
    given = donor.logits[str(target.output)][target.row or 0].float()
    if int(given.argmax()) == target.label:
        label = plain(label_of(about, str(target.output), target.label or 0))
        st.info(SAME.format(label=label), icon=":material/info:")
        pair.restart()
        return
    body(pair, target, crossing_of(pair, target))


def crossing_of(pair: Pair, target: Target) -> Crossing:
    """How far each patch carries the answer over, kept."""
    about, groups = pair.about, pair.groups
    key = ("crossing", about.model.digest, about.sample.digest, pair.other.digest, target, groups)
    donor = trace(about.name, pair.other)
    make = partial(crossing, about.model, about.sample, donor, target, groups=groups)
    return computed(key, lambda told: make(progress=told), "Patching one place after the other")


def body(pair: Pair, target: Target, found: Crossing) -> None:
    """The map and the numbers of the chosen cell."""
    share = found.share.numpy()
    first = default_cell(share)
    cell = chosen_token(CELL, share.size, first)
    depth, place = divmod(cell, share.shape[1])
    own, other = (plain(label_of(pair.about, str(target.output), one)) for one in (found.own, found.other))
    left, right = st.columns([3, 2], gap="large")
    with left:
        st.markdown(f"**Patched in one place:** how far the answer crosses from {own} to {other}")
        pair.draw(share, cell, pick)
        st.caption(WHAT)
    with right:
        pair.beside()
        where = f"{pair.places[place]}, {depth_name(depth).lower()}"
        st.markdown(f"**{plain(where)}:** the answer crosses **{100 * share[depth, place]:.1f}\u00a0%** of the way")
        donor = trace(pair.about.name, pair.other).logits[str(target.output)][target.row or 0].float()
        answers = {"Own": logits_of(pair.about, target), "Patched": found.logits[depth, place], "Other": donor}
        answer_bars(
            pair.about, target, answers, "test:patched", {"Own": "muted", "Patched": "query", "Other": "key"}, 2
        )
        st.markdown(f"Patched, the model answers {plain(spoken(pair.about, target, found.logits[depth, place]))}.")
    st.latex(FORMULA)
    output(pair, share)


def pick(chosen: tuple[int, ...]) -> None:
    """Keep the clicked cell; a deselected one stays."""
    if chosen:
        set_tokens(CELL, chosen[-1:])


def default_cell(share: np.ndarray) -> int:
    """The cell to begin with: where the answer crosses most between the first and the last depth."""
    inner = share[1:-1] if len(share) > 2 else share
    return int(inner.argmax()) + (share.shape[1] if len(share) > 2 else 0)


def output(pair: Pair, share: np.ndarray) -> None:
    """Exact numbers as files, and the Python lines that compute them."""

    def rows() -> tuple[list[str], list[list[object]]]:
        header = ["depth", "place", "share"]
        return header, [[d, pair.places[p], float(share[d, p])] for d, p in np.ndindex(*share.shape)]

    downloads(lambda: {"share": share}, rows, "patching")
    show_lines(pair.about, pair.lines())
