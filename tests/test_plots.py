"""Figures by what they hold: values, labels, colours, ranges; and errors that name what does not fit."""

import io
from collections.abc import Sequence

import numpy as np
import pytest
from PIL import Image

from attnviz.plots import bars, frame, heatmap, lines, mosaic, scatter, stacked_bars, theme


class TestHeatmap:
    def test_rows_of_the_array_are_rows_of_the_picture_the_first_on_top(self):
        figure = heatmap([[1, 2, 3], [4, 5, 6]], rows=["a", "b"], columns=["x", "y", "z"])
        assert figure.data[0].z.tolist() == [[1, 2, 3], [4, 5, 6]]
        assert list(figure.data[0].y) == ["a", "b"]
        assert list(figure.data[0].x) == ["x", "y", "z"]
        assert figure.layout.yaxis.autorange == "reversed"

    def test_values_travel_as_float32(self):
        for dtype in (np.float16, np.float64, np.int64):
            assert heatmap(np.ones((2, 2), dtype)).data[0].z.dtype == np.float32

    def test_repeated_labels_stay_apart(self):
        figure = heatmap(np.eye(3), rows=["the", "cat", "the"], columns=["a", "a", "a"])
        assert len(set(figure.data[0].y)) == len(set(figure.data[0].x)) == 3
        assert list(figure.layout.yaxis.ticktext) == ["the", "cat", "the"]

    def test_signed_is_centred_at_zero(self):
        figure = heatmap([[-1.0, 3.0]], signed=True)
        assert (figure.data[0].zmin, figure.data[0].zmax) == (-3, 3)
        assert figure.data[0].colorscale[0][1] == theme.SCALES[theme.DIVERGING[0]][0]

    @pytest.mark.parametrize("dark", [False, True])
    def test_zero_lies_near_the_ground(self, dark):
        """On a diverging scale the middle looks like nothing, in both themes."""
        colours = dict(heatmap([[-1.0, 3.0]], signed=True, dark=dark).data[0].colorscale)
        ground = theme.colour("ground", dark)
        middle = [int(colours[0.5][i : i + 2], 16) - int(ground[i : i + 2], 16) for i in (1, 3, 5)]
        assert max(map(abs, middle)) < 24

    def test_limits_make_panels_comparable(self):
        figure = heatmap([[0.1, 0.2]], limits=(0, 1))
        assert (figure.data[0].zmin, figure.data[0].zmax) == (0, 1)

    def test_many_labels_are_thinned(self):
        figure = heatmap(np.zeros((300, 2)), most_ticks=6)
        assert len(figure.layout.yaxis.ticktext) <= 6
        assert figure.layout.yaxis.ticktext[0] == "1"

    def test_rows_can_be_ticked_by_name(self):
        figure = heatmap(np.zeros((5, 1)), row_ticks={1: "row 1", 3: "row 2"})
        assert list(figure.layout.yaxis.tickvals) == ["2", "4"]
        assert list(figure.layout.yaxis.ticktext) == ["row 1", "row 2"]

    def test_a_constant_matrix_has_a_range(self):
        figure = heatmap(np.zeros((2, 2)))
        assert figure.data[0].zmax > figure.data[0].zmin

    def test_wrong_labels_are_named(self):
        with pytest.raises(ValueError, match="matrix has 2 rows but there are 3 labels"):
            heatmap(np.zeros((2, 2)), rows=["a", "b", "c"])
        with pytest.raises(ValueError, match="expected 2 axes"):
            heatmap(np.zeros(4))


class TestBars:
    def test_one_series_with_a_colour_per_bar(self):
        figure = bars([1, 2], labels=["a", "b"], colours=["query", "#123456"], chosen=1)
        assert figure.data[0].marker.color == (theme.COLOURS["query"][0], "#123456")
        assert figure.data[0].marker.line.width == (0, 2)
        assert figure.layout.showlegend is False

    def test_groups_have_a_legend_and_role_colours(self):
        figure = bars({"before": [1, 2], "after": [3, 4]}, colours={"before": "key", "after": "value"}, dark=True)
        assert [trace.name for trace in figure.data] == ["before", "after"]
        assert figure.data[0].marker.color == theme.COLOURS["key"][1]
        assert figure.layout.showlegend is True

    def test_horizontal_puts_the_first_label_on_top(self):
        figure = bars([1, 2], labels=["a", "b"], horizontal=True)
        assert figure.data[0].x.tolist() == [1, 2]
        assert figure.layout.yaxis.autorange == "reversed"

    def test_what_does_not_fit_is_named(self):
        with pytest.raises(ValueError, match="one length"):
            bars({"a": [1, 2], "b": [1]})
        with pytest.raises(ValueError, match="3 bars but 2 colours"):
            bars([1, 2, 3], colours=["query", "key"])
        with pytest.raises(ValueError, match="series has 2 bars but there are 1 labels"):
            bars([1, 2], labels=["a"])


class TestLines:
    def test_series_share_x(self):
        figure = lines({"a": [1, 2], "b": [3, 4]}, x=[10, 20], x_title="Step")
        assert [trace.y.tolist() for trace in figure.data] == [[1, 2], [3, 4]]
        assert figure.data[1].x.tolist() == [10, 20]

    def test_a_reference_on_a_logarithmic_axis_lies_at_its_value(self):
        figure = lines({"a": [1, 1000]}, references={"hundred": 100}, log_y=True)
        assert figure.layout.shapes[0].y0 == 100  # shapes lie at values,
        assert figure.layout.annotations[0].y == 2  # notes at exponents

    def test_wrong_lengths_are_named(self):
        with pytest.raises(ValueError, match="x has 3 places but the curves have 2 values"):
            lines({"a": [1, 2]}, x=[1, 2, 3])
        with pytest.raises(ValueError, match="no series"):
            lines({})


class TestScatter:
    def test_each_point_has_its_colour(self):
        figure = scatter([[0, 1], [2, 3]], colours=np.array([[255, 0, 0], [0, 0, 255]], np.uint8))
        assert figure.data[0].marker.color == ("rgb(255,0,0)", "rgb(0,0,255)")

    def test_numbers_get_one_scale_for_all_groups(self):
        figure = scatter(np.zeros((4, 2)), colours=[0, 1, 2, 3], groups=["q", "q", "k", "k"], value="row")
        assert {(t.marker.cmin, t.marker.cmax) for t in figure.data} == {(0, 3)}
        assert len({trace.marker.symbol for trace in figure.data}) == 2

    def test_chosen_points_are_ringed(self):
        figure = scatter([[0, 1], [2, 3]], chosen=[1])
        assert (figure.data[-1].x[0], figure.data[-1].y[0]) == (2, 3)

    def test_what_does_not_fit_is_named(self):
        with pytest.raises(ValueError, match=r"expected \[point 2\]"):
            scatter(np.zeros((3, 3)))
        with pytest.raises(ValueError, match="3 points but colours have shape"):
            scatter(np.zeros((3, 2)), colours=[1, 2])
        with pytest.raises(ValueError, match="chosen points"):
            scatter(np.zeros((3, 2)), chosen=[3])


class TestStackedBars:
    def test_shared_series_have_one_range(self):
        figure = stacked_bars({"a": [1, -4], "b": [2], "c": [0.5]}, shared=("a", "b"))
        ranges = [figure.layout[name].range for name in ("yaxis", "yaxis2", "yaxis3")]
        assert ranges[0] == ranges[1]
        assert ranges[0][1] >= 4
        assert ranges[2] is None

    @pytest.mark.parametrize(
        ("numbers", "said"),
        [
            (range(5), "0.0 to 4.0"),
            ([2.1e-8, -1e-9, 1.471], "0.0 to 1.5"),
            ([-0.0421, 0.003], "−0.042 to 0.003"),
            ([-2010.4, 31.8], "−2010 to 32"),
            ([0.0], "0 to 0"),
            ([float("nan")], "nan to nan"),
        ],
    )
    def test_titles_say_how_many_numbers_from_where_to_where(self, numbers: Sequence[float], said: str):
        figure = stacked_bars({"Content": numbers})
        assert figure.layout.annotations[0].text == f"Content · {len(numbers)} numbers, {said}"

    def test_nothing_to_draw_is_an_error(self):
        with pytest.raises(ValueError, match="no series"):
            stacked_bars({})


class TestPictures:
    def test_a_mosaic_keeps_every_pixel(self):
        tiles = np.arange(2 * 2 * 2 * 3, dtype=np.uint8).reshape(2, 2, 2, 3)
        picture = Image.open(io.BytesIO(mosaic(tiles, columns=2, tile=8, gap=2)))
        assert picture.size == (18, 8)
        pixels = np.asarray(picture)
        assert np.array_equal(pixels[::4, :8:4, :3], tiles[0])
        assert np.array_equal(pixels[::4, 10::4, :3], tiles[1])
        assert pixels[0, 8, 3] == 0  # the gap is see-through

    def test_grey_tiles_become_grey(self):
        pixels = np.asarray(Image.open(io.BytesIO(mosaic(np.full((1, 2, 2, 1), 7, np.uint8), columns=7, tile=2))))
        assert pixels[0, 0].tolist() == [7, 7, 7, 255]

    def test_a_mosaic_is_never_wider_than_streamlit_shows(self):
        picture = Image.open(io.BytesIO(mosaic(np.zeros((28, 16, 16), np.uint8), columns=28, tile=200)))
        assert picture.width <= 1460

    def test_what_is_no_picture_is_named(self):
        with pytest.raises(ValueError, match="expected uint8"):
            mosaic(np.zeros((1, 2, 2, 3)), columns=1)


@pytest.mark.parametrize("dark", [False, True])
def test_text_and_ground_follow_the_theme(dark):
    figure = heatmap(np.eye(2), dark=dark)
    assert figure.layout.font.color == theme.colour("text", dark)


def test_house_colours_by_role_head_or_css():
    assert frame.colour("query", False) == theme.COLOURS["query"][0]
    assert frame.colour(3, True) == theme.head_colour(3)
    assert frame.colour("#abcdef", False) == "#abcdef"
