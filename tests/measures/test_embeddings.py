"""Maths of vectors: cosine and dot product by loops, principal components against scikit-learn, waves by hand."""

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA

from attnviz.attention import POSITIONS
from attnviz.measures import embeddings as measures
from attnviz.models.vit import patchify
from attnviz.types import Tokens


@pytest.fixture
def vectors() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(12, 5))


def sine(count: int, dim: int, base: float = 1e4) -> np.ndarray:
    return POSITIONS["sine"].table(Tokens(tuple(map(str, range(count)))), dim, base).numpy()


def test_similarities_by_loops(vectors):
    for i in range(12):
        for j in range(12):
            dot = sum(a * b for a, b in zip(vectors[i], vectors[j], strict=True))
            lengths = np.sqrt(sum(a * a for a in vectors[i]) * sum(b * b for b in vectors[j]))
            assert measures.dot_product(vectors)[i, j] == pytest.approx(dot)
            assert measures.cosine(vectors)[i, j] == pytest.approx(dot / lengths)


def test_what_all_vectors_share_counts_for_nothing_once_centred(vectors):
    found = measures.centred_cosine(vectors + 100)
    assert np.allclose(found, measures.centred_cosine(vectors))
    assert measures.cosine(vectors + 100).min() > 0.99
    assert found.min() < -0.3
    own = vectors - vectors.mean(0)
    assert found[0, 1] == pytest.approx(own[0] @ own[1] / np.linalg.norm(own[0]) / np.linalg.norm(own[1]))


def test_a_vector_of_length_zero_is_like_nothing():
    found = measures.cosine(np.array([[0.0, 0.0], [1.0, 0.0]]))
    assert found.tolist() == [[0, 0], [0, 1]]


def test_principal_components_are_those_of_scikit_learn(vectors):
    directions, coordinates, shares = measures.principal(vectors, 3)
    oracle = PCA(3).fit(vectors)
    assert np.allclose(np.abs(directions), np.abs(oracle.components_))
    assert np.allclose(np.abs(coordinates), np.abs(oracle.transform(vectors)))
    assert np.allclose(shares, oracle.explained_variance_ratio_)
    assert np.allclose(coordinates, (vectors - vectors.mean(0)) @ directions.T)


def test_signs_do_not_depend_on_the_solver(vectors):
    _, one, _ = measures.principal(vectors, 3)
    _, other, _ = measures.principal(vectors[::-1].copy(), 3)
    assert np.allclose(one, other[::-1])


def test_filters_are_centred_first(vectors):
    """Negative test: a constant added to every row of the projection changes no filter."""
    weight = np.random.default_rng(1).normal(size=(24, 12))
    tiles, shares = measures.filters(weight, 3, 4)
    moved, _ = measures.filters(weight + 5, 3, 4)
    assert tiles.shape == (4, 2, 2, 3)
    assert np.array_equal(tiles, moved)
    assert (np.diff(shares) <= 0).all()
    assert tiles.reshape(4, -1).min(1).tolist() == [0] * 4
    assert tiles.reshape(4, -1).max(1).tolist() == [255] * 4


def test_fewer_components_than_asked_for():
    tiles, shares = measures.filters(np.random.default_rng(0).normal(size=(9, 4)), 1, 28)
    assert tiles.shape == (4, 2, 2, 1)
    assert shares.sum() == pytest.approx(1)


def test_tiles_put_pixels_back_where_patchify_took_them():
    picture = torch.arange(3 * 4 * 4.0).reshape(3, 4, 4)
    flat = patchify(picture, 4).numpy()
    tile = measures.tiles_of(flat, 3)[0]  # [row column channel]
    assert np.array_equal(np.argsort(tile.transpose(2, 0, 1).ravel(), kind="stable"), np.arange(48))
    with pytest.raises(ValueError, match="7 pixels are not 3 channels"):
        measures.tiles_of(np.zeros((1, 7)), 3)


def test_principal_colours_leave_the_prefix_out(vectors):
    far = np.concatenate([np.full((1, 5), 1e6), vectors])
    with_prefix, shares = measures.principal_colours(far, prefix=1)
    alone, _ = measures.principal_colours(vectors)
    assert with_prefix[0].tolist() == [128] * 3
    assert np.array_equal(with_prefix[1:], alone)
    assert 0 < shares.sum() <= 1 + 1e-9


def test_colours_run_from_the_first_to_the_last_hundredth():
    """101 places in a line: place k is k - 1 ninety-eighths of the way, and the ends are cut off."""
    line = np.arange(101.0)[:, None] * [[3.0, 0.0]]
    red = measures.principal_colours(line)[0][:, 0]
    expected = [round(255 * min(max((k - 1) / 98, 0), 1)) for k in range(101)]
    assert red.tolist() in (expected, expected[::-1])
    far = np.concatenate([[[1e4, 0.0]], np.random.default_rng(0).normal(size=(400, 2))])
    assert np.ptp(measures.principal_colours(far)[0][1:, 1].astype(int)) == 255  # one outlier greys nothing


def test_principal_colours_of_two_patches_have_three_channels():
    colours, _ = measures.principal_colours(np.eye(2))
    assert colours.shape == (2, 3)


def test_smallest_distance_of_the_sine_table():
    assert measures.smallest_distance(sine(512, 64)) == pytest.approx(1.4718, abs=1e-4)
    assert measures.smallest_distance(np.ones((3, 2))) == 0


def test_a_smallest_distance_needs_two():
    assert measures.smallest_distance(np.array([[0.0, 3.0], [4.0, 0.0]])) == pytest.approx(5)
    assert measures.smallest_distance(np.array([[0.0, 3.0], [4.0, 0.0], [4.0, 1.0]])) == pytest.approx(1)
    with pytest.raises(ValueError, match="needs two vectors, got 1"):
        measures.smallest_distance(np.ones((1, 2)))


def test_gram_of_the_sine_table_depends_on_the_distance_alone():
    gram = measures.dot_product(sine(40, 16))
    for k in range(40):
        assert np.ptp(np.diagonal(gram, k)) < 1e-12
    frequencies = 2 * np.pi / measures.wavelengths(8, 1e4)
    expected = [np.cos(k * frequencies).sum() for k in range(40)]
    assert np.allclose(measures.by_offset(sine(40, 16), 39), expected)


def test_wavelengths_run_from_two_pi_towards_two_pi_base():
    waves = measures.wavelengths(32, 1e4)
    assert waves[0] == pytest.approx(2 * np.pi)
    assert waves[16] == pytest.approx(2 * np.pi * 100)
    assert waves[-1] < 2 * np.pi * 1e4


def test_moved_weight_by_hand():
    before, after = np.array([[0.5, 0.5, 0.0], [1.0, 0.0, 0.0]]), np.array([[0.5, 0.0, 0.5], [1.0, 0.0, 0.0]])
    assert measures.moved(before, after) == 0.25
    assert measures.moved(before[0], after[0]) == 0.5
    assert measures.moved(before, before) == 0
