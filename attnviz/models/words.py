"""Words as vectors: a vocabulary with one learned vector a word, and which words lie near which.

The table is that of skip-gram with negative sampling (Mikolov et al. 2013, arXiv 1310.4546): a word's vector is its row
of the input matrix, without what all rows share, and scaled so that the mean length over running text is 1.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from attnviz.models.files import ASSETS, DamagedModel, read_config, read_weights, write
from attnviz.typography import clean

WORD = re.compile(r"[^\W_]+(?:'[^\W_]+)*")  # letters or digits of any script, an apostrophe inside
NAME = "word2vec"


def words_of(text: str) -> list[str]:
    """The words of a text in lower case, without punctuation."""
    return WORD.findall(clean(text).lower())


class Reading(NamedTuple):
    """A sentence as this vocabulary reads it."""

    words: tuple[str, ...]
    ids: tuple[int, ...]
    unknown: tuple[str, ...]  # left out, in order of appearance, each once
    cut: int  # words beyond the longest that is read


class Near(NamedTuple):
    """A word and how near it is."""

    word: str
    cosine: float


@dataclass(frozen=True, eq=False)
class WordVectors:
    """A vocabulary, most frequent word first, and its vectors."""

    words: tuple[str, ...]
    vectors: Float[Tensor, "word feature"]
    digest: str = ""
    facts: dict[str, Any] = field(default_factory=dict)

    def to(self, device: torch.device | str) -> WordVectors:
        """These vectors on another device."""
        return replace(self, vectors=self.vectors.to(device))

    @cached_property
    def index(self) -> dict[str, int]:
        """The row of every word."""
        return {word: i for i, word in enumerate(self.words)}

    @cached_property
    def units(self) -> Float[Tensor, "word feature"]:
        """The vectors at length 1."""
        return torch.nn.functional.normalize(self.vectors, dim=-1)

    def read(self, text: str, longest: int = 24) -> Reading:
        """The known words of a text, at most so many; what is left out is said."""
        found = words_of(text)
        known = [word for word in found if word in self.index]
        unknown = tuple(dict.fromkeys(word for word in found if word not in self.index))
        kept = tuple(known[:longest])
        return Reading(kept, tuple(self.index[word] for word in kept), unknown, len(known) - len(kept))

    def near(self, vector: Float[Tensor, " feature"], count: int = 8, without: Collection[str] = ()) -> list[Near]:
        """The words whose vectors have the largest cosine with this one."""
        cosines = self.cosines(vector)
        best = cosines.topk(min(count + len(without), len(self.words))).indices.tolist()
        return [Near(self.words[i], float(cosines[i])) for i in best if self.words[i] not in without][:count]

    def cosines(self, vector: Float[Tensor, " feature"]) -> Float[Tensor, " word"]:
        """The cosine of every word with a vector; zero for the zero vector."""
        return self.units @ torch.nn.functional.normalize(vector, dim=0)

    def analogy(self, a: str, b: str, c: str) -> Float[Tensor, " feature"]:
        """What is to c as b is to a: unit vectors b - a + c (Mikolov et al. 2013, arXiv 1301.3781, section 4).

        Raises KeyError for a word that is not in the vocabulary.
        """
        return self.units[self.index[b]] - self.units[self.index[a]] + self.units[self.index[c]]

    def rank(self, word: str, vector: Float[Tensor, " feature"], without: Collection[str] = ()) -> int:
        """The place of a word among all words by their cosine with a vector, 1 being the nearest."""
        cosines = self.cosines(vector)
        above = (cosines > cosines[self.index[word]]).nonzero()[:, 0].tolist()
        return 1 + sum(self.words[i] not in without for i in above)


def load_words(folder: Path | None = None) -> WordVectors:
    """The shipped word vectors, their checksum verified. Raises DamagedModel."""
    folder = folder or ASSETS / NAME
    config = read_config(folder)
    weights = read_weights(folder, config.get("sha256", ""))
    try:
        words = tuple((folder / "words.txt").read_text(encoding="utf-8").split())
        vectors = weights["vectors"].float()
    except FileNotFoundError as error:
        raise DamagedModel(folder, "words.txt", "is missing") from error
    except KeyError as error:
        raise DamagedModel(folder, "model.safetensors", "holds no word vectors") from error
    if len(words) != len(vectors):
        raise DamagedModel(folder, "words.txt", "does not list the words of the weights beside it")
    return WordVectors(words, vectors, config["sha256"], config.get("facts", {}))


def save_words(words: Sequence[str], vectors: Tensor, folder: Path, card: str, facts: dict[str, Any]) -> None:
    """Write vectors in half precision, the list of words, config.json with the checksum, and card.md."""
    write(folder, {"vectors": vectors}, {"name": NAME, "facts": facts}, card)
    (folder / "words.txt").write_text("\n".join(words) + "\n", encoding="utf-8")
