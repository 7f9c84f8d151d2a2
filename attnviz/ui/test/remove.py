"""Tokens removed from the input, and what the answer loses: patches of a picture, or words of a text."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import streamlit as st
import torch
from jaxtyping import Float
from torch import Tensor

from attnviz.interventions import Progress, remove
from attnviz.methods import METHODS, explain
from attnviz.types import NoTokenMap, Trace, UnsupportedMask
from attnviz.ui.core.cache import edited_trace
from attnviz.ui.core.state import chosen_set, select
from attnviz.ui.inputs.model_run import ModelRun
from attnviz.ui.shell.prose import section
from attnviz.ui.test import again, answer, maps, picks
from attnviz.ui.test.computed import computed
from attnviz.ui.widgets.output import downloads

PICKS = "removed"  # the pick of tokens in the session and in the address
CANNOT = (
    "Tokens of this model cannot be removed: it refuses an input that lacks some of them. Choose a vision transformer "
    "such as `vit`, or a model that reads text, in the sidebar."
)
NOTHING = "Nothing is removed yet. Click a patch or a word, or drag a rectangle over the picture."
EVERYTHING = "Nothing of the input would be left. Bring at least one patch or word back by a click."
UNREAD = "The answer is read from {}, so without it there is no answer. Click it to bring it back, and remove others."
NO_RANKING = "This ranking does not apply here: {}. Choose another one, take tokens at random, or click them."
WHY_RANKING = (
    "What ranks the tokens. Whether it found those that matter is what is tested: beside it stand random sets."
)


def show(about: ModelRun) -> None:
    """The controls, the input with what is removed, the answer before and after, and one head's maps."""
    if "keep_tokens" not in about.model.spec.honours:
        st.info(CANNOT, icon=":material/info:")
        return
    test, tokens = answer.tested(about), about.sample.tokens["main"]
    among = picks.candidates(tokens, test)
    controls = st.container(horizontal=True, vertical_alignment="bottom", gap="medium")
    method, ranking = ranked(about, test, controls)
    picked = chosen_set(PICKS, len(tokens))
    how, gone = picks.choice(controls, among, ranking, picked, key="choose", label="Remove")
    left, right = st.columns([1.3, 1], gap="large")
    with left:
        by = f" by {METHODS[method].title.lower()}" if how in (picks.STRONGEST, picks.OTHERS) else ""
        st.markdown(f"**Removed:** {len(gone)} of {len(tokens)} tokens, {picks.HOW[how].lower()}{by}")
        names, label = (PICKS, "choose"), "Your input with what is removed"
        picks.draw_set("test:removed", tokens, gone, ranking, names, label, height=430)
    with right:
        if why := problem(about, test, among, gone):
            st.info(why, icon=":material/info:")
            return
        changed = edited_trace(about.name, about.sample, remove(about.sample, (), gone))
        after, controls_after = answered(test, changed, among, gone)
    compare(about, test, changed, gone, after, controls_after)


def answered(
    test: answer.Tested | None, changed: Trace, among: Sequence[int], gone: Sequence[int]
) -> tuple[Float[Tensor, " class"] | None, Float[Tensor, "draw class"] | None]:
    """The answer after the removal and after as many random ones, shown; None where there is no answer."""
    if test is None:
        st.caption(answer.NO_ANSWER)
        return None, None
    after = changed.logits[test.output][1, test.row].float()
    sets = picks.draws(among, min(len(gone), len(among)))
    edit = remove(test.run.sample, *sets)
    controls = answer.logits_of(test, edit, "Removing random sets")
    answer.show_answer(test, after, controls)
    return after, controls


def compare(
    about: ModelRun,
    test: answer.Tested | None,
    changed: Trace,
    gone: Sequence[int],
    after: Float[Tensor, " class"] | None,
    controls: Float[Tensor, "draw class"] | None,
) -> None:
    """One head's maps before and after, the downloads and the code."""
    tokens = about.sample.tokens["main"]
    missing = torch.zeros(len(tokens), dtype=torch.bool)
    missing[list(gone)] = True
    section(answer.prose(about), "One head, before and after")
    start = test.read_from[0] if test is not None and len(test.read_from) == 1 else 0
    found = maps.compare(about, changed, start, lambda *_: missing.expand(len(tokens), -1).numpy())

    def arrays() -> dict[str, np.ndarray]:
        given = {"removed": missing.numpy(), "tokens": np.array(tokens.labels)}
        if test is not None and after is not None and controls is not None:
            given |= {"logits_before": test.logits.numpy(), "logits_after": after.numpy(), "random": controls.numpy()}
        return given | ({} if found is None else {"maps": found.maps})

    rows = None if test is None or after is None else lambda: answer.answer_rows(test, after)
    downloads(arrays, rows, f"test-remove-{about.source}", of_row="Answers as CSV")
    again.python(about, f"remove(sample, {again.listed(gone)})", test)


def problem(about: ModelRun, test: answer.Tested | None, among: Sequence[int], gone: Sequence[int]) -> str:
    """Why this removal cannot be tested and what to do, as a sentence; empty where it can."""
    if not gone:
        return NOTHING
    if test is not None and test.read_from and set(test.read_from) <= set(gone) and len(test.read_from) == 1:
        return UNREAD.format(about.sample.tokens["main"].labels[test.read_from[0]])
    return EVERYTHING if set(among) <= set(gone) else ""


def ranked(about: ModelRun, test: answer.Tested | None, where: Any) -> tuple[str, Float[Tensor, " token"] | None]:
    """The method that ranks the tokens and its numbers; None, and a sentence, where it does not apply.

    A rollout of a decoder gathers on the first tokens, so raw attention is the first choice there.
    """
    titles = {name: method.title for name, method in METHODS.items()}
    usual = "raw attention" if about.model.spec.causal else "rollout"
    name = select("Ranked by", titles, default=usual, key="method", where=where, width=200, help=WHY_RANKING)
    key = ("ranking", about.model.digest, about.sample.digest, name)
    try:
        return name, computed(key, partial(rank, about, test, name), "Ranking the tokens")
    except (NoTokenMap, UnsupportedMask) as error:
        st.caption(NO_RANKING.format(str(error).rstrip(".")))
        return name, None


def rank(about: ModelRun, test: answer.Tested | None, name: str, progress: Progress) -> Float[Tensor, " token"]:
    """One number for each token by a method. Raises NoTokenMap, UnsupportedMask."""
    method = METHODS[name]
    if method.needs_class and test is None:
        raise NoTokenMap("it names no class, and this method explains one")
    target = test.target if method.needs_class and test is not None else None
    more = {"progress": progress} if method.slow else {}
    return explain(name, about.model, about.sample, target, trace=about.trace, **more).detach().float().cpu()
