"""The Translate page, run without a browser: any text, links, steps, alternatives; small networks stand in."""

from __future__ import annotations

import json
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from streamlit.testing.v1 import AppTest

import attnviz
from attnviz import ui
from attnviz.edits import Edit
from attnviz.models.files import ASSETS, DamagedModel
from attnviz.models.translation import TranslationModel
from attnviz.types import Target
from attnviz.ui.shell.page import sections
from attnviz.ui.translate import drawing, explain, scene
from tests import pages
from tests.models.test_translation import ODD, opened

show = partial(pages.open_page, "translate")
CAT = "The cat sleeps."


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both translators as small untrained networks, so that the page is quick whatever is shipped."""
    models = {name: opened(name) for name in (scene.TRANSFORMER, scene.RECURRENT)}
    models["translator"].facts = {
        "context_length": 40,
        "parameters": 1234,
        "steps": 700,
        "minutes": 21.9,
        "tests": [{"name": "Tatoeba test", "decoding": "beam 4", "bleu": 31.26, "sentences": 1219}],
    }

    monkeypatch.setattr(scene, "load_translator", models.__getitem__)
    monkeypatch.setattr(TranslationModel, "limit", lambda model, source: 6)  # untrained ones find no end
    for cache in (scene.translator, scene.searches):
        cache.clear()


def said(at: AppTest) -> str:
    """Everything the page says in words."""
    kinds = (at.subheader, at.markdown, at.caption, at.info, at.warning)
    return "\n".join(str(part.value) for kind in kinds for part in kind).replace("\u00a0", " ")


def views(at: AppTest) -> list[str]:
    """Which views are shown."""
    found = [json.loads(part.proto.json) for part in at.get("bidi_component") if part.proto.json]
    return [data["name"] for data in found if isinstance(data, dict) and "view" in data]


def best(text: str = CAT, width: int = scene.BEAM) -> tuple[TranslationModel, tuple[int, ...], str]:
    """What the page should show."""
    model = scene.load_translator(scene.TRANSFORMER)
    beam = model.beams(model.prepare(text), width)[0]
    return model, beam.ids, model.text(beam.ids)


def test_a_visitor_sees_a_translation_at_once():
    at = show()
    assert at.text_area(key="english").value == scene.FIRST
    assert {"translate:french", "translate:keys", "translate:lines"} <= set(views(at))
    assert {"translate:translator:matrix", "translate:seq2seq:matrix"} <= set(views(at))
    assert at.radio(key="translate:choice").value == 0
    assert "1,234 parameters, 700 steps in 22 minutes" in said(at)
    assert "BLEU 31.3 (beam 4) on 1,219 sentences of Tatoeba test" in said(at)


def test_another_sentence_and_another_search_begin_anew():
    at = show(english=CAT)
    at.session_state["asking"], at.session_state["choice"], at.session_state["written"] = (1,), (2,), (1,)
    at.run()
    at.segmented_control(key="beam").set_value(8).run()
    assert at.session_state["choice"] == at.session_state["written"] == ()
    assert at.session_state["asking"] == (1,)  # the sentence is the same
    at.button(key="translate:sample:red dress").click().run()
    assert at.session_state["asking"] == ()


@pytest.mark.parametrize("text", ["a", *ODD[3:]])
def test_any_text_is_translated(text: str):
    at = show(english=text)
    assert "translate:lines" in views(at) or "Type an English sentence" in said(at)
    assert "<script>" not in said(at)


@pytest.mark.parametrize("text", ["", "   ", "\u0000\u202e", "\n\n"])
def test_nothing_gets_a_sentence_and_a_next_step(text: str):
    at = show(english=text)
    at.text_area(key="english").set_value(text).run()
    assert "Type an English sentence" in said(at)
    assert "translate:lines" not in views(at)


def test_ten_thousand_words_are_cut_and_where_is_said():
    at = show()
    at.text_area(key="english").set_value("word " * 10_000).run()
    assert not at.error
    words = said(at)
    assert "The model reads 64 tokens: up to “word”" in words
    assert "words after it were left out" in words
    assert "trained on sentences of at most 40" in words


def test_steps_are_walked_through_and_stay_inside():
    at = show(english=CAT)
    count = len(best()[1])
    assert at.slider(key="translate:written").value == count
    button = {b.label: b for b in at.button}
    assert button["Next"].disabled
    button["Back"].click().run()
    assert at.slider(key="translate:written").value == count - 1
    assert f"Step {count - 1}:**" in said(at)
    at = show(english=CAT, written="3")
    assert at.slider(key="translate:written").value == 3
    assert not at.button(key="translate:forward").disabled
    assert "Step 3:**" in said(at)
    at = show(english=CAT, written="2", at="0")
    assert "Step 1:**" in said(at)
    at = show(english=CAT, written="999", choice="77", beam="40", of_layer="9", of_head="x", look="nowhere", at="500")
    assert at.slider(key="translate:written").value == count
    assert at.radio(key="translate:choice").value == 0


def test_playing_walks_to_the_end_and_stops(monkeypatch: pytest.MonkeyPatch):
    at = show(english=CAT)
    count = len(best()[1])
    at.button(key="translate:play").click().run()
    assert at.session_state[scene.PLAYING]
    seen = [int(at.session_state["translate:written"])]
    while at.session_state[scene.PLAYING] and len(seen) < 2 * count:
        at.run()
        seen.append(int(at.session_state["translate:written"]))
    assert seen[-1] == count
    assert seen == sorted(seen)
    assert not at.session_state[scene.PLAYING]


def test_the_step_shows_what_the_network_expected():
    model, ids, _ = best()
    at = show(english=CAT, written="1")
    said_next = model.trace(model.prepare(CAT), ids).logits["word"][0].softmax(-1)
    label = model.named([ids[0]]).labels[0]
    assert f"**{scene.plain(label)}**, probability {100 * float(said_next[ids[0]]):.1f} %" in said(at)
    figures = [json.loads(chart.proto.spec) for chart in at.get("plotly_chart")]
    assert len(figures) == 1


@pytest.mark.parametrize(
    ("look", "layer", "head"),
    [("cross", "1", "All"), ("cross", "2", "3"), ("encoder", "All", "1"), ("decoder", "All", "All")],
)
def test_every_attention_can_be_looked_at(look: str, layer: str, head: str):
    at = show(english=CAT, look=look, of_layer=layer, of_head=head)
    assert "translate:lines" in views(at)
    assert ("mean of all layers" if layer == "All" else f"layer {layer}") in said(at)
    assert ("mean of all heads" if head == "All" else f"head {head}") in said(at)


def test_another_translation_is_chosen_and_forgotten_with_the_sentence():
    at = show(english=CAT)
    options = at.radio(key="translate:choice").options
    assert len(options) > 1
    at.radio(key="translate:choice").set_value(1).run()
    model = scene.load_translator(scene.TRANSFORMER)
    second = model.beams(model.prepare(CAT), scene.BEAM)[1]
    assert at.slider(key="translate:written").max == len(second.ids)
    assert scene.plain(model.text(second.ids)) in said(at)
    linked = show(english=CAT, choice="1")
    assert linked.radio(key="translate:choice").value == 1
    assert scene.plain(model.text(second.ids)) in said(linked)
    at.button(key="translate:sample:keys").click().run()
    assert at.text_area(key="english").value == scene.SAMPLES["keys"]
    assert at.radio(key="translate:choice").value == 0
    linked.button(key="translate:try:0").click().run()
    assert linked.text_area(key="english").value == scene.SAMPLES["white house"]
    assert linked.radio(key="translate:choice").value == 0


@pytest.mark.parametrize("width", [1, 8])
def test_a_beam_of_any_width(width: int):
    at = show(english=CAT, beam=str(width))
    assert 1 <= len(at.radio(key="translate:choice").options) <= width


def test_without_the_recurrent_network_the_page_still_works(monkeypatch: pytest.MonkeyPatch):
    whole = scene.load_translator

    def only_one(name: str) -> TranslationModel:
        if name == scene.RECURRENT:
            raise DamagedModel(ASSETS / name, "config.json", "is missing")
        return whole(name)

    monkeypatch.setattr(scene, "load_translator", only_one)
    scene.translator.clear()
    at = AppTest.from_file(pages.MAIN, default_timeout=300).run()
    at.switch_page("../pages/translate.py").run()
    assert any("assets/models/seq2seq/config.json is missing" in error.value for error in at.error)
    assert "translate:lines" in views(at)


def test_there_are_three_things_to_try_and_they_lead_somewhere():
    from attnviz.ui.shell.page import experiments, section

    tries = experiments(section("translate", "What to try"))
    assert len(tries) == 3
    known = {"english", "look", "of_layer", "of_head", "written", "at"}
    assert {name for one in tries for name in one.choices} <= known
    assert sections("translate")["What this does not tell you"].strip()


@pytest.mark.parametrize("text", ["a*b_c", "[x](http://y.z)", "<b>", "$a$", ":red[x]", "`code`", "# title", "1. one"])
def test_markdown_of_a_visitor_is_text(text: str):
    escaped = scene.plain(text)
    assert escaped.replace("\\", "") == text
    assert not any(sign in escaped.replace("\\" + sign, "") for sign in "*_`[]<$#:" if sign in text)


def test_chances_are_said_in_words():
    assert scene.likely(0.0) == "100.0\u00a0%"
    assert scene.likely(-6.907755) == "0.1\u00a0%"
    assert scene.likely(-9.21034) == "1 in 10,000"
    assert scene.likely(-80.0) == "less than 1 in a billion"


@pytest.mark.parametrize("whole", ["false", "true"])
def test_the_maps_of_both_networks_are_over_pieces_or_words(whole: str, monkeypatch: pytest.MonkeyPatch):
    sent: dict[str, tuple] = {}
    real = drawing.views.send_maps

    def watched(slot: str, maps: np.ndarray, **told: Any) -> None:
        sent[slot] = (maps[0], told["queries"] or told["keys"], told["keys"]) if "queries" in told else ()
        real(slot, maps, **told)

    monkeypatch.setattr(drawing.views, "send_maps", watched)
    show(english="The uncharacteristic cat sleeps.", words=whole)
    for name in (scene.TRANSFORMER, scene.RECURRENT):
        shown, french, english = sent[f"translate:{name}"]
        assert shown.shape == (len(french), len(english))
        assert shown.sum(-1) == pytest.approx(np.ones(len(french)), abs=1e-3)
        assert ("uncharacteristic" in english.labels) == (whole == "true")
        for words, of in ((french, sent["translate:map"][1]), (english, sent["translate:map"][2])):
            assert words.stream.endswith(": words") == (whole == "true")  # else hovering mixes up two numberings
            assert name == scene.RECURRENT or (words.stream == of.stream) == (whole == "false")


@pytest.mark.parametrize(("look", "picked"), [("cross", {"at": "1"}), ("Within English", {"at": "1", "asking": "3"})])
def test_the_table_holds_the_row_that_is_shown(look: str, picked: dict[str, str], monkeypatch: pytest.MonkeyPatch):
    rows: list = []
    monkeypatch.setattr(ui, "downloads", lambda maps, row, name: rows.append(row()))
    at = show(english=CAT, look=look, **picked)
    (asking, _), shares = rows[-1]
    assert f"coloured by the attention of **{scene.plain(asking)}**" in said(at)
    assert sum(share for _, share in shares) == pytest.approx(1, abs=1e-3)
    model, ids, _ = best()
    sample = model.prepare(CAT)
    expected = sample.tokens["source"].labels[3] if look == "Within English" else model.named(ids).labels[1]
    assert asking == expected


def test_a_choice_of_another_page_is_no_pick_of_this_one():
    at = pages.open_page("explain", model="vit-digits")
    at.slider(key="from").set_value(2).run()
    at.switch_page("../pages/translate.py").run()
    at.segmented_control(key="look").set_value("encoder").run()
    assert not at.error
    assert "translate:lines" in views(at)


@pytest.mark.parametrize("name", explain.OFFERED)
def test_a_french_token_is_explained_by_english_ones(monkeypatch: pytest.MonkeyPatch, name: str):
    """The row of the method itself, from a trace with a graph made here; another token has another row."""
    saved: list[dict] = []
    monkeypatch.setattr(explain, "downloads", lambda maps, rows, file: saved.append({**maps(), "rows": rows()}))
    explain.kept.clear()
    at = show(english=CAT, at="1", **{explain.METHOD: name})
    model = scene.translator(scene.TRANSFORMER)
    sample = model.prepare(CAT)
    ids = scene.found(scene.TRANSFORMER, sample, scene.BEAM)[0].ids
    plain = model.trace(sample, ids)
    source = plain.token_embeddings["source"].detach().requires_grad_()
    with torch.enable_grad():
        trace = model.trace(sample, ids, edit=Edit(embeddings=source))
    assert trace.sample is not None
    rows = [attnviz.explain(name, model, trace.sample, Target("word", row, ids[row]), trace=trace) for row in (1, 2)]
    assert np.allclose(saved[-1]["relevance"], rows[0].numpy(), atol=1e-6)
    assert not np.allclose(saved[-1]["relevance"], rows[1].numpy(), atol=1e-6)
    assert [row[0] for row in saved[-1]["rows"][1]] == list(sample.tokens["source"].labels)
    assert at.selectbox(key=explain.METHOD).value == name


def test_options_of_the_method_change_what_a_french_token_depends_on(monkeypatch: pytest.MonkeyPatch):
    saved: list[np.ndarray] = []
    monkeypatch.setattr(explain, "downloads", lambda maps, rows, file: saved.append(maps()["relevance"]))
    for alpha in ("50", "0"):
        show(english=CAT, at="1", alpha=alpha, **{explain.METHOD: "rollout"})
    assert not np.allclose(saved[0], saved[-1], atol=1e-4)


def test_gradients_of_a_translation_are_those_of_its_own_tokens():
    """By a step along the gradient of the embeddings: the logit changes by what the method says, to first order."""
    model = scene.translator(scene.TRANSFORMER)
    sample = model.prepare(CAT)
    beam = scene.found(scene.TRANSFORMER, sample, scene.BEAM)[-1]  # not the greedy one
    here = scene.Written(model, sample, beam, model.trace(sample, beam.ids))
    found = explain.relevance(here, 1, "input x gradient", {})
    source, step = here.trace.token_embeddings["source"].detach(), 1e-3
    logits = [
        float(
            model.trace(sample, beam.ids, edit=Edit(embeddings=source * (1 + sign * step))).logits["word"][
                1, beam.ids[1]
            ]
        )
        for sign in (1, -1)
    ]
    assert float(found.sum()) == pytest.approx((logits[0] - logits[1]) / (2 * step), rel=0.02, abs=1e-3)


def other_beam() -> tuple[scene.Written, Target]:
    """A translation that is not the greedy one, and the score of its second token."""
    model = scene.translator(scene.TRANSFORMER)
    sample = model.prepare(CAT)
    beam = scene.found(scene.TRANSFORMER, sample, scene.BEAM)[-1]
    assert beam.ids != tuple(model.greedy(sample))
    return scene.Written(model, sample, beam, model.trace(sample, beam.ids)), Target("word", 1, beam.ids[1])


def logit_of(here: scene.Written, target: Target, edit: Edit | None = None) -> float:
    """The score of one token of the translation in view, by the network itself."""
    return float(here.model.trace(here.sample, here.beam.ids, edit=edit).logits["word"][target.row, target.label])


def test_deletion_scores_the_token_in_view_without_each_english_one():
    here, target = other_beam()
    found = explain.relevance(here, 1, "deletion", {})
    source = here.trace.calls[0].keys
    for token, word in enumerate(source.words or ()):
        keep = torch.arange(len(source)) != token
        fall = logit_of(here, target) - logit_of(here, target, Edit(keep_tokens=keep)) if word >= 0 else 0.0
        assert float(found[token]) == pytest.approx(fall, abs=1e-4)


def test_integrated_gradients_add_up_to_what_the_english_changes():
    """Completeness: their sum is the score minus that of the baseline, here of the mean word up to the end sign.

    Untrained networks bend sharply near zero, so the way from there would need thousands of steps.
    """
    here, target = other_beam()
    found = explain.relevance(here, 1, "integrated gradients", {"baseline": "mean", "steps": 100})
    words = torch.tensor(here.trace.calls[0].keys.words) >= 0
    content = here.trace.token_embeddings["source"]
    mean = torch.where(words[:, None], content[words].mean(0), content)
    change = logit_of(here, target) - logit_of(here, target, Edit(embeddings=mean))
    assert float(found.sum()) == pytest.approx(change, rel=0.05)


def test_a_sentence_of_the_visitor_is_translated_token_by_token(monkeypatch: pytest.MonkeyPatch):
    lengths, kept = [], scene.growing

    def growing(*given: Any) -> Any:
        here = kept(*given)
        lengths.append(None if here is None else len(here.beam.ids))
        return here

    monkeypatch.setattr(scene, "growing", growing)
    at = show(english=CAT)
    assert lengths == [None] * len(lengths), "of a link it is shown at once"
    lengths.clear()
    at.text_area(key="english").set_value("The dog runs.").run()
    assert not at.error
    grown = [length for length in lengths if length is not None]
    assert grown == list(range(1, len(grown) + 1))
    assert len(grown) >= 2
    assert lengths[-1] is None
    assert at.slider(key="translate:written").value == len(best("The dog runs.")[1])


def test_a_visitor_need_not_wait_for_the_search(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(ui, "run_again", lambda: None)  # as if the visitor had clicked before the next run
    at = show(english=CAT)
    at.text_area(key="english").set_value("The dog runs.").run()
    (skip,) = [button for button in at.button if button.key == "translate:play"]
    skip.click().run()
    assert scene.SEARCH not in at.session_state
    assert at.slider(key="translate:written").value == len(best("The dog runs.")[1])
