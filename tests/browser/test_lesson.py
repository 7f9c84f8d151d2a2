"""The Lesson in a real browser: walking through it, another sentence, both themes, nothing asked of another host."""

from __future__ import annotations

import pytest
from playwright.sync_api import Page, expect

from attnviz.ui.lesson.block import MASK
from attnviz.ui.lesson.steps import STEPS
from attnviz.ui.shell.errors import WRONG
from tests.browser import conftest
from tests.browser.reading import chosen, expect_chosen, until, wait_for

pytestmark = pytest.mark.browser
WAIT = 60_000
HEADINGS = list(STEPS)


def test_next_walks_on_and_the_address_follows(page: Page, server: str, settle):
    page.goto(f"{server}/lesson?step=4")
    settle(page)
    expect(page.get_by_role("heading", name=HEADINGS[3])).to_be_visible(timeout=WAIT)
    page.locator(".st-key-lesson-next button").click()
    expect(page.get_by_role("heading", name=HEADINGS[4])).to_be_visible(timeout=WAIT)
    expect_chosen(page, "step", "5")
    expect(page.locator(".js-plotly-plot").first).to_be_visible(timeout=WAIT)


def test_another_sentence_is_read_and_its_words_can_be_followed(page: Page, server: str, settle):
    page.goto(f"{server}/lesson?step=11")
    settle(page)
    box = page.get_by_label("Your sentence")
    box.fill("The cat sat on the <b>mat</b> zxqwv")
    box.press("Enter")
    expect(page.locator("code", has_text="zxqwv")).to_be_visible(timeout=WAIT)
    settle(page)
    page.get_by_role("radio", name="2 cat").or_(page.get_by_role("button", name="2 cat")).first.click()
    expect(page.get_by_text(f"the {MASK} sat on the b mat b")).to_be_visible(timeout=WAIT)
    assert "cat" in (chosen(page, "word") or "")


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_every_step_draws_without_errors(theme: str, page: Page, server: str, settle):
    watch = conftest.Watch(page, server.removeprefix("http://"))
    page.goto(f"{server}/lesson?embed_options={theme}_theme")
    settle(page)
    for step in range(2, len(STEPS) + 1):
        page.locator(".st-key-lesson-next button").click()
        expect(page.get_by_role("heading", name=HEADINGS[step - 1])).to_be_visible(timeout=WAIT)
        settle(page)
        expect(page.locator(".js-plotly-plot").first).to_be_visible(timeout=WAIT)
        assert page.get_by_text(WRONG).count() == 0
    expect(page.locator(".st-key-lesson-next button")).to_be_disabled()
    assert not watch.unexpected(), watch.unexpected()


def top_of_step(page: Page) -> float:
    """How far below the top of the window the heading of the step stands."""
    return page.evaluate("document.querySelector('[data-testid=stMain] h3')?.getBoundingClientRect().top ?? -9999")


def at_top(page: Page) -> bool:
    """Whether the heading is in the upper half of the window, below the header."""
    return 40 <= top_of_step(page) <= page.viewport_size["height"] / 2  # type: ignore[index]


@pytest.mark.parametrize(("width", "height"), [(1280, 700), (390, 844)])
def test_next_shows_the_top_of_the_next_step(width: int, height: int, page: Page, server: str, settle):
    page.set_viewport_size({"width": width, "height": height})
    page.goto(f"{server}/lesson?step=7")
    settle(page)
    for step in (8, 9, 10):
        page.locator(".st-key-lesson-next button").scroll_into_view_if_needed()
        page.locator(".st-key-lesson-next button").click()
        expect(page.get_by_role("heading", name=HEADINGS[step - 1])).to_be_visible(timeout=WAIT)
        settle(page)
        wait_for(page, lambda: at_top(page), True, "the heading of the step in the upper half of the window")


def test_arrow_keys_walk_unless_an_input_has_the_focus(page: Page, server: str, settle):
    page.goto(f"{server}/lesson?step=4")
    settle(page)
    until(page, "__attnvizLesson.listens && __attnvizLesson.step", 4)
    page.keyboard.press("ArrowRight")
    expect_chosen(page, "step", "5")
    expect(page.get_by_role("heading", name=HEADINGS[4])).to_be_visible(timeout=WAIT)
    settle(page)
    page.keyboard.press("ArrowLeft")
    expect_chosen(page, "step", "4")
    expect(page.get_by_role("heading", name=HEADINGS[3])).to_be_visible(timeout=WAIT)
    settle(page)
    page.locator(".st-key-lesson-next button").click()  # then the button has the focus, and arrows walk on
    expect_chosen(page, "step", "5")
    settle(page)
    page.keyboard.press("ArrowRight")
    expect_chosen(page, "step", "6")
    settle(page)
    box = page.get_by_label("Your sentence")
    box.click()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowLeft")
    settle(page)
    expect_chosen(page, "step", "6")
    expect(page.get_by_role("heading", name=HEADINGS[5])).to_be_visible()
