"""What the Lesson is made of: the sentence, its focus word, the step, and the two small models behind it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import streamlit as st
import torch
from jaxtyping import Float
from streamlit.delta_generator import DeltaGenerator

from attnviz.models.guess import Guesser, load_guesser
from attnviz.models.words import Reading, WordVectors, load_words
from attnviz.types import Trace
from attnviz.ui.core.cache import core
from attnviz.ui.core.state import buttons, go, keep_inside, one_of
from attnviz.ui.lesson.walking import BACK, NEXT

SENTENCE = "Tommy can be annoying but he is a good dog"
MAX_WORDS, MAX_LETTERS, MIN_WORDS = 24, 400, 2  # words that are read, characters that fit, words a step needs
FOCUS = 5  # the focus word to begin with: "he"
UNKNOWN_SHOWN = 6  # unknown words that are listed by name
TOO_SHORT = f"Type at least {MIN_WORDS} English words that the table knows, such as: {SENTENCE}."


@st.cache_resource(show_spinner="Opening the word vectors")
def table() -> WordVectors:
    """The shipped word vectors. Raises DamagedModel."""
    return load_words()


@st.cache_resource(show_spinner=False)
def network() -> tuple[Guesser, dict[str, Any]]:
    """The block over them, and the facts of its training. Raises DamagedModel."""
    return load_guesser(table())


@dataclass(frozen=True, eq=False)
class Scene:
    """The sentence as the steps see it."""

    words: tuple[str, ...]
    ids: tuple[int, ...]
    vectors: Float[np.ndarray, "token feature"]
    focus: int  # the token whose row the steps explain

    @property
    def word(self) -> str:
        """The focus word."""
        return self.words[self.focus]

    def run(self, **options: Any) -> Trace:
        """What the block computes for the sentence."""
        with core(), torch.no_grad():
            return network()[0](torch.tensor(self.ids), labels=self.words, **options)


def scene(row: DeltaGenerator) -> Scene | None:
    """The visitor's sentence and focus word, both in the URL; None, with an explanation, where there is too little.

    `row`: where the sentence stands, beside what the page puts there.
    """
    text = row.text_input("Your sentence", SENTENCE, max_chars=MAX_LETTERS, key="sentence", bind="query-params")
    reading = read(text)
    if len(reading.words) < MIN_WORDS:
        st.info(TOO_SHORT, icon=":material/info:")
        return None
    labels = [focus_label(reading.words, token) for token in range(len(reading.words))]
    keep_inside("word", labels)
    first = labels[min(FOCUS, len(labels) - 1)]
    picked = one_of("Focus word", labels, default=first, key="word", kind="pills")
    return Scene(reading.words, reading.ids, table().vectors[list(reading.ids)].numpy(), labels.index(picked))


def focus_label(words: tuple[str, ...], token: int) -> str:
    """A word with its place, "6 he", as it stands in the address: a word may come twice."""
    return f"{token + 1} {words[token]}"


def read(text: str | None) -> Reading:
    """The words of a text that the table knows, with a caption about what is left out."""
    reading = table().read(text or "", MAX_WORDS)
    if reading.unknown:
        st.caption(unknown_words(reading.unknown))
    if reading.cut:
        st.caption(f"The first {MAX_WORDS} words are read; {reading.cut} more are left out.")
    return reading


def unknown_words(unknown: tuple[str, ...]) -> str:
    """The sentence about words that have no vector."""
    words = ", ".join(f"`{word[:30]}`" for word in unknown[:UNKNOWN_SHOWN])
    more = f" and {len(unknown) - UNKNOWN_SHOWN} more" if len(unknown) > UNKNOWN_SHOWN else ""
    return f"Left out, because the table of {len(table().words):,} words has no row for it: {words}{more}."


def step_choice(count: int) -> int:
    """Which step is shown, counting from 1."""
    return 1 + buttons("Step", list(range(1, count + 1)), "step", at=0)


def step_buttons(step: int, count: int) -> None:
    """The buttons to the step before and the step after."""
    with st.container(horizontal=True):
        st.button(
            "Back", icon=":material/arrow_back:", key=BACK, disabled=step == 1, on_click=go, kwargs={"step": step - 1}
        )
        st.button(
            "Next",
            icon=":material/arrow_forward:",
            key=NEXT,
            type="primary",
            disabled=step == count,
            on_click=go,
            kwargs={"step": step + 1},
        )
