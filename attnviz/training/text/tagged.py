"""Treebank sentences as the encoder reads them."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from attnviz.models.subwords import CLS, SEP, SubwordTokenizer, first_pieces
from attnviz.models.text_model import TAGS
from attnviz.training.text import corpus


class Tagged(NamedTuple):
    """A treebank sentence as the encoder reads it; word numbers refer to `first`."""

    ids: list[int]  # CLS and SEP included
    first: list[int]  # the token each word begins with
    tags: list[int]
    heads: list[int]  # number of the word it depends on, -1 for the root


def around(*texts: Sequence[int]) -> list[int]:
    """[CLS] text [SEP] text [SEP]."""
    return [CLS, *itertools.chain.from_iterable([*text, SEP] for text in texts)]


def tagged(subwords: SubwordTokenizer, sentences: Iterable[corpus.Sentence], longest: int) -> list[Tagged]:
    """Treebank sentences as pieces; a word begins with the first piece that begins inside it."""
    found = []
    for sentence in sentences:
        pieces = subwords.encode(sentence.text)
        if not 0 < len(pieces) <= longest:
            continue
        spans = [(word.start, word.stop) for word in sentence.words]
        first = [1 + i for i in first_pieces(sentence.text, pieces, spans)]
        ids = around([p.id for p in pieces])
        found.append(Tagged(ids, first, [TAGS.index(w.tag) for w in sentence.words], [w.head for w in sentence.words]))
    return found


def flat(rows: Sequence[Tagged]) -> tuple[list[int], list[int], list[int]]:
    """For all words of all sentences: the token it begins with, its tag, and the token its head begins with."""
    tokens = [token for row in rows for token in row.first]
    tags = [tag for row in rows for tag in row.tags]
    heads = [0 if head < 0 else row.first[head] for row in rows for head in row.heads]  # CLS is the root
    return tokens, tags, heads
