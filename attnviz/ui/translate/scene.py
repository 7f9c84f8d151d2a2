"""What the Translate page is about: a sentence, two models that translate it, their translations, the step shown."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import streamlit as st
import torch

from attnviz.measures.fragments import cannot_read
from attnviz.models import TranslationModel, load_translator
from attnviz.models.beam import Beam
from attnviz.types import Sample, Tokens, Trace
from attnviz.ui.core.cache import core, traces
from attnviz.ui.core.labels import plain
from attnviz.ui.core.sized_cache import SizedCache
from attnviz.ui.core.state import buttons, chosen_token, forget_belongings, go, set_tokens
from attnviz.ui.widgets.answers import percent

TRANSFORMER, RECURRENT = "translator", "seq2seq"
SAMPLES = {  # all of them translated right: `python -m attnviz.curate`
    "black cat": "A black cat is sleeping on a white chair.",
    "black dogs": "Two black dogs are running through the snow.",
    "white house": "He lives in a big white house.",
    "red dress": "The little girl is wearing a red dress.",
    "book": "She is reading an interesting book.",
    "garden": "I saw a black cat in the garden.",
    "keys": "I don't know where my keys are.",
}
UNREADABLE = (
    "The model reads English. This text falls apart into single letters and bytes, so its translation means nothing: "
    "type it in English."
)
FIRST = SAMPLES["black cat"]
LETTERS = 4000  # that may be typed; far more than the networks read
WIDTHS = (1, 2, 4, 8)  # of the beam
BEAM = 4  # to begin with
PACE = 0.7  # seconds between two steps that play by themselves
PLAYING = "translate:playing"
SEARCH = "translate:search"  # session key: a search that is shown as it goes: True, or what it is of and the search


@st.cache_resource(max_entries=4, show_spinner="Opening the translator")
def translator(name: str) -> TranslationModel:
    """A shipped translator, on the processor: a sentence is little work. Raises DamagedModel."""
    return load_translator(name)


@st.cache_resource(show_spinner=False)
def searches() -> SizedCache[list[Beam]]:
    """What beam searches found lately."""
    return SizedCache(entries=512, size=1)


@dataclass(frozen=True, eq=False)
class Written:
    """A translation by one model, and everything computed for it."""

    model: TranslationModel
    sample: Sample
    beam: Beam
    trace: Trace

    @property
    def text(self) -> str:
        """The translation as text."""
        return self.model.text(self.beam.ids)

    @property
    def tokens(self) -> Tokens:
        """The generated tokens, one for each step."""
        return self.model.named(self.beam.ids, stream=f"{self.model.name}: written")

    @property
    def probabilities(self) -> list[float]:
        """The probability of each token at its step."""
        said = self.trace.logits["word"].softmax(-1)
        return [float(row[token]) for row, token in zip(said, self.beam.ids, strict=True)]


def sentence() -> str:
    """The visitor's English, in the URL."""
    typed, samples = st.columns([3, 2], vertical_alignment="bottom")
    text = typed.text_area(
        "English", FIRST, max_chars=LETTERS, key="english", bind="query-params", height=68, on_change=begin
    )
    with samples, st.container(horizontal=True, gap="xsmall"):
        for name, sample in SAMPLES.items():
            st.button(name, key=f"translate:sample:{name}", help=sample, on_click=use, args=(sample,))
    return text or ""


def use(sample: str) -> None:
    """Translate a sample."""
    begin()
    go(english=sample)


def begin() -> None:
    """Another sentence: its translation is shown as it is found, from the first token."""
    restart()
    st.session_state[SEARCH] = True


def restart(since: str = "") -> None:
    """Forget what was chosen of the last sentence; `since`: of a search, of a translation."""
    forget_belongings("english", since)
    st.session_state.pop(SEARCH, None)


def found(name: str, sample: Sample, width: int) -> tuple[Beam, ...]:
    """What a search of this width finds, the best first. Raises DamagedModel, Busy."""
    model = translator(name)

    def search() -> list[Beam]:
        with st.spinner("Translating"), core():
            return model.beams(sample, width)

    return tuple(searches().get((model.digest, sample.digest, str(width)), search))


def growing(model: TranslationModel, sample: Sample, width: int) -> Written | None:
    """The likeliest translation so far of a sentence the visitor has just given, a token longer in every run.

    None once the search has ended, and for a sentence of a link, whose translation is shown at once. Raises Busy.
    """
    state, key = st.session_state, (model.digest, sample.digest, str(width))
    if SEARCH not in state:
        return None
    if state[SEARCH] is True or state[SEARCH][0] != key:
        state[SEARCH] = key, model.searching(sample, width)
    with core(), torch.no_grad():
        try:
            beam = next(state[SEARCH][1])
            return Written(model, sample, beam, model.trace(sample, beam.ids))
        except StopIteration as end:
            found = end.value
    searches().get(key, lambda: found)
    skip()
    return None


def skip() -> None:
    """Show the whole translation at once."""
    st.session_state.pop(SEARCH, None)


def chosen(model: TranslationModel, sample: Sample, width: int) -> Written:
    """The translation the visitor has chosen among those found. Raises DamagedModel, Busy."""
    return written(TRANSFORMER, sample, alternative(model, found(TRANSFORMER, sample, width)))


def written(name: str, sample: Sample, beam: Beam) -> Written:
    """One translation and everything computed for it. Raises DamagedModel, Busy."""
    model = translator(name)

    def trace() -> Trace:
        with core(), torch.no_grad():
            return model.trace(sample, beam.ids)

    return Written(model, sample, beam, traces().get((model.digest, sample.digest, repr(beam.ids)), trace))


def recurrent(sample: Sample, width: int) -> Written:
    """The best translation of the recurrent model, which has the same vocabulary. Raises DamagedModel, Busy."""
    return written(RECURRENT, sample, found(RECURRENT, sample, width)[0])


def remarks(sample: Sample, model: TranslationModel) -> list[str]:
    """What was not read, and what is longer than anything the model was trained on."""
    said, count = [], len(sample.inputs["source"])
    if sample.cut:
        last = plain(sample.text.split()[-1][-30:])
        words = len(sample.cut.split())
        said.append(
            f"The model reads {model.spec.context_length} tokens: up to “{last}”. The {words:,} words after it "
            "were left out."
        )
    if model.tokenizer is not None and cannot_read(model.tokenizer, sample.text):
        said.append(UNREADABLE)
    longest = model.facts.get("context_length")
    if longest and count > longest:
        said.append(
            f"This text has {count} tokens. The model was trained on sentences of at most {longest}, so expect little "
            "of a longer one: give it sentence by sentence."
        )
    return said


# The step ------------------------------------------------------------------------------------------------------------
def playing() -> bool:
    """Whether steps follow each other by themselves."""
    return bool(st.session_state.get(PLAYING))


def step_choice(here: Written) -> int:
    """How many tokens are generated so far: a slider, buttons, or playing; all of them to begin with."""
    count, key = len(here.beam.ids), "translate:written"
    now = written_so_far(count)
    if playing():
        move(now + 1)
        now = written_so_far(count)
        if now == count:
            st.session_state[PLAYING] = False
            st.rerun()  # the whole page, so that the clock stops
    with st.container(horizontal=True, vertical_alignment="bottom"):
        if count > 1:
            st.session_state[key] = now  # a link, the slider and another sentence all go through one choice
            st.slider("Generated tokens", 1, count, key=key, on_change=lambda: move(st.session_state[key]))
        first, last = now == 1, now == count
        st.button("Back", "translate:back", icon=":material/undo:", disabled=first, on_click=move, args=(now - 1,))
        st.button("Next", "translate:forward", icon=":material/redo:", disabled=last, on_click=move, args=(now + 1,))
        on, begin = playing(), 1 if now == count else now
        pressed = st.button(
            "Pause" if on else "Play",
            icon=":material/pause:" if on else ":material/play_arrow:",
            disabled=count == 1,
            on_click=play,
            args=(begin, not on),
            key="translate:play",
        )
    if pressed:
        st.rerun()  # the whole page, so that the clock starts or stops
    return now


def growth(here: Written) -> int:
    """The controls of the steps while the translation grows, where they will stand; the number of its tokens."""
    count = len(here.beam.ids)
    with st.container(horizontal=True, vertical_alignment="bottom"):
        st.slider("Generated tokens", 0, count, count, disabled=True, key="translate:growing")
        st.button("Back", "translate:back", icon=":material/undo:", disabled=True)
        st.button("Next", "translate:forward", icon=":material/redo:", disabled=True)
        st.button("Show all", "translate:play", icon=":material/skip_next:", on_click=skip)
    return count


def leading(here: Written) -> None:
    """The hypothesis that leads the search so far."""
    st.markdown(f"**Translation so far**  \n{plain(here.text) or '*nothing*'}")
    st.caption(f"probability {likely(here.beam.total)}; the search may still prefer another")


def written_so_far(count: int) -> int:
    """How many of so many tokens are generated, in the address."""
    return max(1, chosen_token("written", count + 1, count))


def move(step: int) -> None:
    """Show another step; its last token is chosen, not the one that was."""
    set_tokens("written", (step,))
    set_tokens("at", ())


def play(step: int, on: bool) -> None:
    """Start from a step, or stop there."""
    move(step)
    st.session_state[PLAYING] = on


def token_choice(here: Written, step: int) -> int:
    """The generated token that is chosen: by the visitor, else the last, or one in the middle when all is generated."""
    count = len(here.beam.ids)
    return chosen_token("at", step, step - 1 if step < count else count // 2)


def pick(tokens: Sequence[int]) -> None:
    """Choose a token; without one it is the last."""
    set_tokens("at", tokens[-1:])


def beam_choice() -> int:
    """How many hypotheses the beam search keeps."""
    return WIDTHS[buttons("Beam width", WIDTHS, "beam", at=WIDTHS.index(BEAM), on_change=restart, args=("choice",))]


def alternative(model: TranslationModel, beams: Sequence[Beam]) -> Beam:
    """One of the translations the search has found; the best to begin with."""
    at, key = chosen_token("choice", len(beams)), "translate:choice"
    texts = [plain(model.text(beam.ids)) or "*nothing*" for beam in beams]
    captions = [f"probability {likely(beam.total)}, score {beam.score:.2f}".replace("-", "−") for beam in beams]

    def choose() -> None:
        restart("written")
        set_tokens("choice", [st.session_state[key]])

    st.session_state[key] = at  # a link, the radio and another sentence all go through one choice
    st.radio(
        "Translations found",
        range(len(beams)),
        format_func=texts.__getitem__,
        captions=captions,
        key=key,
        on_change=choose,
    )
    return beams[at]


def likely(total: float) -> str:
    """A log-probability in words: as a share, or as one in so many where it is small."""
    share = math.exp(total)
    if share < 1e-9:
        return "less than 1 in a billion"
    return percent(share) if share >= 1e-3 - 1e-9 else f"1 in {round(1 / share):,}"
