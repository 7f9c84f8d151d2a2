"""What the Translate page is about: a sentence, two networks that translate it, what they wrote, the step shown."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import streamlit as st
import torch

from attnviz.models.beam import Beam
from attnviz.models.store import ASSETS
from attnviz.models.translation import TranslationModel, open_translation
from attnviz.types import Sample, Tokens, Trace
from attnviz.ui.cache import core, traces
from attnviz.ui.sentences import TIRED, WIDE
from attnviz.ui.shelf import Shelf
from attnviz.ui.state import buttons, chosen_token, go, keep_inside, set_tokens

TRANSFORMER, RECURRENT = "translator", "seq2seq"
SAMPLES = (
    TIRED,
    WIDE,
    "A man in a red shirt is playing the guitar on the street.",
    "I don't know where my keys are.",
    "She told him that she would come back the next day.",
    "Two black dogs are running through the snow.",
    "How long have you been waiting for me?",
    "If I had more time, I would learn to play the piano.",
)
LETTERS = 4000  # that may be typed; far more than the networks read
BEAM = 4  # to begin with
PACE = 0.7  # seconds between two steps that play by themselves
PLAYING = "translate:playing"


@st.cache_resource(max_entries=4, show_spinner="Opening the translator")
def translator(name: str) -> TranslationModel:
    """A shipped translator, on the processor: a sentence is little work. Raises DamagedModel."""
    return open_translation(ASSETS / name)


@st.cache_resource(show_spinner=False)
def searches() -> Shelf[list[Beam]]:
    """What beam searches found lately."""
    return Shelf(entries=512, size=1)


@dataclass(frozen=True, eq=False)
class Written:
    """What one network made of the sentence."""

    model: TranslationModel
    sample: Sample
    beams: tuple[Beam, ...]
    choice: int  # the one that is shown
    trace: Trace

    @property
    def beam(self) -> Beam:
        """The translation that is shown."""
        return self.beams[self.choice]

    @property
    def text(self) -> str:
        """The same in words."""
        return self.model.text(self.beam.ids)

    @property
    def tokens(self) -> Tokens:
        """The pieces that were written, one for each step."""
        return self.model.named(self.beam.ids, stream=f"{self.model.name}: written")

    @property
    def chances(self) -> list[float]:
        """How likely each piece was at its step."""
        said = self.trace.logits["word"].softmax(-1)
        return [float(row[piece]) for row, piece in zip(said, self.beam.ids, strict=True)]


def sentence() -> str:
    """The visitor's English, in the URL."""
    text = st.text_area("English", SAMPLES[0], max_chars=LETTERS, key="english", bind="query-params", height=80,
                        on_change=restart)  # fmt: skip
    with st.container(horizontal=True, gap="small"):
        for number, sample in enumerate(SAMPLES):
            st.button(sample, key=f"translate:sample:{number}", on_click=use, args=(sample,), type="tertiary")
    return text or ""


def use(sample: str) -> None:
    """Translate a sample."""
    restart()
    go(english=sample)


def restart() -> None:
    """Forget what was chosen of another translation."""
    for key in ("written", "choice", "at", PLAYING):
        st.session_state.pop(key, None)


def written(name: str, text: str, width: int, choice: int | None = None) -> Written:
    """The translation of a text and everything computed for it; `choice` None asks for the best.

    Raises DamagedModel, Busy.
    """
    model = translator(name)
    sample = model.prepare(text)
    key = (model.digest, sample.digest, str(width))

    def search() -> list[Beam]:
        with st.spinner("Translating"), core():
            return model.beams(sample, width)

    beams = tuple(searches().get(key, search))
    choice = min(choice or 0, len(beams) - 1)
    ids = beams[choice].ids

    def trace() -> Trace:
        with core(), torch.no_grad():
            return model.trace(sample, ids)

    return Written(model, sample, beams, choice, traces().get((model.digest, sample.digest, repr(ids)), trace))


def remarks(sample: Sample, model: TranslationModel) -> list[str]:
    """What was not read, and what is longer than anything the network has learned from."""
    said, count = [], len(sample.inputs["source"])
    if sample.cut:
        last = plain(sample.text.split()[-1][-30:])
        words = len(sample.cut.split())
        said.append(f"The network reads {model.config.longest} pieces: up to “{last}”. The {words:,} words after it "
                    "were left out.")  # fmt: skip
    longest = model.facts.get("longest")
    if longest and count > longest:
        said.append(f"This text has {count} pieces. The network learned from sentences of at most {longest}, so expect "
                    "little of a longer one: give it sentence by sentence.")  # fmt: skip
    return said


def plain(text: str) -> str:
    """A text as Markdown that shows just that text."""
    return re.sub(r"([\\`*_{}\[\]()#+\-.!|~$:<>&])", r"\\\1", text)


# The step ------------------------------------------------------------------------------------------------------------
def playing() -> bool:
    """Whether steps follow each other by themselves."""
    return bool(st.session_state.get(PLAYING))


def step_choice(here: Written) -> int:
    """How many pieces are written so far: a slider, buttons, or by itself; all of them to begin with."""
    count = len(here.beam.ids)
    keep_inside("written", range(1, count + 1))
    now = st.session_state.get("written", count)
    if playing():
        now = min(count, now + 1)
        move(now)
        if now == count:
            st.session_state[PLAYING] = False
            st.rerun()  # the whole page, so that the clock stops
    with st.container(horizontal=True, vertical_alignment="bottom"):
        st.button("Back", icon=":material/arrow_back:", disabled=now == 1, on_click=move, args=(now - 1,))
        st.button("On", icon=":material/arrow_forward:", disabled=now == count, on_click=move, args=(now + 1,))
        if playing():
            pressed = st.button(
                "Pause", icon=":material/pause:", key="translate:pause", on_click=play, args=(now, False)
            )
        else:
            begin = 1 if now == count else now
            pressed = st.button("Play", icon=":material/play_arrow:", key="translate:play", disabled=count == 1,
                                on_click=play, args=(begin, True))  # fmt: skip
        if count > 1:
            now = st.slider("Pieces written", 1, count, count, key="written", bind="query-params", on_change=moved)
    if pressed:
        st.rerun()
    return now


def move(step: int) -> None:
    """Show another step."""
    go(written=step)
    moved()


def moved() -> None:
    """The last piece is looked at again, not the one that was picked."""
    set_tokens("at", ())


def play(step: int, on: bool) -> None:
    """Start from a step, or stop there."""
    move(step)
    st.session_state[PLAYING] = on


def piece_choice(step: int) -> int:
    """The written piece that is looked at: the picked one, else the last."""
    return chosen_token("at", step, step - 1)


def pick(tokens: Sequence[int]) -> None:
    """Look at a piece; letting go looks at the last one."""
    set_tokens("at", tokens[-1:])


def beam_choice() -> int:
    """How many translations are kept while searching."""
    return buttons("Beam width", list(range(1, 9)), "beam", at=BEAM - 1) + 1


def alternative() -> int | None:
    """Which of the translations the visitor has chosen, before they are known."""
    chosen = st.session_state.get("choice", st.query_params.get("choice"))
    return int(chosen) - 1 if str(chosen).isdecimal() and 0 < int(chosen) <= 8 else None


def alternatives(here: Written) -> None:
    """All translations the search has found, with their probabilities; one can be chosen."""
    options = list(range(1, len(here.beams) + 1))
    keep_inside("choice", options)
    texts = [plain(here.model.text(beam.ids)) or "*nothing*" for beam in here.beams]
    captions = [f"{likely(beam.total)} · score {beam.score:.2f}" for beam in here.beams]
    st.radio("Translations found", options, format_func=lambda i: texts[i - 1], captions=captions, key="choice",
             bind="query-params", on_change=moved)  # fmt: skip


def likely(total: float) -> str:
    """A log-probability as a share, or as a power of ten where it is tiny."""
    power = total / 2.302585
    return f"{100 * 10**power:.1f}\u00a0%" if power > -3 else f"10^{power:.1f}"
