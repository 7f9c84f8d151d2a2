"""The Test page in a real browser: clicks and rectangles take tokens away, maps are linked, links open the same."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Locator, Page, expect

from attnviz.ui.core.state import spans
from tests.browser.reading import chosen, expect_chosen, sentence, view, wait_for

pytestmark = pytest.mark.browser
WAIT = 60_000
REMOVED = "Your input with what is removed"


def opened(page: Page, address: str, settle) -> Locator:
    """The view of what is removed, once it is drawn."""
    page.goto(address)
    settle(page)
    canvas = view(page, REMOVED)
    expect(sentence(canvas)).to_contain_text("taken away", timeout=WAIT)
    return canvas


def place(page: Page, canvas: Locator, token: int) -> tuple[float, float]:
    """Where the middle of a token lies on the page."""
    canvas.scroll_into_view_if_needed()
    script = """([name, token]) => {
      const view = Object.values(__attnviz.views).find((one) => one.canvas.ariaLabel?.startsWith(name));
      return __attnviz.kinds[view.data.view].where(view, view.data.view === "text" ? {token} : token); }"""
    x, y, width, height = page.evaluate(script, [REMOVED, token])
    box = canvas.bounding_box()
    assert box is not None
    return box["x"] + x + width / 2, box["y"] + y + height / 2


def removed(page: Page) -> set[int]:
    """The tokens that the address says are removed."""
    return set(spans(chosen(page, "removed") or ""))


def test_a_click_removes_and_a_second_one_brings_back(page: Page, server: str, settle):
    canvas = opened(page, f"{server}/test?choose=picked&removed=100-101", settle)
    page.mouse.click(*place(page, canvas, 120))
    wait_for(page, lambda: removed(page), {100, 101, 120}, "what is removed")
    page.mouse.click(*place(page, canvas, 100))
    wait_for(page, lambda: removed(page), {101, 120}, "what is removed")
    expect(sentence(view(page, "After the change"))).to_contain_text("attends to", timeout=WAIT)


def test_a_rectangle_removes_all_patches_it_touches(page: Page, server: str, settle):
    canvas = opened(page, f"{server}/test?choose=picked&removed=1", settle)
    page.mouse.move(*place(page, canvas, 103))
    page.mouse.down()
    page.mouse.move(*place(page, canvas, 110))
    page.mouse.move(*place(page, canvas, 121), steps=4)
    page.mouse.up()
    wait_for(page, lambda: removed(page), {1, 103, 104, 105, 119, 120, 121}, "what is removed")


def test_a_click_on_a_choice_makes_it_a_pick(page: Page, server: str, settle):
    """The strongest words are taken over as picks, and the one that was clicked changes sides."""
    canvas = opened(page, f"{server}/test?model=sentences", settle)
    page.mouse.click(*place(page, canvas, 2))
    expect_chosen(page, "choose", "picked")
    wait_for(page, lambda: len(removed(page)) > 1, True, "several are removed")
    first = removed(page)
    page.mouse.click(*place(page, canvas, 2))
    wait_for(page, lambda: removed(page) ^ first, {2}, "the word that changes")


def test_maps_before_and_after_are_linked(page: Page, server: str, settle):
    opened(page, f"{server}/test?sample=cat", settle)
    before, after = view(page, "Before the change"), view(page, "After the change")
    expect(sentence(after)).to_contain_text("attends to", timeout=WAIT)
    before.scroll_into_view_if_needed()
    box = before.bounding_box()
    assert box is not None
    before.hover(position={"x": box["width"] * 0.5, "y": box["height"] * 0.6})
    expect(sentence(before)).to_contain_text(re.compile(r"Patch row \d+, column \d+ attends"))
    named = re.search(r"Patch row \d+, column \d+ attends", sentence(before).text_content() or "")
    assert named
    expect(sentence(after)).to_contain_text(named[0])


@pytest.mark.parametrize("change", ["remove", "block"])
def test_the_main_view_stands_above_the_fold(page: Page, server: str, settle, change):
    page.set_viewport_size({"width": 1440, "height": 900})
    page.goto(f"{server}/test?change={change}")
    settle(page)
    canvas = view(page, REMOVED if change == "remove" else "Your input with the blocked keys")
    expect(sentence(canvas)).to_contain_text("taken away", timeout=WAIT)
    for one in (canvas, page.locator(".st-key-test-answer")):
        box = one.bounding_box()
        assert box is not None
        assert box["y"] + box["height"] <= 900
