"""Sentences on which a named head does what the text says, or on which the model answers what it should."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import numpy as np
from torch import Tensor

from attnviz.measures.text_heads import measure_text_heads
from attnviz.models import load
from attnviz.types import Model, Trace

# What "it" stands for is decided by the last word: each pair differs in that word alone.
NEITHER = "The {first} does not {verb} the {second}, because it is {why}."
TALES = (
    ("cat", "climb", "tree", "sick", "high"),
    ("horse", "follow", "road", "sick", "long"),
    ("child", "cross", "street", "sick", "wide"),
    ("animal", "cross", "street", "tired", "wide"),
)
ACTORS = ("animal", "dog", "cat", "horse", "man", "boy", "woman", "girl", "cow", "bear")
PLACES = (
    ("street", "wide", "cross"),
    ("river", "wide", "cross"),
    ("road", "long", "cross"),
    ("mountain", "high", "climb"),
    ("tree", "tall", "climb"),
    ("wall", "high", "climb"),
    ("box", "heavy", "lift"),
    ("stone", "heavy", "lift"),
    ("bed", "small", "leave"),
)
REASONS = ("tired", "hungry")
RESOLVER = {"model": "sentences", "layer": 5, "head": 3}
BEHAVIOURS = (  # a head that does one thing: model, measure, layer, head, over which texts
    ("sentences", "previous", 2, 5),
    ("sentences", "next", 1, 1),
    ("stories", "previous", 3, 3),
)
TEXTS = {
    "sentences": (
        "A little girl in a red coat feeds the ducks, and the ducks follow the girl home.",
        "What a long, dull and joyless film!",
        "Is the shop open? The man who sells bread says that it opens at nine.",
    ),
    "stories": (
        "Once upon a time there was a little girl who lived in a village near the",
        "The old woman opened the door and saw a fox. The fox said to the old",
        "Tom gave the ball to Mary, and Mary gave the ball to",
    ),
}
FOX = "The old {who} opened the door and saw a fox. The fox said to the old"
FILMS = (
    ("A warm and funny film with wonderful actors.", "positive"),
    ("The actors are a joy to watch.", "positive"),
    ("What a long, dull and joyless film!", "negative"),
    ("The plot is thin, but the actors are a joy to watch.", "positive"),
    ("The film is a joy to watch.", "positive"),
    ("The film is a pain to watch.", "negative"),
)
HIDDEN = (
    ("A man is [MASK] the guitar.", "playing"),
    ("A woman is [MASK] a book.", "reading"),
    ("Two dogs are [MASK] in the snow.", "running"),
    ("She poured water from the [MASK] into the glass.", "bottle"),
)


@lru_cache(maxsize=4)
def opened(name: str) -> Model:
    """A model, opened once."""
    return load(name)


def run(model: str, text: str) -> tuple[Trace, list[str]]:
    """The trace of a text and the labels of its tokens."""
    sample = opened(model).prepare(text)
    return opened(model)(sample), list(sample.tokens["main"].labels)


def row(trace: Trace, layer: int, head: int, query: int) -> Tensor:
    """[key]: the weights of one query in one head; layer and head are counted from 1."""
    return trace.calls[layer - 1].token_map([head - 1], rows=[query])[0, 0].float()


# ---- what "it" attends to
def pronouns() -> Iterator[dict[str, Any]]:
    """Pairs of sentences, one head."""
    for first, verb, second, own, other in TALES:
        text, twin = (NEITHER.format(first=first, verb=verb, second=second, why=why) for why in (own, other))
        yield {**RESOLVER, "text": text, "other": twin, "word": "it", "first": first, "second": second}


def measure_pronoun(example: dict[str, Any]) -> dict[str, float]:
    """By how much the right noun leads in the first sentence, and in the second, where it is the other noun."""
    leads = []
    for text, right, wrong in (
        (example["text"], example["first"], example["second"]),
        (example["other"], example["second"], example["first"]),
    ):
        trace, labels = run(example["model"], text)
        weights = row(trace, example["layer"], example["head"], labels.index(example["word"]))
        leads.append(float(weights[labels.index(right)] - weights[labels.index(wrong)]))
    return {"first_leads": leads[0], "second_leads": leads[1]}


def families() -> Iterator[dict[str, Any]]:
    """The same head on every pair that can be made of these nouns, chosen by nobody."""
    yield {**RESOLVER, "pairs": len(ACTORS) * len(PLACES) * len(REASONS)}


def measure_family(example: dict[str, Any]) -> dict[str, float]:
    """Shares of the pairs in which the head flips, and in which the right noun gains; its mean weight on both nouns."""
    flips, gains, both = [], [], []
    for first in ACTORS:
        for second, why, verb in PLACES:
            first_leads, second_leads = {}, {}
            for reason in (*REASONS, why):
                text = f"The {first} did not {verb} the {second} because it was too {reason}."
                trace, labels = run(example["model"], text)
                weights = row(trace, example["layer"], example["head"], labels.index("it"))
                one, two = float(weights[labels.index(first)]), float(weights[labels.index(second)])
                (second_leads if reason == why else first_leads)[reason] = one - two
                both.append(one + two)
            flips += [lead > 0 > second_leads[why] for lead in first_leads.values()]
            gains += [lead > second_leads[why] for lead in first_leads.values()]
    return {"flips": float(np.mean(flips)), "gains": float(np.mean(gains)), "on_nouns": float(np.mean(both))}


# ---- heads that do one thing
def behaviours() -> Iterator[dict[str, Any]]:
    """Heads that do one thing nearly everywhere."""
    for model, measure, layer, head in BEHAVIOURS:
        yield {"model": model, "measure": measure, "layer": layer, "head": head}


def measure_behaviour(example: dict[str, Any]) -> dict[str, float]:
    """The measure of this head, as a mean over texts, and how much it leads the next head."""
    tables = [
        measure_text_heads(run(example["model"], text)[0].calls)[example["measure"]] for text in TEXTS[example["model"]]
    ]
    table = np.mean(tables, axis=0)
    own = float(table[example["layer"] - 1, example["head"] - 1])
    table[example["layer"] - 1, example["head"] - 1] = -1
    return {"share": own, "lead": own - float(np.nanmax(table))}


def inductions() -> Iterator[dict[str, Any]]:
    """A prompt that repeats a word, and a head that attends to what came after it."""
    yield {
        "model": "stories",
        "layer": 3,
        "head": 5,
        "text": FOX.format(who="woman"),
        "copied": "woman",
        "other": FOX.format(who="man"),
    }


def measure_induction(example: dict[str, Any]) -> dict[str, float]:
    """The weight on the copied word, its probability, and how much of that is lost with another word in its place."""
    word = opened(example["model"]).outputs["word"].index(example["copied"])
    trace, labels = run(example["model"], example["text"])
    other, _ = run(example["model"], example["other"])
    weights = row(trace, example["layer"], example["head"], len(labels) - 1)
    said, without = (float(one.logits["word"][-1].softmax(-1)[word]) for one in (trace, other))
    weight = float(weights[labels.index(example["copied"])])
    return {"weight": weight, "probability": said, "lost": said - without}


def agreements() -> Iterator[dict[str, Any]]:
    """A subject, a noun of another number between it and the verb, and a head that attends to the subject."""
    text = "The keys to the cabinet"
    yield {"model": "stories", "layer": 6, "head": 2, "text": text, "subject": "keys", "wrong": "is", "right": "are"}


def measure_agreement(example: dict[str, Any]) -> dict[str, float]:
    """The weight on the subject, and how far the verb of the nearer noun leads: the model gets it wrong."""
    trace, labels = run(example["model"], example["text"])
    guesses = trace.logits["word"][-1].softmax(-1)
    words = opened(example["model"]).outputs["word"]
    best = {verb: max(float(p) for p, w in zip(guesses, words, strict=True) if w == verb) for verb in ("is", "are")}
    weight = row(trace, example["layer"], example["head"], len(labels) - 1)[labels.index(example["subject"])]
    return {"weight": float(weight), "wrong_leads": best[example["wrong"]] - best[example["right"]]}


# ---- answers
def films() -> Iterator[dict[str, Any]]:
    """What a film review says."""
    for text, answer in FILMS:
        yield {"model": "sentences", "text": text, "answer": answer}


def measure_film(example: dict[str, Any]) -> dict[str, float]:
    """The probability of the right sentiment."""
    shares = run(example["model"], example["text"])[0].logits["sentiment"][0].softmax(-1)
    return {"probability": float(shares[int(example["answer"] == "positive")])}


def hidden_words() -> Iterator[dict[str, Any]]:
    """A sentence with a hidden word."""
    for text, word in HIDDEN:
        yield {"model": "sentences", "text": text, "hidden": word}


def measure_hidden(example: dict[str, Any]) -> dict[str, float]:
    """The probability of the hidden word, and how far it leads all others."""
    trace, labels = run(example["model"], example["text"])
    shares = trace.logits["word"][labels.index("MASK")].softmax(-1)
    words = opened(example["model"]).outputs["word"]
    own = max(float(p) for p, word in zip(shares, words, strict=True) if word == example["hidden"])
    others = max(float(p) for p, word in zip(shares, words, strict=True) if word != example["hidden"])
    return {"probability": own, "lead": own - others}
