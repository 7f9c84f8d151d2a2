"""Translate in a real browser: a French word lights up the English, steps play, both themes, no other host asked."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Page, expect

from tests.browser import conftest
from tests.browser.reading import expect_chosen, sentence, view

pytestmark = pytest.mark.browser
WAIT = 120_000


def test_pointing_at_a_french_word_lights_up_the_english(page: Page, server: str, settle):
    page.goto(f"{server}/translate")
    settle(page)
    box = page.get_by_label("English", exact=True)
    box.fill("I love <b>you</b>.")
    box.press("Control+Enter")
    settle(page)
    expect_chosen(page, "english", "I love <b>you</b>.")
    expect(page.get_by_role("button", name="Play")).to_be_visible(timeout=WAIT)  # not "Show all": it is all there
    settle(page)
    french, english = view(page, "The French generated so far"), view(page, "English, by attention")
    expect(french).to_be_visible(timeout=WAIT)
    before = sentence(english).inner_text(timeout=WAIT)
    first_word = {"x": 14, "y": 20}
    french.hover(position=first_word)
    expect(sentence(french)).to_contain_text("%")
    expect(sentence(english)).not_to_have_text(before)
    expect(sentence(english)).to_contain_text("attends to")
    english.hover(position=first_word)
    expect(sentence(french)).to_contain_text("“I” receives most from ")


def test_steps_are_walked_through_and_the_address_follows(page: Page, server: str, settle):
    page.goto(f"{server}/translate?written=3&look=Within+French")
    settle(page)
    expect(page.get_by_text("Step 3:")).to_be_visible(timeout=WAIT)
    expect(view(page, "French read so far")).to_be_visible(timeout=WAIT)
    page.get_by_role("button", name="Back").click()
    expect(page.get_by_text("Step 2:")).to_be_visible(timeout=WAIT)
    settle(page)
    expect_chosen(page, "written", "2")
    page.get_by_role("button", name="Play").click()
    expect(page.get_by_role("button", name="Pause")).to_be_visible(timeout=WAIT)
    later = page.get_by_text(re.compile(r"^Step ([4-9]|1\d):"))  # one step may pass between two looks
    expect(later).to_be_visible(timeout=WAIT)
    page.get_by_role("button", name="Pause").click()
    expect(page.get_by_role("button", name="Play")).to_be_visible(timeout=WAIT)
    page.get_by_role("button", name="keys").click()  # another sentence is shown to its end
    settle(page)
    expect(page.get_by_role("button", name="Next", exact=True)).to_be_disabled(timeout=WAIT)
    expect_chosen(page, "written", None)


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_both_networks_are_drawn_without_errors(theme: str, page: Page, server: str, settle):
    watch = conftest.Watch(page, server.removeprefix("http://"))
    page.goto(f"{server}/translate?embed_options={theme}_theme")
    settle(page)
    page.get_by_role("button", name="black dogs").click()
    settle(page)
    expect(view(page, "Transformer: French over English")).to_be_visible(timeout=WAIT)
    expect(page.locator(".js-plotly-plot").first).to_be_visible(timeout=WAIT)
    assert page.get_by_text("went wrong on our side").count() == 0
    assert not watch.unexpected(), watch.unexpected()


def test_a_sentence_of_the_visitor_appears_token_by_token(page: Page, server: str, settle):
    page.goto(f"{server}/translate")
    settle(page)
    expect(view(page, "The French generated so far")).to_be_visible(timeout=WAIT)
    page.evaluate("""() => {
      globalThis.grown = new Set();
      const look = () => {
        const record = __attnviz.records.get("translate:sure");
        if (record) globalThis.grown.add(record.keys.count);
        requestAnimationFrame(look);
      };
      look() }""")
    box = page.get_by_label("English", exact=True)
    box.fill("The little dog is sleeping on the white chair in the garden.")
    box.press("Control+Enter")
    settle(page)
    expect(page.get_by_role("button", name="Play")).to_be_visible(timeout=WAIT)
    settle(page)
    assert page.evaluate("[...grown].length") >= 5, "tokens came one by one"
