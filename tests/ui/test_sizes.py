"""Every page of pictures at a larger input size, and the ways of maps too large to be sent."""

from __future__ import annotations

import json

import numpy as np
import pytest
from streamlit.testing.v1 import AppTest

import attnviz
from attnviz.measures.pairs import cosines
from attnviz.ui.core import budget
from attnviz.ui.explain import large
from attnviz.ui.heads import overview
from attnviz.ui.inputs.samples import open_sample
from attnviz.ui.queries_keys import pairs
from attnviz.ui.shell.errors import NO_MEMORY
from attnviz.views import transport
from tests.pages import open_page

PAGES = ("start", "heads", "queries_keys", "explain", "embeddings", "positions", "compare")


def views_of(at: AppTest) -> dict[str, dict]:
    """What each canvas view was told, by its name."""
    sent = [
        json.loads(c.proto.json) for c in at.get("bidi_component") if c.proto.component_name.endswith("attnviz_view")
    ]
    return {one["name"]: one for one in sent}


def size_choice(at: AppTest) -> list:
    """The choice of the input size, if there is one."""
    return [box for box in at.selectbox if box.key == "pixels"]


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> dict[str, np.ndarray]:
    """The maps that go to the browser, by name."""
    kept: dict[str, np.ndarray] = {}
    pack = transport.records.pack_maps

    def keep(name: str, maps: np.ndarray, **look: object) -> bytes:
        kept[name] = np.asarray(maps)
        return pack(name, maps, **look)

    monkeypatch.setattr(transport.records, "pack_maps", keep)
    return kept


@pytest.fixture
def small_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    """No map of `vit` can be sent whole, or kept."""
    monkeypatch.setattr(budget, "MAP_CELLS", 1)
    monkeypatch.setattr(overview, "ALL_CELLS", 1)
    monkeypatch.setattr(large, "HELD", 1)


@pytest.mark.parametrize("page", PAGES)
def test_a_page_of_pictures_works_at_128_pixels(page: str, sent: dict[str, np.ndarray]) -> None:
    at = open_page(page, model="vit", pixels="128", sample="cat")
    assert size_choice(at)[0].value == "128"
    assert at.query_params["pixels"] == "128"
    views = views_of(at)
    assert views or page == "compare"
    widths = {maps.shape[-1] for maps in sent.values()}
    assert (1025 in widths) or page == "compare"


def test_the_size_is_the_models_own_to_begin_with() -> None:
    at = open_page("start", model="vit")
    assert size_choice(at)[0].value == "64"
    assert "pixels" not in at.query_params
    assert size_choice(open_page("start", model="vit", pixels="77"))[0].value != "77"


def test_models_of_one_size_have_no_choice() -> None:
    assert not size_choice(open_page("start", model="bench/window2d"))


def test_rows_on_demand_are_those_of_the_map(sent: dict[str, np.ndarray], small_budget: None) -> None:
    at = open_page("heads", model="vit", sample="cat", token="40", layer="3", head="2", drop="false")
    model = attnviz.load("vit")
    call = model(model.prepare(open_sample("vit", "cat").image)).calls[2]
    whole = call.token_map().detach().numpy()
    np.testing.assert_allclose(sent["heads:rows:2"], whole[:, 40], rtol=1e-5)
    assert views_of(at)["large"]["maps"] == "heads:rows:2"
    assert views_of(at)["large"]["index"] == 1
    assert views_of(at)["all"]["maps"] == overview_rows()
    edges = [0, *range(1, 258, 16)]
    blocks = sent["blocks"][0]
    assert blocks.shape == (17, 17)
    block = whole[1, edges[3] : edges[4], edges[5] : edges[6]]
    assert blocks[3, 5] == pytest.approx(block.mean(), rel=1e-4)
    best = 1 + int(blocks[3, 1:].argmax())  # token 40 lies in the third row of the picture
    exact = whole[1, edges[3] : edges[4], edges[best] : edges[best + 1]]
    np.testing.assert_allclose(sent["cells"][0], exact, rtol=1e-5)
    assert not [name for name, maps in sent.items() if maps.size > 6 * 257]


def overview_rows() -> list[str]:
    """The slots of rows of six layers."""
    return [f"heads:rows:{layer}" for layer in range(6)]


def test_keys_of_a_block_can_be_chosen(sent: dict[str, np.ndarray], small_budget: None) -> None:
    open_page("heads", model="vit", sample="cat", token="40", layer="3", head="2", keys="2")
    model = attnviz.load("vit")
    whole = model(model.prepare(open_sample("vit", "cat").image)).calls[2].token_map([1])[0].detach().numpy()
    np.testing.assert_allclose(sent["cells"][0], whole[33:49, 1:17], rtol=1e-5)


@pytest.mark.parametrize("stage", ["raw", "weights", "cosine"])
def test_one_query_and_one_key_on_demand(stage: str, sent: dict[str, np.ndarray], small_budget: None) -> None:
    open_page("queries_keys", model="vit", sample="cat", token="40", key="77", layer="3", head="2", stage=stage)
    model = attnviz.load("vit")
    call = model(model.prepare(open_sample("vit", "cat").image)).calls[2]
    whole = {"raw": call.scores([1], None, "raw")[0], "weights": call.token_map([1])[0]}
    expected = cosines(call, 1) if stage == "cosine" else whole[stage].detach().numpy()
    np.testing.assert_allclose(sent[f"pairs:{stage}"][0], expected[40], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(sent["pairs:received"][0], expected[:, 77], rtol=1e-4, atol=1e-5)
    assert pairs.row_of(expected, 40) is not None


def test_a_walk_a_block_at_a_time_is_the_same(sent: dict[str, np.ndarray], monkeypatch: pytest.MonkeyPatch) -> None:
    choices = {"model": "vit", "sample": "cat", "discard": "50", "fusion": "max"}
    open_page("explain", **choices)
    kept = sent["rollout"].copy()
    monkeypatch.setattr(large, "HELD", 1)
    large.walks_kept.clear()
    open_page("explain", **choices)
    np.testing.assert_allclose(sent["rollout"], kept, rtol=1e-4, atol=1e-7)
    assert kept.shape == (7, 257)


@pytest.mark.parametrize("page", ["start", "heads", "queries_keys", "explain", "positions"])
def test_a_lack_of_memory_becomes_a_sentence(page: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: object, **options: object) -> None:
        raise MemoryError

    at = open_page(page, model="vit", pixels="128")
    monkeypatch.setattr("attnviz.types.AttentionCall.token_map", full)
    monkeypatch.setattr("attnviz.types.AttentionCall.scores", full)
    box = next(box for box in at.selectbox if box.key == "sample")
    box.set_value("barn").run()
    assert not at.exception
    assert NO_MEMORY in [error.value for error in at.error]
