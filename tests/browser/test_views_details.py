"""Details of the views in a real browser: masked patches, downloads, keys and pointer, what is on its way."""

from __future__ import annotations

import re
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
  Object.assign(record, {holes: true, hasMasked: true});
  Object.assign(__attnviz.views.tiles_view.data, {picture: "picture", hide_special: false});
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


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """The demo page, served."""
    with serving(DEMO) as address:
        yield address


@pytest.fixture
def demo(browser: Browser, address: str) -> Iterator[Seen]:
    """The demo page; at the end nothing may have gone wrong."""
    page = browser.new_page(viewport={"width": 1280, "height": 1000})
    page.set_default_timeout(60_000)
    demo = Seen(page, address, VIEWS).open()
    yield demo
    page.close()
    assert demo.problems == []


PAINTED = "const painted = () => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)));"
# Python names maps whose record has come, but is not opened yet.
COMING = f"""async () => {{
  {PAINTED}
  const {{views: {{matrix_view, picture_view}}, records, signals, draws}} = __attnviz, {{canvas}} = matrix_view;
  const shown = () => [matrix_view.maps, canvas.toDataURL(), matrix_view.sentence.textContent];
  const tell = (name, detail) => signals.dispatchEvent(new CustomEvent(name, {{detail}}));
  const {{peaks, sums, rests, best, cells, ...known}} = records.get("layer 1");
  const payload = new Blob([...peaks, sums, rests, ...best, cells]).stream();
  const deflate = payload.pipeThrough(new CompressionStream("deflate"));
  const packed = new Uint8Array(await new Response(deflate).arrayBuffer());
  const before = shown(), record = {{...known, name: "coming", packed, ready: false, opening: null}};
  records.set("coming", record);
  matrix_view.data = {{...matrix_view.data, maps: "coming"}};
  tell("hover");
  await painted();
  const during = shown(), drawn = draws.picture_view;
  await __attnviz.open(record);
  await painted();
  return [before, during, shown(), draws.picture_view - drawn];
}}"""
SMOOTH = f"""async () => {{ // a picture of 8 x 8: its left half is black, its right half white
  {PAINTED}
  const record = __attnviz.records.get("picture"), view = __attnviz.views.picture_view;
  const halves = Uint8ClampedArray.from({{length: 256}}, (_, i) => (i % 4 === 3 || i % 32 > 15 ? 255 : 0));
  Object.assign(record, {{picture: await createImageBitmap(new ImageData(halves, 8)), greyPicture: null}});
  __attnviz.signals.dispatchEvent(new CustomEvent("hover"));
  await painted();
  const [x, y, w, h] = __attnviz.kinds.picture.where(view, 5);
  return [...view.context.getImageData((x - 5) * view.ratio, (y + h / 2) * view.ratio, 1, 1).data];
}}"""
GLANCE = f"""async () => {{ // the second row of the grid is not there yet
  {PAINTED}
  const {{views: {{tiles_view: view}}, records, kinds, signals}} = __attnviz, record = records.get("layer 1");
  view.data = {{...view.data, mode: "matrix"}};
  records.delete("layer 1");
  signals.dispatchEvent(new CustomEvent("hover"));
  await painted();
  const light = (at, row, column) => {{
    const [x, y, side] = kinds.tiles.where(view, at), place = (i) => ((i + 0.5) / 16) * side * view.ratio;
    const [left, top] = [x * view.ratio + place(column), y * view.ratio + place(row)];
    return view.context.getImageData(left, top, 1, 1).data[1];
  }};
  const near = (at, row) => Math.max(light(at, row, row), light(at, row, row + 1)); // the token 2 to 4 further on
  const found = [3, 4, 5].map((at) => [near(at, 5), near(at, 10), light(at, 2, 10), light(at, 14, 6)]);
  records.set("layer 1", record);
  for (const scale of ["log", "rank", "linear"]) {{
    view.data = {{...view.data, scale}};
    signals.dispatchEvent(new CustomEvent("hover"));
    await painted();
  }}
  return [found, ...["layer 0", "layer 1", "glance"].map((name) => records.get(name).images.size)];
}}"""


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
    assert ("minimum weight 8.0 %" if name == "lines_view" else "square root") in note
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


def test_the_old_map_stays_until_the_next_has_come(demo: Seen):
    demo.canvas("picture_view").hover(position=demo.place(QUERY))
    expect(demo.sentence("matrix_view")).to_contain_text("attends to")
    before, during, after, others = demo.page.evaluate(COMING)
    assert before[0] == "layer 0"
    assert during == before
    assert after[0] == "coming"
    assert after[1] != before[1]
    assert others == 0  # a view that does not show these maps is left alone


def test_pointer_and_keys_take_turns(demo: Seen):
    canvas = demo.canvas("picture_view")
    canvas.focus()
    demo.page.keyboard.press("ArrowRight")
    canvas.hover(position=demo.place(QUERY))
    demo.page.keyboard.down("Enter")
    demo.page.keyboard.down("Enter")  # held down, it repeats
    expect(demo.page.get_by_text(f"picked [{QUERY}]")).to_be_visible()
    tip = "name => __attnviz.views[name].tip.matches(':popover-open')"
    assert demo.page.evaluate(tip, "picture_view")
    demo.page.mouse.wheel(0, 100)
    demo.page.wait_for_function(f"!({tip})('picture_view')")
    first = """() => {
      const view = __attnviz.views.matrix_view, {keys} = __attnviz.records.get("layer 0");
      keys.count = 10; // fewer keys than queries
      return __attnviz.kinds.matrix.move(view, null, [0, 1]) }"""
    assert demo.page.evaluate(first) == {"query": QUERY, "key": 9}
    assert canvas.evaluate("(canvas) => getComputedStyle(canvas).touchAction") == "pan-y pinch-zoom"


def test_what_is_worked_out_is_not_said_like_weights(demo: Seen):
    say = "type => { __attnviz.records.get('layer 0').map_type = type }"
    said_of = {"effective": r"effectively attends to .* with 50\.8 %", "context scores": r"\(context scores\)"}
    for map_type, said in said_of.items():
        demo.page.evaluate(say, map_type)
        demo.canvas("picture_view").hover(position=demo.place(QUERY))
        expect(demo.sentence("picture_view")).to_contain_text(re.compile(said))
        demo.page.mouse.move(5, 5)


def test_pixels_of_small_pictures_small_maps_and_other_screens(demo: Seen):
    found, *looks = demo.page.evaluate(GLANCE)
    assert all(min(near) > 2 * max(far) for near, far in ((tile[:2], tile[2:]) for tile in found)), found
    assert max(looks) <= 2
    assert max(demo.page.evaluate(SMOOTH)[:3]) < 10
    client = demo.page.context.new_cdp_session(demo.page)
    screen = {"width": 1280, "height": 1001, "deviceScaleFactor": 2, "mobile": False}  # as wide as before
    client.send("Emulation.setDeviceMetricsOverride", screen)
    twice = "(({canvas}) => canvas.width === 2 * canvas.clientWidth)"
    demo.page.wait_for_function(f"['picture_view', 'lines_view'].every((name) => {twice}(__attnviz.views[name]))")
