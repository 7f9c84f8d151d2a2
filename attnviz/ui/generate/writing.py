"""What the Generate page is about: a beginning, what was written after it, how far it is shown, how it is drawn on.

What was written stands in the address piece by piece, so that a link brings the same text on any machine; settings and
seed decide what is written next.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
import streamlit as st
from jaxtyping import Float

from attnviz.models import TextModel
from attnviz.models.generate import SamplingConfig, continued, filtered, next_token_probabilities, words
from attnviz.models.subwords import EOS, SPECIAL
from attnviz.types import Sample, Trace
from attnviz.ui.core.cache import core, open_model, trace
from attnviz.ui.core.labels import plain
from attnviz.ui.core.state import SEEN, go, keep_inside, set_tokens, whole_number
from attnviz.ui.inputs.sentences import SENTENCES
from attnviz.ui.inputs.text_run import LETTERS, prepared_text

NAME = "stories"
SAID, OF, WISH = "said", "generate:of", "generate:wish"  # session keys: pieces, of which beginning, what was asked for
SAMPLES = dict(
    zip(("a village", "the fox", "the keys", "a blue shirt", "Tom and Mary"), SENTENCES["stories"], strict=True)
)
DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"


@dataclass(frozen=True, eq=False)
class Scene:
    """The text so far and everything one pass over it computed."""

    model: TextModel
    begin: Sample
    said: tuple[int, ...]  # all pieces written, those stepped back over included
    step: int  # how many of them are shown
    settings: SamplingConfig
    sample: Sample  # the beginning and the pieces shown
    trace: Trace

    @property
    def ids(self) -> list[int]:
        """The pieces of the text so far, BOS included."""
        return self.sample.inputs["main"].tolist()

    @property
    def full(self) -> bool:
        """Whether the network can read no more."""
        return len(self.ids) >= self.model.config.context_length

    @property
    def ended(self) -> bool:
        """Whether the text has come to its end."""
        return self.ids[-1] == EOS

    def chances(self) -> tuple[Float[np.ndarray, " piece"], Float[np.ndarray, " piece"]]:
        """What the network expects next, and what the settings leave of it."""
        next_piece = next_token_probabilities(self.trace.logits["word"][-1])
        return next_piece.numpy(), filtered(next_piece, self.settings).numpy()

    def label(self, id: int) -> str:
        """What a piece is called if it came next; an ellipsis before it where it goes on with a word."""
        return continued(self.model, self.sample, [id]).tokens["main"].labels[-1]


def beginning() -> str:
    """The visitor's beginning, in the URL."""
    text = st.text_area(
        "A beginning", SENTENCES[NAME][0], max_chars=LETTERS, key="begin", bind="query-params", height=68
    )
    with st.container(horizontal=True, gap="small"):
        for name, sample in SAMPLES.items():
            st.button(name, key=f"generate:sample:{name}", help=plain(sample), on_click=go, kwargs={"begin": sample})
    return text or ""


def settings_choice() -> SamplingConfig:
    """How the next piece is drawn."""
    first, second = st.columns(2)
    with first:
        temperature = st.slider(
            "Temperature",
            0.0,
            2.0,
            0.7,
            0.1,
            key="temperature",
            bind="query-params",
            help="Scores are divided by it before the softmax: below 1 the likely gets likelier, "
            "above 1 everything gets more alike. 0 takes the likeliest.",
        )
        top_k = st.slider(
            "Top-k",
            0,
            100,
            0,
            key="topk",
            bind="query-params",
            help="Only so many of the likeliest are drawn from; 0 = all.",
        )
    with second:
        top_p = st.slider(
            "Top-p",
            0.05,
            1.0,
            0.95,
            0.05,
            key="topp",
            bind="query-params",
            help="Only the likeliest that together reach this share are drawn from.",
        )
        seed = whole_number(
            "Seed", 999, key="dice", help="Other dice. The same text, settings and seed go on in the same way."
        )
    return SamplingConfig(temperature, top_k, top_p, seed)


# What was written ----------------------------------------------------------------------------------------------------
def written(model: TextModel, begin: Sample) -> tuple[int, ...]:
    """The pieces written after this beginning, from the session or, where it has changed by itself, the URL."""
    seen, url = st.session_state.setdefault(SEEN, {}), st.query_params.get(SAID)
    if url is not None if SAID not in seen else url != seen[SAID]:
        st.session_state[SAID] = decoded(url or "", len(model.tokenizer))
    elif st.session_state.get(OF) != begin.digest:
        st.session_state[SAID] = ()
        moved()
    st.session_state[OF] = begin.digest
    return tuple(st.session_state[SAID][: model.config.context_length - len(begin.inputs["main"])])


def wish(what: str | int) -> None:
    """Ask for so many words, or for one piece by its number; done when the page runs again."""
    st.session_state[WISH] = what


def fulfil(model: TextModel, begin: Sample, said: tuple[int, ...], settings: SamplingConfig) -> tuple[int, ...]:
    """What is written after the visitor's last wish, kept in session and URL. Raises Busy."""
    asked = st.session_state.pop(WISH, None)
    if asked is not None:
        step = min(st.session_state.get("pieces", len(said)), len(said))
        ids = [*begin.inputs["main"].tolist(), *said[:step]]
        if isinstance(asked, str):
            with st.spinner("Writing"), core():
                new = words(model, ids, settings, int(asked))
        else:
            new = [asked] if len(ids) < model.config.context_length and ids[-1] != EOS else []
        if new:
            said = (*said[:step], *new)
            move(len(said))
    st.session_state[SAID] = said
    text = encoded(said)
    if text != st.query_params.get(SAID, ""):
        if text:
            st.query_params[SAID] = text
        else:
            del st.query_params[SAID]
    st.session_state[SEEN][SAID] = st.query_params.get(SAID)
    return said


def encoded(ids: Sequence[int]) -> str:
    """Pieces for an address, each as a number of base 36."""
    return ".".join(np.base_repr(id, 36).lower() for id in ids)


def decoded(text: str, vocabulary: int) -> tuple[int, ...]:
    """The pieces of an address up to the first that cannot be one, and at most up to an end."""
    found: list[int] = []
    for part in text[:4000].split("."):
        if not re.fullmatch(r"[0-9a-z]{1,4}", part) or (id := int(part, 36)) >= vocabulary:
            break
        if id < len(SPECIAL) and id != EOS:
            break
        found.append(id)
        if id == EOS:
            break
    return tuple(found)


# The step ------------------------------------------------------------------------------------------------------------
def step_choice(count: int) -> int:
    """How many written pieces are shown, all to begin with: a slider, or a piece back and on."""
    keep_inside("pieces", range(count + 1))
    now = count
    with st.container(horizontal=True, vertical_alignment="bottom"):
        if count:
            now = st.slider("Pieces written", 0, count, count, key="pieces", bind="query-params", on_change=moved)
        st.button("Back", icon=":material/undo:", disabled=now == 0, on_click=move, args=(now - 1,))
        st.button("On", icon=":material/redo:", disabled=now == count, on_click=move, args=(now + 1,))
    return now


def move(step: int) -> None:
    """Show another step."""
    go(pieces=step)
    moved()


def moved() -> None:
    """The last token is looked from again, not the one that was picked."""
    set_tokens("asks", ())


def scene(model: TextModel, begin: Sample, said: tuple[int, ...], step: int, settings: SamplingConfig) -> Scene:
    """The text so far, with its one pass. Raises DamagedModel, Busy."""
    sample = continued(model, begin, said[:step])
    return Scene(model, begin, said, step, settings, sample, trace(NAME, sample))


def opened(text: str) -> tuple[TextModel, Sample]:
    """The model and the beginning made ready for it. Raises DamagedModel."""
    model = cast(TextModel, open_model(NAME))
    return model, prepared_text(model.digest, hashlib.sha256(text.encode()).hexdigest(), model, text)


def both_texts(here: Scene) -> tuple[str, str]:
    """The beginning and what was written after it, whole characters only."""
    begun = here.model.tokenizer.decode(here.begin.inputs["main"].tolist())
    whole = here.model.tokenizer.decode(here.ids)
    return (here.begin.text, whole[len(begun) :]) if whole.startswith(begun) else ("", whole)


def words_written(here: Scene) -> int:
    """How many words were written."""
    found = here.said[: here.step]
    return sum(here.model.tokenizer.begins_word(id) for id in found if id != EOS)
