"""The Compare page of sentences, run without a browser, on a bench of untrained networks with made-up results."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from attnviz.attention import VARIANTS
from attnviz.measures.heads import attention_distance
from attnviz.models import load_text, store
from attnviz.training.text.bench import READ, config_of
from attnviz.types import Tokens
from attnviz.ui.compare import choice, drawing, growth, maps, numbers
from attnviz.ui.compare.choice import ATTENTION, NATIVE, ROLLOUT, TEXT_DOMAIN
from attnviz.ui.compare.domain import UNTRAINED, Panel
from attnviz.ui.compare.panels import SEPARATE, SHARED, transfer_weights, with_donor_activations
from attnviz.ui.compare.text import NOT_IN_BENCH, WITHOUT_GRID, TextMapStyle
from attnviz.ui.core import cache
from attnviz.ui.inputs.sentences import sentences_of
from attnviz.ui.widgets.text_answers import sentiment
from attnviz.ui.widgets.text_display import Look, grouping
from tests import made_up_text_bench, pages
from tests.ui.test_compare import made_up_steps, open_foreign, spoken, table, tried, views_of

open_page = partial(pages.open_page, "compare", model="sentences")
FIVES = [tuple(WITHOUT_GRID[start : start + 5]) for start in range(0, len(WITHOUT_GRID), 5)]


def count() -> int:
    """How many tokens the first sentence has, which the page begins with."""
    return len(load_text("sentences").prepare(sentences_of("sentences")[0]).tokens["main"])


WORDS = "An unbelievably tiny dog barks."


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One bench for all tests."""
    return made_up_text_bench.write(tmp_path_factory.mktemp("made-up") / "text-bench")


@pytest.fixture
def bench(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The page finds this bench."""
    use(folder, monkeypatch)
    return folder


def use(folder: Path, patch: pytest.MonkeyPatch) -> None:
    """Let the page find its bench in a folder."""
    patch.setattr(store, "TEXT_BENCH", folder)
    cache.models.clear()


# Panels --------------------------------------------------------------------------------------------------------------
def test_panels_share_words_and_range(bench):
    at = open_page(variants="mha,window,linear,xca", token="3", layer="2", head="3")
    views = views_of(at)
    panels = [views[f"panel:{name}"] for name in ("mha", "window", "linear")]
    assert {(p["view"], p["maps"], tuple(p["tokens"]), p["shared"]) for p in panels} == {
        ("text", f"attention:weights:{count()}+0", (3,), True)
    }
    assert [p["index"] for p in panels] == [0, 1, 2]
    assert views["view:native:xca:0"]["view"] == "matrix"
    said = spoken(at)
    assert "Layer 2, head 3" in said
    assert "similarity 0." in said
    assert "picture" not in said.split("Trade-offs")[0]


@pytest.mark.parametrize("names", FIVES, ids=",".join)
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
            reasons = (maps.NO_MAP, maps.NO_ROLLOUT, NOT_IN_BENCH)
            assert drawn or any(reason in i.value for i in at.info for reason in reasons), name
        answered = [name for name in names if mode == SHARED or name in READ]
        assert said.count("predicts **") == len(answered)


def test_answers_are_those_of_the_networks(bench):
    text = "A dull film."
    said = spoken(open_page(variants="mha,linear", text=text, token="2"))
    for name in ("mha", "linear"):
        model = load_text(f"text-bench/{name}")
        trace = model(model.prepare(text))
        share = float(trace.logits["sentiment"][0].softmax(-1)[1])
        tag = model.outputs["tag"][int(trace.logits["tag"][2].argmax())]
        assert f"**{sentiment(trace)[0]}** ({100 * max(share, 1 - share):.1f} %)" in said
        assert f"({tag}, " in said
    assert "**dull** is " in said
    assert "CLS** is" not in spoken(open_page(variants="mha,linear", text=text, token="0"))


def test_panels_as_matrices(bench):
    at = open_page(variants="mha,linformer", panels="matrix")
    views = views_of(at)
    assert {views[name]["view"] for name in ("panel:mha", "panel:linformer", "difference")} == {"matrix"}
    at.segmented_control(key="show").set_value(ROLLOUT).run()
    assert views_of(at)["panel:mha"]["view"] == "text"  # one row is no matrix
    at.segmented_control(key="start").set_value("token").run()
    assert views_of(at)["panel:mha"]["view"] == "matrix"


def test_native_maps_are_named_and_measured(bench):
    at = open_page(variants="mha,linformer,separable", show=NATIVE)
    said, views = spoken(at), views_of(at)
    assert f"query {count()} x key {count()}" in said
    assert f"query {count()} x slot 16" in said
    assert f"Context scores: key {count()}" in said
    assert views["view:native:separable:0"]["view"] == "text"


def test_rollouts_start_at_the_answer_or_at_a_word(bench):
    at = open_page(variants="mha,linformer,xca", show=ROLLOUT, token="3")
    said = spoken(at)
    assert TEXT_DOMAIN.mean_pooling in said
    assert maps.NO_ROLLOUT in said
    assert "attends over channels" in said
    assert list(n for n in views_of(at) if n.startswith("panel:")) == ["panel:mha"]
    at.segmented_control(key="start").set_value("token").run()
    assert f"From {sentences_of('sentences')[0].split()[2]}; " in spoken(at)  # token 3, after CLS


def test_heads_by_hand(bench):
    at = open_page(variants="mha,cosine", layer="2", head="3", heads="manual")
    at.selectbox(key="head cosine").set_value("3.1").run()
    assert "Layer 3, head 1]" in spoken(at)


def test_a_difference_of_two_leaves_the_second_sentence_alone(bench):
    at = open_page(variants="mha,linear,performer", second="Another one.", minus="performer")
    assert views_of(at)["difference"]["maps"] == "difference"
    assert "of the weight lies on other words" in spoken(at)
    assert at.text_input(key="second").value == "Another one."
    assert at.selectbox(key="minus").value == "performer"
    at.selectbox(key="minus").set_value("mha").run()
    assert drawing.SAME_SIDES in spoken(at)


def test_words_and_special_tokens_of_every_panel(bench):
    at = open_page(variants="mha,linformer,window", text=WORDS)
    pieces = load_text("text-bench/mha").prepare(WORDS).tokens["main"]
    assert at.session_state["views:attention:weights:" + f"{len(pieces)}+0"]["rows"] == len(pieces)
    at.toggle(key="words").set_value(True).run()
    at.toggle(key="leave").set_value(True).run()
    assert not at.error
    shown = at.session_state[f"views:attention:weights:{len(pieces)}+0"]
    assert shown["rows"] == shown["columns"] == 6  # five words and a full stop
    assert at.session_state[f"views:attention:signed:{len(pieces)}+0"]["rows"] == 6
    said = spoken(at)
    assert said.count("Rows are rescaled to sum to 1.") == 2
    assert said.count("Hidden: CLS, SEP. Rows are not rescaled, since they do not sum to 1.") == 1
    at.segmented_control(key="show").set_value(NATIVE).run()
    assert at.session_state["views:native:linformer:0"]["rows"] == 6
    assert at.session_state["views:native:linformer:0"]["columns"] == 16


# What is drawn of a map ----------------------------------------------------------------------------------------------
def map_style(tokens: Tokens, **how: bool) -> TextMapStyle:
    """A map style without the page around it."""
    own = Look(grouping(tokens, **how), tokens, how.get("special", True))
    return TextMapStyle(own.style, own, False)


TOKENS = Tokens(("CLS", "un", "…til", "now", "SEP"), words=(-1, 0, 0, 1, -1))


def test_only_shares_are_divided_by_what_is_left():
    values = np.arange(25, dtype=np.float32).reshape(1, 5, 5)
    style = map_style(TOKENS, whole_words=True, special=False)
    plain, _, keys = style.arrange(values, TOKENS, TOKENS, stochastic=False)
    assert keys.labels == ("until", "now")
    np.testing.assert_allclose(plain[0], [[(6 + 7 + 11 + 12) / 2, (8 + 13) / 2], [16 + 17, 18]])
    divided = style.arrange(values, TOKENS, TOKENS, stochastic=True).values
    np.testing.assert_allclose(divided, plain / plain.sum(-1, keepdims=True))


def test_axes_that_are_no_tokens_stay_as_they_are():
    slots = Tokens(("slot 1", "slot 2"))
    style = map_style(TOKENS, whole_words=True, special=False)
    values, rows, keys = style.arrange(np.ones((3, 5, 2), np.float32), TOKENS, slots, stochastic=False)
    assert (values.shape, rows.labels, keys) == ((3, 2, 2), ("until", "now"), slots)
    values, rows, keys = style.arrange(np.ones((3, 5), np.float32), None, TOKENS, stochastic=False)
    assert rows is None
    np.testing.assert_allclose(values, [[2, 1]] * 3)


def test_words_in_a_line_are_as_far_apart_as_their_places():
    line = Tokens(("a", "b", "c", "d"))
    weights = torch.tensor([[[0.0, 0, 0, 1], [0, 1, 0, 0], [0.5, 0, 0.5, 0], [0, 0, 1, 0]]])
    assert float(attention_distance(weights, line)[0]) == pytest.approx((3 + 0 + 1 + 1) / 4)


def test_numbers_count_neither_rows_of_special_tokens_nor_ways_to_them():
    weights = torch.zeros(1, 5, 5)
    weights[0, :, 3] = 1  # everybody looks at the last word
    even, far = numbers.mean_measures(TEXT_DOMAIN, weights, TOKENS)
    assert even == 0
    assert far == pytest.approx((2 + 1 + 0) / 3)
    nothing = numbers.mean_measures(TEXT_DOMAIN, weights[:, :2, :2], Tokens(("CLS", "SEP"), words=(-1, -1)))
    assert np.isnan(nothing).all()


# Modes ---------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", ["performer", "nystrom", "window", "linear"])
def test_a_changed_layer_has_the_queries_of_the_donor(name: str):
    model = load_text("sentences")
    sample = model.prepare(WORDS)
    trace = model(sample)
    network, _ = transfer_weights.__wrapped__(model.digest, name, model, TEXT_DOMAIN.options(name, prefix=1))
    changed = with_donor_activations(network, sample, trace)
    for call, exact in zip(changed.calls, trace.calls, strict=True):
        torch.testing.assert_close(call.query, exact.query)
        torch.testing.assert_close(call.value, exact.value)
    assert changed.logits["sentiment"].shape == (1, 2)
    panel = Panel(name, model, sample, changed)
    own = Panel("mha", model, sample, trace)
    assert not torch.allclose(maps.token_maps(panel).maps, maps.token_maps(own).maps, atol=1e-3)


def test_shared_weights_score_only_approximations(bench):
    at = open_page(variants="mha,performer,nystrom,linformer,xca", weights=SHARED)
    assert "The layers of the multi-head attention network of the bench run through every formula" in spoken(at)
    rows = table(at, "Error of the output")
    assert rows["Multi-head attention"][:2] == ["exact", "exact"]
    assert rows["Performer"][0].endswith("%")
    assert rows["Nyströmformer"][0].endswith("%")
    assert all(rows[VARIANTS[name].title][:2] == [numbers.NOT_SCORED] * 2 for name in ("linformer", "xca"))


def test_an_empty_bench_is_said_and_the_encoder_is_the_donor(tmp_path, monkeypatch):
    use(tmp_path / "text-bench", monkeypatch)
    at = open_page(variants="mha,window,linear,proximity")
    said = spoken(at)
    assert "the model `sentences` run through every formula" in said
    assert {"panel:mha", "panel:window", "panel:linear"} <= views_of(at).keys()
    assert "The layers of this network cannot be run through this formula" in said  # CLS has no place to be near to
    assert "`make train NAME=text-bench`" in said
    at.segmented_control(key="weights").set_value(SEPARATE).run()
    assert "None of these variants has a trained network yet: `make train NAME=text-bench`" in spoken(at)
    assert not any(name.startswith("panel:") for name in views_of(at))
    assert not at.error


def test_a_partial_bench_names_what_is_missing_and_seeds_are_averaged(tmp_path, monkeypatch):
    names = ["mha", "mqa"]
    use(made_up_text_bench.write(tmp_path / "text-bench", names, seeds=(0, 1, 2)), monkeypatch)
    at = open_page(variants="mha,mqa,gqa,nystrom")
    said = spoken(at)
    assert "panel:mqa" in views_of(at)
    assert UNTRAINED.format(recipe="text-bench") in said
    assert NOT_IN_BENCH in said
    rows = table(at, "SST-2 (95")
    assert rows["Grouped-query attention"][-2:] == ["not trained", "not trained"]
    assert rows["Multi-head attention"][-2:] == ["75.5 % (74.3\u2009–\u200976.7)", "80.5 %"]
    assert "Intervals are 95 % over seeds" in said


def test_a_damaged_network_and_a_damaged_table_are_one_sentence(tmp_path, monkeypatch):
    folder = made_up_text_bench.write(tmp_path / "text-bench", ["mha", "linear"])
    (folder / "linear" / "model.safetensors").write_bytes(b"nothing")
    use(folder, monkeypatch)
    at = open_page(variants="mha,linear")
    assert "assets/models/text-bench/linear/model.safetensors is damaged" in spoken(at)
    assert "panel:mha" in views_of(at)
    (folder / store.RESULTS).write_text('"a word"')
    said = spoken(open_page(variants="mha,linear"))
    assert "is no table of results" in said
    assert "`make train NAME=text-bench`" in said


# The address and the text --------------------------------------------------------------------------------------------
def test_what_cannot_read_a_text_or_is_unknown_is_said_and_left_out(bench):
    at = open_page(variants="mha,axial,fancy`one`,Window attention in tiles,linear", layer="99", panels="?", token="x")
    said = spoken(at)
    assert "Left out, because sentences have no grid of patches: Axial attention, Window attention in tiles." in said
    assert "asks for `fancyone`, which is no variant of this app" in said
    assert at.multiselect(key="variants").value == ["mha", "linear"]
    assert "axial" not in TEXT_DOMAIN.variants
    assert set(READ) <= set(TEXT_DOMAIN.variants)


def test_an_old_address_opens_the_same_choices(bench):
    at = open_page(
        variants=["Window attention", "Linformer"], panels="Matrix", weights="Own weights", minus="Linformer"
    )
    assert at.multiselect(key="variants").value == ["window", "linformer"]
    assert at.segmented_control(key="panels").value == "matrix"
    assert at.segmented_control(key="weights").value == SEPARATE
    assert at.selectbox(key="minus").value == "linformer"


def test_pictures_and_texts_begin_with_variants_of_their_own(bench):
    at = pages.open_page("compare", model="vit")
    assert at.multiselect(key="variants").value == ["mha", "window2d", "linear", "xca"]
    at.selectbox(key="model").select("sentences").run()
    assert at.multiselect(key="variants").value == ["mha", "window", "linear", "xca"]
    assert "Left out" not in spoken(at)
    assert at.text_area(key="text").value
    at.selectbox(key="model").select("vit").run()
    assert at.multiselect(key="variants").value == ["mha", "window2d", "linear", "xca"]
    at.multiselect(key="variants").set_value(["mha", "axial", "gqa"]).run()
    at.selectbox(key="model").select("sentences").run()
    assert at.multiselect(key="variants").value == ["mha", "gqa"]
    assert "Left out, because sentences have no grid of patches: Axial attention." in spoken(at)


@pytest.mark.parametrize(
    "text",
    ["", "x", "word " * 800, "</script><b>bold</b> & $x$ **y**", "I 💚 this 👩‍🚀 film"],
    ids=["empty", "one letter", "4,000 letters", "html", "emoji"],
)
@pytest.mark.parametrize("shown", [ATTENTION, NATIVE, ROLLOUT])
def test_any_text_is_compared(bench, text: str, shown: str):
    at = open_page(variants="mha,window,linformer,separable,xca", text=text, show=shown)
    assert not at.warning
    assert "predicts **" in spoken(at)
    if text == "":
        assert "Type a sentence in the sidebar" in spoken(at)
        assert at.session_state["text"] == ""
    if len(text) > 3000:
        assert "The model reads 64 tokens" in spoken(at)


def test_a_decoder_in_the_sidebar_lends_its_text_but_no_second_one(bench):
    at = open_page(variants="mha,linear", text="My own words.")
    alone = at.session_state["views:difference"]["rows"]
    at.text_input(key="second").set_value("More of them.").run()
    assert at.session_state["views:difference"]["rows"] > alone
    at.selectbox(key="model").select("stories").run()
    assert not at.error
    assert at.session_state["views:difference"]["rows"] == alone
    assert choice.OTHER_MODEL.format(inputs=TEXT_DOMAIN.inputs) in spoken(at)


@pytest.mark.parametrize("name", ["sentences", "stories"])
def test_a_foreign_model_lends_its_text_alone(bench, name: str):
    at = open_foreign(load_text(name), variants="mha,window", text=WORDS)
    assert choice.FOREIGN_MODEL.format(inputs=TEXT_DOMAIN.inputs) in [caption.value for caption in at.caption]
    assert {"panel:mha", "panel:window"} <= views_of(at).keys()
    assert at.session_state["views:difference"]["rows"] == len(
        load_text("text-bench/mha").prepare(WORDS).tokens["main"]
    )


def test_every_experiment_leads_somewhere(bench):
    at = tried(open_page(), "text/compare")
    assert at.multiselect(key="variants").value == ["mha", "separable", "linformer", "xca"]


# Costs ---------------------------------------------------------------------------------------------------------------
def test_costs_are_of_the_bench_of_sentences(bench):
    at = open_page(variants="mha,window,linformer", n="1024")
    rows = table(at, "Multiply-adds a layer, n = 1,024")
    assert rows["Multi-head attention"][2] == "336 M"  # 4 n d² + 2 n² d at n = 1,024, d = 128
    assert rows["Window attention"][3] == "112 kB"  # 4 heads, n rows of 2 * 3 + 1 keys, four bytes each
    assert rows["Linformer"][3] == "256 kB"  # 4 heads, n rows of 16 slots
    size = sum(p.numel() for p in load_text("text-bench/mha").network.parameters())
    assert rows["Multi-head attention"][1] == f"{size / 1e6:.3g} M"
    assert rows["Multi-head attention"][-2:] == ["75.0 % (73.0\u2009–\u200977.0)", "80.0 %"]


def test_it_is_said_what_was_trained_and_what_intervals_are_over(bench):
    said = spoken(open_page(variants="mha,xca,linformer"))
    assert "Trained for 600 steps of 4,096 tokens on both tasks, tested on 1,821 held-out sentences about films" in said
    assert "25,093 held-out words" in said
    assert "95 % over sentences, of one trained network" in said
    assert "points fewer** of SST-2 accuracy" in said
    assert f"needs {TEXT_DOMAIN.requirement_names['length']}" in said
    assert "has no cache" in said


def test_measuring_is_kept_apart_from_pictures(bench, monkeypatch):
    asked: list = []

    def steps(subjects, sizes, setting):
        asked.extend(subjects)
        return made_up_steps(subjects, sizes, setting)

    monkeypatch.setattr(growth, "measure", steps)
    at = open_page(variants="mha,window")
    at.button(key="measure").click().run()
    assert not at.error
    assert {s.name: dict(s.options) for s in asked}["window"] == dict(config_of("window").options)
    charts = [json.loads(c.proto.spec) for c in at.get("plotly_chart")]
    assert sum("Seconds per forward pass" in json.dumps(chart) for chart in charts) == 1
    at.selectbox(key="model").select("vit").run()
    assert growth.REFERENCE.split("{")[0] in spoken(at)  # of pictures nothing was measured here, but once elsewhere
