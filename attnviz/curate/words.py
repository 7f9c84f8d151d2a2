"""One word in two contexts, and what the words of the Lesson attend to."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from attnviz.curate.sentences import run
from attnviz.models.guess import Guesser, load_guesser
from attnviz.models.words import WordVectors, load_words

# A word, a sentence, one with the same meaning of the word, one with another.
MEANINGS = (
    ("bank", "The bank lends money to the shop.", "The bank closed his account.", "They sat on the bank of the river."),
    ("saw", "She saw the film twice.", "I saw a dog.", "He cut the tree with a saw."),
    ("park", "He walked through the park.", "Children play in the park.", "You can not park the car here."),
    (
        "bat",
        "A baseball player holds a bat.",
        "The boy swings a bat at the ball.",
        "A bat flew out of the cave at night.",
    ),
    (
        "left",
        "A man stands on the left side of the street.",
        "He turned left at the corner.",
        "They left without a word.",
    ),
)
CONTEXTS = (  # of the sentences to start from, the word that the page about embeddings begins with
    ("with", "A warm and funny film with wonderful actors.", "A man cuts the bread with a knife."),
    ("tree", "The cat does not climb the tree, because it is sick.", "Draw your family tree."),
)
LESSON = "Tommy can be annoying but he is a good dog"
ATTENDS = (  # a word, the word it attends to most, the head that does so
    ("is", "good", 3),
    ("dog", "annoying", 4),
    ("he", "tommy", 4),
)


def meanings() -> Iterator[dict[str, Any]]:
    """Ambiguous words."""
    for word, text, alike, other in MEANINGS:
        yield {"model": "sentences", "word": word, "text": text, "alike": alike, "other": other}


def measure_meanings(example: dict[str, Any]) -> dict[str, float]:
    """Cosines of the word in two sentences: before the layers, after them, and after them with the same meaning."""
    own, alike, other = (vectors(example, example[name]) for name in ("text", "alike", "other"))
    before, after = (float(torch.cosine_similarity(own[at], other[at], dim=0)) for at in (0, -1))
    same = float(torch.cosine_similarity(own[-1], alike[-1], dim=0))
    return {"before": before, "after": after, "turned": before - after, "same_meaning_leads": same - after}


def contexts() -> Iterator[dict[str, Any]]:
    """The words that the page about embeddings begins with."""
    for word, text, other in CONTEXTS:
        yield {"model": "sentences", "word": word, "text": text, "other": other}


def measure_contexts(example: dict[str, Any]) -> dict[str, float]:
    """Cosines of the word in two sentences: before the layers and after them."""
    own, other = (vectors(example, example[name]) for name in ("text", "other"))
    before, after = (float(torch.cosine_similarity(own[at], other[at], dim=0)) for at in (0, -1))
    return {"before": before, "after": after, "turned": before - after}


def vectors(example: dict[str, Any], text: str) -> list[Tensor]:
    """[feature] of the word in a text, before the first layer and after each; the first time it stands there."""
    trace, labels = run(example["model"], text)
    return [residual[labels.index(example["word"])].float() for residual in trace.residuals["main"]]


@lru_cache(maxsize=1)
def lesson() -> tuple[Guesser, WordVectors]:
    """The block of the Lesson and its word vectors, opened once."""
    words = load_words()
    return load_guesser(words)[0], words


def lessons() -> Iterator[dict[str, Any]]:
    """Words of the Lesson's sentence and what they attend to."""
    for word, key, head in ATTENDS:
        yield {"model": "one-block", "sentence": LESSON, "word": word, "key": key, "head": head}


def measure_lesson(example: dict[str, Any]) -> dict[str, float]:
    """The weight on that word."""
    block, words = lesson()
    reading = words.read(example["sentence"], 24)
    call = block(torch.tensor(reading.ids), labels=reading.words).calls[0]
    weights = call.token_map([example["head"] - 1])[0, reading.words.index(example["word"])]
    return {"weight": float(weights[reading.words.index(example["key"])])}
