"""English text to learn from: stories, captions of photographs, and short sentences. It lies outside the repository."""

from __future__ import annotations

import gzip
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Int

from attnviz.models.words import words_of
from attnviz.training.data import NoData, Split, data_folder

END = "<|end|>"  # a line that ends a story
SOURCES = (
    "African Storybook and Pratham Books (CC BY), FairytaleQA tales (Apache-2.0), children's classics (public domain), "
    "captions of Multi30k task 2 (research use), English sentences of Tatoeba (CC BY 2.0)"
)
LEAST = 12  # times a word has to appear to be learned
HELD = 50  # one line of so many of the captions and short sentences is held out


def lines(split: Split) -> Iterator[str]:
    """Paragraphs, captions and sentences. Raises NoData where the text is not on this machine."""
    folder = data_folder() / "text"
    for line in unzipped(folder / f"lm_stories_{split}.txt.gz"):
        if line and line != END:
            yield line
    short = [*unzipped(folder / "captions_en.txt.gz"), *pairs(folder / "tatoeba_en_fr.tsv.gz")]
    yield from (line for i, line in enumerate(short) if (i % HELD == 0) == (split == "val"))


def pairs(path: Path) -> Iterator[str]:
    """The English side of the sentence pairs that are there to train on."""
    for line in unzipped(path):
        split, english, _ = line.split("\t")
        if split == "train":
            yield english


def unzipped(path: Path) -> Iterator[str]:
    """The lines of a packed file, one at a time."""
    if not path.is_file():
        raise NoData(f"{path.name} is missing from {path.parent}.")
    with gzip.open(path, "rt", encoding="utf-8") as file:
        yield from (line.rstrip("\n") for line in file)


def texts(split: Split) -> list[list[str]]:
    """Every line as its words."""
    return [found for line in lines(split) if (found := words_of(line))]


def vocabulary(found: Sequence[Sequence[str]], least: int = LEAST) -> tuple[list[str], Int[np.ndarray, " word"]]:
    """The words that appear often enough, most frequent first, and how often they do."""
    counts = Counter(word for text in found for word in text)
    kept = [(word, count) for word, count in counts.most_common() if count >= least]
    return [word for word, _ in kept], np.array([count for _, count in kept], dtype=np.int64)


def numbered(found: Sequence[Sequence[str]], words: Sequence[str]) -> list[Int[np.ndarray, " token"]]:
    """Every text as the numbers of its words; words that are not in the vocabulary are left out."""
    index = {word: i for i, word in enumerate(words)}
    return [np.array([index[word] for word in text if word in index], dtype=np.int32) for text in found]
