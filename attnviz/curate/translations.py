"""Translations that are right word for word, with the cross-attention that aligns them."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import torch

from attnviz.models import TranslationModel, load_translator

BEAM = 4  # as the page begins
# English, its translation, and which French word goes with which English one.
ALIGNED = (
    (
        "A black cat is sleeping on a white chair.",
        "Un chat noir dort sur une chaise blanche.",
        {"chat": "cat", "noir": "black", "dort": "sleeping", "chaise": "chair", "blanche": "white"},
    ),
    (
        "Two black dogs are running through the snow.",
        "Deux chiens noirs courent dans la neige.",
        {"chiens": "dogs", "noirs": "black", "courent": "running", "neige": "snow"},
    ),
    (
        "He lives in a big white house.",
        "Il vit dans une grande maison blanche.",
        {"vit": "lives", "grande": "big", "maison": "house", "blanche": "white"},
    ),
    (
        "The little girl is wearing a red dress.",
        "La petite fille porte une robe rouge.",
        {"petite": "little", "fille": "girl", "porte": "wearing", "robe": "dress", "rouge": "red"},
    ),
    (
        "She is reading an interesting book.",
        "Elle lit un livre intéressant.",
        {"lit": "reading", "livre": "book", "intéressant": "interesting"},
    ),
    (
        "I saw a black cat in the garden.",
        "J'ai vu un chat noir dans le jardin.",
        {"chat": "cat", "noir": "black", "jardin": "garden"},
    ),
    ("I don't know where my keys are.", "Je ne sais pas où sont mes clés.", {"sais": "know", "où": "where"}),
)
# What a translation should not say, because "it" stands for the animal and not for the situation.
FAILS = (("The animal didn't cross the street because it was too tired.", "c'était"),)


@lru_cache(maxsize=1)
def opened() -> TranslationModel:
    """The transformer, opened once."""
    return load_translator("translator")


def aligned() -> Iterator[dict[str, Any]]:
    """Sentences with their translations."""
    for english, french, pairs in ALIGNED:
        yield {"model": "translator", "english": english, "french": french, "pairs": pairs}


def measure_aligned(example: dict[str, Any]) -> dict[str, float]:
    """Whether the translation is the right one, how many words attend most to theirs, and the least weight on them.

    The map is the one the page begins with: the mean of the cross-attention over layers and heads.
    """
    model, sample = opened(), opened().prepare(example["english"])
    ids = model.beams(sample, BEAM)[0].ids
    calls = [call for call in model.trace(sample, ids).calls if call.name.endswith("cross")]
    mean = torch.stack([call.token_map().float().mean(0) for call in calls]).mean(0)
    french, english = list(model.named(ids).labels), list(calls[0].keys.labels)
    places = [(french.index(one), english.index(two)) for one, two in example["pairs"].items() if one in french]
    hits = [int(mean[query].argmax()) == key for query, key in places]
    return {
        "right": float(model.text(ids) == example["french"]),
        "aligned": sum(hits) / len(example["pairs"]),
        "least_weight": min((float(mean[query, key]) for query, key in places), default=0.0),
    }


def failing() -> Iterator[dict[str, Any]]:
    """Sentences that are translated wrongly."""
    for english, wrong in FAILS:
        yield {"model": "translator", "english": english, "wrong": wrong}


def measure_failing(example: dict[str, Any]) -> dict[str, float]:
    """Whether the translation still says what it should not."""
    model = opened()
    said = model.text(model.beams(model.prepare(example["english"]), BEAM)[0].ids)
    return {"says_it": float(example["wrong"] in said)}
