"""The Generate page, run without a browser: any beginning, links, steps back and on, chosen words, a full context."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from functools import partial

import pytest
import streamlit as st
import torch
from streamlit.testing.v1 import AppTest

from attnviz import ui
from attnviz.models import MODELS
from attnviz.models.generate import SamplingConfig, words
from attnviz.models.subwords import EOS, MASK, load_subwords
from attnviz.models.text_model import TextModel
from attnviz.ui.core import cache
from attnviz.ui.generate import drawing, writing
from attnviz.ui.shell.page import experiments, section, sections
from attnviz.ui.widgets.layer_head import Part
from tests import pages
from tests.models.test_generate import opened

show = partial(pages.open_page, "generate")
BEGIN, NEXT = "The old woman saw a fox.", "**Next token.**"
FACTS = {
    "parameters": 1234,
    "perplexity_word": 61.25,
    "perplexity_token": 31.5,
    "blimp": 66.4,
    "blimp_interval": [66.0, 66.8],
    "blimp_pairs": 67000,
}


@pytest.fixture(autouse=True)
def model(monkeypatch: pytest.MonkeyPatch) -> Iterator[TextModel]:
    """A small untrained network, so that the page is quick and whatever is shipped does not matter."""
    small = opened()
    small.facts = dict(FACTS)
    monkeypatch.setitem(MODELS, writing.NAME, replace(MODELS[writing.NAME], open=lambda folder: small))
    cache.models.clear()
    yield small
    cache.models.clear()


def said(at: AppTest) -> str:
    """Everything the page says in words."""
    kinds = (at.markdown, at.caption, at.info, at.warning)
    return "\n".join(str(part.value) for kind in kinds for part in kind).replace("\u00a0", " ")


def views(at: AppTest) -> set[str]:
    """Which views are shown."""
    found = [json.loads(part.proto.json) for part in at.get("bidi_component") if part.proto.json]
    return {data["name"] for data in found if isinstance(data, dict) and "view" in data}


def press(at: AppTest, name: str) -> AppTest:
    """Press a button by its label."""
    at.button(key=f"generate:{name}").click().run()
    assert not at.exception
    assert not at.error, [e.value for e in at.error]
    return at


def address(at: AppTest) -> dict[str, str]:
    """The parameters of the page's address."""
    return {name: value[0] if isinstance(value, list) else value for name, value in dict(at.query_params).items()}


def written(at: AppTest, model: TextModel) -> str:
    """The text in the address."""
    return model.tokenizer.decode(writing.decoded(address(at).get("said", ""), model.tokenizer))


def test_a_visitor_sees_what_comes_next_and_where_the_last_word_looks():
    at = show()
    assert {"generate:text", "generate:lines", "generate:matrix"} <= views(at)
    assert NEXT in said(at)
    assert "61.25 per word" in said(at)
    assert "66.4 % of 67,000 pairs" in said(at)
    assert "(95 % interval 66.0 to 66.8" in said(at)
    figures = [json.loads(chart.proto.spec) for chart in at.get("plotly_chart")]
    assert [trace["name"] for trace in figures[0]["data"]] == [drawing.FILTERED, drawing.MODEL]


def test_words_are_written_stepped_back_over_and_come_again(model: TextModel):
    at = press(show(begin=BEGIN), "ten")
    ids = model.prepare(BEGIN).inputs["main"].tolist()
    expected = words(model, ids, SamplingConfig(), 10)
    assert writing.decoded(address(at)["said"], load_subwords()) == tuple(expected)
    assert at.slider(key="pieces").value == len(expected)
    press(at, "back")
    assert at.slider(key="pieces").value == len(expected) - 1
    assert writing.decoded(address(at)["said"], load_subwords()) == tuple(expected)
    press(at, "next")
    assert at.slider(key="pieces").value == len(expected)
    press(at, "prompt")
    assert at.slider(key="pieces").value == 0
    press(at, "one")
    assert writing.decoded(address(at)["said"], load_subwords()) == tuple(words(model, ids, SamplingConfig(), 1))


def test_a_link_brings_the_text_the_step_and_the_settings(model: TextModel):
    ids = model.tokenizer.ids("It was red and it ran")
    at = show(begin=BEGIN, said=writing.encoded(ids), pieces="2", temperature="1.5", topk="7", topp="0.5", dice="9")
    assert written(at, model) == "It was red and it ran"
    assert at.slider(key="pieces").value == 2
    assert (at.slider(key="temperature").value, at.slider(key="topk").value) == (1.5, 7)
    assert (at.slider(key="topp").value, at.number_input(key="dice").value) == (0.5, 9)
    assert ":blue[It was]" in said(at)
    press(at, "one")
    begun = [*model.prepare(BEGIN).inputs["main"].tolist(), *ids[:2]]
    new = words(model, begun, SamplingConfig(1.5, 7, 0.5, 9), 1)
    assert writing.decoded(address(at)["said"], load_subwords()) == (*ids[:2], *new)


@pytest.mark.parametrize(
    "wrong", ["zzzz", "4.x.y", "-1", "....", "<script>", writing.encoded([MASK]), "7v." * 3000, "٣"]
)
def test_a_broken_link_is_read_as_far_as_it_makes_sense(wrong: str):
    at = show(begin=BEGIN, said=wrong, pieces="7000", of_layer="9", of_head="x", asks="5000", temperature="99")
    assert NEXT in said(at) or "context is full" in said(at)


def test_a_word_is_chosen(model: TextModel):
    at = show(begin=BEGIN)
    at.button(key="generate:choose:3").click().run()
    (chosen,) = writing.decoded(address(at)["said"], load_subwords())
    logits = model.network(model.prepare(BEGIN).inputs["main"]).logits["word"][-1]
    logits[:EOS] = logits[EOS + 1 : 6] = float("-inf")
    assert chosen == int(logits.topk(4).indices[-1])
    at.text_area(key="begin").set_value("Another beginning").run()
    assert "said" not in address(at)


@pytest.mark.parametrize(
    "text",
    [
        "a",
        "👩‍🚀🚀",
        "שלום עולם",
        "\u202eabc\u0000\u0007",
        "<b>bold</b></script><script>alert(1)</script>",
        "犬が好き",
        "[MASK] [EOS]",
        "$x$ *a* `b` :red[c]",
        "ﷺ" * 20,
    ],
)
def test_any_beginning_is_written_on(text: str):
    at = press(show(begin=text), "one")
    assert "generate:text" in views(at)
    assert "<script>" not in said(at)
    assert "\ufffd" not in said(at)


@pytest.mark.parametrize("text", ["", "   ", "\u0000\u202e"])
def test_nothing_begins_from_bos(text: str):
    at = show(begin=text)
    at.text_area(key="begin").set_value(text).run()
    assert "starts from BOS alone" in said(at)
    press(at, "one")
    assert address(at)["said"]


def test_ten_thousand_words_are_cut_where_the_context_ends():
    at = show()
    at.text_area(key="begin").set_value("word " * 10_000).run()
    assert "The model reads 64 tokens: up to “word”" in said(at)
    assert "context is full" in said(at)
    assert at.button(key="generate:one").disabled


def test_a_full_context_is_said_and_stepping_back_opens_it(model: TextModel):
    at = show(begin=BEGIN)
    for _ in range(8):
        if at.button(key="generate:ten").disabled:
            break
        press(at, "ten")
    assert "context is full" in said(at) or "(EOS)" in said(at)
    press(at, "back")
    assert "context is full" not in said(at)
    assert not at.button(key="generate:one").disabled


def test_a_text_that_ends_says_so():
    at = show(begin=BEGIN, said=writing.encoded([EOS]))
    assert "(EOS)" in said(at)
    assert NEXT not in said(at)


def test_the_cache_is_that_of_this_network(model: TextModel):
    at = show(begin=BEGIN)
    ids = model.prepare(BEGIN).inputs["main"]
    _, past = model.network.decode(ids)
    kept = sum(tensor.nbytes for layer in past for tensor in layer or ())
    assert f"{len(ids)} tokens x {kept // len(ids):,} bytes" in said(at)
    assert f"{3 * kept // len(ids):,} bytes a token" in said(at)


@pytest.mark.parametrize(("layer", "head"), [("All", "3"), ("2", "All"), ("3", "6")])
def test_shares_of_attention_sum_to_one(model: TextModel, layer: str, head: str):
    at = show(begin=BEGIN, said=writing.encoded(model.tokenizer.ids("It was red")), of_layer=layer, of_head=head)
    assert f"{'mean of all layers' if layer == 'All' else f'layer {layer}'}, " in said(at)
    assert ("mean of all heads" if head == "All" else f"head {head}") in said(at)
    figure = json.loads(at.get("plotly_chart")[1].proto.spec)
    assert [trace["name"] for trace in figure["data"]] == ["prompt", "generated text", "BOS"]


def test_the_map_is_the_one_of_the_whole_pass(model: TextModel):
    begin = model.prepare(BEGIN)
    here = writing.Scene(model, begin, (), 0, SamplingConfig(), begin, model(begin))
    torch.testing.assert_close(
        torch.from_numpy(Part(1, 4).map_of(here.trace.calls)), here.trace.calls[1].weights()[4], atol=1e-6, rtol=1e-5
    )
    mean = torch.stack([call.weights() for call in here.trace.calls]).mean((0, 1))
    torch.testing.assert_close(torch.from_numpy(Part().map_of(here.trace.calls)), mean, atol=1e-6, rtol=1e-5)


def test_pieces_travel_in_an_address_and_nothing_else_does():
    ids = [6, 35, 36, 7999, EOS]
    assert writing.decoded(writing.encoded(ids), load_subwords()) == tuple(ids)
    assert writing.decoded(writing.encoded([6, EOS, 7]), load_subwords()) == (6, EOS)
    assert writing.decoded(writing.encoded([6, 8000, 7]), load_subwords()) == (6,)


def test_there_are_three_things_to_try_and_they_lead_somewhere():
    tries = experiments(section("generate", "What to try"))
    assert len(tries) == 3
    assert {name for one in tries for name in one.choices} <= {
        "begin",
        "temperature",
        "topk",
        "topp",
        "dice",
        "of_layer",
    }
    assert all(isinstance(one.choices["temperature"], float) for one in tries)
    assert sections("generate")["What this does not tell you"].strip()


def test_words_come_one_by_one_until_they_are_stopped(model: TextModel, monkeypatch: pytest.MonkeyPatch):
    """Each run of the page shows one word more; the address is written once, at the end."""
    shown, again = [], ui.run_again
    monkeypatch.setattr(ui, "run_again", lambda: (shown.append(dict(st.query_params).get("said")), again()))
    at = press(show(begin=BEGIN), "ten")
    expected = words(model, model.prepare(BEGIN).inputs["main"].tolist(), SamplingConfig(), 10)
    assert writing.decoded(address(at)["said"], load_subwords()) == tuple(expected)
    assert len(shown) >= 5
    assert set(shown) == {None}
    assert at.button(key="generate:stop").disabled


def test_a_visitor_stops_it_and_keeps_what_is_there(model: TextModel, monkeypatch: pytest.MonkeyPatch):
    runs = []

    def stopped() -> None:  # a click on Stop between two words
        runs.append(len(st.session_state[writing.SAID]))
        if len(runs) == 3:
            writing.stop()
        st.rerun()

    monkeypatch.setattr(ui, "run_again", stopped)
    at = press(show(begin=BEGIN), "end")
    ids = model.prepare(BEGIN).inputs["main"].tolist()
    assert writing.decoded(address(at)["said"], load_subwords()) == tuple(words(model, ids, SamplingConfig(), 3))
    assert not at.button(key="generate:one").disabled


def test_another_prompt_ends_what_was_being_written(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(ui, "run_again", lambda: None)  # as if the visitor had clicked before the next run
    at = press(show(begin=BEGIN), "end")
    assert not at.button(key="generate:stop").disabled
    at.text_area(key="begin").set_value("Another beginning").run()
    assert at.button(key="generate:stop").disabled
    assert "said" not in address(at)
