"""The kinds of examples, what each must reach, and how an example is told apart from one that shows nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from attnviz.curate import pictures, sentences, translations, words

Example = dict[str, Any]  # what is shown, by name; with "kind", and "numbers" once it is measured


@dataclass(frozen=True)
class Kind:
    """One kind of example: its candidates, its numbers, and the least each number has to be."""

    candidates: Callable[[], Iterator[Example]]
    measure: Callable[[Example], dict[str, float]]
    least: Mapping[str, float]
    shows: str  # the effect, in one sentence


KINDS: dict[str, Kind] = {
    "picture": Kind(
        pictures.candidates,
        pictures.measure,
        {"probability": 0.6, "margin": 0.3, "on_object": 0.7, "over_centre": 0.0, "pointing": 1.0},
        "The model names the picture right by a margin, and its rollout lies on the object, more than the middle does.",
    ),
    "wrong picture": Kind(
        pictures.wrong_candidates,
        pictures.measure_wrong,
        {"wrong": 1.0, "known": 1.0},
        "The model knows the class of the picture and names another.",
    ),
    "local heads": Kind(
        pictures.lone_heads, pictures.measure_local, {"early": 1.0}, "The most local heads sit in the first half."
    ),
    "object patches": Kind(
        pictures.objects,
        pictures.measure_objects,
        {"after": 0.9, "gained": 0.03},
        "After the last layer the patches of an object are alike, more than their pixels are.",
    ),
    "pronoun": Kind(
        sentences.pronouns,
        sentences.measure_pronoun,
        {"first_leads": 0.1, "second_leads": 0.1},
        "A head gives “it” to one noun, and to the other when the last word changes.",
    ),
    "pronoun family": Kind(
        sentences.families,
        sentences.measure_family,
        {"on_nouns": 0.5, "gains": 0.6},
        "Over all pairs of a grid the same head attends to both nouns, and the last word moves it the right way.",
    ),
    "behaviour": Kind(sentences.behaviours, sentences.measure_behaviour, {"share": 0.5}, "A head that does one thing."),
    "induction": Kind(
        sentences.inductions,
        sentences.measure_induction,
        {"weight": 0.5, "probability": 0.5, "lost": 0.3},
        "A head attends to what came after the same word, and the model copies it.",
    ),
    "agreement": Kind(
        sentences.agreements,
        sentences.measure_agreement,
        {"weight": 0.4, "wrong_leads": 0.1},
        "A head attends to the subject, and the verb agrees with the nearer noun all the same.",
    ),
    "sentiment": Kind(
        sentences.films, sentences.measure_film, {"probability": 0.7}, "The model answers with the right sentiment."
    ),
    "hidden word": Kind(
        sentences.hidden_words,
        sentences.measure_hidden,
        {"probability": 0.3, "lead": 0.1},
        "The model predicts the hidden word.",
    ),
    "two meanings": Kind(
        words.meanings,
        words.measure_meanings,
        {"turned": 0.2, "same_meaning_leads": 0.2},
        "A vector turns where the word means something else, and turns less where it does not.",
    ),
    "two contexts": Kind(
        words.contexts, words.measure_contexts, {"turned": 0.2}, "A vector turns where the words around it are others."
    ),
    "lesson": Kind(words.lessons, words.measure_lesson, {"weight": 0.5}, "A head attends to a word unlike its query."),
    "translation": Kind(
        translations.aligned,
        translations.measure_aligned,
        {"right": 1.0, "aligned": 1.0, "least_weight": 0.4},
        "The translation is right, and every word attends most to the word it translates.",
    ),
    "wrong translation": Kind(
        translations.failing,
        translations.measure_failing,
        {"says_it": 1.0},
        "The model gets it wrong, and the page says so.",
    ),
}


def measured(example: Example) -> dict[str, float]:
    """The numbers of an example, computed with the shipped models."""
    return {name: round(value, 4) for name, value in KINDS[example["kind"]].measure(example).items()}


def lacking(example: Example) -> list[str]:
    """The numbers of a measured example that are below what its kind must reach; none where it shows its effect."""
    least = KINDS[example["kind"]].least
    return [name for name, bound in least.items() if not example["numbers"][name] >= bound]  # NaN is lacking too
