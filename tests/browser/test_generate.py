"""Generate in a real browser: words are generated, chosen on the chart and made the query; a link shows them again."""

from __future__ import annotations

import re
from urllib.parse import quote, quote_plus

import pytest
from playwright.sync_api import Page, expect

from attnviz.models.files import ASSETS
from attnviz.models.subwords import EOS, load_subwords
from attnviz.ui.generate.writing import NAME, decoded, encoded
from tests.browser.reading import chosen, sentence, view, wait_for

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


STORY = "Once upon a time there was a little girl who lived near the forest."
IN_SIGHT = """(name) => {
  const view = __attnviz.views[name], record = __attnviz.kinds.lines.record(view), query = view.tokens.at(-1);
  const [head] = __attnviz.kinds.lines.heads(view, record);
  const weights = Array.from({length: record.keys.count}, (_, key) =>
    __attnviz.kinds.lines.weight(view, record, head, query, key));
  const keys = [...weights.keys()].sort((a, b) => weights[b] - weights[a]).slice(0, 3);
  const box = view.canvas.getBoundingClientRect(), low = 56, high = innerHeight; // the header lies over the page
  const seen = (side, index) => {
    const height = view.heights[side].get(index) ?? 24 + (index + 0.5) * 24;
    const y = box.top + height - view.stage.scrollTop;
    return height > view.stage.scrollTop + 24 && height < view.stage.scrollTop + view.stage.clientHeight
      && y > low && y < high;
  };
  return {query, count: record.keys.count, seen: [seen("query", query), ...keys.map((key) => seen("key", key))],
    far: keys.filter((key) => Math.abs(key - query) > 40).length};
}"""


def long_text(count: int = 300) -> str:
    """So many tokens of a story, as an address says them; what they are does not matter here."""
    ids = load_subwords().ids(" ".join(["The old woman went into the dark forest with her dog and saw a fox ."] * 40))
    return encoded(ids[:count])


@pytest.mark.parametrize("width", [1280, 390])
def test_in_a_long_text_a_query_and_its_strongest_keys_stay_in_sight(width: int, page: Page, server: str, settle):
    """By a click, by the keyboard and where the visitor scrolls; in a head whose keys are far away too."""
    page.set_viewport_size({"width": width, "height": 844})
    page.goto(f"{server}/generate?begin={quote(STORY)}&said={long_text()}&of_layer=1&of_head=1")
    settle(page)
    canvas = view(page, "Attention of every token")
    expect(canvas).to_be_visible(timeout=WAIT)

    def all_seen() -> bool:
        return all(page.evaluate(IN_SIGHT, "generate:lines")["seen"])

    canvas.scroll_into_view_if_needed()
    wait_for(page, all_seen, True, "the newest token and its keys, without a click")
    assert page.evaluate(IN_SIGHT, "generate:lines")["count"] >= 250
    far = 0
    for layer, head in ((1, 3), (6, 4)):
        page.locator(".st-key-of_layer").get_by_role("radio", name=str(layer), exact=True).click()
        page.locator(".st-key-of_head").get_by_role("radio", name=str(head), exact=True).click()
        settle(page)
        canvas.scroll_into_view_if_needed()
        canvas.click(position={"x": 60, "y": 200})
        settle(page)
        wait_for(page, all_seen, True, "the clicked token and its keys")
        far += page.evaluate(IN_SIGHT, "generate:lines")["far"]
        page.evaluate("__attnviz.views['generate:lines'].stage.scrollTop = 0")
        page.wait_for_timeout(300)
        wait_for(page, all_seen, True, "the same after scrolling away")
        page.mouse.move(5, 5)
    assert far > 0, "some of the keys lie further away than the window is tall"


def test_words_come_one_by_one_with_their_attention_and_stop(page: Page, server: str, settle):
    # as the app writes an address itself: another spelling would be corrected by entries of its own
    page.goto(f"{server}/generate?begin={quote_plus(STORY)}&temperature=1&dice=1.0")
    settle(page)
    expect(view(page, "Attention of every token")).to_be_visible(timeout=WAIT)
    before = page.evaluate("history.length")
    page.locator(".st-key-generate-end button").click()
    tokens = "__attnviz.views['generate:lines'].tokens[0]"
    first = page.evaluate(tokens)
    lengths = set()
    for _ in range(400):
        lengths.add(page.evaluate(tokens))
        if len(lengths) > 4:
            break
        page.wait_for_timeout(50)
    assert len(lengths) > 4, f"the text grows word by word, from {first}: {lengths}"
    page.locator(".st-key-generate-stop button").click()
    expect(page.locator(".st-key-generate-stop button")).to_be_disabled(timeout=WAIT)
    settle(page)
    wait_for(page, lambda: len(pieces(page)) > 4, True, "the words in the address")
    there = pieces(page)
    assert page.evaluate("history.length") <= before + 1
    page.wait_for_timeout(1000)
    assert pieces(page) == there
