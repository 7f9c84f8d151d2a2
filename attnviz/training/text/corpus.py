"""Texts to train on: stories, captions of photographs, short sentences, reviews and a treebank.

They lie outside the repository (see `data_folder`).
"""

from __future__ import annotations

import gzip
import itertools
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Int

from attnviz.models.words import words_of
from attnviz.training.images.data import NoData, Split, data_folder

END = "<|end|>"  # a line that ends a story
MAX_TALE_LENGTH = 41_000  # characters; a longer story counts as a novel
SOURCES = (
    "African Storybook and Pratham Books (CC BY), FairytaleQA tales (Apache-2.0), children's classics (public domain), "
    "captions of Multi30k task 2 (research use), English sentences of Tatoeba (CC BY 2.0)"
)
LABELLED_SOURCES = (
    "Stanford Sentiment Treebank (research use), English Web Treebank of Universal Dependencies (CC BY-SA 4.0)"
)
STORY_SOURCES = (
    f"{SOURCES}, English captions of Multi30k task 1 (research use), "
    "sentences of the English Web Treebank of Universal Dependencies (CC BY-SA 4.0)"
)
ENCODER_SOURCES = f"{SOURCES}, {LABELLED_SOURCES}"
ALL_SOURCES = (
    f"{SOURCES}, their French translations, translated captions of Multi30k task 1 (research use), {LABELLED_SOURCES}"
)
MIN_COUNT = 12  # occurrences that a word needs to be in the vocabulary
HELD_OUT_EVERY = 50  # every 50th caption and short sentence is held out


def lines(split: Split) -> Iterator[str]:
    """Paragraphs, captions and sentences. Raises NoData where the text is not on this machine.

    A short sentence may occur several times, once for each translation: no copy of a held-out one is trained on.
    """
    folder = data_folder() / "text"
    for line in lines_of(folder / f"lm_stories_{split}.txt.gz"):
        if line and line != END:
            yield line
    short = [*lines_of(folder / "captions_en.txt.gz"), *pairs(folder / "tatoeba_en_fr.tsv.gz")]
    held = set(short[::HELD_OUT_EVERY])
    yield from short[::HELD_OUT_EVERY] if split == "val" else (line for line in short if line not in held)


def pairs(path: Path) -> Iterator[str]:
    """The English side of the sentence pairs to train on."""
    for line in lines_of(path):
        split, english, _ = line.split("\t")
        if split == "train":
            yield english


def lines_of(path: Path) -> Iterator[str]:
    """The lines of a compressed file, one at a time. Raises NoData."""
    if not path.is_file():
        raise NoData(f"{path.name} is missing from {path.parent}.")
    with gzip.open(path, "rt", encoding="utf-8") as file:
        yield from (line.rstrip("\n") for line in file)


def texts(split: Split) -> list[list[str]]:
    """The words of every line."""
    return [found for line in lines(split) if (found := words_of(line))]


def vocabulary(
    texts: Sequence[Sequence[str]], min_count: int = MIN_COUNT
) -> tuple[list[str], Int[np.ndarray, " word"]]:
    """The words with at least `min_count` occurrences, most frequent first, and their counts."""
    counts = Counter(word for text in texts for word in text)
    kept = [(word, count) for word, count in counts.most_common() if count >= min_count]
    return [word for word, _ in kept], np.array([count for _, count in kept], dtype=np.int64)


def encode(texts: Sequence[Sequence[str]], words: Sequence[str]) -> list[Int[np.ndarray, " token"]]:
    """Every text as the ids of its words; words outside the vocabulary are dropped."""
    index = {word: i for i, word in enumerate(words)}
    return [np.array([index[word] for word in text if word in index], dtype=np.int32) for text in texts]


class Word(NamedTuple):
    """One word of a sentence in the treebank."""

    start: int  # first character in the text
    stop: int
    tag: str  # its part of speech
    head: int  # number of its dependency head, -1 for the root


class Sentence(NamedTuple):
    """A sentence whose words have parts of speech and dependency heads."""

    text: str
    words: tuple[Word, ...]


def story_paragraphs(split: Split) -> Iterator[str]:
    """Paragraphs of the stories."""
    for line in lines_of(data_folder() / "text" / f"lm_stories_{split}.txt.gz"):
        if line and line != END:
            yield line


def stories(split: Split, kind: Literal["all", "tales", "novels"] = "all") -> Iterator[list[str]]:
    """Stories, each as its paragraphs: all, those up to MAX_TALE_LENGTH (tales), or the longer ones (novels)."""
    story: list[str] = []
    for line in itertools.chain(lines_of(data_folder() / "text" / f"lm_stories_{split}.txt.gz"), [END]):
        if line != END:
            story += [line] if line else []
        elif story:
            if kind == "all" or (sum(map(len, story)) > MAX_TALE_LENGTH) == (kind == "novels"):
                yield story
            story = []


def captions(split: Split) -> Iterator[str]:
    """Captions of photographs; one in HELD_OUT_EVERY is held out."""
    for i, line in enumerate(lines_of(data_folder() / "text" / "captions_en.txt.gz")):
        if (i % HELD_OUT_EVERY == 0) == (split == "val"):
            yield line


def translations(split: Split | Literal["test"]) -> Iterator[tuple[str, str]]:
    """English sentences and their French translations: Tatoeba, and for training also Multi30k."""
    folder = data_folder() / "text"
    for line in itertools.islice(lines_of(folder / "tatoeba_en_fr.tsv.gz"), 1, None):
        kind, english, french = line.split("\t")
        if kind == split:
            yield english, french
    if split == "train":
        yield from captions_translated("train")


def captions_translated(split: Split | Literal["test"]) -> Iterator[tuple[str, str]]:
    """English captions and their French translations (Multi30k, task 1)."""
    for line in itertools.islice(lines_of(data_folder() / "text" / "multi30k_en_de_fr.tsv.gz"), 1, None):
        kind, english, _, french = line.split("\t")
        if kind == split:
            yield english, french


def reviews(split: Split | Literal["test"]) -> Iterator[tuple[int, str]]:
    """Sentences about films with their sentiment, 0 (very negative) to 4 (very positive), lower-case and tokenised."""
    for line in itertools.islice(lines_of(data_folder() / "text" / "sst.tsv.gz"), 1, None):
        kind, sentiment, text = line.split("\t")
        if kind == {"val": "dev"}.get(split, split):
            yield int(sentiment), text


def treebank(split: Split | Literal["test"]) -> Iterator[Sentence]:
    """Sentences of the English Web Treebank; contracted words count as their parts, empty nodes not at all."""
    name = {"val": "dev"}.get(split, split)
    text, words, at = "", [], 0
    for line in lines_of(data_folder() / "text" / f"ud_ewt_{name}.conllu.gz"):
        if line.startswith("# text = "):
            text, words, at = line.removeprefix("# text = "), [], 0
        elif not line:
            if words:
                yield Sentence(text, tuple(words))
            words = []
        elif not line.startswith("#"):
            number, form, _, tag, _, _, head, *_ = line.split("\t")
            if number.isdigit():
                start = text.find(form, at)
                start = at if start < 0 else start  # a form that is not in the text is placed where the last word ended
                at = min(len(text), start + len(form))
                words.append(Word(start, at, tag, int(head) - 1))


DETOKENISE_RULES = [  # from the tokenised text of the Stanford Sentiment Treebank to ordinary spelling
    (r"\bca n't\b", "can't"),
    (r" (n't|'s|'re|'ve|'ll|'d|'m|'S)\b", r"\1"),
    (r" ([.,;:?!%)\]}])", r"\1"),
    (r"([(\[{$]) ", r"\1"),
    (r"`` ?", '"'),
    (r" ?''", '"'),
    (r"-lrb- ?", "("),
    (r" ?-rrb-", ")"),
    (r" +", " "),
]


def detokenise(text: str) -> str:
    """A tokenised sentence in ordinary spelling, with a capital."""
    for pattern, replacement in DETOKENISE_RULES:
        text = re.sub(pattern, replacement, text)
    return text[:1].upper() + text[1:]
