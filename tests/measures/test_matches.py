"""Patches of two pictures matched: against formulas in float64, and on the shipped model and pictures."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from attnviz.masks import Mask
from attnviz.measures.matches import NO_WEIGHTS, best_matches, cross_cosines, cross_weights, mutual
from attnviz.types import AttentionCall, NoTokenMap, Trace
from attnviz.ui.queries_keys.two_pictures import FIRST, HEAD, LAYER, OTHERWISE
from benchmarks import two_pictures


@pytest.fixture(scope="module")
def traces() -> dict[str, Trace]:
    """The shipped model on the pictures of the default pair."""
    model = two_pictures.open_model("vit")
    with torch.no_grad():
        return {name: model(model.prepare(two_pictures.open_sample("vit", name).image)) for name in (FIRST, OTHERWISE)}


def in_float64(asking: AttentionCall, answering: AttentionCall, head: int) -> np.ndarray:
    """softmax_j(q_i · k_j / sqrt(d)) over the patches of the other picture, written from the formula."""
    first = answering.keys.prefix
    group = asking.heads // asking.key.shape[-3]
    query = asking.query[head].double().numpy()[first:]
    key = answering.key[head // group].double().numpy()[first:]
    scores = np.exp(query @ key.T / np.sqrt(query.shape[-1]))
    return scores / scores.sum(-1, keepdims=True)


@pytest.mark.parametrize(("layer", "head"), [(0, 0), (3, 3), (5, 5)])
def test_weights_are_those_of_the_formula(traces: dict[str, Trace], layer: int, head: int):
    one, other = (traces[name].calls[layer] for name in (FIRST, OTHERWISE))
    found = cross_weights(one, other, head)
    np.testing.assert_allclose(found, in_float64(one, other, head), atol=1e-6, rtol=1e-4)
    np.testing.assert_allclose(found.sum(-1), 1, atol=1e-5)
    assert np.abs(found - in_float64(other, one, head)).max() > 1e-3, "the other way it is another map"
    np.testing.assert_allclose(cross_weights(one, other, head, [7, 2]), found[[7, 2]], atol=1e-6)


def test_of_a_picture_with_itself_it_is_the_head_without_its_prefix(traces: dict[str, Trace]):
    call = traces[FIRST].calls[3]
    first = call.keys.prefix
    own = call.weights([2])[0, first:, first:]
    wanted = own / own.sum(-1, keepdim=True)
    np.testing.assert_allclose(cross_weights(call, call, 2), wanted.numpy(), atol=1e-6, rtol=1e-4)
    masked = replace(call, mask=Mask(band=1))
    np.testing.assert_allclose(cross_weights(masked, masked, 2), wanted.numpy(), atol=1e-6, rtol=1e-4)


def test_what_is_no_softmax_or_of_another_shape_is_refused(traces: dict[str, Trace]):
    one, other = (traces[name].calls[0] for name in (FIRST, OTHERWISE))
    with pytest.raises(NoTokenMap, match=NO_WEIGHTS[:20]):
        cross_weights(replace(one, rule=replace(one.rule, stochastic=False)), other, 0)
    with pytest.raises(ValueError, match="alike"):
        cross_weights(one, replace(other, query=other.query[:, :-1]), 0)


def test_cosines_are_those_of_the_formula():
    generator = np.random.default_rng(0)
    one, other = generator.normal(size=(7, 5)).astype(np.float32), generator.normal(size=(9, 5)).astype(np.float32)
    one[3] = 0
    lengths = np.linalg.norm(one.astype(float), axis=1)[:, None] * np.linalg.norm(other.astype(float), axis=1)
    wanted = np.divide(one.astype(float) @ other.T.astype(float), lengths, out=np.zeros((7, 9)), where=lengths > 0)
    np.testing.assert_allclose(cross_cosines(one, other), wanted, atol=1e-6)
    row = np.array([0.1, 0.5, 0.5, -2.0, 0.4])
    assert best_matches(row).tolist() == [1, 2, 4]
    assert mutual(np.eye(4), np.eye(4)) == 1
    assert mutual(np.eye(4), np.roll(np.eye(4), 1, 0)) == 0


@pytest.mark.parametrize("layer", [3, 4, 5, 6])
def test_a_picture_matched_with_itself_finds_the_same_patches(traces: dict[str, Trace], layer: int):
    found, _ = two_pictures.by_features(traces[OTHERWISE], traces[OTHERWISE], layer)
    assert (found.argmax(1) == np.arange(len(found))).mean() >= 0.99
    mirrored = found[:, ::-1]
    assert (mirrored.argmax(1) == np.arange(len(found))).mean() < 0.5, "what is found is not the place"


def test_the_default_pair_shows_that_subjects_find_each_other(traces: dict[str, Trace]):
    """Twice as often as the patches around them, both ways, and far above chance."""
    one, other = traces[OTHERWISE], traces[FIRST]
    inside = two_pictures.subject(one), two_pictures.subject(other)
    there, back = two_pictures.by_head(one, other, LAYER - 1, HEAD - 1)
    for own, elsewhere in (two_pictures.hits(there, *inside), two_pictures.hits(back, *inside[::-1])):
        assert own >= 0.7
        assert own >= 2 * elsewhere
        assert own >= 3 * two_pictures.SUBJECT / len(inside[0])
