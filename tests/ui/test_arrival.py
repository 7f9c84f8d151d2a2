"""An address that asks for what is not here says so in one line; one that asks for what is here says nothing."""

from __future__ import annotations

import pytest
from streamlit.testing.v1 import AppTest

from attnviz.ui.shell import arrival
from attnviz.ui.shell.menu import MENU, after, groups
from attnviz.ui.shell.page import experiments, section
from tests.pages import MAIN


def opened(**parameters: str) -> AppTest:
    at = AppTest.from_file(MAIN, default_timeout=300)
    for name, value in parameters.items():
        at.query_params[name] = value
    at.run()
    assert not at.exception
    return at


def said(at: AppTest) -> str:
    return " ".join(info.value for info in at.info if "link" in info.value)


@pytest.mark.parametrize(
    ("parameters", "shown"),
    [
        ({"model": "nobody"}, ["nobody", "vit"]),
        ({"sample": "zebra"}, ["zebra"]),
        ({"token": "99999"}, ["99999"]),
        ({"model": "Trained here: run 3"}, ["Trained here: run 3", arrival.TRAINED_ELSEWHERE]),
        ({"model": "*[x](y)*", "sample": "zebra"}, ["“xy”", "zebra"]),
    ],
)
def test_what_is_not_here_is_said_once(parameters: dict[str, str], shown: list[str]) -> None:
    at = opened(**parameters)
    for word in shown:
        assert word in said(at)
    at.run()
    assert not said(at)


@pytest.mark.parametrize(
    "parameters",
    [
        {},
        {"model": "vit-digits", "sample": "three", "token": "5"},
        {"token": "3,4", "layer": "3", "head": "99", "nothing": "x"},
        {"model": "sentences", "text": "It works."},
    ],
)
def test_what_is_here_or_of_another_page_is_no_matter(parameters: dict[str, str]) -> None:
    assert not said(opened(**parameters))


@pytest.mark.parametrize("page", ["start", "heads", "explain"])
def test_our_own_links_find_what_they_ask_for(page: str) -> None:
    for experiment in experiments(section(page, "What to try")):
        if experiment.page == "start":
            chosen = {name: str(value) for name, value in experiment.choices.items()}
            assert not said(opened(**chosen))


def test_a_sample_that_was_replaced_is_said_once() -> None:
    at = opened(sample="coffee")
    assert not said(at).startswith("This link asks")
    assert [warning.value for warning in at.warning if "coffee" in warning.value]


def test_a_session_reads_its_address_once() -> None:
    at = opened(model="vit-digits")
    assert at.session_state[arrival.ARRIVED]


def test_the_story_passes_every_page_once_and_ends_where_it_began() -> None:
    order = [next(iter(MENU))]
    while (name := after(order[-1])) != order[0]:
        order.append(name)
    assert order == list(MENU)
    assert [name for names in groups().values() for name in names] == order  # a group is in one piece


def test_every_page_leads_to_the_next_one() -> None:
    at = opened()
    at.button("next:start").click().run()
    assert not at.exception
    assert at.button("next:lesson")
