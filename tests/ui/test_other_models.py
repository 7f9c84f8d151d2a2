"""Models of others in the app: off by itself, opened from a folder or the hub, every page; bad input in words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers as library
from streamlit.testing.v1 import AppTest

from attnviz.paths import ROOT
from attnviz.ui.core.others import loading, others
from attnviz.ui.inputs import other_models
from attnviz.ui.inputs.other_models import ASKED, CHOSEN, FOUND
from attnviz.ui.shell.errors import WRONG
from tests.hub.families import IMAGE, SHAPE, TEXT, tokenizer
from tests.hub.hub_server import as_hub
from tests.pages import MAIN
from tests.ui.test_foreign_models import FOLLOWING


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Models of two kinds and things that are none, as a user has them in one place."""
    root = tmp_path_factory.mktemp("models")
    torch.manual_seed(0)
    text = library.BertForSequenceClassification(library.BertConfig(**SHAPE, **TEXT))
    text.save_pretrained(root / "bert")
    tokenizer().save_pretrained(root / "bert")
    picture = library.ViTForImageClassification(library.ViTConfig(**SHAPE, **IMAGE))
    picture.save_pretrained(root / "vit")
    library.ViTImageProcessor(size={"height": 32, "width": 32}).save_pretrained(root / "vit")
    (root / "empty").mkdir()
    return root


@pytest.fixture
def allowed(monkeypatch: pytest.MonkeyPatch, folders: Path) -> None:
    """The operator allows any name, and these folders; nothing was opened before."""
    monkeypatch.setenv("ATTNVIZ_HUB", "any")
    monkeypatch.setenv("ATTNVIZ_HUB_FOLDERS", str(folders))
    others.clear()


def app(**query: str) -> AppTest:
    """The app, opened by an address."""
    at = AppTest.from_file(MAIN, default_timeout=300)
    for name, value in query.items():
        at.query_params[name] = value
    return at.run()


def looked_up(at: AppTest, typed: str) -> AppTest:
    """What is typed, looked up."""
    at.text_input(key=ASKED).set_value(typed).run()
    return at.button(key="other-look").click().run()


def opened(name: str) -> AppTest:
    """A model opened in the sidebar."""
    at = looked_up(app(), f"folder:{name}")
    return at.button(key="other-open").click().run()


def keys(at: AppTest) -> set[str]:
    """The keys of all buttons and fields."""
    return {widget.key for widget in [*at.button, *at.text_input] if widget.key}


def test_nothing_is_offered_unless_the_operator_allows_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ATTNVIZ_HUB", raising=False)
    at = app(model="hf:owner/name")
    assert ASKED not in keys(at)
    assert at.session_state["model"] == "vit"
    assert any("opens no models of others" in one.value for one in at.info)


def test_without_the_library_the_way_to_get_it_is_said(monkeypatch: pytest.MonkeyPatch, allowed: None) -> None:
    monkeypatch.setattr(other_models, "find_spec", lambda name: None)
    at = app()
    assert ASKED not in keys(at)
    assert any("requirements-hub.txt" in one.value for one in at.sidebar.caption)


@pytest.mark.parametrize(("name", "modality"), [("bert", "text"), ("vit", "image")])
def test_a_folder_is_opened_and_chosen(allowed: None, name: str, modality: str) -> None:
    at = looked_up(app(), f"folder:{name}")
    assert any("MB of memory" in one.value and "nothing to download" in one.value for one in at.sidebar.caption)
    at.button(key="other-open").click().run()
    assert not at.error
    assert at.session_state["model"] == f"folder:{name}"
    assert others().get((f"folder:{name}",), lambda: pytest.fail("it is not kept")).spec.modality == modality
    assert not loading().locked()


@pytest.mark.parametrize("page", FOLLOWING)
@pytest.mark.parametrize("name", ["bert", "vit"])
def test_every_page_shows_it(allowed: None, name: str, page: str) -> None:
    at = opened(name)
    folder = "text/" if name == "bert" and (ROOT / "pages" / "text" / f"{page}.py").exists() else ""
    at.switch_page(f"../pages/{folder}{page}.py").run()
    assert not at.exception
    assert WRONG not in [one.value for one in at.error]
    assert not at.error, [one.value for one in at.error]
    assert at.title


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("folder:empty", "has no config.json"),
        ("folder:gone", "no folder"),
        ("/etc", "no folder"),
        ("no name at all", "no name of the hub"),
    ],
)
def test_what_cannot_be_opened_is_said(allowed: None, typed: str, said: str) -> None:
    at = looked_up(app(), typed)
    if not at.warning:
        at.button(key="other-open").click().run()
    assert any(said in one.value for one in at.warning)
    assert at.session_state["model"] == "vit"
    assert not loading().locked()


def test_a_model_is_brought_from_the_hub(
    allowed: None, monkeypatch: pytest.MonkeyPatch, folders: Path, tmp_path: Path
) -> None:
    with as_hub(monkeypatch, {"owner/bert": folders / "bert"}, tmp_path):
        at = looked_up(app(), "owner/bert")
        assert any("to download" in one.value and "nothing" not in one.value for one in at.sidebar.caption)
        at.button(key="other-open").click().run()
    assert at.session_state["model"] == "hf:owner/bert"
    assert not at.error


def test_one_is_opened_at_a_time(allowed: None) -> None:
    at = looked_up(app(), "folder:vit")
    with loading():
        at.button(key="other-open").click().run()
        assert any("being opened" in one.value for one in at.warning)
    assert at.session_state["model"] == "vit"


def test_a_link_opens_what_is_open_and_downloads_nothing(allowed: None, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: Any, **__: Any) -> None:
        pytest.fail("a link must not start a download")

    monkeypatch.setattr(other_models, "downloaded", never)
    at = app(model="hf:owner/name")
    assert at.session_state["model"] == "vit"
    assert at.text_input(key=ASKED).value == "owner/name"
    assert any("sidebar" in one.value for one in at.info)
    opened("vit")
    assert app(model="folder:vit").session_state["model"] == "folder:vit"


def test_what_had_to_leave_is_read_again(allowed: None) -> None:
    at = opened("bert")
    others.clear()
    at.run()
    assert not at.error
    assert at.session_state["model"] == "folder:bert"
    assert ("folder:bert",) in others()


def test_too_large_a_model_is_refused_before_it_is_loaded(allowed: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ATTNVIZ_HUB_MEMORY", "0.00001")
    at = looked_up(app(), "folder:vit")
    assert any("choose a smaller one" in one.value for one in at.warning)
    assert "other-open" not in keys(at)
    assert FOUND in at.session_state
    assert CHOSEN not in at.session_state
