"""The Lesson, run without a browser: every step, any sentence, links; what it shows against what it comes from."""

from __future__ import annotations

import json
import re
from functools import partial

import numpy as np
import pytest
from streamlit.testing.v1 import AppTest

from attnviz.measures import reweigh
from attnviz.models.words import load_words
from attnviz.ui.lesson import attention, block, scene, vectors
from attnviz.ui.lesson.scene import SENTENCE
from attnviz.ui.lesson.steps import STEPS
from attnviz.ui.shell.page import sections
from tests import pages

opened = partial(pages.open_page, "lesson")
WORDS = SENTENCE.lower().split()


def said(at: AppTest) -> str:
    """Everything the page says in words."""
    kinds = (at.subheader, at.markdown, at.caption, at.info, at.warning)
    return "\n".join(str(part.value) for kind in kinds for part in kind).replace("\u00a0", " ")


def matrix(at: AppTest) -> np.ndarray:
    """The numbers of the first matrix on the page."""
    figures = [json.loads(chart.proto.spec) for chart in at.get("plotly_chart")]
    cells = next(trace["z"] for figure in figures for trace in figure["data"] if trace["type"] == "heatmap")
    if isinstance(cells, dict):
        import base64

        shape = [int(size) for size in cells["shape"].split(",")]
        return np.frombuffer(base64.b64decode(cells["bdata"]), cells["dtype"]).reshape(shape)
    return np.array(cells, dtype=float)


@pytest.mark.parametrize("step", range(1, len(STEPS) + 1))
@pytest.mark.parametrize("sentence", [SENTENCE, "the the the", " ".join(["dog cat"] * 40)])
def test_every_step_shows_any_sentence(step: int, sentence: str):
    at = opened(step=str(step), sentence=sentence)
    heading = list(STEPS)[step - 1]
    assert heading in said(at)
    assert at.get("plotly_chart")


def test_the_last_step_shows_the_sweep():
    assert block.SWEEP_COMMAND in said(opened(step="12"))


def test_every_step_has_its_words():
    assert set(STEPS) <= set(sections("lesson"))
    assert list(STEPS) == sorted(STEPS, key=lambda heading: int(heading.split()[0]))


def test_what_is_shown_is_what_the_formulas_give():
    found = load_words().vectors[[load_words().index[word] for word in WORDS]].numpy()
    np.testing.assert_allclose(matrix(opened(step="1")), found, atol=1e-6)
    np.testing.assert_allclose(matrix(opened(step="2", sigma="2.0")), reweigh.proximity(10, 2.0), atol=1e-6)
    np.testing.assert_allclose(matrix(opened(step="3")), found @ found.T, atol=1e-5)
    shares = reweigh.softmax(found @ found.T)
    np.testing.assert_allclose(matrix(opened(step="4")), shares, atol=1e-6)
    columns = matrix(opened(step="4", along="columns"))
    np.testing.assert_allclose(columns, shares.T, atol=1e-6)
    np.testing.assert_allclose(matrix(opened(step="5", content="0.0")), reweigh.proximity(10, 1.5), atol=1e-6)


def test_a_causal_mask_leaves_gaps_and_not_zeros():
    shown = matrix(opened(step="10"))
    later = np.triu(np.ones((10, 10), dtype=bool), 1)
    assert np.isnan(shown[later]).all()
    np.testing.assert_allclose(np.nansum(shown, 1), 1, atol=1e-5)
    whole = matrix(opened(step="10", causal="false"))
    assert np.isfinite(whole).all()
    np.testing.assert_allclose(whole.sum(1), 1, atol=1e-5)


def test_what_is_left_out_is_said():
    at = opened(sentence="Zxqwv the dog `runs` <script>alert(1)</script> 犬 " + "and " * 40)
    words = said(at)
    assert "`zxqwv`" in words
    assert "`犬`" in words
    assert "<script>" not in words
    assert f" {scene.MAX_WORDS} " in words


@pytest.mark.parametrize("sentence", ["", "dog", "?!", "犬 猫", "\u202e\u0000", "a"])
def test_too_little_gets_a_sentence_and_a_next_step(sentence: str):
    at = opened(sentence=sentence, step="7")
    assert scene.TOO_SHORT in said(at)
    assert not at.get("plotly_chart")


def test_links_are_followed_and_unknown_values_fall_back():
    at = opened(word="10 dog", step="6", lookup="kitten")
    assert list(STEPS)[5] in said(at)
    assert at.session_state["word"] == "10 dog"
    assert at.text_input(key="lookup").value == "kitten"
    at = opened(word="99 cow", step="77", sigma="x")
    assert at.session_state["word"] == "6 he"
    assert at.session_state["step"] == 1
    at.text_input(key="sentence").set_value("a small cat").run()  # the word that was followed is gone
    assert at.session_state["word"] == "3 cat"


def test_next_and_back_walk_through_the_steps():
    at = opened(step="11")
    assert not at.button(key="lesson:back").disabled
    at.button(key="lesson:next").click().run()
    assert at.session_state["step"] == 12
    assert at.button(key="lesson:next").disabled
    at.button(key="lesson:back").click().run()
    assert at.session_state["step"] == 11


def test_an_analogy_names_the_nearest_words_and_ranks_the_three():
    table = load_words()
    total = table.analogy("man", "woman", "king")
    words = said(opened(step="1", analogy="man woman king"))
    assert ": queen (" in words
    assert re.findall(r"rank (\d+)", words) == [str(table.rank(word, total)) for word in ("king", "woman")]
    assert vectors.THREE_WORDS not in words
    assert vectors.THREE_WORDS in said(opened(step="1", analogy="man woman"))
    assert vectors.THREE_WORDS in said(opened(step="1", analogy="man woman zxqwv"))


def test_a_lookup_falls_back_to_the_focus_word():
    assert vectors.no_row("he") in said(opened(step="6", lookup="zxqwv"))
    words = said(opened(step="6", lookup="puppy"))
    assert vectors.no_row("he") not in words
    assert re.search(r"\*\*.+\*\* the value of dog", words)


def test_old_addresses_make_the_same_choices():
    at = opened(step="3", compare="Cosine", word="10 dog")
    assert at.session_state["compare"] == "cosine"
    assert at.session_state["word"] == "10 dog"
    assert np.abs(matrix(at)).max() == pytest.approx(1)
    assert at.query_params["compare"] == "cosine"
    assert opened(step="3", compare="Dot product").session_state["compare"] == "dot"
    at = opened(step="4", along="Columns")
    assert at.session_state["along"] == "columns"
    np.testing.assert_allclose(matrix(at).sum(0), 1, atol=1e-6)
    at = opened(step="9", heads_shown=["Head 1", "Head 3"])
    assert at.session_state["heads_shown"] == ["1", "3"]
    assert at.query_params["heads_shown"] == ["1", "3"]


def test_heads_are_in_the_address_by_number():
    assert opened(step="9").session_state["heads_shown"] == ["1", "2", "3", "4"]
    assert opened(step="9", heads_shown="2").session_state["heads_shown"] == ["2"]
    assert opened(step="9", heads_shown=["4", "99"]).session_state["heads_shown"] == ["4"]
    assert opened(step="9", heads_shown="99").session_state["heads_shown"] == ["1", "2", "3", "4"]
    at = opened(step="9", heads_shown="")
    assert at.session_state["heads_shown"] == []
    at.pills(key="heads_shown").set_value(["2", "4"]).run()
    assert at.query_params["heads_shown"] == ["2", "4"]
    at.pills(key="heads_shown").set_value([]).run()
    assert at.query_params["heads_shown"] == ""
    at.pills(key="heads_shown").set_value(["4", "3", "2", "1"]).run()
    assert "heads_shown" not in at.query_params


def test_a_second_sentence_without_a_known_word_gets_a_sentence():
    assert attention.NO_SECOND in said(opened(step="10", source="犬 猫"))
    assert attention.NO_SECOND not in said(opened(step="10", source="dog"))


def test_the_focus_word_is_masked():
    at = opened(step="11", word="10 dog")
    assert f"**{' '.join([*WORDS[:-1], block.MASK])}**" in said(at)
    charts = [json.loads(chart.proto.spec) for chart in at.get("plotly_chart")]
    assert len(charts) == 3


@pytest.mark.parametrize("step", [6, 9, 10])
@pytest.mark.parametrize("page", ["queries_keys", "heads", "embeddings"])
def test_other_pages_do_not_take_its_choices_for_theirs(step: int, page: str):
    at = opened(step=str(step), model="sentences")
    at.switch_page(f"../pages/text/{page}.py").run()
    assert not at.exception
    assert not at.error, said(at)
    if page == "embeddings":
        assert at.text_input(key="other").value == ""
