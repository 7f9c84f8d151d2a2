"""Figures by what they hold: values, labels, colours, ranges; and errors that name what does not fit."""

import io
import math
import re
from collections.abc import Sequence

import numpy as np
import pytest
from PIL import Image

from attnviz import plots
from attnviz.plots import frame, mosaic, theme
from attnviz.plots.depth import depth as plot_depth
from attnviz.plots.growth import DASHES
from attnviz.plots.growth import growth as plot_growth
from attnviz.plots.intervals import intervals as plot_intervals
from attnviz.plots.sharing import sharing as plot_sharing
from tests.figures import checked

bars, heatmap, lines = checked(plots.bars), checked(plots.heatmap), checked(plots.lines)
scatter, stacked_bars, depth = checked(plots.scatter), checked(plots.stacked_bars), checked(plot_depth)
growth, intervals, sharing = checked(plot_growth), checked(plot_intervals), checked(plot_sharing)


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


class TestFrame:
    def test_ticks_are_thinned_evenly_from_the_first(self):
        labels = [f"l{i}" for i in range(9)]
        assert frame.ticks(labels, 9)["ticktext"] == labels
        assert frame.ticks(labels, 8)["ticktext"] == labels[::2]
        assert frame.ticks(labels, 1)["ticktext"] == labels[:1]
        assert frame.ticks(labels, 5)["tickvals"] == [0, 2, 4, 6, 8]
        assert frame.ticks(labels, 3, places=labels)["tickvals"] == ["l0", "l3", "l6"]
        assert len(frame.ticks([str(i) for i in range(16)])["ticktext"]) == 8
        assert len(frame.ticks([str(i) for i in range(17)])["ticktext"]) == 6
        assert frame.ticks(labels, 0) == {"showticklabels": False, "ticks": ""}
        assert frame.ticks(labels)["tickmode"] == "array"

    def test_labels_told_apart_look_the_same(self):
        found = frame.distinct(["a", "b", "a", "a"])
        assert len(set(found)) == 4
        assert [label.strip("\u200b") for label in found] == ["a", "b", "a", "a"]
        assert found[:2] == ["a", "b"]

    @pytest.mark.parametrize(
        ("values", "signed", "limits", "expected"),
        [
            ([1, 4, 2], False, None, (1, 4)),
            ([1, np.nan, np.inf, 3], False, None, (1, 3)),
            ([-1, 3], True, None, (-3, 3)),
            ([-5, 3], True, None, (-5, 5)),
            ([0, 0], True, None, (-1, 1)),
            ([2, 2], False, None, (2, 3)),
            ([np.nan], False, None, (0, 1)),
            ([-1, 3], True, (0.5, 2), (0.5, 2)),
        ],
    )
    def test_the_range_of_colours(self, values, signed, limits, expected):
        assert frame.span(np.array(values, np.float32), signed, limits) == expected

    def test_labels_nobody_gave_count_from_one(self):
        assert frame.fits("x", None, 3, "rows") == ["1", "2", "3"]
        assert frame.fits("x", [4, "b"], 2, "rows") == ["4", "b"]

    def test_titles_get_room_and_no_more(self):
        bare, titled = lines({"a": [1]}), lines({"a": [1]}, title="t", x_title="x", y_title="y")
        for side in ("l", "t", "b"):
            assert titled.layout.margin[side] > bare.layout.margin[side]
        assert bare.layout.title.text is None
        assert (titled.layout.title.text, titled.layout.xaxis.title.text, titled.layout.yaxis.title.text) == tuple(
            "txy"
        )
        assert lines({"a": [1], "b": [2]}).layout.margin.t > bare.layout.margin.t  # for the legend
        for dark in (False, True):
            assert lines({"a": [1]}, dark=dark).layout.xaxis.gridcolor == theme.colour("grid", dark)


class TestTheme:
    def test_colours_are_colours(self):
        every = [c for pair in theme.COLOURS.values() for c in pair] + theme.HEADS
        for colour in [*every, *(row for rows in theme.SCALES.values() for row in rows)]:
            assert re.fullmatch("#[0-9a-f]{6}", colour), colour
        assert len(set(theme.HEADS)) == len(theme.HEADS) == 8
        assert theme.head_colour(0) == theme.head_colour(8) == theme.HEADS[0]
        assert all(len(set(pair)) == 2 for pair in theme.COLOURS.values())

    @pytest.mark.parametrize("name", theme.SCALES)
    def test_a_scale_is_the_same_for_canvas_and_chart(self, name):
        table, stops = theme.table(name), theme.stops(name)
        assert (table.shape, table.dtype) == ((256, 3), np.uint8)
        assert ["#" + bytes(row).hex() for row in table] == theme.SCALES[name]
        assert [place for place, _ in stops] == np.linspace(0, 1, 33).tolist()
        assert [colour for _, colour in stops] == [theme.SCALES[name][min(255, 8 * i)] for i in range(33)]

    def test_negative_is_blue_and_positive_is_not(self):
        for name in theme.DIVERGING:
            first, last = theme.table(name)[[32, -33]].astype(int)
            assert first[2] > first[0]
            assert last[0] > last[2]
        with pytest.raises(ValueError, match="no colour scale is called 'rainbow'; known: viridis"):
            theme.table("rainbow")


class TestWhatIsSaid:
    """What hovering says, and what stands at the axes."""

    def test_of_a_matrix(self):
        figure = heatmap(np.eye(2), x_title="Key", y_title="Query", form=".1%", value="weight", legend=False)
        assert figure.data[0].hovertemplate == "query %{y}, key %{x}: %{z:.1%}<extra></extra>"
        assert figure.data[0].colorbar.title.text == "weight"
        assert figure.data[0].showscale is False
        assert figure.layout.xaxis.title.text == "Key"
        plain = heatmap(np.eye(2))
        assert plain.data[0].hovertemplate == "%{y}, %{x}: %{z:.3g}<extra></extra>"
        assert plain.data[0].showscale is True
        assert plain.data[0].colorscale[0][1] == theme.SCALES["viridis"][0]
        assert plain.layout.yaxis.scaleanchor is None
        assert heatmap(np.eye(2), square=True).layout.yaxis.scaleanchor == "x"
        assert (plain.layout.xaxis.type, plain.layout.yaxis.type) == ("category", "category")
        assert len(heatmap(np.zeros((2, 40))).layout.xaxis.ticktext) == frame.TICKS
        dark = heatmap([[-1.0, 1.0]], signed=True, dark=True)
        assert dark.data[0].colorscale[0][1] == theme.SCALES[theme.DIVERGING[1]][0]

    @pytest.mark.parametrize("horizontal", [False, True])
    def test_of_bars(self, horizontal):
        figure = bars([0.5, 0.25], labels=["a", "b"], horizontal=horizontal, form=".0%", limits=(0, 1), shown=True)
        (bar,), along = figure.data, "x" if horizontal else "y"
        by_value, by_label = (figure.layout[f"{axis}axis"] for axis in ("xy" if horizontal else "yx"))
        assert bar.orientation == ("h" if horizontal else "v")
        assert list(bar[along]) == [0.5, 0.25]
        assert list(bar["y" if horizontal else "x"]) == [0, 1]
        assert list(bar.customdata) == ["a", "b"]
        assert bar.hovertemplate == f"%{{customdata}}: %{{{along}:.0%}}<extra></extra>"
        assert (bar.texttemplate, bar.textposition) == (f"%{{{along}:.0%}}", "outside")
        assert (by_value.tickformat, by_value.range) == (".0%", (0, 1))
        assert (list(by_label.tickvals), list(by_label.ticktext)) == ([0, 1], ["a", "b"])
        quiet = bars([1.0, 2.0], horizontal=horizontal)
        assert quiet.data[0].texttemplate is quiet.data[0].textposition is None
        assert quiet.layout["xaxis" if horizontal else "yaxis"].tickformat is None
        assert quiet.data[0].marker.line.width == (0, 0)
        assert quiet.data[0].marker.color == theme.COLOURS["key"][0]
        assert (quiet.layout.yaxis.autorange == "reversed") is horizontal
        assert bars({"a": [1], "b": [2]}).layout.barmode == "group"

    @pytest.mark.parametrize("log", [False, True])
    def test_of_curves(self, log):
        figure = lines(
            {"a": [1, 10], "b": [2, 20]},
            x=[1, 100],
            x_title="Step",
            form=".1%",
            log_x=log,
            log_y=log,
            references={"even": 100},
            marks={"now": 10},
            colours={"b": "value"},
            limits=(0, 30),
        )
        assert [curve.mode for curve in figure.data] == ["lines", "lines"]
        assert [curve.line.color for curve in figure.data] == [theme.head_colour(0), theme.COLOURS["value"][0]]
        assert figure.data[0].hovertemplate == "step %{x:.4g}: %{y:.1%}<extra>a</extra>"
        assert {figure.layout.xaxis.type, figure.layout.yaxis.type} == {"log" if log else "linear"}
        assert {figure.layout.xaxis.dtick, figure.layout.yaxis.dtick} == {1 if log else None}
        assert (figure.layout.yaxis.tickformat, figure.layout.yaxis.range) == (".0%", (0, 30))
        even, now = figure.layout.shapes
        assert (even.y0, even.y1, even.x0, even.x1, even.xref) == (100, 100, 0, 1, "x domain")
        assert (now.x0, now.x1, now.y0, now.y1, now.yref) == (10, 10, 0, 1, "y domain")
        said, marked = figure.layout.annotations
        assert (said.text, said.y, said.x, said.yanchor) == ("even", 2 if log else 100, 0, "bottom")
        assert (marked.text, marked.x, marked.y, marked.yanchor) == ("now", 1 if log else 10, 1, "top")
        assert said.showarrow is marked.showarrow is False
        assert lines({"a": [1]}, points=True).data[0].mode == "lines+markers"
        plain = lines({"a": [5, 6]})
        assert plain.data[0].x.tolist() == [0, 1]
        assert plain.layout.yaxis.tickformat is None
        assert (plain.layout.showlegend, figure.layout.showlegend) == (False, True)

    def test_of_points(self):
        figure = scatter(
            [[0, 1], [2, 3], [4, 5]],
            names=["a", "b", "c"],
            groups=["q", "k", "q"],
            written=True,
            group_colours={"q": "query", "k": "key"},
        )
        queries, keys = figure.data
        assert (list(queries.x), list(queries.y), list(queries.customdata)) == ([0, 4], [1, 5], ["a", "c"])
        assert (list(keys.text), keys.mode, keys.name) == (["b"], "markers+text", "k")
        assert (queries.marker.color, keys.marker.color) == (theme.COLOURS["query"][0], theme.COLOURS["key"][0])
        assert queries.hovertemplate == "%{customdata}<extra></extra>"
        assert queries.marker.line.width > scatter([[0, 1]]).data[0].marker.line.width
        assert (figure.layout.showlegend, figure.layout.yaxis.scaleanchor) == (True, "x")
        plain = scatter([[0, 1]], square=False)
        assert (plain.layout.showlegend, plain.layout.yaxis.scaleanchor, plain.data[0].mode) == (False, None, "markers")
        assert plain.data[0].marker.color == theme.COLOURS["muted"][0]

    def test_of_numbers_as_colours(self):
        figure = scatter(np.zeros((3, 2)), colours=[-1, 0, 3], groups=["q", "q", "k"], signed=True, value="row")
        assert [(t.marker.cmin, t.marker.cmax) for t in figure.data] == [(-3, 3)] * 2
        assert [list(t.marker.color) for t in figure.data] == [[-1, 0], [3]]
        assert [t.marker.showscale for t in figure.data] == [True, False]
        assert figure.data[0].marker.colorbar.title.text == "row"
        assert figure.data[0].marker.colorscale[0][1] == theme.SCALES[theme.DIVERGING[0]][0]

    def test_a_ring_lies_on_top_around_its_point(self):
        figure = scatter([[0, 1], [2, 3]], chosen=[0, 1], size=5)
        ring = figure.data[-1]
        assert (list(ring.x), list(ring.y)) == ([0, 2], [1, 3])
        assert ring.marker.size > 5
        assert (ring.marker.symbol, ring.hoverinfo, ring.showlegend) == ("circle-open", "skip", False)
        with pytest.raises(ValueError, match="chosen points"):
            scatter(np.zeros((3, 2)), chosen=[-1])
        assert len(scatter(np.zeros((3, 2)), chosen=[2]).data) == 2
        assert len(scatter(np.zeros((3, 2))).data) == 1

    def test_of_vectors_under_each_other(self):
        figure = stacked_bars(
            {"a": [1, -4], "b": [2]},
            names={"a": ["one", "two"]},
            colours={"a": ["query", "key"]},
            shared=("a",),
            x_title="feature",
            form=".1f",
        )
        first, second = figure.data
        assert (list(first.x), list(first.y), list(first.customdata)) == ([1, 2], [1, -4], ["one", "two"])
        assert list(second.customdata) == ["1"]
        assert first.marker.color == (theme.COLOURS["query"][0], theme.COLOURS["key"][0])
        assert second.marker.color == theme.COLOURS["text"][0]
        assert first.hovertemplate == "%{customdata}: %{y:.1f}<extra></extra>"
        assert figure.layout.yaxis.range == pytest.approx((-4.2, 4.2))
        assert (figure.layout.xaxis.title.text, figure.layout.xaxis2.title.text) == (None, "feature")
        assert figure.layout.xaxis.showticklabels is True
        bare = stacked_bars({"a": [0.0]}, shared=("a",))
        assert bare.layout.yaxis.range == (-1, 1)
        assert bare.layout.xaxis.showticklabels is False
        assert bare.layout.margin.b < figure.layout.margin.b


class TestCosts:
    def test_growth(self):
        figure = growth({"a": [4, 8], "b": [np.nan, 6]}, sizes=[100, 1000], guides={"n": 1}, colours={"b": 3}, unit="B")
        a, b, guide = figure.data
        assert (a.line.color, b.line.color) == (theme.head_colour(0), theme.head_colour(3))
        assert (a.line.dash, b.line.dash) == (DASHES[0], DASHES[3])
        assert a.mode == "lines+markers"
        assert a.hovertemplate == "tokens n = %{x:,}: %{y:.3s}B<extra>a</extra>"
        assert list(guide.y) == pytest.approx([2, 20])  # from half of the lowest start, which is not b's
        assert (guide.mode, guide.showlegend) == ("lines", False)
        note = figure.layout.annotations[0]
        assert (note.text, note.x, note.y) == ("n", pytest.approx(3), pytest.approx(math.log10(20)))
        assert (note.showarrow, note.xanchor, note.yanchor) == (False, "right", "bottom")
        assert (figure.layout.xaxis.type, figure.layout.yaxis.type) == ("log", "log")
        assert (list(figure.layout.xaxis.tickvals), list(figure.layout.xaxis.ticktext)) == (
            [100, 1000],
            ["100", "1,000"],
        )
        assert (figure.layout.yaxis.dtick, figure.layout.yaxis.ticksuffix, figure.layout.showlegend) == (1, "B", True)
        assert len(growth({"a": [0, 1]}, sizes=[1, 2], guides={"n": 1}).data) == 1  # nothing to start a guide from
        many = growth({str(i): [1] for i in range(7)}, sizes=[1])
        assert many.data[6].line.dash == many.data[0].line.dash

    def test_intervals(self):
        options = {"names": ["a", "b"], "unit": " %", "x_title": "cost", "y_title": "right"}
        figure = intervals(
            [1, 3], [40, 50], [38, 49], [43, 52], colours=["query", None], hollow=[True, False], **options
        )
        first, second = figure.data
        assert ([*first.x], [*first.y], [*first.error_y.array], [*first.error_y.arrayminus]) == ([1], [40], [3], [2])
        assert ([*second.x], [*second.y], [*second.error_y.array], [*second.error_y.arrayminus]) == (
            [3],
            [50],
            [2],
            [1],
        )
        assert first.error_y.symmetric is False
        assert (first.marker.color, second.marker.color) == (theme.COLOURS["query"][0], theme.COLOURS["muted"][0])
        assert (first.marker.symbol, second.marker.symbol) == ("circle-open", "circle")
        assert (first.mode, second.mode) == ("markers", "markers")  # rings and grey dots say no name
        assert second.opacity < first.opacity == 1
        assert first.hovertemplate == "a: %{y:.1f} %, 38.0 to 43.0; %{x:,.4s}<extra></extra>"
        low, high = figure.layout.xaxis.range
        assert 0 < low < 1
        assert 3 < high < 4
        assert high - 3 > 1 - low  # room for names at the right
        assert figure.layout.yaxis.ticksuffix == " %"
        plain = intervals([2, 2], [1, 2], [1, 2], [1, 2], names=["a", "b"])
        assert [dot.mode for dot in plain.data] == ["markers+text"] * 2
        assert [dot.marker.color for dot in plain.data] == [theme.head_colour(0), theme.head_colour(1)]
        assert plain.layout.xaxis.range[0] < 2 < plain.layout.xaxis.range[1]
        log = intervals([1, 3], [1, 2], [1, 2], [1, 2], names=["a", "b"], log_x=True)
        assert (log.layout.xaxis.type, log.layout.xaxis.range) == ("log", None)

    def test_sharing(self):
        figure = sharing([0, 0, 1])
        *joints, queries, kv = figure.data
        assert [(tuple(j.x), tuple(j.y)) for j in joints] == [((0, 0.5), (1, 0)), ((1, 0.5), (1, 0)), ((2, 2), (1, 0))]
        assert [j.line.color for j in joints] == [theme.head_colour(i) for i in (0, 0, 1)] == [*queries.marker.color]
        assert ([*queries.x], [*queries.y], [*queries.text]) == ([0, 1, 2], [1, 1, 1], ["1", "2", "3"])
        assert ([*kv.x], [*kv.y], [*kv.text]) == ([0.5, 2], [0, 0], ["1", "2"])
        assert list(kv.marker.color) == [theme.head_colour(0), theme.head_colour(1)]
        assert (queries.marker.symbol, kv.marker.symbol) == ("circle", "square")
        assert queries.customdata[2] == "query head 3 reads keys and values 2"
        assert list(kv.customdata) == ["keys and values 1, read by 2", "keys and values 2, read by 1"]
        assert (list(figure.layout.yaxis.tickvals), list(figure.layout.yaxis.ticktext)) == (
            [1, 0],
            ["queries", "keys, values"],
        )
        left, right = figure.layout.xaxis.range
        assert left < 0
        assert right > 2
        assert figure.layout.xaxis.visible is False


class TestSizesOfTiles:
    @pytest.mark.parametrize(("columns", "tile", "gap"), [(2, 9, 1), (3, 3, 0), (5, 7, 4)])
    def test_every_tile_stands_in_its_row_and_column(self, columns, tile, gap):
        tiles = np.random.default_rng(0).integers(0, 256, (5, 3, 3), np.uint8)
        pixels = np.asarray(Image.open(io.BytesIO(mosaic(tiles, columns=columns, tile=tile, gap=gap))))
        zoom, rows = tile // 3, -(-5 // columns)
        side = 3 * zoom
        assert pixels.shape == (rows * (side + gap) - gap, columns * (side + gap) - gap, 4)
        opaque = 0
        for i, one in enumerate(tiles):
            top, left = i // columns * (side + gap), i % columns * (side + gap)
            found = pixels[top : top + side, left : left + side]
            assert (found[..., :3] == one.repeat(zoom, 0).repeat(zoom, 1)[..., None]).all()
            opaque += int((found[..., 3] == 255).sum())
        assert opaque == int((pixels[..., 3] > 0).sum()) == 5 * side * side  # gaps and the places left over are clear

    def test_tiles_larger_than_asked_keep_their_pixels(self):
        pixels = np.asarray(Image.open(io.BytesIO(mosaic(np.zeros((1, 9, 9), np.uint8), columns=1, tile=4))))
        assert pixels.shape == (9, 9, 4)
        with pytest.raises(ValueError, match="columns is 0"):
            mosaic(np.zeros((1, 2, 2), np.uint8), columns=0)
        for wrong in (np.zeros((0, 2, 2), np.uint8), np.zeros((1, 2, 2, 2), np.uint8), np.zeros((2, 2), np.uint8)):
            with pytest.raises(ValueError, match="expected uint8"):
                mosaic(wrong, columns=1)

    def test_as_wide_as_fits(self):
        """28 tiles of 16 pixels: three times as large is 28 * 48 + 27 * 4 wide; four times would be too much."""
        picture = Image.open(io.BytesIO(mosaic(np.zeros((28, 16, 16), np.uint8), columns=28, tile=200)))
        assert picture.width == 1452


def test_figures_are_light_unless_asked_to_be_dark():
    made = [
        heatmap(np.eye(2)),
        bars([1]),
        lines({"a": [1]}),
        scatter([[0, 1]]),
        stacked_bars({"a": [1]}),
        sharing([0]),
        growth({"a": [1]}, sizes=[1]),
        intervals([1], [1], [1], [1], names=["a"]),
        depth([[1.0]]),
    ]
    assert {figure.layout.font.color for figure in made} == {theme.colour("text", False)}
