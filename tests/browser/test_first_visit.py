"""The first visit to every page: nothing moves while it loads, the main view is in sight, phones need no scrolling."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import pytest
from playwright.sync_api import Browser, Page

from attnviz.ui.shell.menu import MENU
from tests.browser.conftest import WAIT, settle

pytestmark = pytest.mark.browser
SHIFT = 0.1  # what web.dev/articles/cls calls good
TOP, WIDE, LOW = 360, (1440, 900), (1280, 720)
# Pixels from above to the main view; where it is more, several rows of choices decide what there is to see.
TOPS = {"compare": 470, "translate": 450, "generate": 370}
LOWER = 100  # more in a smaller window, where lines break
PHONE = (390, 844)

WATCH = """
globalThis.shifts = [];
new PerformanceObserver((list) => {
  for (const entry of list.getEntries()) if (!entry.hadRecentInput) shifts.push(entry.value);
}).observe({type: "layout-shift", buffered: true});
"""
VIEW_TOP = """() => {
  const main = document.querySelector("[data-testid=stMain]"), tops = [];
  const look = (root) => {
    for (const node of root.querySelectorAll("*")) {
      if (node.matches("canvas:not(.bar), .js-plotly-plot")) {
        const box = node.getBoundingClientRect();
        if (box.height >= 30 && box.width >= 150) tops.push(box.top + main.scrollTop);
      }
      if (node.shadowRoot) look(node.shadowRoot);
    }
  };
  look(main);
  return Math.min(...tops);
}"""
HIDDEN = """() => [...document.querySelectorAll("[data-testid=stMain] :is(h1, h2, h3)")]
  .filter((heading) => getComputedStyle(heading).visibility === "hidden").map((heading) => heading.textContent)"""
OVERFLOW = """() => {
  const main = document.querySelector("[data-testid=stMain]"), page = document.documentElement;
  return [page.scrollWidth - innerWidth, main.scrollWidth - main.clientWidth];
}"""


class Visit(NamedTuple):
    """What was measured on one page."""

    name: str
    shift: float
    tops: dict[tuple[int, int], float]
    overflow: list[int]
    hidden: list[str]  # headings that wait for what stands above them, once the page has settled


def resize(page: Page, size: tuple[int, int]) -> None:
    """Another window; views draw themselves anew for it."""
    page.set_viewport_size({"width": size[0], "height": size[1]})
    page.wait_for_timeout(600)
    settle(page)


@pytest.fixture(scope="module", params=MENU)
def visit(request: pytest.FixtureRequest, browser: Browser, server: str) -> Iterator[Visit]:
    """A page opened by somebody who has seen none before, then measured in smaller windows."""
    context = browser.new_context(viewport={"width": WIDE[0], "height": WIDE[1]})
    page = context.new_page()
    page.set_default_timeout(WAIT)
    page.add_init_script(WATCH)
    place = "" if request.param == next(iter(MENU)) else request.param
    page.goto(f"{server}/{place}")
    page.get_by_role("heading", level=1).first.wait_for()
    settle(page)
    page.wait_for_timeout(500)
    shift, tops = sum(page.evaluate("shifts")), {WIDE: page.evaluate(VIEW_TOP)}
    hidden = page.evaluate(HIDDEN)
    resize(page, LOW)
    tops[LOW] = page.evaluate(VIEW_TOP)
    resize(page, PHONE)
    yield Visit(request.param, shift, tops, page.evaluate(OVERFLOW), hidden)
    context.close()


def test_nothing_moves_while_a_page_loads(visit: Visit):
    assert visit.shift < SHIFT


def test_nothing_waits_for_what_is_there(visit: Visit):
    assert visit.hidden == []


def test_the_main_view_is_in_sight(visit: Visit):
    limit = TOPS.get(visit.name, TOP)
    assert visit.tops[WIDE] <= limit
    assert visit.tops[LOW] <= limit + LOWER


def test_a_phone_scrolls_no_page_sideways(visit: Visit):
    assert max(visit.overflow) <= 0


def test_what_moves_is_seen(browser: Browser):
    page = browser.new_page()
    page.add_init_script(WATCH)
    page.goto("data:text/html,<h1>A title</h1><p style='height:300px;background:gray'>Words")
    page.wait_for_timeout(600)
    page.evaluate("document.body.prepend(Object.assign(document.createElement('div'), {style: 'height: 300px'}))")
    page.wait_for_timeout(600)
    shift = page.evaluate("shifts.reduce((sum, one) => sum + one, 0)")
    page.close()
    assert shift > SHIFT
