"""Names of heads on the page Heads: in the title, under the small maps, in the table, the order and the files."""

import io

import numpy as np
import pytest
from streamlit.testing.v1 import AppTest

from attnviz.measures.head_names import NAMES
from attnviz.ui.heads import naming
from attnviz.ui.widgets.output import npz
from tests.node import ask
from tests.pages import open_page
from tests.ui.test_heads import spoken, views_of


@pytest.fixture(scope="module")
def texts() -> AppTest:
    return open_page("heads", model="sentences", layer="2", head="5")


def test_a_name_stands_in_the_title_and_with_its_measure_below(texts: AppTest):
    title, measure = NAMES["previous"].title, NAMES["previous"].measure
    said = spoken(texts)
    assert f"**{title}**" in said
    assert measure in said
    assert f"**{title}**" not in spoken(open_page("heads", model="sentences", layer="2", head="1"))


def test_badges_are_those_of_the_names(texts: AppTest):
    badges = views_of(texts)["all"]["badges"]
    assert badges["1,4"]["title"] == NAMES["previous"].title
    assert badges["1,4"]["short"] == NAMES["previous"].badge
    assert NAMES["previous"].measure in badges["1,4"]["sentence"]
    assert not badges["1,4"]["even"]
    assert "1,0" not in badges


def test_an_even_head_is_sent_as_even():
    badges = views_of(open_page("heads", model="vit", sample="snail"))["all"]["badges"]
    assert [cell for cell, badge in badges.items() if badge["even"]] == ["0,0", "0,2"]


def test_heads_are_ordered_by_name_from_the_address():
    at = open_page("heads", model="sentences", order="name")
    order = views_of(at)["all"]["order"]
    assert order[:3] == [[1, 4], [0, 0], [1, 3]]  # previous token, then both that attend to the next one
    assert len(order) == 30
    column = next(frame.value for frame in at.dataframe if any(c.startswith("Name") for c in frame.value.columns))
    names = column[next(c for c in column.columns if c.startswith("Name"))].tolist()
    assert names[:4] == [NAMES["previous"].title, NAMES["next"].title, NAMES["next"].title, ""]


def test_even_heads_come_after_named_ones_and_before_the_others():
    def earned(name: str, strength: float):
        return (naming.Earned(name, strength, 0.0, strength),)

    names = [[(), earned("even", 0.99), earned("colour", 0.7)], [earned("colour", 0.8), earned("left", 0.6), ()]]
    assert naming.by_name(names) == [(1, 1), (1, 0), (0, 2), (0, 1), (0, 0), (1, 2)]


def test_names_are_in_the_file():
    names = [[(naming.Earned("left", 0.6, 0, 0.6), naming.Earned("nearby", 0.5, 0, 0.5)), ()], [()]]
    with np.load(io.BytesIO(npz(naming.names_file(names)))) as file:
        assert file["names"].tolist() == [[f"{NAMES['left'].title}, {NAMES['nearby'].title}", ""], ["", ""]]


VIEW = {
    "data": {
        "maps": ["m"],
        "rows": ["A", "B"],
        "columns": ["a", "b"],
        "tile": 50,
        "scale": "sqrt",
        "badges": {"1,1": {"title": "Even", "short": "even", "sentence": "", "even": True}},
    },
    "ink": {},
    "width": 160,
}


def test_a_grid_with_badges_has_a_line_below_its_maps():
    script = "((view) => (view.context = recorder(), tileBoxes(view)))($view)"
    bare = {**VIEW, "data": {**VIEW["data"], "badges": {}}}
    step = {name: ask(script, view=view)["cells"][2]["y"] for name, view in (("with", VIEW), ("bare", bare))}
    assert step["with"] - step["bare"] == 15
    bottom = {name: ask(script, view=view)["bottom"] for name, view in (("with", VIEW), ("bare", bare))}
    assert bottom["with"] > bottom["bare"]


@pytest.mark.parametrize("scale", ["sqrt", "linear", "log", "rank"])
def test_an_even_row_is_dark_on_the_range_from_none_to_all(scale: str):
    """One of a hundred keys with the same weight is less than half way along the colours, on every scale."""
    view = {**VIEW, "data": {**VIEW["data"], "scale": scale}}
    assert ask("((view) => wholeRange(view).t(0.01))($view)", view=view) < 0.5
    assert ask("((view) => wholeRange(view).high)($view)", view=view) == 1
    assert ask("((view) => wholeRange({data: {badges: {}}}))($view)", view=view) is None
