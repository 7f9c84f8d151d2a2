"""What a text model answers: sentiment, parts of speech, masked and next tokens."""

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
Guess = tuple[str, float]  # a token and its probability
NO_ANSWER = "No answer is shown, because the model cannot read this text."
NO_OUTPUTS = "This model has no outputs, so there is no answer to show. Its attention maps are here all the same."
NO_TEXT_ANSWER = "This model has outputs for single tokens only, so it gives no answer for the whole text."
NO_NEXT = "This model predicts no next token."
NO_MASK = "This model predicts tokens but has no mask token, so no token can be hidden from it."


def likeliest(model: Model, trace: Trace, row: int, count: int = 5) -> list[Guess]:
    """The likeliest tokens at (or, for a decoder, after) one token; special tokens are no answer, but an end is."""
    scores = trace.logits[WORD][row].float().clone()
    if model.tokenizer is not None:
        end = model.tokenizer.special.get("eos")
        scores[sorted(model.tokenizer.special_ids - {end})] = float("-inf")
    best = scores.softmax(-1).topk(min(count, len(scores)))
    labels = model.outputs[WORD]
    return [(labels[int(i)], float(p)) for p, i in zip(best.values, best.indices, strict=True)]


def masked_guesses(about: TextRun, token: int, mask: int, count: int = 5) -> list[Guess]:
    """What an encoder predicts for one token that is hidden from it by the mask token, given by its id."""
    ids = about.sample.inputs["main"].clone()
    ids[token] = mask
    sample = replace(about.sample, inputs={"main": ids}, digest=f"{about.sample.digest}:{token}")
    return likeliest(about.model, forward(about.name, sample), token, count)


def bars(guesses: Sequence[Guess]) -> None:
    """Tokens with their probabilities."""
    for name, probability in guesses:
        st.progress(probability, f"{plain(name)} · {percent(probability)}")


def answers(about: TextRun, token: int) -> None:
    """Everything the model answers for the text and for one token."""
    if not about.model.outputs:
        st.caption(NO_OUTPUTS)
        return
    if about.unreadable:
        st.caption(NO_ANSWER)
        return
    if "sentiment" in about.trace.logits:
        share = positive(about.trace)
        st.progress(share, f"Positive sentiment {percent(share)} · negative {percent(1 - share)}")
        st.caption(f"As of a film review; read from {about.model.spec.answer_from}.")
    if about.model.spec.causal:
        next_answers(about, token)
    else:
        token_answers(about, token)


def token_answers(about: TextRun, token: int) -> None:
    """What an encoder answers for one token: its part of speech, and which token it would predict in its place."""
    label = plain(about.sample.tokens["main"].labels[token])
    if is_special(about, token):
        st.caption(f"{label} is a special token. Pick a word to see what the model answers for it.")
        return
    if word := tag_words(about.model, about.trace, token):
        st.markdown(f"{word}.")
    if WORD not in about.model.outputs:
        return
    mask = about.tokenizer.special.get("mask")
    if mask is None:
        st.caption(NO_MASK)
        return
    st.markdown(f"With **{label}** masked, the model predicts:")
    bars(masked_guesses(about, token, mask))


def positive(trace: Trace) -> float:
    """The probability that a text has positive sentiment."""
    return float(trace.logits["sentiment"][0].float().softmax(-1)[1])


def sentiment(trace: Trace) -> tuple[str, float]:
    """Positive or negative, and its probability."""
    share = positive(trace)
    return ("positive", share) if share >= 0.5 else ("negative", 1 - share)


def tag_words(model: Model, trace: Trace, token: int) -> str:
    """Which part of speech the word of a token is; empty for special tokens, and where that was not learned.

    It is read from the first token of the word, as the network learned it.
    """
    tokens = trace.calls[0].queries
    if "tag" not in trace.logits or tokens.words is None or tokens.words[token] < 0:
        return ""
    whole = grouping(tokens, whole_words=True)
    at = whole.shown(token) or 0
    probabilities = trace.logits["tag"][whole.first(at)].float().softmax(-1)
    best = int(probabilities.argmax())
    tag = model.outputs["tag"][best]
    word, said = plain(whole.tokens.labels[at]), f"{tag}, {percent(float(probabilities[best]))}"
    return f"**{word}** is {article(NAMES[tag])} ({said})" if tag in NAMES else f"**{word}** is tagged {said}"


def next_answers(about: TextRun, token: int) -> None:
    """What comes next, after the whole text and after one token."""
    if WORD not in about.model.outputs:
        st.caption(NO_NEXT)
        return
    tokens = about.sample.tokens["main"]
    last = len(tokens) - 1
    st.markdown("After the whole text, the model predicts:")
    bars(likeliest(about.model, about.trace, last))
    if token != last:
        st.markdown(f"After **{plain(tokens.labels[token])}** it predicted:")
        bars(likeliest(about.model, about.trace, token, 3))


def article(noun: str) -> str:
    """A noun with its article."""
    if noun in ("punctuation", "other"):
        return noun
    return f"an {noun}" if noun[0] in "aeiou" else f"a {noun}"


def answer_words(about: TextRun) -> str:
    """What the model answers for the whole text, and which token that is read from, in a sentence."""
    tokens = about.sample.tokens["main"]
    if about.unreadable:
        return NO_ANSWER
    if about.model.spec.causal and WORD in about.model.outputs:
        (name, probability), *_ = likeliest(about.model, about.trace, len(tokens) - 1, 1)
        said = f"After **{plain(tokens.labels[-1])}** the model predicts **{plain(name)}** ({percent(probability)})."
        return f"{said} This is read from the last token."
    if "sentiment" in about.trace.logits:
        said, share = sentiment(about.trace)
        return f"The model answers **{said} sentiment** ({percent(share)}), read from {about.model.spec.answer_from}."
    return NO_TEXT_ANSWER if about.model.outputs else NO_OUTPUTS


def is_special(about: TextRun, token: int) -> bool:
    """Whether a token is of no word of the text; a mask that stands for one is."""
    words = about.sample.tokens["main"].words
    return words is not None and words[token] < 0
