"""Every network of the bench on every page that reads the chosen model: a true picture, or the reason why not."""

from __future__ import annotations

from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from attnviz.attention import VARIANTS
from attnviz.measures.heads import MEASURES
from attnviz.models import IMAGES, TEXTS, store
from attnviz.paths import ROOT
from attnviz.ui.core import bench, cache
from attnviz.ui.positions.ablation import NOT_STOCHASTIC
from attnviz.ui.positions.origin import FIXED
from attnviz.ui.queries_keys.pairs import ADDITIVE, MASKED
from attnviz.ui.shell.page import section
from tests import made_up_bench

PAGES = ("embeddings", "positions", "follow", "queries_keys", "heads", "explain")
WHOLE = {"mha", "mqa", "gqa", "mla", "cosine", "gated"}  # softmax over products of query and key: nothing is refused


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One bench for all tests."""
    return made_up_bench.write(tmp_path_factory.mktemp("bench"))


@pytest.fixture(autouse=True)
def networks(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The app finds this bench."""
    monkeypatch.setattr(store, "BENCH", folder)
    cache.models.clear()


def opened(model: str, **parameters: str) -> AppTest:
    """The Start page with this model and these parameters in the URL."""
    at = AppTest.from_file(ROOT / "attnviz/main.py", default_timeout=300)
    for name, value in {"model": model, **parameters}.items():
        at.query_params[name] = value
    return at.run()


def turned(at: AppTest, page: str) -> str:
    """Go to another page; what it refuses to show, or nothing."""
    at.switch_page(f"../pages/{page}.py").run()
    assert not at.exception
    assert not at.error, [e.value for e in at.error]
    return " ".join(info.value for info in at.info)


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_page_shows_the_network_or_says_why_not(variant: str):
    at = opened(f"bench/{variant}", head="3", layer="2")  # more heads than separable attention has
    assert at.selectbox(key="model").value == f"bench/{variant}"
    assert not at.exception
    assert not [*at.error, *at.info]  # the first page shows the answer whatever happens
    assert f"{VARIANTS[variant].title}, photographs, 130 classes" in [c.value for c in at.sidebar.caption]
    refused = {page: said for page in PAGES if (said := turned(at, page))}
    assert "embeddings" not in refused
    assert all("The reason: " in said for said in refused.values())
    assert variant not in WHOLE or not refused


def test_signed_maps_are_shown_without_measures_of_shares():
    at = opened("bench/linformer")
    assert not turned(at, "heads")
    said = " ".join(m.value for m in at.markdown)
    assert "These maps are signed" in said
    assert "Entropy" not in said.replace("entropy and shares are defined", "")
    assert at.selectbox(key="order").options == ["Layer"]
    assert not [b for b in at.button if str(b.key).startswith("find:")]
    assert "Open the head that is" not in [c.value for c in at.caption]


def test_the_steps_to_a_weight_are_those_of_the_variant():
    at = opened("bench/cosine")
    assert not turned(at, "queries_keys")
    lines = [line.value for line in at.latex]
    assert any("times 10 =" in line for line in lines)
    assert not any("sqrt" in line for line in lines)
    at = opened("bench/window2d", token="0", key="63")
    assert not turned(at, "queries_keys")
    assert any("(position)" in line.value for line in at.latex)
    assert MASKED in [c.value for c in at.caption]
    assert any("weight} = 0.00" in line.value for line in at.latex)
    assert ADDITIVE.rstrip(".") in turned(opened("bench/additive"), "queries_keys")


def test_positions_say_whether_their_table_was_learned():
    at = opened("bench/mha")
    assert not turned(at, "positions")
    said = " ".join(m.value for m in at.markdown)
    assert section("positions", FIXED) in said
    assert NOT_STOCHASTIC not in said
    at = opened("bench/linformer")
    assert not turned(at, "positions")
    assert NOT_STOCHASTIC in " ".join(m.value for m in at.markdown)


def test_a_model_without_cls_has_no_share_on_it():
    at = opened("bench/mha")
    turned(at, "heads")
    said = " ".join(m.value for m in at.markdown)
    assert MEASURES["neighbours"].title in said
    title = MEASURES["prefix"].title
    assert title not in said
    assert title not in at.selectbox(key="order").options


def test_the_models_are_those_shipped_then_those_of_the_bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(store, "TEXT_BENCH", tmp_path)  # that bench has a test of its own
    assert cache.model_names() == [*IMAGES, *TEXTS, *(f"bench/{name}" for name in VARIANTS)]


def test_without_a_bench_the_rest_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(store, "BENCH", tmp_path)
    monkeypatch.setattr(store, "TEXT_BENCH", tmp_path / "none")
    assert cache.model_names() == [*IMAGES, *TEXTS]
    (tmp_path / store.RESULTS).write_text("[")
    assert cache.model_names() == [*IMAGES, *TEXTS]
    assert "bench.json cannot be read" in bench.read_bench().problem


def test_a_damaged_network_names_itself(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    damaged = made_up_bench.write(tmp_path / "bench", ["mha"])
    (damaged / "mha" / "model.safetensors").write_bytes(b"no")
    monkeypatch.setattr(store, "BENCH", damaged)
    at = opened("bench/mha")
    assert not at.exception
    assert "assets/models/bench/mha/model.safetensors is damaged" in at.error[0].value
    assert "`make train NAME=bench`" in at.error[0].value
