"""The text a visitor gives a model, and the record of it that pages read."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import streamlit as st

from attnviz.measures.fragments import cannot_read
from attnviz.models.text import WORD
from attnviz.types import Model, Sample, Tokenizer
from attnviz.ui.core.cache import is_text_model, model_names, open_model, trace
from attnviz.ui.core.labels import plain
from attnviz.ui.core.state import go
from attnviz.ui.inputs.model_run import ModelRun
from attnviz.ui.inputs.sentences import PAIRS, SENTENCES, sentences_of

KEPT = "attnviz:texts"  # session key: what was typed last, by field
READER = "attnviz:reader"  # session key: the model that read it last
TRAINED_ON_PAIRS = "It follows [SEP], as in the pairs of sentences that the model was trained on."
NEVER_A_PAIR = "It follows [SEP]. The model was never trained on pairs of sentences."
NO_TEXT = "Type a sentence in the sidebar. Until then there are only special tokens to show."
UNREADABLE = (
    "The model has learned from English and cannot read this text: it falls apart into single letters and bytes, so "
    "that an answer would mean nothing, and maps say little. Type it in English."
)
LETTERS = 4000  # that may be typed; far more than any model here reads, and still short enough for an address


@dataclass(frozen=True, eq=False, kw_only=True)
class TextRun(ModelRun):
    """One model, one text or two, and everything the model computed for it."""

    @property
    def tokenizer(self) -> Tokenizer:
        """The vocabulary the text was read with."""
        if self.model.tokenizer is None:
            raise ValueError(f"the model {self.name} reads no text")
        return self.model.tokenizer

    @property
    def unreadable(self) -> bool:
        """Whether the vocabulary has hardly any word of the text."""
        return self.model.tokenizer is not None and cannot_read(self.model.tokenizer, self.sample.text)


def reads_text() -> bool:
    """Whether the chosen model reads text. Also before the sidebar is drawn: then the address says it."""
    name = st.session_state.get("model", st.query_params.get("model", ""))
    return is_text_model(name) and name in model_names()


def choose_text(name: str) -> None:
    """The visitor's text, and a second one for a model that compares two; both in the address."""
    own, kept = sentences_of(name), st.session_state.setdefault(KEPT, {})
    for key, text in kept.items():  # a page without these fields makes them forget
        st.session_state.setdefault(key, text)
    samples = {text for texts in SENTENCES.values() for text in texts}
    if st.session_state.get(READER, name) != name and st.session_state.get("text") in samples - {*own}:
        st.session_state["text"] = own[0]  # the sample of the model before, which nobody typed
    st.session_state[READER] = name
    kept["text"] = st.text_area("Your text", own[0], max_chars=LETTERS, key="text", bind="query-params", height=110)
    model = open_model(name)
    if reads_pairs(model):
        kept["second"] = st.text_input(
            "A second sentence",
            max_chars=LETTERS,
            key="second",
            bind="query-params",
            help=TRAINED_ON_PAIRS if WORD in model.outputs else NEVER_A_PAIR,
        )
    if model.spec.context_length is not None:
        st.caption(f"The model `{name}` reads at most {model.spec.context_length} tokens.")


def reads_pairs(model: Model) -> bool:
    """Whether a second sentence may follow the first: an encoder whose vocabulary has a token between them."""
    return not model.spec.causal and model.tokenizer is not None and "sep" in model.tokenizer.special


def use(text: str) -> None:
    """Read a sample; of a pair the second sentence too."""
    go(text=text, second=PAIRS.get(text, ""))


def reading() -> TextRun:
    """What the visitor has chosen, with its trace. Raises DamagedModel, Busy."""
    name = st.session_state["model"]
    model = open_model(name)
    sample = read_by(model, pair=reads_pairs(model))
    return TextRun(model=model, name=name, sample=sample, trace=trace(name, sample), source="text")


def read_by(model: Model, *, pair: bool) -> Sample:
    """The visitor's text as a model reads it; the second one too, if there is one and it is asked for."""
    texts = (st.session_state.get("text") or "", st.session_state.get("second") or "")
    given = texts if pair and texts[1].strip() else texts[0]
    return prepared_text(model.digest, hashlib.sha256(repr(given).encode()).hexdigest(), model, given)


@st.cache_resource(max_entries=64, show_spinner=False)
def prepared_text(model_digest: str, text_digest: str, _model: Model, _text: str | tuple[str, str]) -> Sample:
    """A text made ready for a model."""
    return _model.prepare(_text)


def remarks(about: TextRun) -> None:
    """What was left out of a text longer than the context, and what to do without a text, or with one not read."""
    sample = about.sample
    if sample.cut:
        last = plain(sample.text.split()[-1][-30:]) if sample.text.split() else ""
        words = len(sample.cut.split())
        st.caption(
            f"The model reads {len(sample.tokens['main'])} tokens: up to “{last}”. The {words:,} words after it were "
            "left out."
        )
    if not sample.text:
        st.info(NO_TEXT, icon=":material/info:")
    elif about.unreadable:
        st.info(UNREADABLE, icon=":material/translate:")
