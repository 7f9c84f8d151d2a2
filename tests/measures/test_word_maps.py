"""Maps over pieces made into maps over words, by hand."""

from __future__ import annotations

import numpy as np
import pytest

from attnviz.measures.words import grouping, word_map, word_mask
from attnviz.types import Tokens

TOKENS = Tokens(("CLS", "Tom", "…my", "barks", "SEP"), None, 1, "main", (-1, 0, 0, 1, -1))
MAP = np.array(
    [
        [
            [0.2, 0.1, 0.3, 0.2, 0.2],
            [0.5, 0.1, 0.1, 0.2, 0.1],
            [0.1, 0.3, 0.1, 0.4, 0.1],
            [0.0, 0.2, 0.2, 0.2, 0.4],
            [1.0, 0.0, 0.0, 0.0, 0.0],
        ]
    ]
)


def test_pieces_and_words():
    words = grouping(TOKENS, whole_words=True)
    assert words.tokens.labels == ("CLS", "Tommy", "barks", "SEP")
    assert words.groups == ((0,), (1, 2), (3,), (4,))
    assert words.tokens.words == (-1, 0, 1, -1)
    assert words.tokens.prefix == 1
    assert (words.shown(2), words.first(1)) == (1, 1)
    bare = grouping(TOKENS, special=False)
    assert bare.tokens.labels == ("Tom", "…my", "barks")
    assert bare.tokens.prefix == 0
    assert bare.shown(0) is None


def test_words_that_stand_beside_each_other_twice_stay_two():
    tokens = Tokens(("the", "the"), None, 0, "main", (0, 1))
    assert grouping(tokens, whole_words=True).groups == ((0,), (1,))


def test_what_a_word_gives_and_gets():
    words = grouping(TOKENS, whole_words=True)
    found, lost = word_map(MAP, words, words)
    assert np.allclose(found[0, 0], [0.2, 0.4, 0.2, 0.2])
    assert np.allclose(found[0, 1], [0.3, 0.3, 0.3, 0.1])  # mean of the rows of Tom and ##my
    assert np.allclose(found.sum(-1), 1)
    assert np.allclose(lost, 0)


def test_what_is_left_out_is_said_and_divided():
    bare = grouping(TOKENS, special=False)
    found, lost = word_map(MAP, bare, bare, renormalise=True)
    assert np.allclose(found.sum(-1), 1)
    assert np.allclose(found[0, 0], np.array([0.1, 0.1, 0.2]) / 0.4)
    assert np.allclose(lost, 1 - (0.4 + 0.8 + 0.6) / 3)
    nothing = np.zeros_like(MAP)
    nothing[..., 0] = 1
    assert not word_map(nothing, bare, bare, renormalise=True)[0].any()


def test_a_word_is_masked_where_all_of_it_is():
    words = grouping(TOKENS, whole_words=True)
    causal = np.triu(np.ones((5, 5), dtype=bool), 1)
    masked = word_mask(causal, words, words)
    assert masked.tolist() == [
        [False, True, True, True],
        [False, False, True, True],
        [False, False, False, True],
        [False] * 4,
    ]


def test_a_word_is_open_where_one_of_its_pieces_is():
    tokens = Tokens(("a", "b", "…c"), None, 0, "main", (0, 1, 1))
    words = grouping(tokens, whole_words=True)
    one_key = np.array([[False, True, False]] * 3)
    one_query = one_key.T
    assert not word_mask(one_key, words, words).any()
    assert not word_mask(one_query, words, words).any()
    assert word_mask(one_key | np.array([False, False, True]), words, words).tolist() == [[False, True]] * 2
    assert word_mask(one_query | np.array([[False], [False], [True]]), words, words).tolist() == [
        [False] * 2,
        [True] * 2,
    ]


def test_tokens_without_words_are_refused():
    with pytest.raises(ValueError, match="do not belong to words"):
        grouping(Tokens(("a", "b")))
    with pytest.raises(ValueError, match="word numbers for 1"):
        Tokens(("a", "b"), words=(0,))
