"""Whether a vocabulary knows the words of a text, or only their letters and bytes.

A model reads words that it has met whole. Of other languages, of other scripts and of emoji a subword vocabulary
(Sennrich et al. 2016) keeps letters and bytes, and whatever the model answers about those means nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from attnviz.types import Token, Tokenizer
from attnviz.typography import BYTE, SPACE

# Chosen on English film reviews (SST) and on photo captions in English and German (Multi30k); a test repeats it.
BYTES = 0.3  # share of the signs that are bytes to the vocabulary: more than this is another script, or emoji
WHOLE = 0.3  # share of the words that are one token: less than this is another language,
PIECES = 2.0  # where words have more tokens than this in the mean,
WORDS = 4  # and there are as many words as this; of fewer, a name or a rare word is enough
PROBE = "The man who sells bread says that it opens at nine."  # of which a vocabulary of English knows every word


@dataclass(frozen=True)
class Fragments:
    """How a text falls apart."""

    words: int  # that have a letter
    whole: float  # share of those that are one token
    pieces: float  # tokens in one of those, in the mean
    bytes: float  # share of all signs, spaces aside, that are bytes

    @property
    def unreadable(self) -> bool:
        """Whether hardly any word is left whole."""
        return self.bytes > BYTES or (self.words >= WORDS and self.whole < WHOLE and self.pieces > PIECES)


def fragments(text: str, tokens: Sequence[Token]) -> Fragments:
    """How a text falls apart into these tokens of it."""
    signs = [sign for sign, character in enumerate(text) if not character.isspace()]
    raw = {sign for token in tokens if BYTE.search(token.label) for sign in range(token.start, token.stop)}
    pieces: dict[int, list[Token]] = {}
    for token in tokens:
        if token.label != SPACE:
            pieces.setdefault(token.word, []).append(token)
    spelt = [some for some in pieces.values() if any(map(str.isalpha, text[some[0].start : some[-1].stop]))]
    count = len(spelt)
    return Fragments(
        words=count,
        whole=sum(len(some) == 1 for some in spelt) / count if count else 1.0,
        pieces=sum(map(len, spelt)) / count if count else 1.0,
        bytes=len(raw.intersection(signs)) / len(signs) if signs else 0.0,
    )


def cannot_read(tokenizer: Tokenizer, text: str) -> bool:
    """Whether a vocabulary of English words has hardly any of this text; never of one that has letters alone."""
    if fragments(PROBE, tokenizer.encode(PROBE)).whole < 1 - WHOLE:
        return False
    return fragments(text, tokenizer.encode(text)).unreadable
