"""The Lesson, run without a browser: every step, any sentence, links; what it shows against what it comes from."""

from __future__ import annotations

import json
from functools import partial

import numpy as np
import pytest
from streamlit.testing.v1 import AppTest

from attnviz.measures import reweigh
from attnviz.models.words import load_words
from attnviz.ui.inputs.sentences import WIDE
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
    assert "python -m attnviz.training sweep" in said(opened(step="12"))


def test_every_step_has_its_words():
    assert set(STEPS) <= set(sections("lesson"))
    assert list(STEPS) == sorted(STEPS, key=lambda heading: int(heading.split()[0]))


def test_what_is_shown_is_what_the_formulas_give():
    vectors = load_words().vectors[[load_words().index[word] for word in WORDS]].numpy()
    np.testing.assert_allclose(matrix(opened(step="1")), vectors, atol=1e-6)
    np.testing.assert_allclose(matrix(opened(step="2", sigma="2.0")), reweigh.proximity(10, 2.0), atol=1e-6)
    np.testing.assert_allclose(matrix(opened(step="3")), vectors @ vectors.T, atol=1e-5)
    shares = reweigh.softmax(vectors @ vectors.T)
    np.testing.assert_allclose(matrix(opened(step="4")), shares, atol=1e-6)
    columns = matrix(opened(step="4", along="Columns"))
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
    assert "more were left out" in words


@pytest.mark.parametrize("sentence", ["", "dog", "?!", "犬 猫", "\u202e\u0000", "a"])
def test_too_little_gets_a_sentence_and_a_next_step(sentence: str):
    at = opened(sentence=sentence, step="7")
    assert "Type at least 2 English words" in said(at)
    assert not at.get("plotly_chart")


def test_links_are_followed_and_unknown_values_fall_back():
    at = opened(word="10 dog", step="6", lookup="kitten")
    assert "Looking things up" in said(at)
    assert at.session_state["word"] == "10 dog"
    assert at.text_input(key="lookup").value == "kitten"
    at = opened(word="99 cow", step="77", sigma="x")
    assert at.session_state["word"] == "6 he"
    assert at.session_state["step"] == 1
    at.text_input(key="sentence").set_value("a small cat").run()  # the word that was followed is gone
    assert at.session_state["word"] == "3 cat"


def test_next_and_back_walk_through_the_steps():
    at = opened(step="11")
    button = {b.label: b for b in at.button}
    assert not button["Back"].disabled
    button["Next"].click().run()
    assert at.session_state["step"] == 12
    button = {b.label: b for b in at.button}
    assert button["Next"].disabled
    button["Back"].click().run()
    assert at.session_state["step"] == 11


def test_an_analogy_says_where_the_words_themselves_would_be():
    words = said(opened(step="1", analogy="man woman king"))
    assert "lies nearest to: queen" in words
    assert "king would be number 1" in words
    assert "Type three words" in said(opened(step="1", analogy="man woman"))
    assert "Type three words" in said(opened(step="1", analogy="man woman zxqwv"))


def test_looking_up_a_word_the_table_does_not_have():
    assert "is looked up instead" in said(opened(step="6", lookup="zxqwv"))
    assert "**Hard:** the value of dog" in said(opened(step="6", lookup="puppy"))


@pytest.mark.parametrize("step", [6, 9, 10])
@pytest.mark.parametrize("page", ["queries_keys", "heads", "embeddings"])
def test_other_pages_do_not_take_its_choices_for_theirs(step: int, page: str):
    at = opened(step=str(step), model="sentences")
    at.switch_page(f"../pages/text/{page}.py").run()
    assert not at.exception
    assert not at.error, said(at)
    if page == "embeddings":
        assert at.text_input(key="other").value == WIDE
