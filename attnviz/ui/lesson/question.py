"""Questions of the Lesson: which word does a step pick for the focus word, before its matrix is shown?"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import numpy as np
import streamlit as st
from jaxtyping import Float

from attnviz.ui.core.labels import head_name
from attnviz.ui.core.state import head_choice
from attnviz.ui.lesson.scene import Scene, focus_label
from attnviz.ui.lesson.vectors import SIMILARITIES, SIMILARITY_TITLES, similarity_choice
from attnviz.ui.widgets import asking
from attnviz.ui.widgets.answers import percent

NO_QUESTION = "Steps 3 and 7 have a question."


class Question(NamedTuple):
    """What is asked about the focus word's row, and how its numbers are written."""

    asked: str
    row: Float[np.ndarray, " key"]  # NaN where a word cannot be the answer
    unit: Callable[[float], str]
    about: str  # what it depends on beside step, sentence and focus word
    choice: Callable[[], object]  # the choice of the step that this is, drawn while the step itself is not


def most_alike(here: Scene) -> Question:
    """Step 3: the other word with the largest product."""
    name = held("compare")
    name = name if name in SIMILARITIES else "dot"
    row = SIMILARITIES[name](here.vectors)[here.focus].astype(np.float64)
    row[here.focus] = np.nan
    asked = f"Which other word has the largest {SIMILARITY_TITLES[name].lower()} with **{here.word}**?"
    return Question(asked, row, "{:.2f}".format, name, similarity_choice)


def most_weight(here: Scene) -> Question:
    """Step 7: the word that a learned head attends to most."""
    call = here.run().calls[0]
    chosen = held("head")
    at = int(chosen) - 1 if chosen in [str(head + 1) for head in range(call.heads)] else 0
    row = call.weights([at], [here.focus])[0, 0].numpy().astype(np.float64)
    asked = f"Which word does {head_name(at).lower()} attend to most from **{here.word}**?"
    return Question(asked, row, percent, str(at), partial(head_choice, call))


def held(key: str) -> str:
    """What is chosen by a key, as the address says it, before its buttons are drawn."""
    return str(st.session_state.get(key, st.query_params.get(key, "")))


def ask(here: Scene, step: int, question: Question) -> bool:
    """Ask, or say how the guess came out; whether the visitor has guessed."""
    name = f"lesson:{step}:{question.about}:{here.focus}:{' '.join(here.words)}"
    found = asking.answered(name)
    if found is None:
        asking.stand_alone()
        with st.container(key="around_choice"):
            question.choice()
        st.markdown(question.asked)
        with st.container(horizontal=True):
            for key, word in enumerate(here.words):
                st.button(
                    word,
                    key=f"ask:word:{key}",
                    disabled=bool(np.isnan(question.row[key])),
                    on_click=asking.guess,
                    args=(name, question.row, key),
                )
    else:
        asking.say_outcome(found, lambda key: f"“{here.words[key]}”", question.unit)
    asking.offer_link("lesson", step=step, word=focus_label(here.words, here.focus), sentence=" ".join(here.words))
    return found is not None
