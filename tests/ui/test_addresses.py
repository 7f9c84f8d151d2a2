"""Choices in the address: identifiers stand there; old wordings open the same thing, nonsense opens the default."""

from __future__ import annotations

import ast

import pytest
from streamlit.testing.v1 import AppTest

from attnviz.ui.core import state
from attnviz.ui.core.old_addresses import OLD_VALUES
from attnviz.ui.widgets.display import COLOURS, SCALES
from tests.pages import open_page

KINDS = ["buttons", "list"]
DISPLAY = {"scale": SCALES, "colours": COLOURS}
OLD = [(key, old, new) for key in DISPLAY for old, new in OLD_VALUES[key].items() if new in DISPLAY[key]]


def chooser() -> None:
    """A page with one choice, by buttons or from a list, and what it leaves in the address."""
    import streamlit as st

    from attnviz import ui
    from attnviz.ui.core.state import select

    options = st.session_state.get("test options", {"sqrt": "Square root", "linear": "Linear", "log": "Log"})
    ui.on_page(st.session_state.get("test page", "one"))
    if st.session_state.get("test page") != "without":
        choose = ui.one_of if st.session_state["test kind"] == "buttons" else select
        st.write(choose("Scale", options, default="sqrt", key="scale"))
    st.button("Log", on_click=ui.go, kwargs={"scale": "log"})
    st.code(repr(st.query_params.to_dict()))


@pytest.fixture(params=KINDS)
def page(request: pytest.FixtureRequest) -> AppTest:
    """The page above, not yet run."""
    app = AppTest.from_function(chooser)
    app.session_state["test kind"] = request.param
    return app


def run(app: AppTest, **changes: object) -> str:
    """Run the page as a browser would: the address it was left with is the one it starts from; what it chose."""
    if app.code:
        app.query_params.clear()
        for key, value in address(app).items():
            app.query_params[key] = value
    for key, value in changes.items():
        app.session_state[f"test {key}"] = value
    app.run()
    assert not app.exception
    return app.markdown[0].value if app.markdown else ""


def open_at(app: AppTest, url: str | None) -> str:
    """Run the page at this address; what it chose."""
    app.query_params.clear()
    if url is not None:
        app.query_params["scale"] = url
    app.run()
    assert not app.exception
    return app.markdown[0].value


def address(app: AppTest) -> dict[str, str]:
    """What the page left in the address."""
    return ast.literal_eval(app.code[0].value)


def widget(app: AppTest):
    """The one choice of the page."""
    return app.segmented_control(key="scale") if app.session_state["test kind"] == "buttons" else app.selectbox[0]


@pytest.mark.parametrize(
    ("url", "chosen", "left"),
    [
        (None, "sqrt", {}),
        ("log", "log", {"scale": "log"}),
        ("sqrt", "sqrt", {}),
        ("Log", "log", {"scale": "log"}),  # what stood there before
        ("Square root", "sqrt", {}),
        ("Rank", "sqrt", {}),  # an old value of an option that is not offered here
        ("LOG", "sqrt", {}),
        ("", "sqrt", {}),
        ("<script>", "sqrt", {}),
    ],
)
def test_an_address_makes_the_choice(page: AppTest, url: str | None, chosen: str, left: dict[str, str]) -> None:
    assert open_at(page, url) == chosen
    assert address(page) == left
    assert widget(page).value == chosen
    assert run(page) == chosen  # and the next run keeps it
    assert address(page) == left


def test_a_label_is_shown_and_an_identifier_is_kept(page: AppTest) -> None:
    run(page)
    assert widget(page).options[2] == "Log"
    widget(page).set_value("log")
    assert run(page) == "log"
    assert address(page) == {"scale": "log"}
    assert page.session_state["scale"] == "log"


def test_the_default_needs_no_word(page: AppTest) -> None:
    open_at(page, "log")
    widget(page).set_value("sqrt")
    assert run(page) == "sqrt"
    assert address(page) == {}


def test_the_back_button_is_followed(page: AppTest) -> None:
    run(page)
    widget(page).set_value("log")
    run(page)
    widget(page).set_value("linear")
    assert run(page) == "linear"
    assert open_at(page, "log") == "log"
    assert open_at(page, None) == "sqrt"


def test_a_change_of_page_keeps_the_choice_and_says_it_again(page: AppTest) -> None:
    open_at(page, "Log")
    page.session_state["test page"] = "two"
    assert open_at(page, None) == "log"  # a change of page clears the address
    assert address(page) == {"scale": "log"}
    page.session_state["test page"] = "without"
    page.query_params.clear()
    page.run()
    assert address(page) == {}
    assert run(page, page="two") == "log"


def test_another_page_opens_at_its_own_address(page: AppTest) -> None:
    """As the back button leads there, after something else was chosen on the page before."""
    open_at(page, "log")
    widget(page).set_value("linear")
    assert run(page) == "linear"
    page.session_state["test page"] = "two"
    assert open_at(page, "log") == "log"
    assert address(page) == {"scale": "log"}


def test_a_button_makes_the_choice(page: AppTest) -> None:
    run(page)
    page.button[0].click()
    assert run(page) == "log"
    assert address(page) == {"scale": "log"}
    widget(page).set_value("linear")
    run(page)
    page.button[0].click()
    assert run(page) == "log"  # against what the address says
    assert address(page) == {"scale": "log"}


def test_a_choice_that_is_gone_is_forgotten(page: AppTest) -> None:
    open_at(page, "log")
    assert run(page, options={"sqrt": "Square root", "rank": "Rank"}) == "sqrt"
    assert address(page) == {}


def test_without_a_default_a_list_begins_with_its_first() -> None:
    def lister() -> None:
        import streamlit as st

        from attnviz.ui.core.state import select

        st.write(select("Colours", {"viridis": "Viridis", "gray": "Gray"}, key="colours"))

    app = AppTest.from_function(lister)
    assert app.run().markdown[0].value == "viridis"
    app.query_params["colours"] = "Gray"
    assert app.run().markdown[0].value == "gray"


@pytest.mark.parametrize(("key", "old", "new"), OLD)
def test_old_links_of_the_display_open_the_same(key: str, old: str, new: str) -> None:
    at = open_page("heads", model="vit-digits", **{key: old})
    assert at.session_state[key] == new
    assert at.session_state[state.SEEN][key] == (None if new == "viridis" else new)


@pytest.mark.parametrize("model", ["vit-digits", "sentences"])
def test_the_display_is_the_same_for_pictures_and_texts(model: str) -> None:
    at = open_page("heads", model=model, scale="rank", colours="inferno")
    assert at.segmented_control(key="scale").value == "rank"
    assert at.selectbox(key="colours").value == "inferno"
