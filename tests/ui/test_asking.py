"""Predict, then reveal: what a question hides, how guesses are scored, and the link that shows a question alone."""

from __future__ import annotations

from urllib.parse import parse_qs, urlsplit

import numpy as np
import pytest
import torch
from streamlit.testing.v1 import AppTest

import attnviz
from attnviz.measures.peaks import guessable, outcome, peaked_rows, shuffled
from attnviz.ui.heads.question import PEAKED, name_of
from attnviz.ui.shell.arrival import ARRIVED, NOT_HERE
from attnviz.ui.widgets import asking
from tests.pages import open_page
from tests.ui.test_heads import views_of

SENTENCE = "A warm and funny film with wonderful actors."
HELD = {"model": "sentences", "layer": "2", "head": "5", "token": "7", "ask": "true"}


def test_a_guess_is_held_against_a_row():
    row = np.array([np.nan, 0.1, 0.4, 0.3, 0.1])
    assert outcome(row, 2).rank == 1
    found = outcome(row, 4)
    assert (found.rank, found.keys, found.weight, found.best, found.top) == (3, 4, 0.1, 2, 0.4)
    assert outcome(row, 1).rank == found.rank  # equal weights share the better rank
    with pytest.raises(ValueError, match="key 0"):
        outcome(row, 0)


def test_peaked_rows_are_those_of_the_weights_themselves():
    model = attnviz.load("sentences")
    with torch.no_grad():
        calls = model(model.prepare(SENTENCE)).calls
    kept = guessable(calls[0].keys)
    assert kept == list(range(1, 11))
    found = peaked_rows(calls, 0.5)
    wanted = [
        (number, head, query)
        for number, call in enumerate(calls)
        for head in range(call.heads)
        for query in kept
        if float(call.token_map([head], [query])[0, 0, kept].max()) >= 0.5
    ]
    assert found == wanted
    assert 0 < len(found) < len(calls) * 6 * len(kept)
    assert sorted(shuffled(found)) == found != shuffled(found)
    assert shuffled(found) == shuffled(found)


def test_a_question_hides_every_map_until_it_is_answered():
    at = open_page("heads", **HELD)
    views = views_of(at)
    assert set(views) == {"question"}
    assert views["question"]["asks"]
    assert views["question"]["tokens"] == [7]
    run = at.session_state["attnviz:guesses"]
    assert run == {}
    answer(at, 6)
    views = views_of(at)
    assert {"large", "all", "lines"} <= set(views)
    assert views["large"]["guess"] == 6
    assert "1 of 1 right" in said(at)


def answer(at: AppTest, key: int) -> None:
    """Guess a key of the question of HELD, as a click does."""
    model = attnviz.load("sentences")
    sample = model.prepare(SENTENCE)
    with torch.no_grad():
        call = model(sample).calls[1]
    row = call.token_map([4], [7])[0, 0].numpy()

    question = name_of(model.digest, sample.digest, (1, 4, 7), len(row))
    at.session_state["attnviz:guesses"] = {**at.session_state["attnviz:guesses"], question: outcome(row, key)}
    at.run()
    assert not at.exception


def said(at: AppTest) -> str:
    """What the page says in boxes and captions."""
    return "\n".join(one.value for one in [*at.success, *at.info, *at.caption])


def test_a_wrong_guess_is_told_its_rank_and_scored():
    at = open_page("heads", **HELD)
    answer(at, 1)
    assert "0 of 1 right" in said(at)
    assert "“with”" in at.info[0].value
    assert views_of(at)["large"]["guess"] == 1
    another = next(button for button in at.button if button.key == "ask:another")
    another.click().run()
    assert set(views_of(at)) == {"question"}
    assert (at.session_state["layer"], at.session_state["head"]) != (2, 5) or at.session_state["token"] != (7,)


def test_another_question_has_a_peaked_answer_and_is_in_the_address():
    at = open_page("heads", model="sentences", ask="true")
    next(button for button in at.button if button.key == "ask:another").click().run()
    model = attnviz.load("sentences")
    with torch.no_grad():
        call = model(model.prepare(SENTENCE)).calls[int(at.session_state["layer"]) - 1]
    (token,) = at.session_state["token"]
    row = call.token_map([at.session_state["head"] - 1], [token])[0, 0]
    assert float(row[guessable(call.keys)].max()) >= PEAKED["text"]


@pytest.mark.parametrize("one", ["1", "true"])
def test_a_link_shows_the_question_alone(one: str):
    at = open_page("heads", **{**HELD, "ask": one, "only": "question"})
    assert set(views_of(at)) == {"question"}
    assert at.session_state["only"] == "question"
    assert stands_alone(at)
    answer(at, 6)
    assert not stands_alone(at)
    assert "large" in views_of(at)


def stands_alone(at: AppTest) -> bool:
    """Whether the container is there that hides everything else."""
    return any(caption.value == asking.FOLLOWS for caption in at.caption)


def test_a_question_without_a_link_does_not_stand_alone():
    assert not stands_alone(open_page("heads", **HELD))
    assert not stands_alone(open_page("heads", **{**HELD, "ask": "false", "only": "question"}))


@pytest.mark.parametrize(
    ("page", "parameters"),
    [("heads", {**HELD, "only": "nothing"}), ("lesson", {"step": "12", "ask": "true", "only": "question"})],
)
def test_what_is_not_here_is_said_in_one_sentence(page: str, parameters: dict[str, str]):
    at = open_page(page, **parameters)
    assert not stands_alone(at)
    del at.session_state[ARRIVED]  # as if the session began here: tests begin on the first page
    at.query_params["only"] = parameters["only"]
    at.run()
    assert not stands_alone(at)
    assert [box for box in at.info if box.value.startswith(NOT_HERE.split("{")[0])]


def test_the_link_for_a_class_opens_the_same_question():
    at = open_page("heads", **HELD)
    (link,) = [code.value for code in at.code if "only=question" in code.value]
    found = {name: values[0] for name, values in parse_qs(urlsplit(link).query).items()}
    assert found == {**HELD, "only": "question"}
    assert stands_alone(open_page("heads", **found))


@pytest.mark.parametrize(("step", "extra"), [("3", {}), ("7", {"head": "2"})])
def test_steps_of_the_lesson_ask_before_they_show(step: str, extra: dict[str, str]):
    at = open_page("lesson", step=step, ask="true", only="question", **extra)
    assert stands_alone(at)
    assert not at.get("plotly_chart")
    words = [button for button in at.button if (button.key or "").startswith("ask:word:")]
    assert len(words) == 10
    assert [button.disabled for button in words].count(True) == (1 if step == "3" else 0)
    words[0].click().run()
    assert not at.exception
    assert not stands_alone(at)
    assert at.get("plotly_chart")
    assert "of 1 right" in said(at)
    if extra:
        assert at.session_state["head"] == 2


def test_the_lesson_shows_its_matrix_where_nothing_is_asked():
    assert open_page("lesson", step="3").get("plotly_chart")
