"""Maps over tokens aggregated to maps over words, with or without special tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from attnviz.types import CONTINUATION, Tokens
from attnviz.typography import SPACE, hidden_bytes, shown


@dataclass(frozen=True)
class Grouping:
    """Which tokens of a text are shown together, in order: each group becomes one."""

    tokens: Tokens  # what is shown, one label a group
    groups: tuple[tuple[int, ...], ...]  # token numbers of the text

    def shown(self, token: int) -> int | None:
        """The group a token of the text is in; None where it is left out."""
        return next((i for i, group in enumerate(self.groups) if token in group), None)

    def first(self, group: int) -> int:
        """The first token of a group."""
        return self.groups[group][0]


def grouping(tokens: Tokens, *, whole_words: bool = False, special: bool = True) -> Grouping:
    """How a text's tokens are shown: singly or by word, with or without special tokens.

    Raises ValueError for tokens without words.
    """
    if tokens.words is None:
        raise ValueError("these tokens do not belong to words")
    groups: list[list[int]] = []
    for i, word in enumerate(tokens.words):
        if word < 0 and not special:
            continue
        if whole_words and word >= 0 and groups and tokens.words[groups[-1][-1]] == word:
            groups[-1].append(i)
        else:
            groups.append([i])
    labels = tuple(word_label([tokens.labels[i] for i in group]) for group in groups)
    words = tuple(tokens.words[group[0]] for group in groups)
    prefix = sum(1 for group in groups if group[-1] < tokens.prefix)
    return Grouping(Tokens(labels, None, prefix, tokens.stream, words), tuple(map(tuple, groups)))


def word_label(labels: Sequence[str]) -> str:
    """The label of a word, from those of its tokens: bytes that are a character together are shown as that."""
    parts = [labels[0], *(label.removeprefix(CONTINUATION) for label in labels[1:])]
    return shown(b"".join(hidden_bytes(part) for part in parts if part.strip(SPACE))) or labels[0]


def singly(tokens: Tokens) -> Grouping:
    """Every token by itself."""
    return Grouping(tokens, tuple((i,) for i in range(len(tokens))))


def word_map(
    maps: Float[np.ndarray, "*map query key"], queries: Grouping, keys: Grouping, *, renormalise: bool = False
) -> tuple[Float[np.ndarray, "*map group_query group_key"], Float[np.ndarray, "*map"]]:
    """Maps over groups, and the weight left out: mean over the queries of a group, sum over its keys.

    Rows keep their sum if no token is left out. With `renormalise` they are divided by their remaining sum; an empty
    row stays zero. The second result is the mean weight on tokens left out.
    """
    summed = np.stack([maps[..., list(group)].sum(-1) for group in keys.groups], -1) if keys.groups else maps[..., :0]
    rows = [summed[..., list(group), :].mean(-2) for group in queries.groups]
    found = np.stack(rows, -2) if rows else summed[..., :0, :]
    kept = found.sum(-1)
    if renormalise:
        found = np.divide(found, kept[..., None], out=np.zeros_like(found), where=kept[..., None] > 1e-12)
    lost = 1 - kept.mean(-1) if kept.shape[-1] else np.zeros(maps.shape[:-2])
    return found, lost


def word_mask(
    masked: Bool[np.ndarray, "query key"], queries: Grouping, keys: Grouping
) -> Bool[np.ndarray, "group_query group_key"]:
    """Which pairs of groups are masked: those in which no token may attend to any of the other group."""
    columns = [masked[:, list(group)].all(-1) for group in keys.groups]
    across = np.stack(columns, -1) if columns else masked[:, :0]
    rows = [across[list(group)].all(-2) for group in queries.groups]
    return np.stack(rows, -2) if rows else across[:0]


def first_token_of_word(tokens: Tokens, words: Sequence[int]) -> list[int]:
    """The first token of each word, by its number."""
    first: dict[int, int] = {}
    for i, word in enumerate(tokens.words or ()):
        first.setdefault(word, i)
    return [first[word] for word in words]
