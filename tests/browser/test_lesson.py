"""The Lesson in a real browser: walking through it, another sentence, both themes, nothing asked of another host."""

from __future__ import annotations

import pytest
from playwright.sync_api import Page, expect

from attnviz.ui.lesson.block import MASK
from attnviz.ui.lesson.steps import STEPS
from attnviz.ui.shell.errors import WRONG
from tests.browser import conftest
from tests.browser.reading import chosen, expect_chosen

pytestmark = pytest.mark.browser
WAIT = 60_000
HEADINGS = list(STEPS)


def test_next_walks_on_and_the_address_follows(page: Page, server: str, settle):
    page.goto(f"{server}/lesson?step=4")
    settle(page)
    expect(page.get_by_role("heading", name=HEADINGS[3])).to_be_visible(timeout=WAIT)
    page.get_by_role("button", name="Next", exact=True).click()
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
        page.get_by_role("button", name="Next", exact=True).click()
        expect(page.get_by_role("heading", name=HEADINGS[step - 1])).to_be_visible(timeout=WAIT)
        settle(page)
        expect(page.locator(".js-plotly-plot").first).to_be_visible(timeout=WAIT)
        assert page.get_by_text(WRONG).count() == 0
    expect(page.get_by_role("button", name="Next", exact=True)).to_be_disabled()
    assert not watch.unexpected(), watch.unexpected()
