"""Attention from its first idea on, by hand and against the variants it grows into."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from attnviz.attention import VARIANTS
from attnviz.measures import reweigh
from attnviz.measures.embeddings import cosine, dot_product
from attnviz.types import Tokens

E = np.random.default_rng(0).normal(size=(5, 8))
ROW = Tokens(("a", "b", "c", "d", "e"))


def test_weights_by_distance_by_hand_and_against_the_variant():
    mixing = reweigh.proximity(5, 1.5)
    bell = [[math.exp(-((i - j) ** 2) / 4.5) for j in range(5)] for i in range(5)]
    np.testing.assert_allclose(mixing, [[one / sum(row) for one in row] for row in bell], rtol=1e-12)
    network = VARIANTS["proximity"](8, 1, tokens=ROW, sigma=1.5)
    call = network(torch.zeros(5, 8), queries=ROW)[1][0]
    np.testing.assert_allclose(call.weights()[0].detach().numpy(), mixing, atol=1e-6)


def test_a_narrow_bell_keeps_words_and_a_wide_one_takes_the_mean():
    np.testing.assert_allclose(reweigh.proximity(5, 0.05), np.eye(5), atol=1e-12)
    np.testing.assert_allclose(reweigh.proximity(5, 1e4), 0.2, atol=1e-6)
    narrow, wide = (np.abs(np.diff(reweigh.proximity(5, sigma) @ E, axis=0)).sum() for sigma in (0.5, 2.0))
    assert wide < narrow < np.abs(np.diff(E, axis=0)).sum()  # smoother


def test_he_in_the_default_sentence_gives_annoying_more_than_dog():
    """At sigma 2 it is 4.5 times as much, whatever the words mean: distance is not language."""
    words = ["tommy", "can", "be", "annoying", "but", "he", "is", "a", "good", "dog"]
    row = reweigh.proximity(len(words), 2.0)[words.index("he")]
    ratio = row[words.index("annoying")] / row[words.index("dog")]
    assert ratio == pytest.approx(math.exp((16 - 4) / 8))
    assert ratio == pytest.approx(4.5, abs=0.05)


def test_dot_products_and_cosines():
    np.testing.assert_allclose(dot_product(E)[1, 3], sum(E[1] * E[3]))
    cosines = cosine(np.vstack([E, np.zeros(8)]))
    np.testing.assert_allclose(np.diag(cosines)[:5], 1)
    assert (cosines[5] == 0).all()
    np.testing.assert_allclose(cosine(7 * E), cosines[:5, :5])
    assert not np.allclose(dot_product(7 * E), dot_product(E))


def test_softmax_shares_out_rows_or_columns_but_not_both():
    scores = dot_product(E) + np.arange(5)
    np.testing.assert_allclose(reweigh.softmax(scores).sum(1), 1)
    np.testing.assert_allclose(reweigh.softmax(scores, axis=0).sum(0), 1)
    assert not np.allclose(reweigh.softmax(scores, axis=0).sum(1), 1)
    # Books that show K Q^T with a softmax down the columns show the same thing, turned.
    np.testing.assert_allclose(reweigh.softmax(scores.T, axis=0), reweigh.softmax(scores).T)
    masked = np.where(np.tri(5, dtype=bool), scores, -np.inf)
    np.testing.assert_array_equal(reweigh.softmax(masked)[0], [1, 0, 0, 0, 0])


def test_the_raw_block_is_attention_with_the_identity_for_matrices():
    network = VARIANTS["mha"](8, 1, tokens=ROW, bias=False).double()
    for part in (network.query, network.key, network.value, network.out):
        part.weight.data = torch.eye(8, dtype=torch.float64)
    y, (call,) = network(torch.from_numpy(E), queries=ROW)
    mixing = reweigh.softmax(dot_product(E) / math.sqrt(8))
    np.testing.assert_allclose(call.weights()[0].detach().numpy(), mixing)
    np.testing.assert_allclose(y.detach().numpy(), mixing @ E)


def test_without_distance_a_shuffled_sentence_gets_the_same_vectors():
    order = np.array([3, 1, 4, 0, 2])

    def mixed(vectors: np.ndarray, content: float) -> np.ndarray:
        return reweigh.softmax(reweigh.blended(vectors, content, 1.5)) @ vectors

    np.testing.assert_allclose(mixed(E[order], 1.0), mixed(E, 1.0)[order])
    assert not np.allclose(mixed(E[order], 0.5), mixed(E, 0.5)[order])
    np.testing.assert_allclose(mixed(E, 0.0), reweigh.proximity(5, 1.5) @ E)


def test_a_cold_lookup_is_hard_and_a_hot_one_the_mean():
    query = E[2] + 0.1
    best = int((E @ query).argmax())
    np.testing.assert_array_equal(reweigh.look_up(query, E, 0), np.eye(5)[best])
    np.testing.assert_allclose(reweigh.look_up(query, E, 1e-3), np.eye(5)[best], atol=1e-9)
    np.testing.assert_allclose(reweigh.look_up(query, E, 1e6), 0.2, atol=1e-4)
    np.testing.assert_allclose(reweigh.look_up(query, E, 0.7), reweigh.softmax(E @ query / 0.7))


def test_products_spread_like_the_root_of_the_dimension_until_they_are_scaled():
    dims = np.array([4, 64, 1024])
    found = reweigh.spread_of_products(dims)
    np.testing.assert_allclose(found["spread"], np.sqrt(dims), rtol=0.08)
    assert found["plain"][-1] > 0.9
    assert abs(found["scaled"][-1] - found["scaled"][1]) < 0.05


def test_scaled_products_are_alike_at_every_dimension():
    """Divided by the root: at 4 and 1,024 dimensions the largest of sixteen weights is as large. By d it would fall."""
    found = reweigh.spread_of_products(np.array([4, 1024]))["scaled"]
    wide = np.random.default_rng(1).normal(size=(20_000, 16))  # what the scores tend to: standard normal numbers
    largest = (np.exp(wide) / np.exp(wide).sum(-1, keepdims=True)).max(-1).mean()
    np.testing.assert_allclose(found, largest, atol=0.03)


def test_what_nobody_chose() -> None:
    usual, said = reweigh.spread_of_products(np.array([4])), reweigh.spread_of_products(np.array([4]), 16, 400, 0)
    assert {name: values.tolist() for name, values in usual.items()} == {n: v.tolist() for n, v in said.items()}
    assert list(usual) == ["spread", "plain", "scaled"]
    np.testing.assert_array_equal(reweigh.softmax(E), reweigh.softmax(E, -1))
