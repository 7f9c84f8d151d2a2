"""What a model of texts makes of one: praise, parts of speech, hidden and next words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import streamlit as st

from attnviz.measures.words import grouping
from attnviz.models.text import WORD
from attnviz.types import Model, Trace
from attnviz.ui.core.cache import forward
from attnviz.ui.core.labels import plain
from attnviz.ui.inputs.text_run import TextRun
from attnviz.ui.widgets.answers import percent

NAMES = {  # parts of speech, written out
    "ADJ": "adjective",
    "ADP": "preposition",
    "ADV": "adverb",
    "AUX": "auxiliary",
    "CCONJ": "conjunction",
    "DET": "determiner",
    "INTJ": "interjection",
    "NOUN": "noun",
    "NUM": "number",
    "PART": "particle",
    "PRON": "pronoun",
    "PROPN": "name",
    "PUNCT": "punctuation",
    "SCONJ": "subordinator",
    "SYM": "symbol",
    "VERB": "verb",
    "X": "other",
}
Guess = tuple[str, float]  # a piece and its probability


def likeliest(model: Model, trace: Trace, row: int, count: int = 5) -> list[Guess]:
    """The likeliest pieces at (or, for a decoder, after) one token; special pieces are no answer."""
    scores = trace.logits[WORD][row].float().clone()
    said = model.tokenizer.special.get("eos") if model.tokenizer else None  # that a text ends is an answer
    never = sorted(model.tokenizer.special_ids - {said}) if model.tokenizer else []
    scores[never] = float("-inf")
    best = scores.softmax(-1).topk(min(count, len(scores)))
    labels = model.outputs[WORD]
    return [(labels[int(i)], float(p)) for p, i in zip(best.values, best.indices, strict=True)]


def hidden_guesses(about: TextRun, token: int, count: int = 5) -> list[Guess]:
    """What the encoder expects in the place of one token, which is hidden from it."""
    ids = about.sample.inputs["main"].clone()
    ids[token] = about.tokenizer.special["mask"]
    sample = replace(about.sample, inputs={"main": ids}, digest=f"{about.sample.digest}:{token}")
    return likeliest(about.model, forward(about.name, sample), token, count)


def bars(guesses: Sequence[Guess]) -> None:
    """Pieces with their probabilities."""
    for name, probability in guesses:
        st.progress(probability, f"{plain(name)} · {percent(probability)}")


def answers(about: TextRun, token: int) -> None:
    """Everything the model says of the text and of one token."""
    if about.model.spec.causal:
        decoder_answers(about, token)
        return
    logits = about.trace.logits
    if "sentiment" in logits:
        share = praise(about.trace)
        st.progress(share, f"Praise {percent(share)} · blame {percent(1 - share)}")
        st.caption(
            f"How much it reads like praise, as a review of a film would; read from {about.model.spec.answer_from}."
        )
    label = plain(about.sample.tokens["main"].labels[token])
    if is_special(about, token):
        st.caption(f"{label} is a special token. Pick a word to see what the model makes of it.")
        return
    if word := tag_words(about.model, about.trace, token):
        st.markdown(f"{word}.")
    if WORD in logits:
        st.markdown(f"With **{label}** hidden, the model expects in its place:")
        bars(hidden_guesses(about, token))


def praise(trace: Trace) -> float:
    """How much a text reads like praise, from 0 to 1."""
    return float(trace.logits["sentiment"][0].float().softmax(-1)[1])


def sentiment(trace: Trace) -> tuple[str, float]:
    """Praise or blame, and how sure that is."""
    share = praise(trace)
    return ("praise", share) if share >= 0.5 else ("blame", 1 - share)


def tag_words(model: Model, trace: Trace, token: int) -> str:
    """Which part of speech the word of a token is; empty for special tokens, and where that was not learned.

    It is read from the first piece of the word, as the network learned it.
    """
    tokens = trace.calls[0].queries
    if "tag" not in trace.logits or tokens.words is None or tokens.words[token] < 0:
        return ""
    whole = grouping(tokens, whole_words=True)
    at = whole.shown(token) or 0
    probabilities = trace.logits["tag"][whole.first(at)].float().softmax(-1)
    best = int(probabilities.argmax())
    tag = model.outputs["tag"][best]
    said = f"{article(NAMES[tag])} ({tag}, {percent(float(probabilities[best]))})"
    return f"**{plain(whole.tokens.labels[at])}** is {said}"


def decoder_answers(about: TextRun, token: int) -> None:
    """What comes next, after the whole text and after one token."""
    tokens = about.sample.tokens["main"]
    last = len(tokens) - 1
    st.markdown("After the whole text, the model expects next:")
    bars(likeliest(about.model, about.trace, last))
    if token != last:
        st.markdown(f"After **{plain(tokens.labels[token])}** it expected:")
        bars(likeliest(about.model, about.trace, token, 3))


def article(noun: str) -> str:
    """A noun with its article."""
    if noun in ("punctuation", "other"):
        return noun
    return f"an {noun}" if noun[0] in "aeiou" else f"a {noun}"


def answer_words(about: TextRun) -> str:
    """What the model says, and where its answer is read from, in a sentence."""
    tokens = about.sample.tokens["main"]
    if about.model.spec.causal:
        (name, probability), *_ = likeliest(about.model, about.trace, len(tokens) - 1, 1)
        said = f"After **{plain(tokens.labels[-1])}** the model expects **{plain(name)}** ({percent(probability)})."
        return f"{said} The last token says so."
    said, how_sure = sentiment(about.trace)
    return f"The model takes this for **{said}** ({percent(how_sure)}), read from {about.model.spec.answer_from}."


def is_special(about: TextRun, token: int) -> bool:
    """Whether a token stands for no text."""
    tokenizer = about.model.tokenizer
    return tokenizer is not None and int(about.sample.inputs["main"][token]) in tokenizer.special_ids
