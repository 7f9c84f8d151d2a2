"""Every network of the bench of sentences on every page that reads the chosen model: a true picture, or why not."""

from __future__ import annotations

from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from attnviz.attention import VARIANTS
from attnviz.models import MODELS, TEXTS, store
from attnviz.paths import ROOT
from attnviz.training.text.bench import READ
from attnviz.ui.core import cache
from attnviz.ui.inputs.sentences import SENTENCES
from attnviz.ui.inputs.text_run import reads_text
from attnviz.ui.positions.origin import FIXED
from attnviz.ui.shell.page import section
from tests import made_up_text_bench
from tests.pages import open_page

PAGES = ("embeddings", "positions", "follow", "queries_keys", "heads", "explain")
WHOLE = {
    "mha",
    "mqa",
    "gqa",
    "mla",
    "cosine",
    "gated",
    "window",
}  # softmax over products of query and key: nothing is refused


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One bench for all tests."""
    return made_up_text_bench.write(tmp_path_factory.mktemp("made-up") / "text-bench")


@pytest.fixture(autouse=True)
def networks(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The app finds this bench, and none of pictures."""
    monkeypatch.setattr(store, "TEXT_BENCH", folder)
    monkeypatch.setattr(store, "BENCH", folder.parent / "bench")
    cache.models.clear()


def said(at: AppTest) -> str:
    """What the page says in words."""
    return " ".join(str(part.value) for part in (*at.markdown, *at.caption, *at.subheader)).replace("\u00a0", " ")


def refusal(page: str, variant: str, **parameters: str) -> str:
    """What a page refuses to show, or nothing."""
    at = open_page(page, model=f"text-bench/{variant}", **parameters)
    return " ".join(info.value for info in at.info)


@pytest.mark.parametrize("variant", READ)
def test_every_page_shows_the_network_or_says_why_not(variant: str):
    at = open_page("start", model=f"text-bench/{variant}")
    assert at.selectbox(key="model").value == f"text-bench/{variant}"
    assert not at.info  # the first page shows the answer whatever happens
    assert f"{VARIANTS[variant].title}, English sentences: sentiment, parts of speech" in [
        c.value for c in at.sidebar.caption
    ]
    refused = {page: said for page in PAGES if (said := refusal(page, variant))}
    assert "embeddings" not in refused
    assert "positions" not in refused or variant == "xca"
    assert all("The reason: " in said for said in refused.values())
    assert variant not in WHOLE or not refused


def test_the_first_page_says_what_this_network_says_and_nothing_it_has_not_learned():
    at = open_page("start", model="text-bench/mha", text="A wonderful film.", token="2")
    assert [bar.proto.text.split(" ")[0] for bar in at.get("progress")] == ["Positive"]
    assert "**wonderful** is " in said(at)
    assert "masked, the model predicts" not in said(at)
    assert "part-of-speech accuracy 80.0 % on 25,093 words" in said(at)
    assert "masked, the model predicts" in said(
        open_page("start", model="sentences", text="A wonderful film.", token="2")
    )


def test_samples_are_those_of_the_encoder():
    at = open_page("start", model="text-bench/linear")
    assert at.session_state["text"] == SENTENCES["sentences"][0]
    at.button(key="sample:1").click().run()
    assert at.session_state["text"] == SENTENCES["sentences"][1]


def test_signed_maps_are_shown_without_measures_lines_and_arcs():
    at = open_page("heads", model="text-bench/linformer", view="Arcs")
    at.toggle(key="leave").set_value(True).run()
    assert not at.error
    assert "These maps are signed" in said(at)
    assert "Rows are not rescaled, since they do not sum to 1." in said(at)
    assert at.segmented_control(key="view").options == ["Matrix"]
    assert at.selectbox(key="order").options == ["Layer"]
    assert not [b for b in at.button if str(b.key).startswith("find:")]


def test_a_fixed_table_is_not_called_learned():
    assert section("text/positions", FIXED) in said(open_page("positions", model="text-bench/mha"))
    assert section("text/positions", FIXED) not in said(open_page("positions", model="sentences"))


def test_a_long_text_is_cut_where_this_network_stops_reading():
    assert "The model reads 64 tokens" in said(open_page("heads", model="text-bench/mha", text="word " * 800))


def test_the_models_are_those_shipped_then_those_of_the_bench():
    assert cache.model_names() == [
        *(m for m in MODELS if m in TEXTS or MODELS[m].modality == "image"),
        *(f"text-bench/{name}" for name in READ),
    ]


def test_an_unknown_network_of_the_bench_is_no_model_of_texts():
    at = AppTest.from_file(ROOT / "attnviz/main.py", default_timeout=300)
    at.query_params["model"] = "text-bench/nobody"
    at.run()
    assert not at.exception
    assert not at.error, [e.value for e in at.error]
    assert at.selectbox(key="model").value == "vit"
    assert not reads_text()
