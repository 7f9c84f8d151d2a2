"""English text to learn from: stories, captions of photographs, and short sentences. It lies outside the repository."""

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
TALE = 41_000  # letters of the longest story that is no novel
SOURCES = (
    "African Storybook and Pratham Books (CC BY), FairytaleQA tales (Apache-2.0), children's classics (public domain), "
    "captions of Multi30k task 2 (research use), English sentences of Tatoeba (CC BY 2.0)"
)
JUDGED = "Stanford Sentiment Treebank (research use), English Web Treebank of Universal Dependencies (CC BY-SA 4.0)"
STORY_SOURCES = (
    f"{SOURCES}, English captions of Multi30k task 1 (research use), "
    "sentences of the English Web Treebank of Universal Dependencies (CC BY-SA 4.0)"
)
READ_SOURCES = f"{SOURCES}, {JUDGED}"
ALL_SOURCES = f"{SOURCES}, their French translations, translated captions of Multi30k task 1 (research use), {JUDGED}"
LEAST = 12  # times a word has to appear to be learned
HELD = 50  # one line of so many of the captions and short sentences is held out


def lines(split: Split) -> Iterator[str]:
    """Paragraphs, captions and sentences. Raises NoData where the text is not on this machine.

    A short sentence may stand there several times, once for each translation: no copy of one that is held out is
    trained on.
    """
    folder = data_folder() / "text"
    for line in lines_of(folder / f"lm_stories_{split}.txt.gz"):
        if line and line != END:
            yield line
    short = [*lines_of(folder / "captions_en.txt.gz"), *pairs(folder / "tatoeba_en_fr.tsv.gz")]
    held = set(short[::HELD])
    yield from short[::HELD] if split == "val" else (line for line in short if line not in held)


def pairs(path: Path) -> Iterator[str]:
    """The English side of the sentence pairs that are there to train on."""
    for line in lines_of(path):
        split, english, _ = line.split("\t")
        if split == "train":
            yield english


def lines_of(path: Path) -> Iterator[str]:
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


class Word(NamedTuple):
    """One word of a sentence in the treebank."""

    start: int  # in the text, in characters
    stop: int
    tag: str  # its part of speech
    head: int  # number of the word it depends on, -1 for the root


class Sentence(NamedTuple):
    """A sentence whose words have parts of speech and heads."""

    text: str
    words: tuple[Word, ...]


def story_paragraphs(split: Split) -> Iterator[str]:
    """Paragraphs of the stories."""
    for line in lines_of(data_folder() / "text" / f"lm_stories_{split}.txt.gz"):
        if line and line != END:
            yield line


def stories(split: Split, kind: Literal["all", "tales", "novels"] = "all") -> Iterator[list[str]]:
    """Stories, each as its paragraphs: all, those one can read aloud in an hour, or those that are longer."""
    story: list[str] = []
    for line in itertools.chain(lines_of(data_folder() / "text" / f"lm_stories_{split}.txt.gz"), [END]):
        if line != END:
            story += [line] if line else []
        elif story:
            if kind == "all" or (sum(map(len, story)) > TALE) == (kind == "novels"):
                yield story
            story = []


def captions(split: Split) -> Iterator[str]:
    """Captions of photographs; one in HELD is held out."""
    for i, line in enumerate(lines_of(data_folder() / "text" / "captions_en.txt.gz")):
        if (i % HELD == 0) == (split == "val"):
            yield line


def translations(split: Split | Literal["test"]) -> Iterator[tuple[str, str]]:
    """English sentences and their French translations: Tatoeba's, and for training Multi30k's too."""
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
    """Sentences about films with how much they praise, 0 (not at all) to 4 (very), as the treebank writes them."""
    for line in itertools.islice(lines_of(data_folder() / "text" / "sst.tsv.gz"), 1, None):
        kind, praise, text = line.split("\t")
        if kind == {"val": "dev"}.get(split, split):
            yield int(praise), text


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
                start = at if start < 0 else start  # a form the text writes otherwise stands where the last one ended
                at = min(len(text), start + len(form))
                words.append(Word(start, at, tag, int(head) - 1))


TIGHT = [  # what stands apart in the treebank of reviews, and how a person writes it
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


def written(text: str) -> str:
    """A sentence whose signs stand apart, as a person would write it."""
    for pattern, instead in TIGHT:
        text = re.sub(pattern, instead, text)
    return text[:1].upper() + text[1:]
