"""What the Rollout page of a text is made of, beside what it shares with the one of pictures."""

from __future__ import annotations

import numpy as np
import streamlit as st

from attnviz import views
from attnviz.types import Tokens
from attnviz.ui.core.labels import layer_name
from attnviz.ui.core.state import go
from attnviz.ui.inputs.text_run import TextRun
from attnviz.ui.rollout.steps import ANSWER, PATCH, SLOT, Choice, Result, answered_by
from attnviz.ui.widgets.answers import percent
from attnviz.ui.widgets.text_display import Look


def group_of(choice: Choice, look: Look) -> int | None:
    """What is shown that relevance starts at, if it is one word; the first one where the picked token is left out."""
    return (look.groups.shown(choice.token) or 0) if choice.target == PATCH else None


def of_word(result: Result, look: Look, group: int | None) -> Result:
    """The maps of a whole word, from all its pieces alike; of a long text, those of its first piece."""
    if group is None or result.every is None:
        return result
    rows = result.every[:, list(look.groups.groups[group])].mean(1)
    return Result(rows[:-1], rows[-1], result.every)


def send(choice: Choice, result: Result, look: Look) -> None:
    """Give the browser the maps of the target, or those of every token so that pointing shows each."""
    titles = [*(f"From {layer_name(i).lower()}" for i in range(choice.depth)), "Raw attention"]
    if result.every is None:
        shown = look.rows(np.concatenate([result.steps, result.raw[None]]))
    else:
        shown = look.maps(result.every)
    views.send_maps(SLOT, shown, titles=titles, keys=look.tokens, map_type="relevance")


def pick(about: TextRun, look: Look, chosen: tuple[int, ...]) -> None:
    """A click on a word makes it the target; letting go, or a click on what the answer is read from, the answer."""
    token = look.groups.first(chosen[-1]) if chosen else None
    if token is None or token == answered_by(about):
        go(target=ANSWER)
    else:
        go(target=PATCH, token=(token,))


def special_words(tokens: Tokens, choice: Choice, result: Result) -> str:
    """How much of each map lies on special tokens."""
    special = np.array([word < 0 for word in tokens.words or ()])
    names = ", ".join(dict.fromkeys(label for label, is_one in zip(tokens.labels, special, strict=True) if is_one))
    shares = [percent(float(row[special].sum())) for row in (result.steps[choice.first], result.raw)]
    return f"On {names}: **{shares[0]}** of the rollout, **{shares[1]}** of raw attention."


def top_words(choice: Choice, result: Result, look: Look, count: int = 6) -> None:
    """The words with most relevance, with exact numbers and their raw attention."""
    row, raw = look.rows(result.steps[choice.first][None])[0], look.rows(result.raw[None])[0]
    best = np.argsort(-row, kind="stable")[:count]
    share = st.column_config.NumberColumn(format="%.2f %%")
    data = {
        "Word": [look.tokens.labels[int(i)] for i in best],
        "Rollout": 100 * row[best],
        "Raw attention": 100 * raw[best],
    }
    st.dataframe(data, hide_index=True, column_config={"Rollout": share, "Raw attention": share})
