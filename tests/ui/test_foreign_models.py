"""Every page with a model that is none of ours: another vocabulary, no answer, a grid that is not square.

What a model has not, a page says and shows the rest; it never fills the gap with what our models have.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from attnviz.models import MODELS, TEXTS, subwords
from attnviz.models.store import Entry
from attnviz.paths import ROOT
from attnviz.types import Model
from attnviz.ui.core.cache import SESSION_MODELS, models
from attnviz.ui.shell.errors import NO_MEMORY, WRONG
from tests.foreign import TextDecoder, foreign_models
from tests.pages import MAIN

PAGES = sorted(path.stem for path in (ROOT / "pages").glob("*.py"))
OWN_MODELS = {"compare", "translate", "generate", "lesson", "train"}  # they run models of ours, whatever is chosen
FOLLOWING = [page for page in PAGES if page not in OWN_MODELS]
SAID = ("title", "subheader", "markdown", "caption", "info", "warning", "error")


def opened(page: str, model: Model) -> AppTest:
    """A page with this model chosen, as one of the visitor's own."""
    at = AppTest.from_file(MAIN, default_timeout=300)
    at.session_state[SESSION_MODELS] = {"mine": model}
    at.query_params["model"] = "mine"
    at.run()
    own = model.spec.modality == "text" and (ROOT / "pages" / "text" / f"{page}.py").exists()
    at.switch_page(f"../pages/{'text/' if own else ''}{page}.py").run()
    assert at.session_state["model"] == "mine"
    return at


def strings(value: Any) -> Iterator[str]:
    """Every string in a record, however deep."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            yield from strings(item)


def sent(at: AppTest) -> Iterator[str]:
    """Every string that the page sent to its views."""
    for one in at.get("bidi_component"):
        if one.proto.component_name.endswith(("attnviz_view", "attnviz_token_path")):
            yield from strings(json.loads(one.proto.json))


@pytest.mark.parametrize("name", foreign_models())
@pytest.mark.parametrize("page", PAGES)
def test_a_page_runs(page: str, name: str) -> None:
    at = opened(page, foreign_models()[name].model)
    assert not at.exception
    assert not at.error, [error.value for error in at.error]
    said = [str(element.value) for kind in SAID for element in getattr(at, kind)]
    assert not {WRONG, NO_MEMORY} & {*said}
    assert at.title, "the page has not begun"


@pytest.mark.parametrize("name", [name for name, one in foreign_models().items() if not one.model.outputs])
@pytest.mark.parametrize("page", FOLLOWING)
def test_where_there_is_no_answer_no_bars_are_shown(page: str, name: str) -> None:
    at = opened(page, foreign_models()[name].model)
    assert at.title
    assert not at.get("progress"), [bar.proto.text for bar in at.get("progress")]


@pytest.mark.parametrize("name", [name for name, one in foreign_models().items() if one.model.tokenizer])
@pytest.mark.parametrize("page", FOLLOWING)
def test_special_tokens_are_called_as_the_vocabulary_calls_them(page: str, name: str) -> None:
    """Our ids 0 to 5 are ordinary words of these vocabularies, and our names of special tokens are none of theirs."""
    at, ours = opened(page, foreign_models()[name].model), {*subwords.LABELS, *subwords.SPECIAL}
    found = set(sent(at))
    assert found or page in ("positions", "test"), "no view was drawn"  # what a model cannot be asked, is said
    assert not found & ours


def test_a_model_in_the_table_is_opened_like_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    """The walk of the README: a class and a line in the table."""
    model = TextDecoder()
    for table in (TEXTS, MODELS):
        monkeypatch.setitem(table, "mine", Entry("My model", "text", lambda folder: model))
    at = AppTest.from_file(MAIN, default_timeout=300)
    at.query_params["model"] = "mine"
    at.run()
    at.switch_page("../pages/text/heads.py").run()
    assert at.session_state["model"] == "mine"
    assert not at.error, [error.value for error in at.error]
    names = set(sent(at))
    assert {"Layer 2", "Head 2"} <= names
    assert not {"Layer 3", "Head 3"} & names
    models.clear()
