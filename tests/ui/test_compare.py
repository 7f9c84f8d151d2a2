"""The Compare page, run without a browser, on a bench of untrained networks with made-up results."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
import torch
from PIL import Image
from streamlit.testing.v1 import AppTest

from attnviz.attention import VARIANTS
from attnviz.measures import reference
from attnviz.measures.cost import Row, Step
from attnviz.models import load, store
from attnviz.types import Model, Sample, Trace
from attnviz.ui.compare import choice, drawing, growth, maps
from attnviz.ui.compare.choice import ATTENTION, IMAGE_DOMAIN, NATIVE, ROLLOUT
from attnviz.ui.compare.costs import MASK_NAMES
from attnviz.ui.compare.domain import UNTRAINED
from attnviz.ui.compare.numbers import NOT_SCORED
from attnviz.ui.compare.panels import SEPARATE, SHARED
from attnviz.ui.compare.properties import CONSTANT, NONE, PROPERTIES, TICK
from attnviz.ui.core import cache
from attnviz.ui.core.old_addresses import VARIANT_TITLES
from tests import made_up_bench, pages

open_page = partial(pages.open_page, "compare")
SIX = [tuple(list(VARIANTS)[start : start + 6]) for start in range(0, len(VARIANTS), 6)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One bench for all tests."""
    return made_up_bench.write(tmp_path_factory.mktemp("bench"))


@pytest.fixture
def bench(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The page finds this bench."""
    use(folder, monkeypatch)
    return folder


def use(folder: Path, patch: pytest.MonkeyPatch) -> None:
    """Let the page find its bench in a folder."""
    patch.setattr(store, "BENCH", folder)
    cache.models.clear()


def spoken(at: AppTest) -> str:
    """Everything the page says in words."""
    kinds = (at.title, at.subheader, at.markdown, at.caption, at.info, at.warning)
    return "\n".join(str(part.value) for kind in kinds for part in kind).replace("\u00a0", " ")


def views_of(at: AppTest) -> dict[str, dict]:
    """What each canvas view was told, by its name."""
    sent = [json.loads(c.proto.json) for c in at.get("bidi_component") if c.proto.component_name.endswith("_view")]
    return {one["name"]: one for one in sent}


def address(at: AppTest, name: str) -> str:
    """What one parameter of the address says."""
    value = at.query_params[name]
    return ",".join(value) if isinstance(value, list) else value


def table(at: AppTest, header: str) -> dict[str, list[str]]:
    """The rows of a table by variant, found by a word of its header."""
    text = next(m.value for m in at.markdown if header in m.value and m.value.startswith("|")).replace("\u00a0", " ")
    rows = [[cell.strip() for cell in line.strip("| ").split("|")] for line in text.splitlines()]
    return {row[0]: row[1:] for row in rows}


# Panels --------------------------------------------------------------------------------------------------------------
def test_panels_share_patch_picture_and_range(bench):
    at = open_page(variants="mha,window2d,linear,xca", token="27", layer="2", head="3")
    views = views_of(at)
    panels = [views[f"panel:{name}"] for name in ("mha", "window2d", "linear")]
    assert {(p["maps"], p["picture"], tuple(p["tokens"]), p["shared"]) for p in panels} == {
        ("attention:weights:8x8+0", "picture:8x8+0", (27,), True)
    }
    assert [p["index"] for p in panels] == [0, 1, 2]
    assert "Layer 2, head 3" in spoken(at)
    assert "similarity 0." in spoken(at)


def test_a_panel_without_memory_on_the_card_is_computed_on_the_processor(bench, monkeypatch):
    """As if every network lay on a graphics card that is full."""
    real, asked = cache.open_model, []

    def full(*args: object, **options: object) -> None:
        raise torch.OutOfMemoryError

    def opened(name: str, device: str = ""):
        asked.append((name, device))
        return full if name.startswith("bench/") and not device else real(name, device)

    monkeypatch.setattr(cache, "open_model", opened)
    cache.traces.clear()
    at = open_page(variants="mha,linear")
    assert {"panel:mha", "panel:linear"} <= views_of(at).keys()
    assert ("bench/linear", "cpu") in asked
    assert "computed on the processor" in at.toast[0].value


def test_what_has_no_token_map_says_why_and_shows_what_it_has(bench):
    at = open_page(variants="mha,xca,linformer")
    views = views_of(at)
    assert "panel:xca" not in views
    assert "attends over channels" in spoken(at)
    assert views["view:native:xca:0"]["view"] == "matrix"
    assert views["panel:linformer"]["maps"] == "attention:signed:8x8+0"
    captions = " ".join(caption.value for caption in at.caption).lower()
    assert captions.count("rows do not sum to 1") == 1  # by the caveat of the rule, and not once more


@pytest.mark.parametrize("names", SIX, ids=",".join)
@pytest.mark.parametrize("mode", [SEPARATE, SHARED])
def test_every_variant_is_drawn_or_says_why_not(bench, names, mode):
    at = open_page(variants=",".join(names), weights=mode)
    for shown in (ATTENTION, NATIVE, ROLLOUT):
        at.segmented_control(key="show").set_value(shown).run()
        assert not at.exception
        assert not at.error, [e.value for e in at.error]
        views, said = views_of(at), spoken(at)
        for name in names:
            assert f"**{VARIANTS[name].title}**" in said
            drawn = f"panel:{name}" in views or any(view_name.startswith(f"view:native:{name}:") for view_name in views)
            assert drawn or any(maps.NO_MAP in i.value or i.value == maps.NO_ROLLOUT for i in at.info), name
        assert said.count("predicts **") == len(names)


def test_native_maps_are_named_and_measured(bench):
    said = spoken(open_page(variants="mha,linformer,separable,axial", show=NATIVE))
    assert "query 64 x key 64" in said
    assert "Context scores: key 64" in said
    assert "Step 2, " in said


def test_heads_by_hand_and_by_number(bench):
    at = open_page(variants="mha,cosine", layer="2", head="3", heads="index")
    assert spoken(at).count("Layer 2, head 3]") == 2
    at.segmented_control(key="heads").set_value("manual").run()
    at.selectbox(key="head cosine").set_value("4.1").run()
    assert "Layer 4, head 1]" in spoken(at)


def test_rollouts_start_at_the_answer_or_at_a_patch(bench):
    at = open_page(variants="mha,linformer,xca", show=ROLLOUT)
    assert maps.NO_ROLLOUT in spoken(at)
    assert "attends over channels" in spoken(at)
    assert list(n for n in views_of(at) if n.startswith("panel:")) == ["panel:mha"]
    at.segmented_control(key="start").set_value("token").run()
    assert "From row 5, column 5" in spoken(at)


def test_a_difference_of_two(bench):
    at = open_page(variants="mha,linear,performer", minus="performer")
    assert views_of(at)["difference"]["maps"] == "difference"
    assert "of the weight lies on other patches" in spoken(at)
    at.selectbox(key="minus").set_value("mha").run()
    assert drawing.SAME_SIDES in spoken(at)


# Modes ---------------------------------------------------------------------------------------------------------------
def test_shared_weights_score_only_approximations(bench):
    at = open_page(variants="mha,performer,linformer,separable,xca", weights=SHARED)
    assert choice.MODES[SHARED] in spoken(at)
    rows = table(at, "Error of the output")
    assert rows["Multi-head attention"][:2] == ["exact", "exact"]
    assert rows["Performer"][0].endswith("%")
    assert all(rows[VARIANTS[name].title][:2] == [NOT_SCORED] * 2 for name in ("linformer", "separable", "xca"))
    at.segmented_control(key="weights").set_value(SEPARATE).run()
    assert "Error of the output" not in spoken(at)


def test_an_empty_bench_is_said_and_the_page_still_shows_something(tmp_path, monkeypatch):
    use(tmp_path, monkeypatch)
    at = open_page(variants="mha,linear,botnet2d")
    assert "the model `vit` run through every formula" in spoken(at)
    views = views_of(at)
    assert {"panel:mha", "panel:linear"} <= views.keys()
    assert "does not support CLS" in spoken(at)
    at.segmented_control(key="weights").set_value(SEPARATE).run()
    assert "make train NAME=bench" in spoken(at)
    assert not any(name.startswith("panel:") for name in views_of(at))


def test_a_partial_bench_names_what_is_missing(tmp_path, monkeypatch):
    use(made_up_bench.write(tmp_path, ["mha", "mqa"], seeds=(0, 1, 2)), monkeypatch)
    at = open_page(variants="mha,mqa,gqa")
    assert "panel:mqa" in views_of(at)
    assert UNTRAINED.format(recipe="bench") in spoken(at)
    rows = table(at, "Top-1 (95")
    assert rows["Grouped-query attention"][-2:] == ["not trained", "not trained"]
    assert rows["Multi-head attention"][-2] == "40.5 % (39.3\u2009–\u200941.7)"  # t interval of 40, 40.5, 41
    assert "over seeds" in spoken(at)


def test_a_damaged_network_is_one_sentence_in_its_panel(tmp_path, monkeypatch):
    folder = made_up_bench.write(tmp_path / "bench", ["mha", "linear"])
    (folder / "linear" / "model.safetensors").write_bytes(b"nothing")
    use(folder, monkeypatch)
    at = open_page(variants="mha,linear")
    assert "assets/models/bench/linear/model.safetensors is damaged" in spoken(at)
    assert "panel:mha" in views_of(at)


def test_a_damaged_table_is_one_sentence(tmp_path, monkeypatch):
    (tmp_path / store.RESULTS).write_text("{no json")
    use(tmp_path, monkeypatch)
    assert "cannot be read" in spoken(open_page(variants="mha,linear"))
    (tmp_path / store.RESULTS).write_text('"a word"')
    assert "is no table of results" in spoken(open_page(variants="mha,linear"))


# The address ---------------------------------------------------------------------------------------------------------
def test_titles_and_names_are_taken_from_the_address(bench):
    by_title = open_page(variants=["Linear attention", "Multi-head attention"])
    assert by_title.multiselect(key="variants").value == ["linear", "mha"]
    assert open_page(variants="linear,mha").multiselect(key="variants").value == ["linear", "mha"]


def test_an_old_address_opens_the_same_choices(bench):
    at = open_page(
        variants=["Multi-head attention", "Linear attention", "Performer"],
        weights="Same weights",
        show="Where it looks",
        against="Parameters",
        first="Performer",
        minus="Multi-head attention",
        n="4,096",
    )
    assert at.multiselect(key="variants").value == ["mha", "linear", "performer"]
    assert at.segmented_control(key="weights").value == SHARED
    assert at.segmented_control(key="show").value == ATTENTION
    assert at.segmented_control(key="against").value == "parameters"
    assert (at.selectbox(key="first").value, at.selectbox(key="minus").value) == ("performer", "mha")
    assert at.select_slider(key="n").value == "4096"
    written = {"variants": "mha,linear,performer", "weights": SHARED, "first": "performer", "minus": "mha", "n": "4096"}
    assert {name: address(at, name) for name in written} == written


def test_an_old_address_opens_the_same_heads_and_maps(bench):
    at = open_page(variants="mha,cosine", heads="By hand", **{"head cosine": "Layer 4, head 1"})
    assert at.segmented_control(key="heads").value == "manual"
    assert at.selectbox(key="head cosine").value == "4.1"
    assert open_page(heads="Same number").segmented_control(key="heads").value == "index"
    at = open_page(show="Rollout", start="One patch")
    assert at.segmented_control(key="show").value == ROLLOUT
    assert at.segmented_control(key="start").value == "token"
    assert open_page(show="Native maps").segmented_control(key="show").value == NATIVE


def test_the_titles_of_old_addresses_are_those_of_the_variants():
    """Of those that there were at that time; a variant that is added has no such address."""
    assert len(set(VARIANT_TITLES.values())) == 18
    assert set(VARIANT_TITLES.values()) <= set(VARIANTS)


def test_what_is_chosen_stands_in_the_address_by_name(bench):
    at = open_page()
    assert "variants" not in at.query_params
    at.multiselect(key="variants").set_value(["linear", "xca"]).run()
    assert address(at, "variants") == "linear,xca"
    at.multiselect(key="variants").set_value(list(IMAGE_DOMAIN.default_variants)).run()
    assert "variants" not in at.query_params
    at.query_params["variants"] = "mha,gqa"  # as the back button does
    assert at.run().multiselect(key="variants").value == ["mha", "gqa"]


def test_what_the_address_asks_for_in_vain_is_said(bench):
    at = open_page(variants="mha,fancy`attention`,linear", layer="99", head="0", n="7", show="?", groups="3", token="x")
    assert "asks for `fancyattention`, which is no variant of this app" in spoken(at)
    assert at.multiselect(key="variants").value == ["mha", "linear"]
    assert at.select_slider(key="n").value == "64"


@pytest.mark.parametrize(("asked", "more"), [(["mha"], "one more variant"), ([], "two variants")])
def test_one_variant_alone_is_no_comparison(bench, asked, more):
    at = open_page(variants="mha,linear")
    at.multiselect(key="variants").set_value(asked).run()
    assert f"Choose {more} to compare" in spoken(at)


def test_too_many_are_cut_to_six(bench):
    assert len(open_page(variants=",".join(VARIANTS)).multiselect(key="variants").value) == 6


def tried(at: AppTest, page: str) -> AppTest:
    """The page after each of its three experiments."""
    for number in range(3):
        at.button(key=f"{page}:try:{number}").click().run()
        assert not at.exception
        assert not at.error
    return at


def test_every_experiment_leads_somewhere(bench):
    at = tried(open_page(), "compare")
    assert at.multiselect(key="variants").value == ["mha", "separable", "linformer", "xca"]


# Models of others ----------------------------------------------------------------------------------------------------
class Foreign:
    """A model as a library would bring it: no network of this app, although one of those answers for it here."""

    outputs, patch_projection = MappingProxyType({}), None

    def __init__(self, model: Model):
        self.model, self.name, self.title = model, "foreign", "A model from elsewhere"

    def __getattr__(self, name: str) -> Any:
        return getattr(self.model, name)

    def __call__(self, sample: Sample, **options: Any) -> Trace:
        return replace(self.model(sample, **options), logits={})


def open_foreign(model: Model, **parameters: str) -> AppTest:
    """The page with a model in the sidebar that is no network of this app."""
    at = AppTest.from_file(pages.MAIN, default_timeout=300)
    at.session_state[cache.SESSION_MODELS] = {"foreign": Foreign(model)}
    for name, value in {"model": "foreign", **parameters}.items():
        at.query_params[name] = value
    at.run().switch_page("../pages/compare.py").run()
    assert not at.exception
    assert not at.error, [e.value for e in at.error]
    return at


@pytest.mark.parametrize("mode", [SEPARATE, SHARED])
def test_a_foreign_model_is_said_not_to_take_part_and_the_bench_is_compared(bench, mode):
    at = open_foreign(load("vit"), variants="mha,linear", weights=mode)
    assert at.session_state["model"] == "foreign"
    captions = [caption.value for caption in at.caption]
    assert captions.count(choice.FOREIGN_MODEL.format(inputs=IMAGE_DOMAIN.inputs)) == 1
    assert choice.OTHER_MODEL.format(inputs=IMAGE_DOMAIN.inputs) not in captions
    assert {"panel:mha", "panel:linear", "difference"} <= views_of(at).keys()


def test_a_foreign_model_does_not_replace_the_donor(tmp_path, monkeypatch):
    use(tmp_path, monkeypatch)
    at = open_foreign(load("vit"), variants="mha,linear")
    assert {"panel:mha", "panel:linear"} <= views_of(at).keys()
    assert "`vit`" in spoken(at)


# Costs ---------------------------------------------------------------------------------------------------------------
def test_costs_follow_the_slider(bench):
    at = open_page(variants="mha,mqa,linear", n="1024")
    rows = table(at, "Multiply-adds a layer, n = 1,024")
    assert rows["Multi-head attention"][2] == "336 M"  # 4 n d² + 2 n² d at n = 1,024, d = 128
    assert rows["Multi-head attention"][3:5] == ["16 MB", "1 MB"]  # 4 heads n² and 2 n d, four bytes each
    assert rows["Multi-query attention"][4] == "256 kB"
    assert "**0.25 x** the KV cache while decoding" in spoken(at)


def test_trade_offs_say_what_no_longer_works(bench):
    said = spoken(open_page(variants="mha,xca,mobilevit2d"))
    assert "**Cross-covariance attention:** **1 x** the attention parameters" in said
    assert MASK_NAMES["causal"] in said
    assert f"needs {IMAGE_DOMAIN.requirement_names['grid']}" in said
    assert "points fewer** of top-1 accuracy" in said


def test_the_guide_counts_what_a_decoder_keeps(bench):
    at = open_page(n="4096", guide_heads="8")
    said = spoken(at)
    assert "multi-query attention keeps **1/8** of the cache of multi-head attention at 4,096 tokens" in said
    assert "1 MB a layer instead of 8 MB" in said
    at.segmented_control(key="guide_heads").set_value(16).run()
    assert "keeps **1/16** of the cache" in spoken(at)
    at.segmented_control(key="use").set_value("encoder").run()
    assert "No cache to save" in spoken(at)
    assert address(at, "use") == "encoder"
    at.segmented_control(key="use").set_value("cross").run()
    assert not at.error
    assert "**Not for this:** multi-head latent attention, window attention" in spoken(at)


def test_the_table_ticks_what_each_variant_declares(bench):
    at = open_page(n="1024", guide_heads="4")
    frame = at.dataframe[0].value.set_index("Variant")
    assert list(frame.index) == [VARIANTS[name].title for name in IMAGE_DOMAIN.variants]
    for name, kind in VARIANTS.items():
        row = frame.loc[kind.title]
        for key, mask in (("causal", "causal"), ("cross", "cross"), ("padding", "key_padding"), ("band", "band")):
            assert (row[PROPERTIES[key].title] == TICK) == (mask in kind.supported_masks), (name, key)
        assert (row[PROPERTIES["grid"].title] == TICK) == ("grid" in kind.requirements)
        assert (row[PROPERTIES["any length"].title] == TICK) == ("length" not in kind.requirements)
        assert (row["While decoding"] == NONE) == ("causal" not in kind.supported_masks)
    assert frame.loc["Multi-query attention", "Cache, x"] == 0.25
    assert frame.loc["Linear attention", "While decoding"] == CONSTANT
    assert frame.loc["Multi-head latent attention", "Cache, x"] == pytest.approx(0.3125)


def test_groups_share_keys(bench):
    at = open_page(groups="1")
    assert "**1** of keys and values (multi-query attention): the KV cache of a decoder takes 256 B" in spoken(at)
    assert "it has no cache" in spoken(at)


def test_every_chosen_variant_is_explained(bench):
    said = spoken(open_page(variants="mha,xca"))
    assert r"\textcolor{#2f6fde}{Q}" in said
    assert "arXiv 1706.03762" in said
    assert VARIANTS["xca"].meaning in said


def made_up_steps(subjects, sizes, setting):
    """A measurement that takes no time: linear attention is twice as fast, and the last size is too large."""
    for count in sizes:
        big = count == max(sizes)
        yield Step(
            count / max(sizes),
            f"time at {count} tokens",
            tuple(
                Row(s.name, count, skipped="would hold more than 1000 MB")
                if big
                else Row(s.name, count, seconds=count * (1e-6 if s.name == "linear" else 2e-6), peak_bytes=4 * count)
                for s in subjects
            ),
        )


@pytest.fixture
def no_reference(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No measurement comes with the app; where one would lie."""
    monkeypatch.setattr(reference, "FILE", tmp_path / "variants.json")
    return tmp_path / "variants.json"


def time_charts(at: AppTest) -> list[dict]:
    """The charts of measured latency."""
    charts = [json.loads(c.proto.spec) for c in at.get("plotly_chart")]
    return [chart for chart in charts if "Seconds per forward pass" in json.dumps(chart)]


def test_what_was_measured_once_is_shown_with_its_machine(bench, no_reference):
    facts = {
        "machine": "cpu: a slide rule",
        "date": "2026-11-30",
        "command": "python -m benchmarks.variants",
        "torch": "0",
    }
    rows = [Row(name, n, seconds=1e-6 * n, peak_bytes=n) for name in ("mha", "linear", "mla") for n in (64, 1024)]
    reference.save(
        {**facts, "width": 128, "heads": 4, "runs": 7}, [*rows, Row("mla", 4096, skipped="too hot")], no_reference
    )
    at = open_page(variants="mha,mla")
    said = spoken(at)
    assert all(fact in said for fact in facts.values())
    assert "Multi-head latent attention stops before 4,096 tokens: too hot." in said
    (chart,) = time_charts(at)
    names = [trace.get("name") for trace in chart["data"]]
    assert {"Multi-head attention", "Multi-head latent attention"} <= set(names)
    assert "Linear attention" not in names


def test_a_damaged_measurement_is_one_sentence(bench, no_reference):
    no_reference.write_text("[")
    at = open_page(variants="mha,linear")
    assert any("variants.json" in warning.value for warning in at.warning)
    assert not time_charts(at)
    assert "panel:mha" in views_of(at)


def test_the_measurement_that_is_shipped_is_of_every_variant():
    found = reference.load()
    assert found is not None
    assert {row.name for row in found.rows} == set(VARIANTS)
    assert {row.count for row in found.rows} == set(growth.SIZES)
    assert all(row.seconds is not None or row.skipped for row in found.rows)
    assert "--out assets/variants.json" in found.command


def test_measuring_draws_what_came_and_says_what_did_not(bench, monkeypatch, no_reference):
    monkeypatch.setattr(growth, "measure", made_up_steps)
    at = open_page(variants="mha,linear")
    assert "Nothing has been measured yet" in spoken(at)
    at.button(key="measure").click().run()
    assert not at.error
    assert "median of 20 " in spoken(at)
    assert "Multi-head attention stops before 16,384 tokens: would hold more than 1000 MB." in spoken(at)
    assert len(time_charts(at)) == 1
    at.multiselect(key="variants").set_value(["mha", "xca"]).run()
    assert "stops before" in spoken(at)  # what was measured of the first is kept


def test_two_visitors_do_not_measure_at_once(bench, monkeypatch):
    monkeypatch.setattr(growth, "measure", made_up_steps)
    at = open_page(variants="mha,linear")
    with growth.stopwatch():
        at.button(key="measure").click().run()
    assert growth.MEASURING in spoken(at)


def test_a_picture_of_the_visitor_is_compared(bench):
    at = open_page(variants="mha,linear")
    before = at.get("bidi_component")
    file = io.BytesIO()
    Image.new("RGB", (90, 60), "navy").save(file, "PNG")
    at.file_uploader(key="image").upload("mine.png", file.getvalue(), "image/png").run()
    assert not at.error
    assert at.session_state["sample"] == "upload"
    assert len(at.get("bidi_component")) == len(before)


def test_another_model_in_the_sidebar_changes_nothing_but_the_picture(bench):
    at = open_page(variants="mha,linear", model="vit-digits")
    assert choice.OTHER_MODEL.format(inputs=IMAGE_DOMAIN.inputs) in spoken(at)
    assert "predicts **thing" in spoken(at)
