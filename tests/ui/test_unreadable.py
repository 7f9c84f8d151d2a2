"""A text that a model cannot read is said to be one, and gets no answer."""

from __future__ import annotations

import pytest

from attnviz.ui.inputs.text_run import UNREADABLE
from attnviz.ui.translate import scene
from attnviz.ui.widgets.text_answers import NO_ANSWER
from tests.pages import open_page

GERMAN = "Der Film ist wunderbar und die Schauspieler sind großartig."


@pytest.mark.parametrize("text", [GERMAN, "这部电影很好看。", "😀😀🎉"])
@pytest.mark.parametrize("page", ["start", "explain"])
def test_no_answer_is_given_to_what_is_not_read(page: str, text: str) -> None:
    at = open_page(page, model="sentences", text=text)
    assert not at.exception
    assert UNREADABLE in [info.value for info in at.info]
    assert NO_ANSWER in [one.value for one in (*at.caption, *at.markdown)]


def test_english_gets_an_answer() -> None:
    at = open_page("start", model="sentences")
    assert UNREADABLE not in [info.value for info in at.info]
    assert NO_ANSWER not in [one.value for one in at.caption]


def test_a_prompt_and_a_translation_say_so_too() -> None:
    assert UNREADABLE in [info.value for info in open_page("generate", begin=GERMAN).info]
    assert scene.UNREADABLE in [caption.value for caption in open_page("translate", english=GERMAN).caption]
