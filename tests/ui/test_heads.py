"""The pages Heads and Queries and keys, run without a browser: what they say, what they hand to the views."""

import io
import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from PIL import Image
from streamlit.testing.v1 import AppTest

import attnviz
from attnviz.measures.heads import MEASURES
from attnviz.notebook import OPENED
from attnviz.types import Tokens
from attnviz.ui.heads import overview, text
from attnviz.ui.inputs.samples import open_sample, samples_of
from attnviz.ui.inputs.treebank import treebank
from attnviz.ui.queries_keys.pairs import PICTURE_SAYS, headings
from attnviz.ui.widgets import output
from attnviz.views.page import Page
from tests.pages import open_page

PATCHES = Tokens.patches(16, 16, ["CLS"])  # of `vit`
OVER_KEYS = headings("weights", "", "")[0].split(":")[-1]  # what stands over the picture of the query


def spoken(at: AppTest) -> str:
    """Everything the page says in words."""
    parts = [*at.title, *at.subheader, *at.markdown, *at.caption, *at.latex]
    return "\n".join(part.value for part in parts)


def views_of(at: AppTest) -> dict[str, dict]:
    """What each canvas view was told, by its name."""
    sent = [
        json.loads(c.proto.json) for c in at.get("bidi_component") if c.proto.component_name.endswith("attnviz_view")
    ]
    return {one["name"]: one for one in sent}


def picture() -> bytes:
    """A small PNG to upload: a bright square on a dark ground."""
    pixels = np.full((90, 120, 3), 40, np.uint8)
    pixels[30:60, 40:80] = (230, 180, 40)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


@pytest.fixture(scope="module")
def heads() -> AppTest:
    return open_page("heads", model="vit")


def test_heads_shows_one_patch_in_every_head(heads):
    views = views_of(heads)
    assert "Layer 6, head 1:" in spoken(heads)
    assert "row 9, column 9" in spoken(heads)
    grid = views["all"]
    assert len(grid["maps"]) == 6
    assert grid["mode"] == "rows"
    assert grid["selected"] == [5, 0]
    for name in ("large", "matrix", "moved", "all"):
        assert views[name]["tokens"] == [1 + 8 * 16 + 8], name


def test_heads_says_what_attention_does_not_tell(heads):
    said = spoken(heads)
    assert "Attention is not explanation" in said
    assert "Mean attention distance" in said
    assert "on this picture" in said


def test_heads_follows_the_choices_of_a_deep_link():
    at = open_page("heads", model="vit", layer="2", head="3", token="5", grid="matrix", drop="false", scale="Log")
    views = views_of(at)
    assert "Layer 2, head 3:" in spoken(at)
    assert "row 1, column 5" in spoken(at)
    assert views["all"]["mode"] == "matrix"
    assert views["all"]["selected"] == [1, 2]
    assert views["large"]["index"] == 2
    assert views["large"]["maps"] == "heads:1"
    assert (views["large"]["hide_special"], views["large"]["scale"]) == (False, "log")


@pytest.mark.parametrize(
    ("parameter", "old", "identifier"),
    [("grid", "Matrices", "matrix"), ("order", "Entropy / log n", "entropy"), ("over", "All sample pictures", "all")],
)
def test_an_old_link_makes_the_same_choice(parameter: str, old: str, identifier: str):
    at = open_page("heads", model="vit-digits", **{parameter: old})
    assert at.session_state[parameter] == identifier


@pytest.mark.parametrize(
    ("parameter", "old", "identifier"),
    [
        ("grid", "One word", "token"),
        ("view", "Matrix", "matrix"),
        ("order", "Finds the word it depends on", "syntax"),
        ("order", "Entropy / log n", "entropy"),
    ],
)
def test_so_does_an_old_link_of_a_text(parameter: str, old: str, identifier: str):
    at = open_page("heads", model="sentences", **{parameter: old})
    assert at.session_state[parameter] == identifier
    assert not at.exception


def test_a_sentence_without_a_token_for_the_root_is_not_scored():
    """The treebank needs a special token before the text, and all of the sentence."""
    model, sentence = attnviz.load("sentences"), next(iter(treebank()))
    tokens = model.prepare(sentence).tokens["main"]
    found = text.parsed(model, sentence, tokens)
    assert found is not None
    assert all(tokens.words[i] >= 0 for i in found.first)
    assert text.parsed(model, "Any other text.", tokens) is None
    bare = replace(tokens, labels=tokens.labels[1:], words=tokens.words[1:])
    assert text.parsed(model, sentence, bare) is None
    short = replace(tokens, labels=tokens.labels[:5], words=tokens.words[:5])
    assert text.parsed(model, sentence, short) is None
    two = replace(tokens, labels=("BOS", *tokens.labels), words=(-1, *tokens.words))
    assert text.parsed(model, sentence, two).first == tuple(1 + i for i in found.first)


def test_heads_ignores_choices_that_do_not_exist():
    at = open_page("heads", model="vit", layer="99", head="x", token="100000", grid="?", order="nothing", over="5")
    assert "Layer 6, head 1:" in spoken(at)
    assert views_of(at)["all"]["order"] is None


def test_one_click_opens_the_most_local_head(heads):
    distances = table_of(heads)["Mean attention distance"]
    local = next(b for b in heads.button if b.label == "Most local")
    local.click().run()
    layer, head = divmod(int(np.argmin(distances)), 6)
    assert f"Layer {layer + 1}, head {head + 1}:" in spoken(heads)
    assert views_of(heads)["all"]["selected"] == [layer, head]


def table_of(at: AppTest):
    """The table of all heads."""
    return next(frame.value for frame in at.dataframe if "Mean attention distance" in frame.value.columns)


def test_heads_are_ordered_by_a_measure(heads):
    heads.selectbox(key="order").set_value("entropy").run()
    values = table_of(heads)[MEASURES["entropy"].title].to_numpy()
    assert (np.diff(values) >= 0).all()
    first = table_of(heads)["Head"].iloc[0]
    layer, head = views_of(heads)["all"]["order"][0]
    assert first == f"Layer {layer + 1}, head {head + 1}"
    heads.selectbox(key="order").set_value("layer").run()
    assert views_of(heads)["all"]["order"] is None


@pytest.mark.parametrize(("model", "order", "name"), [("vit", "Entropy / log n", "entropy"), ("vit", "self", "self")])
def test_a_link_orders_by_a_measure(model: str, order: str, name: str):
    """By its identifier, or by the label it had in the address before."""
    assert open_page("heads", model=model, order=order).selectbox(key="order").value == name


def test_several_patches_are_picked_and_summed():
    at = open_page("heads", model="vit", token="20,21,22", several="true")
    assert views_of(at)["large"]["tokens"] == [20, 21, 22]
    assert overview.said(PATCHES, (20, 21, 22)) in spoken(at)
    at.toggle(key="several").set_value(False).run()
    assert views_of(at)["large"]["tokens"] == [22]


def test_measures_are_averaged_over_all_samples(heads):
    one = table_of(heads)[MEASURES["entropy"].title].to_numpy()
    heads.segmented_control(key="over").set_value("all").run()
    assert "averaged over" in spoken(heads)
    assert not np.allclose(one, table_of(heads)[MEASURES["entropy"].title].to_numpy())


@pytest.mark.parametrize("page", ["heads", "queries_keys"])
@pytest.mark.parametrize("model", ["vit", "vit-digits"])
def test_an_upload_is_looked_at(page, model):
    at = open_page(page, model=model)
    at.file_uploader(key="image").upload("square.png", picture(), "image/png").run()
    assert not at.exception
    assert not at.error
    assert at.session_state["sample"] == "upload"
    assert ("attends to" in spoken(at)) if page == "heads" else (OVER_KEYS in spoken(at))


def test_queries_keys_shows_a_pair():
    at = open_page("queries_keys", model="vit", token="30", key="31", layer="2", head="4")
    said, views = spoken(at), views_of(at)
    assert "**Query** row 2, column 14" in said
    assert "**Key** row 2, column 15" in said
    assert "sqrt{32}" in said
    assert "of 257 keys" in said
    assert views["query"]["tokens"] == [30]
    assert views["answer"]["tokens"] == [31]
    assert views["stage:raw"]["tokens"] == views["matrix"]["tokens"] == [30]


def test_the_stage_is_what_the_large_pictures_show():
    at = open_page("queries_keys", model="vit", stage="Cosine")  # of an old address
    assert at.session_state["stage"] == "cosine"
    assert views_of(at)["query"]["maps"] == views_of(at)["matrix"]["maps"] == "pairs:cosine"
    at.segmented_control(key="stage").set_value("scaled").run()
    assert views_of(at)["query"]["maps"] == "pairs:scaled"


def test_turning_the_picture_turns_the_picture_only_and_says_so():
    at = open_page("queries_keys", model="vit")
    assert views_of(at)["matrix"]["transposed"] is False
    assert PICTURE_SAYS["rows"] in spoken(at)
    before = {name: one.get("maps") for name, one in views_of(at).items()}
    at.segmented_control(key="picture").set_value("columns").run()
    assert views_of(at)["matrix"]["transposed"] is True
    assert PICTURE_SAYS["columns"] in spoken(at)
    assert before == {name: one.get("maps") for name, one in views_of(at).items()}


@pytest.mark.parametrize("chosen", ["pca", "tsne", "t-SNE"])  # the last one in an old address
def test_the_joint_map_holds_every_query_and_key(chosen):
    at = open_page("queries_keys", model="vit-digits", map=chosen, paint="Pixels")
    assert at.session_state["map"] == {"t-SNE": "tsne"}.get(chosen, chosen)
    assert at.session_state["paint"] == "pixels"
    charts = {c.proto.id.split("-")[-1]: json.loads(c.proto.spec) for c in at.get("plotly_chart")}
    named = [trace for chart in charts.values() for trace in chart["data"] if trace.get("name") in ("query", "key")]
    assert len(named) == 2
    count = len(views_of(at)["query"]["tokens"]) and 17  # 16 patches and CLS
    assert [len(trace["customdata"]) for trace in named] == [count, count]


@pytest.mark.parametrize("drop", [True, False])
def test_an_overview_of_blocks_leaves_out_what_the_views_leave_out(drop: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    sent: dict[str, np.ndarray] = {}
    monkeypatch.setattr(overview, "ALL_CELLS", 1)
    monkeypatch.setattr(overview.views, "send_tiles", lambda slot, tiles: sent.update({slot: tiles}))
    open_page("heads", model="vit", sample="cat", drop=str(drop).lower(), grid="matrix")
    model = attnviz.load("vit")
    maps = (
        model(model.prepare(open_sample("vit", "cat").image))
        .calls[5]
        .token_map()
        .float()
        .detach()
        .numpy()
        .astype(float)
    )
    kept = maps[..., 1:] / maps[..., 1:].sum(-1, keepdims=True) if drop else maps
    rows, columns = (np.linspace(0, n, 33).round().astype(int) for n in kept.shape[1:])
    assert sent["heads:tiles"].shape == (6, 6, 32, 32)
    for row, column in ((0, 0), (31, 31), (7, 0), (20, 13)):
        block = kept[:, rows[row] : rows[row + 1], columns[column] : columns[column + 1]]
        np.testing.assert_allclose(sent["heads:tiles"][5, :, row, column], block.mean((1, 2)), rtol=1e-4)


def records_of(at: AppTest) -> dict[str, bytes]:
    """What was sent under each name."""
    sent = [c.proto for c in at.get("bidi_component") if c.proto.component_name.endswith("attnviz_transport")]
    return {one.id.rpartition("transport:")[2]: one.bytes for one in sent}


def test_what_is_kept_is_that_of_model_input_layer_and_head():
    """Records are packed once for all visitors: none may be shown another's."""
    first = records_of(open_page("heads", model="vit-digits"))
    assert records_of(open_page("heads", model="vit-digits")) == first
    names = ["heads:0", "heads:1", "heads:2"]
    assert len({first[name] for name in names}) == 3
    turned = records_of(open_page("heads", model="vit-digits", head="2"))
    assert turned["heads:moved"] != first["heads:moved"]
    deeper = records_of(open_page("heads", model="vit-digits", layer="1"))
    assert deeper["heads:moved"] not in (first["heads:moved"], turned["heads:moved"])
    for other in ({"sample": samples_of("vit-digits")[1]}, {"model": "vit-scenes"}):
        found = records_of(open_page("heads", **{"model": "vit-digits"} | other))
        assert all(found[name] != first[name] for name in [*names, "heads:moved"])


def test_what_positions_are_taken_away_from_is_that_of_the_layer():
    none = records_of(open_page("positions", model="vit-digits", change="none", layer="1"))
    for other in ({"change": "shuffled"}, {"layer": "2"}):
        found = records_of(open_page("positions", **{"model": "vit-digits", "change": "none", "layer": "1"} | other))
        changed = f"weights {other.get('change', 'none')}"
        assert found[changed] != none["weights none"]
        assert (found["weights own"] == none["weights own"]) is ("layer" not in other)
    for how in ("cosine", "dot-product"):
        found = records_of(open_page("positions", model="vit-digits", similarity=how))
        tiles = [name for name in found if name.startswith("alike")]
        assert tiles
        assert {found[name] for name in tiles}.isdisjoint(none.values())


@pytest.mark.parametrize(
    ("asked", "maps", "picture"),
    [
        ({"model": "vit", "layer": 2, "head": 3, "token": 40}, 6, True),
        ({"model": "sentences", "layer": 2, "head": 3}, 5, False),
    ],
)
def test_all_heads_are_saved_as_one_page(monkeypatch: pytest.MonkeyPatch, asked: dict, maps: int, picture: bool):
    """The page that is downloaded opens with the head and the token in view, over the visitor's own picture."""
    saved: dict[str, Any] = {}
    monkeypatch.setattr(output, "download", lambda label, made, file: saved.update({file.rpartition(".")[2]: made}))
    made: list[Page] = []
    html = Page.html
    monkeypatch.setattr(Page, "html", lambda page: made.append(page) or html(page))
    at = open_page("heads", **asked)
    assert saved["html"]().startswith(b"<!doctype html>")
    opened = next(part["data"] for part in made[0].parts if part.get("data", {}).get("name") == OPENED)
    assert (opened["maps"], opened["index"]) == ("maps 1", 2)
    assert opened["tokens"] == views_of(at)["large"]["tokens"]
    assert len(made[0].records) == maps + picture


def test_what_is_too_large_to_be_sent_is_not_saved(monkeypatch: pytest.MonkeyPatch):
    saved: list[str] = []
    monkeypatch.setattr(output, "download", lambda label, made, file: saved.append(file.rpartition(".")[2]))
    monkeypatch.setattr(overview, "ALL_CELLS", 1000)
    open_page("heads", model="vit-digits")
    assert saved == ["npz", "csv"]
