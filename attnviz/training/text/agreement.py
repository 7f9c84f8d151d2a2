"""Sentences in which one known word decides the next: number agreement of subject and verb, from BLiMP.

Both sentences of a pair share all words but one. In `..._agreement_2` that is the subject ("The woman|women meet"), so
nothing else can decide the verb. In `distractor_agreement_relational_noun` it is the verb, and another noun stands in
between, often of the other number ("The sketch of those trucks hasn't|haven't"): there only sentences are taken that
begin with "The" or with the subject, because other words before a subject say its number too. Warstadt et al. 2020.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from attnviz.training.text.blimp import Pair, pairs

ONE_NOUN = ("regular_plural_subject_verb_agreement_2", "irregular_plural_subject_verb_agreement_2")
DISTRACTOR = ("distractor_agreement_relational_noun",)
PREPOSITIONS = ("of", "about")  # after a relational noun


class Agreement(NamedTuple):
    """The beginning of a sentence, and the word in it that decides which verb comes next."""

    paradigm: str
    words: tuple[str, ...]  # before the verb
    decides: int  # which of them
    verb: str  # that agrees
    other: str  # the same verb in the other number; empty where the pair does not name it


def agreement_of(pair: Pair) -> Agreement | None:
    """The agreement of a minimal pair; None for another paradigm, or where more than one word says the number."""
    good, bad = pair.good.rstrip(".").split(), pair.bad.rstrip(".").split()
    differs = [i for i, (one, other) in enumerate(zip(good, bad, strict=False)) if one != other]
    if len(good) != len(bad) or len(differs) != 1:
        return None
    at = differs[0]
    if pair.paradigm in ONE_NOUN and at + 1 < len(good) and good[:at] == ["The"]:
        return Agreement(pair.paradigm, tuple(good[: at + 1]), at, good[at + 1], "")
    if pair.paradigm in DISTRACTOR:
        subject = next((i - 1 for i, word in enumerate(good[:at]) if word in PREPOSITIONS), -1)
        if subject in (0, 1) and good[:subject] in ([], ["The"]):
            return Agreement(pair.paradigm, tuple(good[:at]), subject, good[at], bad[at])
    return None


def agreements(paradigms: Sequence[str] = (*ONE_NOUN, *DISTRACTOR), count: int | None = None) -> list[Agreement]:
    """The first so many of each paradigm, None = all. Raises NoData."""
    found: dict[str, list[Agreement]] = {name: [] for name in paradigms}
    for pair in pairs():
        if pair.paradigm in found and (agreement := agreement_of(pair)) is not None:
            found[pair.paradigm].append(agreement)
    return [agreement for each in found.values() for agreement in each[:count]]
