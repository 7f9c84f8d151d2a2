"""Details of the views in a real browser: masked patches, what a download says, keys that are the browser's own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import Browser, expect

from benchmarks.server import serving
from tests.browser.views_seen import Seen

pytestmark = pytest.mark.browser
expect.set_options(timeout=60_000)  # the machine may be busy; nothing here measures time
DEMO = Path(__file__).with_name("views_demo.py")
VIEWS = ("picture_view", "matrix_view", "tiles_view", "lines_view")
QUERY, MASKED, SEEN = 30, 3, 7  # tokens; both keys lie in the sky, which is all of one colour

# From here on the first head's query may not look at the keys 2 to 5 and CLS, and the small maps lie over the picture.
HIDE = """query => {
  const record = __attnviz.records.get("layer 0"), start = query * record.keys.count;
  for (const key of [0, 2, 3, 4, 5]) record.cells[start + key] = 0;
  Object.assign(record, {holes: true, hides: true});
  Object.assign(__attnviz.views.tiles_view.data, {picture: "picture", drop_prefix: false});
}"""
# What is written on a sheet that is on no page: words, and where they end as a share of the sheet.
LISTEN = """() => {
  const {prototype} = CanvasRenderingContext2D, {fillText} = prototype;
  globalThis.sheet = [];
  prototype.fillText = function (...told) {
    const [text, x, y, room = Infinity] = told, {canvas} = this;
    const end = this.getTransform().transformPoint({x: x + Math.min(room, this.measureText(text).width), y});
    if (!canvas.isConnected) sheet.push([text, end.x / canvas.width, end.y / canvas.height]);
    fillText.apply(this, told);
  };
}"""


@pytest.fixture
def demo(browser: Browser) -> Iterator[Seen]:
    """The demo page; at the end nothing may have gone wrong."""
    with serving(DEMO) as address:
        page = browser.new_page(viewport={"width": 1280, "height": 1000})
        page.set_default_timeout(60_000)
        demo = Seen(page, address, VIEWS).open()
        yield demo
        page.close()
        assert demo.problems == []


def unevenness(demo: Seen, name: str, box: list[float]) -> int:
    """How much the brightness differs inside of a box of a canvas."""
    look = """(canvas, [x, y, w, h]) => [...canvas.getContext("2d").getImageData(
      ...[x + 0.2 * w, y + 0.2 * h, 0.6 * w, 0.6 * h].map((at) => Math.round(at * devicePixelRatio))).data]"""
    pixels = np.array(demo.canvas(name).evaluate(look, box)).reshape(-1, 4)
    assert pixels[:, 3].min() == 255
    return int(np.ptp(pixels[:, 0]))


def test_masked_patches_are_hatched_over_a_picture(demo: Seen):
    demo.page.evaluate(HIDE, QUERY)
    demo.canvas("picture_view").hover(position=demo.place(QUERY))
    for name in ("picture_view", "tiles_view"):
        expect(demo.view(name).locator(".words")).to_contain_text("hatched: masked")
    demo.page.wait_for_timeout(300)
    where = "token => __attnviz.kinds.picture.where(__attnviz.views.picture_view, token)"
    cls, masked, seen = (demo.page.evaluate(where, token) for token in (0, MASKED, SEEN))
    assert unevenness(demo, "picture_view", [*cls[:2], 10, cls[3]]) > 5  # beside the letters
    assert unevenness(demo, "picture_view", masked) > 5
    assert unevenness(demo, "picture_view", seen) <= 5
    x, y, side, _ = demo.page.evaluate("__attnviz.kinds.tiles.where(__attnviz.views.tiles_view, 0)")
    wide = (side - 6) / 8  # right of the bar of the prefix
    masked, seen = ([x + 6 + wide * (key - 1), y, wide, side / 8] for key in (MASKED, SEEN))
    assert unevenness(demo, "tiles_view", masked) > 5
    assert unevenness(demo, "tiles_view", seen) <= 5
    assert unevenness(demo, "tiles_view", [x, y, 5, side]) > 5  # CLS, in the bar


@pytest.mark.parametrize("name", ["lines_view", "matrix_view"])
def test_a_download_says_all_that_the_view_says(name: str, demo: Seen):
    demo.page.set_viewport_size({"width": 390, "height": 900})
    demo.page.wait_for_function("name => __attnviz.views[name].width < 400", arg=name)
    demo.page.evaluate(LISTEN)
    with demo.page.expect_download():
        demo.view(name).locator(".save").click()
    said = demo.page.evaluate("sheet")
    text = " ".join(words for words, _, _ in said)
    note = demo.view(name).locator(".words").text_content()
    assert ("lines below 8.0 % left out" if name == "lines_view" else "square root") in note
    assert demo.sentence(name).text_content() in text
    assert note in text
    assert max(right for _, right, _ in said) <= 1
    assert max(down for _, _, down in said) <= 1


def test_keys_of_the_browser_are_left_to_it(demo: Seen):
    press = """(canvas, held) => !canvas.dispatchEvent(
      new KeyboardEvent("keydown", {key: "ArrowLeft", bubbles: true, cancelable: true, ...held}))"""
    canvas = demo.canvas("picture_view")
    assert canvas.evaluate(press, {})
    assert canvas.evaluate(press, {"shiftKey": True})
    for key in ("altKey", "ctrlKey", "metaKey"):
        assert not canvas.evaluate(press, {key: True})
