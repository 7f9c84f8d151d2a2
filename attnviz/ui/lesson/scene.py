"""What the Lesson is made of: the sentence, the word it is about, the step, and the two small models behind it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import streamlit as st
import torch
from jaxtyping import Float

from attnviz import plots
from attnviz.models.guess import Guesser, load_guesser
from attnviz.models.words import Reading, WordVectors, load_words
from attnviz.plots import theme
from attnviz.types import Trace
from attnviz.ui.core.cache import core
from attnviz.ui.core.state import buttons, go, keep_inside, one_of
from attnviz.ui.widgets.answers import percent
from attnviz.ui.widgets.output import dark, plot

SENTENCE = "Tommy can be annoying but he is a good dog"
LONGEST, LETTERS, LEAST = 24, 400, 2  # words that are read, characters that may be typed, words a step needs
FIRST = 5  # the word it is about, to begin with: "he"


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
    chosen: int  # the word it is about

    @property
    def word(self) -> str:
        """The word it is about."""
        return self.words[self.chosen]

    def run(self, **options: Any) -> Trace:
        """What the block computes for the sentence."""
        with core(), torch.no_grad():
            return network()[0](torch.tensor(self.ids), labels=self.words, **options)


def scene() -> Scene | None:
    """The visitor's sentence and word, both in the URL; None, with an explanation, where there is too little."""
    text = st.text_input("Your sentence", SENTENCE, max_chars=LETTERS, key="sentence", bind="query-params")
    reading = table().read(text or "", LONGEST)
    for said in remarks(reading):
        st.caption(said)
    if len(reading.words) < LEAST:
        st.info(
            f"Type at least {LEAST} English words that the table knows, such as: {SENTENCE}.", icon=":material/info:"
        )
        return None
    labels = [f"{i + 1} {word}" for i, word in enumerate(reading.words)]  # a word may come twice
    keep_inside("word", labels)
    first = labels[min(FIRST, len(labels) - 1)]
    picked = one_of("The word to follow", labels, default=first, key="word", kind="pills")
    return Scene(reading.words, reading.ids, table().vectors[list(reading.ids)].numpy(), labels.index(picked))


def remarks(reading: Reading) -> list[str]:
    """What was left out of the sentence, and why."""
    said = []
    if reading.unknown:
        words = ", ".join(f"`{word[:30]}`" for word in reading.unknown[:6])
        more = f" and {len(reading.unknown) - 6} more" if len(reading.unknown) > 6 else ""
        said.append(f"Left out, because the table of {len(table().words):,} words has no row for it: {words}{more}.")
    if reading.cut:
        said.append(f"The first {LONGEST} words are read; {reading.cut} more were left out.")
    return said


def step_choice(count: int) -> int:
    """Which step is shown, counting from 1."""
    return 1 + buttons("Step", list(range(1, count + 1)), "step", at=0)


def turn(step: int, count: int) -> None:
    """Back and on."""
    with st.container(horizontal=True):
        st.button("Back", icon=":material/arrow_back:", disabled=step == 1, on_click=go, kwargs={"step": step - 1})
        st.button(
            "Next",
            icon=":material/arrow_forward:",
            type="primary",
            disabled=step == count,
            on_click=go,
            kwargs={"step": step + 1},
        )


# Pictures ------------------------------------------------------------------------------------------------------------
def matrix(
    values: Float[np.ndarray, "query key"], here: Scene, key: str, alt: str, *, height: int = 440, **options: Any
) -> None:
    """A matrix over the words: rows are queries, columns are keys; the row of the chosen word is framed."""
    figure = plots.heatmap(
        values,
        rows=here.words,
        columns=here.words,
        square=True,
        dark=dark(),
        most_ticks=LONGEST,
        height=height,
        **options,
    )
    figure.update_xaxes(tickangle=-40, automargin=True)
    line = {"color": theme.colour("query", dark()), "width": 2.5}
    figure.add_shape(
        type="rect", x0=-0.5, x1=len(here.words) - 0.5, y0=here.chosen - 0.5, y1=here.chosen + 0.5, line=line
    )
    plot(figure, key, alt=alt)


def weights(values: Float[np.ndarray, "query key"], here: Scene, key: str, what: str, **options: Any) -> None:
    """A matrix of shares; where a few are far above the rest, colours end below them, and the scale says so."""
    most, high = float(np.nanmax(values)), float(np.nanquantile(values, 0.97))
    clipped = most > 1.5 * high
    options = {
        "value": "weight, colours clipped" if clipped else "weight",
        "form": ".1%",
        "limits": (0, high if clipped else most),
    } | options
    matrix(values, here, key, f"{what}: rows are queries, columns are keys. {row_said(values, here)}", **options)


def row_said(values: Float[np.ndarray, "query key"], here: Scene) -> str:
    """Where most of the chosen word's row lies, in words."""
    best = int(np.nanargmax(values[here.chosen]))
    whom = "itself" if best == here.chosen else here.words[best]
    return f"The word {here.word} gives most, {percent(values[here.chosen][best])}, to {whom}"


def row_bars(row: Float[np.ndarray, " key"], here: Scene, key: str, alt: str, **options: Any) -> None:
    """One number for every word of the sentence."""
    options = {"form": ".1%", "colours": "key", "height": 260} | options
    figure = plots.bars(row, labels=here.words, most_ticks=LONGEST, chosen=here.chosen, dark=dark(), **options)
    figure.update_xaxes(tickangle=-40, automargin=True)
    plot(figure, key, alt=alt)


def nearest(vector: Float[np.ndarray, " feature"], count: int = 6, without: Sequence[str] = ()) -> str:
    """The words nearest to a vector, in a line."""
    found = table().near(torch.from_numpy(np.asarray(vector, np.float32)), count, without)
    return ", ".join(f"{near.word} ({near.cosine:.2f})" for near in found)
