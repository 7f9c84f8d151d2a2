"""Every figure is valid: plotly, asked for once here, finds nothing to object to and nothing to write otherwise.

A plot that is missing in PLOTS fails.
"""

from __future__ import annotations

import importlib
import inspect
import json
import pkgutil
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import plotly.graph_objects as go
import plotly.io
import pytest
from streamlit.testing.v1 import AppTest

from attnviz import plots
from attnviz.plots import frame
from attnviz.plots.sending import packed

GRID = np.linspace(-1, 1, 12).reshape(3, 4)
THREE = [("a", "b", "c"), ("query", "#123456", 2)]
PLOTS: dict[str, list[tuple[tuple[Any, ...], dict[str, Any]]]] = {  # by name: calls that reach every branch
    "heatmap": [
        ((GRID,), {}),
        ((GRID,), {"signed": True, "square": True, "title": "t", "x_title": "Key", "y_title": "Query", "value": "w"}),
        ((GRID,), {"rows": ["the", "the", "cat"], "row_ticks": {1: "row 1"}, "limits": (0, 1), "legend": False}),
        ((np.array([[np.nan, 1.0]]),), {"most_ticks": 0, "scale": "gray"}),
    ],
    "bars": [
        (([1, 2, 3],), {"labels": THREE[0], "colours": THREE[1], "chosen": 1, "shown": True, "form": ".1%"}),
        (({"a": [1, 2], "b": [3, np.nan]},), {"colours": {"a": "key"}, "horizontal": True, "limits": (0, 4)}),
        (([],), {"most_ticks": 0, "title": "nothing", "x_title": "x", "y_title": "y"}),
    ],
    "lines": [
        (({"a": [1, 2], "b": [3, 4]},), {"x": [10, 20], "colours": {"a": "value"}, "form": ".1%", "limits": (0, 5)}),
        (
            ({"a": [1, 10]},),
            {"log_x": True, "log_y": True, "references": {"even": 5}, "marks": {"now": 1}, "title": "t"},
        ),
        (({"a": [1, np.inf]},), {"points": True, "references": {"even": 5, "odd": 6}, "x_title": "x", "y_title": "y"}),
    ],
    "stacked_bars": [
        (({"a": [1, 2, 3], "b": [2, 1], "c": [5]},), {"shared": ("a", "b"), "x_title": "feature"}),
        (({"a": [1, 2]},), {"colours": {"a": ["query", "key"]}, "names": {"a": ["one", "two"]}}),
    ],
    "scatter": [
        ((np.eye(2),), {"names": ["a", "b"], "written": True, "chosen": [0, 1], "x_title": "x", "y_title": "y"}),
        ((np.eye(2),), {"colours": [0.5, -1], "signed": True, "value": "row", "groups": ["q", "k"], "title": "t"}),
        ((np.eye(2),), {"colours": np.array([[255, 0, 0], [0, 0, 9]], np.uint8), "square": False}),
        ((np.eye(2),), {"groups": ["q", "k"], "group_colours": {"q": "query", "k": 3}}),
    ],
    "depth": [
        ((GRID,), {"chosen": (1, 2), "references": {"even": 2.0}, "form": ".1%", "y_title": "share"}),
        (([[1.0, np.nan]],), {"names": ["1 rows"], "limits": (-1, 1), "title": "t"}),
    ],
    "growth": [
        (({"a": [4, 8], "b": [np.nan, 6]},), {"sizes": [100, 1000], "guides": {"n": 1, "n²": 2}, "unit": "B"}),
        (({"a": [0, 8]},), {"sizes": [1, 2], "guides": {"n": 1}, "colours": {"a": 3}, "title": "t", "y_title": "y"}),
    ],
    "intervals": [
        (([1, 3], [4, 5], [3, 4], [5, 6]), {"names": ["a", "b"], "colours": ["query", None], "hollow": [True, False]}),
        (([1, 3], [4, 5], [3, 4], [5, 6]), {"names": ["a", "b"], "log_x": True, "unit": " %", "x_title": "cost"}),
    ],
    "sharing": [(([0, 0, 1],), {}), (([0],), {"height": 90})],
}


def plots_by_name() -> dict[str, Callable[..., frame.Figure]]:
    """Every function of the package that makes a figure out of numbers, by its name."""
    modules = [importlib.import_module(f"attnviz.plots.{m.name}") for m in pkgutil.iter_modules(plots.__path__)]
    makers = [
        function
        for module in modules
        for function in vars(module).values()
        if inspect.isfunction(function) and function.__module__ == module.__name__ != frame.__name__
    ]
    return {f.__name__: f for f in makers if inspect.signature(f).return_annotation in ("frame.Figure", "Figure")}


def every_figure() -> Iterator[tuple[str, frame.Figure]]:
    """Every call of the table, in both themes."""
    for name, plot in plots_by_name().items():
        for arguments, options in PLOTS.get(name, []):
            for dark in (False, True):
                yield f"{name}{sorted(options)} {dark}", plot(*arguments, **options, dark=dark)


def written(figure: Any) -> dict[str, Any]:
    """A figure as it is written for the browser, read again."""
    return json.loads(plotly.io.to_json(figure, validate=False))


def test_every_plot_is_in_the_table():
    assert plots_by_name().keys() == PLOTS.keys()
    assert all(PLOTS.values())


def test_every_figure_is_valid_and_written_as_plotly_writes_it():
    """Short forms that only plotly's objects know (`title_text`) are written otherwise, and are found thereby."""
    for name, figure in every_figure():
        assert written(packed(figure)) == written(go.Figure(figure)), name


def test_what_is_not_valid_is_found():
    figure = plots.heatmap(GRID)
    figure["data"][0]["zmn"] = 0
    with pytest.raises(ValueError, match="zmn"):
        go.Figure(figure)
    short = plots.change(plots.heatmap(GRID), xaxis={"title_text": "Key"})
    assert written(packed(short)) != written(go.Figure(short))


def test_changed_figures_are_valid_and_leave_others_alone():
    line = {"color": "#888", "width": 1.5, "dash": "dot"}
    before = written(packed(plots.bars([1, 2], dark=True)))
    figure = plots.rule(plots.bars([1, 2], dark=True), "y", 0.5, "half", line=line, ink="#123456")
    plots.rule(figure, "x", 1.0, line=line)
    changed = plots.change(figure, yaxis={"tickfont": {"color": "#654321"}, "range": None}, barmode="stack")
    assert changed is figure
    whole = go.Figure(changed)
    assert (whole.layout.barmode, whole.layout.yaxis.tickfont.color) == ("stack", "#654321")
    assert whole.layout.xaxis.tickfont.color != "#654321"
    assert whole.layout.yaxis.gridcolor == go.Figure(plots.bars([1], dark=True)).layout.yaxis.gridcolor
    assert [(s.x0, s.x1, s.y0, s.y1) for s in whole.layout.shapes] == [(0, 1, 0.5, 0.5), (1, 1, 0, 1)]
    assert [(note.text, note.y, note.font.color) for note in whole.layout.annotations] == [("half", 0.5, "#123456")]
    assert written(packed(figure)) == written(whole)
    assert written(packed(plots.bars([1, 2], dark=True))) == before


def test_arrays_that_a_browser_cannot_read_are_refused():
    assert packed({"x": np.zeros(0, np.float32), "y": [1, 2]}) == {"x": [], "y": [1, 2]}
    with pytest.raises(TypeError, match="int64"):
        packed({"x": np.arange(3, dtype=np.int64)})
    assert packed(np.arange(3, dtype=">i4")) == packed(np.arange(3, dtype="<i4"))
    assert packed(np.eye(3, dtype=np.float32).T[:2]) == packed(np.eye(3, dtype=np.float32)[:2].copy())


def show_one() -> None:
    """A page with one figure."""
    from attnviz import plots, ui

    ui.plot(plots.heatmap([[1, 2], [3, 4]]), "one", alt="four numbers")


def test_streamlit_sends_a_figure_that_plotly_never_checked(monkeypatch: pytest.MonkeyPatch):
    expected = written(go.Figure(plots.heatmap([[1, 2], [3, 4]])))

    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("plotly checks a figure")

    monkeypatch.setattr("plotly.basedatatypes.BaseFigure.__init__", refuse)
    monkeypatch.setattr("plotly.basedatatypes.BasePlotlyType.__init__", refuse)
    with pytest.raises(AssertionError, match="checks"):
        go.Figure(plots.heatmap([[1, 2], [3, 4]]))
    at = AppTest.from_function(show_one, default_timeout=300).run()
    assert not at.exception
    (chart,) = at.get("plotly_chart")
    assert json.loads(chart.proto.spec) == expected
    assert chart.proto.alt == "four numbers"
