"""Heads against depth: every head is a dot at its layer, in its own place."""

import numpy as np
import pytest

from attnviz.plots import theme
from attnviz.plots.depth import depth as plot_depth
from tests.figures import checked

depth = checked(plot_depth)


def test_every_head_is_a_dot_near_its_layer():
    values = np.arange(6, dtype=float).reshape(2, 3)
    figure = depth(values, chosen=(1, 2), references={"even attention": 7.5})
    means, dots, ring = figure.data
    assert np.asarray(means.y).tolist() == [1, 4]
    assert np.asarray(dots.y).tolist() == [0, 1, 2, 3, 4, 5]
    assert np.round(dots.x).tolist() == [1, 1, 1, 2, 2, 2]
    assert sorted({*dots.x}) == list(dots.x)  # no two heads hide each other, and the first stands on the left
    assert list(dots.customdata)[3] == "layer 2, head 1"
    assert (ring.x[0], ring.y[0]) == (dots.x[5], dots.y[5])
    assert figure.layout.shapes[0].y0 == 7.5
    assert figure.layout.annotations[0].text == "even attention"
    assert figure.layout.yaxis.range[1] > 7.5
    assert figure.layout.xaxis.range == (0.5, 2.5)
    assert np.abs(np.asarray(dots.x) - np.round(dots.x)).max() < 0.25


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


def test_what_is_said_of_a_head_and_of_the_mean():
    figure = depth([[0.1, 0.3]], form=".1%", y_title="share", dark=True)
    means, dots = figure.data
    assert means.hovertemplate == "layer %{customdata}, mean of the heads: %{y:.1%}<extra></extra>"
    assert dots.hovertemplate == "%{customdata}: %{y:.1%}<extra></extra>"
    assert (list(means.customdata), list(means.x), means.mode, dots.mode) == (["1"], [1], "lines", "markers")
    assert list(dots.marker.color) == [theme.head_colour(0), theme.head_colour(1)]
    assert means.line.color == theme.COLOURS["muted"][1]
    assert (figure.layout.xaxis.title.text, figure.layout.yaxis.title.text) == ("Layer", "share")
    assert figure.layout.yaxis.tickformat == ".1%"
    assert depth([[1.0]]).layout.yaxis.tickformat is None
    assert list(depth([[1.0]]).data[1].x) == [1]  # one head stands at its layer


def test_the_range_starts_at_nothing_and_leaves_room_above():
    low, high = depth([[1.0, 4.0]]).layout.yaxis.range
    assert low == 0
    assert 4 < high < 5
    assert depth([[1.0, 4.0]], references={"even": 8.0}).layout.yaxis.range[1] == pytest.approx(2 * high)
    assert depth([[1.0]], limits=(-1, 1)).layout.yaxis.range == (-1, 1)
    assert depth([[np.nan], [0.0]]).layout.yaxis.range[1] > 0
    assert np.isnan(depth([[np.nan], [2.0]]).data[0].y[0])


def test_layers_are_thinned_where_there_are_many():
    for count, step in ((24, 1), (25, 2), (48, 2), (49, 3)):
        ticks = depth(np.ones((count, 1))).layout.xaxis
        assert list(ticks.tickvals) == list(range(1, count + 1, step))
        assert list(ticks.ticktext) == [str(i) for i in range(1, count + 1, step)]


def test_the_ring_is_wider_than_the_dot():
    figure = depth([[1.0, 2.0]], chosen=(0, 1))
    dots, ring = figure.data[1:]
    assert ring.marker.size > dots.marker.size
    assert (ring.marker.symbol, ring.hoverinfo, ring.mode) == ("circle-open", "skip", "markers")
    assert len(depth([[1.0, 2.0]]).data) == 2
