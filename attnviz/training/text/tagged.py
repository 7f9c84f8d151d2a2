"""Treebank sentences, tokenised for the encoder."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from attnviz.models.subwords import CLS, SEP, SubwordTokenizer, first_tokens
from attnviz.models.text_model import TAGS
from attnviz.training.text import corpus


class TaggedSentence(NamedTuple):
    """A tokenised treebank sentence; word numbers are indices of `first`."""

    ids: list[int]  # CLS and SEP included
    first: list[int]  # position of the first token of each word
    tags: list[int]
    heads: list[int]  # the dependency head of each word as a word number, -1 for the root


def add_special_tokens(*texts: Sequence[int]) -> list[int]:
    """[CLS] text [SEP] text [SEP]."""
    return [CLS, *itertools.chain.from_iterable([*text, SEP] for text in texts)]


def encode_sentences(
    subwords: SubwordTokenizer, sentences: Iterable[corpus.Sentence], max_tokens: int
) -> list[TaggedSentence]:
    """Tokenise treebank sentences; those longer than `max_tokens` are left out.

    The first token of a word is the first that begins inside the word.
    """
    rows = []
    for sentence in sentences:
        tokens = subwords.encode(sentence.text)
        if not 0 < len(tokens) <= max_tokens:
            continue
        spans = [(word.start, word.stop) for word in sentence.words]
        first = [1 + i for i in first_tokens(sentence.text, tokens, spans)]
        ids = add_special_tokens([token.id for token in tokens])
        tags, heads = [TAGS.index(word.tag) for word in sentence.words], [word.head for word in sentence.words]
        rows.append(TaggedSentence(ids, first, tags, heads))
    return rows


def flatten(rows: Sequence[TaggedSentence]) -> tuple[list[int], list[int], list[int]]:
    """For all words of all sentences: position of its first token, its tag, and position of its head's first token."""
    tokens = [token for row in rows for token in row.first]
    tags = [tag for row in rows for tag in row.tags]
    heads = [0 if head < 0 else row.first[head] for row in rows for head in row.heads]  # CLS is the root
    return tokens, tags, heads
