"""Whether a vocabulary knows a text: thresholds on English reviews, captions in two languages, and single texts."""

from __future__ import annotations

import gzip

import numpy as np
import pytest

from attnviz.measures.fragments import PROBE, Fragments, cannot_read, fragments
from attnviz.models.subwords import SubwordTokenizer, load_subwords
from attnviz.training.images.data import data_folder
from attnviz.types import Token
from attnviz.ui.inputs.sentences import SENTENCES
from attnviz.ui.inputs.treebank import treebank

VOCABULARY = load_subwords()
READABLE = [
    *(text for texts in SENTENCES.values() for text in texts),
    "Hello",
    "",
    "!!!",
    "An unbelievably tiny hippopotamus",
    "I ❤️ this film 😀",
    "Zoë met Björk in Łódź.",
]
UNREADABLE = [
    "Der Film ist wunderbar und die Schauspieler sind großartig.",
    "Ich habe heute keine Zeit.",
    "这部电影很好看。",
    "この映画はとても良い。",
    "Этот фильм прекрасен.",
    "😀😀🎉",
]


@pytest.mark.parametrize("text", READABLE)
def test_english_is_read(text: str) -> None:
    assert not cannot_read(VOCABULARY, text)


@pytest.mark.parametrize("text", UNREADABLE)
def test_other_languages_scripts_and_emoji_are_not(text: str) -> None:
    assert cannot_read(VOCABULARY, text)


def test_few_sentences_of_a_treebank_are_refused() -> None:
    assert sum(cannot_read(VOCABULARY, text) for text in treebank()) <= 1


def test_how_a_text_falls_apart_is_counted() -> None:
    tokens = [Token(10, "The", 0, 3, 0), Token(11, "c", 3, 5, 1), Token(12, "…at", 5, 7, 1), Token(13, ".", 7, 8, 2)]
    assert fragments("The cat.", tokens) == Fragments(words=2, whole=0.5, pieces=1.5, bytes=0.0)
    raw = [Token(20, "<C3>", 0, 1, 0), Token(21, "<A4>", 0, 1, 0), Token(22, "…b", 1, 2, 0)]
    assert fragments("äb", raw) == Fragments(words=1, whole=0.0, pieces=3.0, bytes=0.5)


class Letters(SubwordTokenizer):
    """A vocabulary of letters."""

    def encode(self, text: str, *, with_mask: bool = True) -> list[Token]:
        """Each letter a token."""
        words = np.cumsum([sign.isspace() for sign in text])
        return [
            Token(ord(s), s, i, i + 1, int(w)) for i, (s, w) in enumerate(zip(text, words, strict=True)) if s != " "
        ]


@pytest.mark.parametrize("text", [PROBE, UNREADABLE[0]])
def test_a_vocabulary_of_letters_is_not_held_against_a_text(text: str) -> None:
    assert not cannot_read(Letters(VOCABULARY.tokenizer), text)


def rows(file: str) -> list[list[str]]:
    """The rows of a table of texts that no model was trained on."""
    raw = gzip.decompress((data_folder() / "text" / file).read_bytes()).decode()
    found = [line.split("\t") for line in raw.splitlines()[1:]]
    return [row for row in found if row[0] != "train"]


@pytest.mark.data
def test_the_thresholds_tell_languages_apart() -> None:
    english, german = zip(*[row[1:3] for row in rows("multi30k_en_de_fr.tsv.gz")], strict=True)
    reviews = [row[2] for row in rows("sst.tsv.gz")]
    shares = [np.mean([cannot_read(VOCABULARY, text) for text in some]) for some in (reviews, english, german)]
    assert shares[0] < 0.01
    assert shares[1] < 0.002
    assert shares[2] > 0.9
