"""A callback that fails leaves the page whole: its sentence stands on top of the next run, and of that one only."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from streamlit.proto.WidgetStates_pb2 import WidgetState
from streamlit.runtime.state.session_state import SessionState
from streamlit.testing.v1 import AppTest

from attnviz.models import DamagedModel
from attnviz.models.files import ASSETS
from attnviz.types import NoTokenMap
from attnviz.ui.generate import drawing
from attnviz.ui.inputs import crop
from attnviz.ui.inputs.uploads import BadImage
from attnviz.ui.shell import callbacks
from attnviz.ui.shell.errors import WRONG
from attnviz.ui.shell.page import section
from tests.pages import open_page

ERRORS = [
    (BadImage("Choose another picture."), "Choose another picture."),
    (DamagedModel(ASSETS / "vit", "config.json", "is missing"), "assets/models/vit/config.json is missing"),
    (RuntimeError("a bug"), WRONG),
    (AssertionError(), WRONG),
]


def failing(error: Exception) -> Callable[..., None]:
    """A callback that raises."""

    def fail(*args: Any, **kwargs: Any) -> None:
        raise error

    return fail


def is_whole(at: AppTest, page: str) -> bool:
    """Whether the page has its title, its sidebar and no red box of Streamlit's."""
    title = section(page, "title")
    return not at.exception and at.title[0].value == title and at.sidebar.selectbox(key="model").value is not None


@pytest.mark.parametrize(("error", "sentence"), ERRORS, ids=lambda value: type(value).__name__)
def test_a_failed_click_is_said_once(monkeypatch: pytest.MonkeyPatch, error: Exception, sentence: str) -> None:
    monkeypatch.setattr(crop, "go", failing(error))
    at = open_page("start", model="vit-digits")
    next(b for b in at.sidebar.button if b.label == "Back to the middle").click().run()
    assert is_whole(at, "start")
    assert [sentence in e.value for e in at.error] == [True]
    assert at.main.children[0] is at.error[0] or at.error[0] in at.main.children[0].children.values()
    at.run()
    assert is_whole(at, "start")
    assert not at.error


def test_so_it_is_within_a_fragment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drawing, "request", failing(RuntimeError("a bug")))
    at = open_page("generate")
    at.button(key="generate:one").click().run()
    assert is_whole(at, "generate")
    assert [e.value for e in at.error] == [WRONG]


def test_so_it_is_for_a_component() -> None:
    at = open_page("start", model="vit-digits")
    view = next(c.proto for c in at.get("bidi_component") if '"start:view"' in c.proto.json)
    forged = at._tree.get_widget_states()
    forged.widgets.append(WidgetState(id=view.id, json_value='{"pick": {"tokens": "no number"}}'))
    at._run(forged)
    assert is_whole(at, "start")
    assert [e.value for e in at.error] == [WRONG]


def test_a_map_that_does_not_exist_is_no_alarm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crop, "go", failing(NoTokenMap("it attends over channels")))
    at = open_page("start", model="vit-digits")
    next(b for b in at.sidebar.button if b.label == "Back to the middle").click().run()
    assert not at.error
    assert "attends over channels" in at.info[0].value


def test_the_guard_is_put_up_once() -> None:
    callbacks.watch_callbacks()
    once = getattr(SessionState, callbacks.PASS)
    callbacks.watch_callbacks()
    assert getattr(SessionState, callbacks.PASS) is once
