"""One file of assets/ is damaged or missing: pages that need it name it, all others go on as if nothing were."""

from __future__ import annotations

import builtins
import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest

from attnviz.models import subwords
from attnviz.ui.heads import text as heads_text
from attnviz.ui.inputs import examples, samples
from attnviz.ui.shell import page as shell_page
from tests.pages import MAIN, ROOT

PAGES = (
    "start",
    "embeddings",
    "positions",
    "follow",
    "queries_keys",
    "heads",
    "explain",
    "test",
    "compare",
    "translate",
    "generate",
    "lesson",
    "train",
)
OF_TEXTS = ("start", "embeddings", "positions", "follow", "queries_keys", "heads", "explain", "test")
PICTURES = ("start", "embeddings", "positions", "follow", "queries_keys", "heads", "explain", "test")
CACHES: Sequence[Callable[[], None]] = (
    st.cache_resource.clear,
    st.cache_data.clear,
    subwords.load_subwords.cache_clear,
    shell_page.sections.cache_clear,
    heads_text.treebank.cache_clear,
    examples.examples.cache_clear,
    samples.photographs.cache_clear,
)


class Case(NamedTuple):
    """A file, and which pages have to name it."""

    file: str
    needed: Sequence[str]
    content: bytes | None = None  # None = it is missing
    model: str = "vit"
    pages: Sequence[str] = PAGES
    step: str = "1"  # of the lesson


CASES = (
    Case("assets/models/vit/model.safetensors", (*PICTURES,), b"damaged"),
    Case("assets/models/vit/model.safetensors", (), b"damaged", "vit-digits"),
    Case("assets/models/vit/config.json", (*PICTURES,), pages=("start", "compare", "train")),
    Case("assets/models/vit/config.json", (*PICTURES,), b"[]", pages=("start", "lesson")),
    Case("assets/models/sentences/model.safetensors", OF_TEXTS, b"damaged", "sentences"),
    Case("assets/models/sentences/model.safetensors", (), b"damaged", pages=("start", "compare", "generate")),
    Case("assets/models/stories/config.json", ("generate",), pages=("start", "generate", "translate")),
    Case("assets/models/translator/model.safetensors", ("translate",), b"", pages=("start", "translate", "generate")),
    Case("assets/models/seq2seq/model.safetensors", ("translate",), b"", pages=("translate",)),
    Case("assets/models/subwords/tokenizer.json", ("translate", "generate"), b"{}"),
    Case("assets/models/subwords/tokenizer.json", OF_TEXTS, model="sentences", pages=("start", "heads", "lesson")),
    Case("assets/models/word2vec/words.txt", ("lesson",), pages=("start", "lesson")),
    Case("assets/models/one-block/model.safetensors", ("lesson",), b"damaged", "vit", ("lesson",), "7"),
    Case("assets/models/one-block/model.safetensors", (), b"damaged", pages=("lesson", "start")),
    Case("assets/models/digits.json", ("train",), b"{", pages=("start", "train")),
    Case("assets/models/digits.json", ("train",), b'[{"name": "vit-mha"}]', pages=("train",)),
    Case("assets/models/bench/bench.json", ("compare",), b"{", pages=("start", "compare", "train")),
    Case("assets/models/bench/mha/model.safetensors", ("compare",), b"", pages=("start", "compare")),
    Case("assets/text/heads.md", ("heads",)),
    Case("assets/text/start.md", ("start",), b"# Start\n", pages=("start", "heads")),
    Case("assets/text/train.md", ("train",), b"\xff\xfe", pages=("start", "train")),
    Case("assets/text/text/explain.md", ("explain",), b"", "sentences", ("explain", "start")),
    Case("assets/samples/vit/pepper.jpg", (*PICTURES, "compare")),
    Case("assets/samples/vit/pepper.jpg", ("start",), b"cut", "vit-digits", ()),
    Case("assets/samples/vit/cat.jpg", ("start",), b"\xff\xd8cut", pages=("start", "heads")),
    Case("assets/samples/vit", (*PICTURES, "compare")),
    Case("assets/samples/treebank.json", ("start", "heads"), b"[1]", "sentences", (*OF_TEXTS, "compare")),
    Case("assets/examples.json", ("embeddings",), b"[1]", "sentences", ("start", "embeddings", "translate")),
    Case("assets/samples/photographs.json", (), b"{", pages=("start", "heads")),
    Case("assets/icon.png", (), pages=("start",)),
)


@pytest.fixture(params=CASES, ids=lambda case: f"{case.file}-{case.model}")
def case(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Case:
    """One case, its file damaged for whoever opens it; nothing read before is remembered, nor read now afterwards."""
    case: Case = request.param
    target, whole, seen = ROOT / case.file, io.open, Path.exists

    def opened(file: Any, mode: str = "r", *args: Any, **kwargs: Any) -> Any:
        path = Path(file) if isinstance(file, str | Path) else None
        if path is None or not path.is_relative_to(target):
            return whole(file, mode, *args, **kwargs)
        if case.content is None:
            raise FileNotFoundError(2, "No such file or directory", str(file))
        raw = io.BytesIO(case.content)
        return raw if "b" in mode else io.TextIOWrapper(raw, encoding="utf-8")

    monkeypatch.setattr(io, "open", opened)
    monkeypatch.setattr(builtins, "open", opened)
    monkeypatch.setattr(
        Path, "exists", lambda path: seen(path) and not (path.is_relative_to(target) and not case.content)
    )
    for clear in CACHES:
        clear()
    yield case
    for clear in CACHES:
        clear()


def said(at: AppTest) -> str:
    """Everything the page says in words, in the page and in the sidebar."""
    kinds = ("error", "warning", "info", "caption", "markdown")
    return "\n".join(str(element.value) for kind in kinds for element in at.get(kind))


def test_pages_that_need_it_name_it_and_the_others_go_on(case: Case, caplog: pytest.LogCaptureFixture) -> None:
    at = AppTest.from_file(MAIN, default_timeout=300)
    at.query_params["model"], at.query_params["step"] = case.model, case.step
    at.run()
    for page in case.pages:
        own = case.model == "sentences" and (ROOT / "pages" / "text" / f"{page}.py").exists()
        at.switch_page(f"../pages/{'text/' if own else ''}{page}.py").run()
        assert not at.exception, (page, [e.value for e in at.exception])
        assert at.sidebar.selectbox(key="model").value == case.model
        if page in case.needed:
            assert case.file in said(at), (page, said(at))
            assert "git checkout -- assets/" in said(at)
        else:
            assert at.title, page
            assert not at.error, (page, [e.value for e in at.error])
    assert not [record for record in caplog.records if "a page failed" in record.message]
