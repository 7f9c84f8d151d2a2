"""Heads against depth: every head is a dot at its layer, in its own place."""

import numpy as np
import pytest

from attnviz.plots.depth import depth


def test_every_head_is_a_dot_near_its_layer():
    values = np.arange(6, dtype=float).reshape(2, 3)
    figure = depth(values, chosen=(1, 2), references={"even attention": 7.5})
    means, dots, ring = figure.data
    assert np.asarray(means.y).tolist() == [1, 4]
    assert np.asarray(dots.y).tolist() == [0, 1, 2, 3, 4, 5]
    assert np.round(dots.x).tolist() == [1, 1, 1, 2, 2, 2]
    assert len(set(dots.x)) == 6  # no two heads hide each other
    assert list(dots.customdata)[3] == "layer 2, head 1"
    assert (ring.x[0], ring.y[0]) == (dots.x[5], dots.y[5])
    assert figure.layout.shapes[0].y0 == 7.5
    assert figure.layout.annotations[0].text == "even attention"
    assert figure.layout.yaxis.range[1] > 7.5


def test_heads_a_layer_does_not_have_are_left_out_of_its_mean():
    figure = depth(np.array([[1.0, 3.0], [5.0, np.nan]]))
    assert np.asarray(figure.data[0].y).tolist() == [2, 5]


def test_a_layer_that_attends_twice_is_called_by_its_axis():
    figure = depth(np.arange(4, dtype=float).reshape(2, 2), names=["1 rows", "1 columns"])
    assert list(figure.layout.xaxis.ticktext) == ["1 rows", "1 columns"]
    assert list(figure.data[1].customdata)[2] == "layer 1 columns, head 1"
    with pytest.raises(ValueError, match="2 layers but there are 1 labels"):
        depth(np.zeros((2, 2)), names=["1 rows"])


def test_values_must_be_by_layer_and_head():
    with pytest.raises(ValueError, match="expected 2 axes"):
        depth(np.zeros(4))
