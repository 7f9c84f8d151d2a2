"""Generate in a real browser: words are generated, chosen on the chart and made the query; a link shows them again."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Page, expect

from attnviz.models.files import ASSETS
from attnviz.models.subwords import EOS, load_subwords
from attnviz.ui.generate.writing import NAME, decoded
from tests.browser.reading import chosen, sentence, view

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(not (ASSETS / NAME).is_dir(), reason="the model of stories is not there yet"),
]
WAIT = 60_000


def pieces(page: Page) -> tuple[int, ...]:
    """What the address says was written."""
    return decoded(chosen(page, "said") or "", load_subwords())


def test_words_are_written_and_a_link_brings_them_again(page: Page, server: str, settle):
    page.goto(f"{server}/generate?begin=The%20dog&dice=3")
    settle(page)
    page.locator(".st-key-generate-ten button").click()
    expect(page).to_have_url(re.compile(r"said="), timeout=WAIT)
    settle(page)
    written = pieces(page)
    assert len(written) >= 10 or EOS in written, "ten words, unless the story has come to its end"
    page.locator(".st-key-generate-back button").click()
    expect(page).to_have_url(re.compile(f"pieces={len(written) - 1}"), timeout=WAIT)
    settle(page)
    address = page.url
    page.goto("about:blank")
    page.goto(address)
    settle(page)
    assert pieces(page) == written
    expect(page.get_by_text(f"Generated: {len(written) - 1} tokens")).to_be_visible(timeout=WAIT)


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_a_bar_is_clicked_and_a_word_is_looked_from(theme: str, page: Page, server: str, settle):
    page.goto(f"{server}/generate?begin=The%20old%20woman%20saw%20a&embed_options={theme}_theme")
    settle(page)
    chart = page.locator(".js-plotly-plot").first
    expect(chart).to_be_visible(timeout=WAIT)
    box = chart.locator(".bars .point").first.bounding_box()
    assert box is not None
    page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    expect(page).to_have_url(re.compile(r"said=\w"), timeout=WAIT)
    settle(page)
    assert len(pieces(page)) == 1
    text = view(page, "The text so far")
    text.scroll_into_view_if_needed()
    text.hover(position={"x": 20, "y": 20})  # the first box, which is BOS
    expect(sentence(text)).to_contain_text("BOS attends to", timeout=WAIT)
    assert page.get_by_text("went wrong on our side").count() == 0
