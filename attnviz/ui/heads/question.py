"""Questions of the page Heads: which patch, or which word, will this head give most weight?"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import streamlit as st
from jaxtyping import Float

from attnviz import views
from attnviz.measures.peaks import Outcome, Row, peaked_rows, shuffled
from attnviz.types import AttentionCall, Tokens
from attnviz.ui.core.cache import core
from attnviz.ui.core.labels import call_labels, spoken_name
from attnviz.ui.core.state import go, set_tokens
from attnviz.ui.heads.overview import place
from attnviz.ui.heads.text import words_alone
from attnviz.ui.inputs.model_run import ModelRun
from attnviz.ui.inputs.text_run import TextRun
from attnviz.ui.widgets import asking
from attnviz.ui.widgets.answers import percent
from attnviz.ui.widgets.text_display import Look

PEAKED = {"image": 0.2, "text": 0.5}  # share of the strongest patch or word in the rows that "another question" takes
NOUN = {"image": "patch", "text": "word"}


def name_of(model: str, sample: str, row: Row, keys: int) -> str:
    """What a question is told apart by in the session: model and input, row, and how many keys are shown."""
    layer, head, token = row
    return f"{model}:{sample}:{layer}.{head}.{token}:{keys}"


def ask(
    run: ModelRun,
    cell: tuple[int, int],
    token: int,
    row: Float[np.ndarray, " key"],
    shown: Tokens,
    query: int,
    draw: Callable[..., None],
) -> Outcome | None:
    """Ask which key receives most from a token and say how the guess came out; None while the question waits.

    `shown` are the keys as the page shows them, `query` the number of the token among them. `draw` shows them without
    any map and hands what is clicked to `on_pick`.
    """
    question = name_of(run.model.digest, run.sample.digest, (*cell, token), len(row))
    found, noun = asking.answered(question), NOUN[run.model.spec.modality]
    if found is None:
        asking.stand_alone()
        st.markdown(
            f"**{place(run, *cell)}:** which {noun} receives most weight from {spoken_name(shown, query)}? Click it."
        )
        draw(on_pick=lambda keys: asking.guess(question, row, keys[-1]) if keys else None)
    else:
        asking.say_outcome(found, lambda key: spoken_name(shown, key))
    more(run, cell, token, len(row))
    return found


def about_picture(
    run: ModelRun, cell: tuple[int, int], token: int, row: Float[np.ndarray, " key"], style: views.ViewStyle
) -> Outcome | None:
    """Ask which patch of the picture receives most from a patch, as `ask` does."""
    shown = run.sample.tokens["main"]
    draw = partial(views.picture_view, "question", picture="picture", tokens=[token], asks=True, style=style)
    return ask(run, cell, token, row, shown, token, partial(draw, label="Your picture"))


def about_text(
    run: TextRun, cell: tuple[int, int], look: Look, chosen: int, row: Float[np.ndarray, " key"]
) -> Outcome | None:
    """Ask which word receives most from a word, as `ask` does; `chosen` is its number among what is shown."""
    draw = partial(words_alone, look, [chosen])
    return ask(run, cell, look.groups.first(chosen), row, look.tokens, chosen, draw)


def more(run: ModelRun, cell: tuple[int, int], token: int, keys: int) -> None:
    """Another question, whose answer is peaked, and the link to this one."""
    least = PEAKED[run.model.spec.modality]
    digests = run.model.digest, run.sample.digest
    rows = predictable(*digests, run.trace.calls, least)
    rest = [row for row in rows if row != (*cell, token) and asking.answered(name_of(*digests, row, keys)) is None]
    with st.container(horizontal=True, vertical_alignment="center"):
        st.button(
            "Another question",
            key="ask:another",
            icon=":material/shuffle:",
            disabled=not rest,
            on_click=open_row,
            args=(run, *(rest or rows or [(*cell, token)])[0]),
        )
        labels = call_labels(run.trace)
        asking.offer_link("heads", layer=labels[cell[0]], head=cell[1] + 1, token=token)
        noun = NOUN[run.model.spec.modality]
        st.caption(f"Another question is one whose strongest {noun} has at least {percent(least)} of the weight.")


@st.cache_data(max_entries=16, show_spinner=False)
def predictable(model: str, sample: str, _calls: Sequence[AttentionCall], least: float) -> list[Row]:
    """Rows with a clear answer, in an order that is the same for a whole class."""
    with core():
        return shuffled(peaked_rows(_calls, least))


def open_row(run: ModelRun, layer: int, head: int, token: int) -> None:
    """Open one row of one head."""
    go(layer=call_labels(run.trace)[layer], head=head + 1)
    set_tokens("token", (token,))
