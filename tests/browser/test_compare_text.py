"""The Compare page of sentences in a real browser, on made-up networks: linked panels, deep links, both themes."""

from __future__ import annotations

import re
from collections.abc import Iterator
from urllib.parse import quote

import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from attnviz.ui.compare import maps
from attnviz.ui.compare.choice import MAPS, NATIVE, ROLLOUT
from attnviz.ui.compare.numbers import NOT_SCORED
from tests import made_up_text_bench
from tests.browser.conftest import start_server, stop_server, watched
from tests.browser.reading import expect_chosen, legend, sentence, view

pytestmark = pytest.mark.browser
WAIT = 120_000
TITLES = ("Multi-head attention", "Window attention", "Linear attention", "Linformer")
SHOWN = "model=sentences&variants=mha,window,linear,linformer,xca"


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server whose bench of sentences is made up."""
    folder = tmp_path_factory.mktemp("made-up") / "text-bench"
    made_up_text_bench.write(folder, ["mha", "window", "linear", "linformer", "xca"])
    process, address = start_server(folder / "log.txt", module=("tests.browser.with_bench", str(folder)))
    yield address
    stop_server(process)


@pytest.fixture
def page(browser: Browser, address: str) -> Iterator[Page]:
    """A fresh page, watched: an error in the console or a request to any other host fails the test."""
    with watched(browser, address, wait=WAIT) as opened:
        yield opened


def drawn(page: Page, address: str, settle) -> list[Locator]:
    """Open an address and wait until every panel shows a map; the panels."""
    page.goto(address)
    settle(page)
    panels = [view(page, f"{title}: your text") for title in TITLES]
    for panel in panels:
        expect(sentence(panel)).to_contain_text("“", timeout=WAIT)
    page.wait_for_timeout(500)
    return panels


def word(page: Page, variant: str, token: int) -> dict[str, float]:
    """Where a word lies on the canvas of a panel."""
    ask = "([name, token]) => __attnviz.kinds.text.where(__attnviz.views[name], {token})"
    x, y, w, h = page.evaluate(ask, [f"panel:{variant}", token])
    return {"x": x + w / 2, "y": y + h / 2}


def test_one_word_moves_every_panel_and_a_click_is_kept(page: Page, address: str, settle):
    frames: list[str] = []
    page.on(
        "websocket",
        lambda socket: (
            socket.on("framesent", lambda _: frames.append("sent")),
            socket.on("framereceived", lambda _: frames.append("received")),
        ),
    )
    first, *others = drawn(page, f"{address}/compare?{SHOWN}&text={quote('The dog saw a cat.')}&token=4", settle)
    for panel in (first, *others):
        expect(sentence(panel)).to_contain_text("“a” ")
    assert [("hatched" in (legend(panel).text_content() or "")) for panel in (first, *others)] == [
        False,
        True,
        False,
        False,
    ]
    frames.clear()
    first.scroll_into_view_if_needed()
    first.hover(position=word(page, "mha", 2))
    for panel in (first, *others):
        expect(sentence(panel)).to_contain_text("“dog” ")
    page.mouse.move(0, 0)
    expect(sentence(others[0])).to_contain_text("“a” ")
    others[0].hover(position=word(page, "window", 5))
    expect(sentence(first)).to_contain_text("“cat” ")
    assert frames == []
    first.click(position=word(page, "mha", 2))
    expect(page).to_have_url(re.compile(r"token=2\b"), timeout=WAIT)
    settle(page)
    expect(page.get_by_text("Its network predicts").first).to_contain_text("dog is ", timeout=WAIT)


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_a_link_brings_text_words_matrices_and_the_layers_of_another(page: Page, address: str, settle, theme: str):
    text = "An unbelievably tiny </script><b>dog</b> 💚."
    link = f"{SHOWN}&text={quote(text)}&weights=shared&layer=2&head=3&panels=matrix&leave=true&words=true&n=4096"
    panels = drawn(page, f"{address}/compare?{link}&token=2&embed_options={theme}_theme", settle)
    assert page.evaluate("__attnviz.views['panel:mha'].data.view") == "matrix"
    expect(sentence(panels[0])).to_contain_text("“unbelievably” ")
    expect(page.get_by_text(NOT_SCORED).first).to_be_visible()
    expect(page.get_by_text("since they do not sum to 1")).to_be_visible()
    expect(page.get_by_text("n = 4,096")).to_be_visible()
    expect(page.locator(".katex-error")).to_have_count(0)
    expect_chosen(page, "layer", "2")
    expect_chosen(page, "text", text)
    assert page.evaluate("document.querySelectorAll('b').length") == 0
    assert not page.evaluate("() => document.documentElement.scrollWidth > document.documentElement.clientWidth")


def test_native_maps_and_rollouts_are_one_click_away(page: Page, address: str, settle):
    drawn(page, f"{address}/compare?{SHOWN}", settle)
    page.get_by_text(MAPS[NATIVE], exact=True).click()
    expect(view(page, "Linformer: weights over slots")).to_be_visible(timeout=WAIT)
    expect(view(page, "Linformer: keys in each slot over your text")).to_be_visible(timeout=WAIT)
    page.get_by_text(MAPS[ROLLOUT], exact=True).last.click()
    expect(view(page, "Multi-head attention: your text with its rollout")).to_be_visible(timeout=WAIT)
    expect(page.get_by_text(maps.NO_ROLLOUT).first).to_be_visible()
