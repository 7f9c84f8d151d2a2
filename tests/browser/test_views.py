"""The views in a real browser: linked hovering without the server, picks that reach Python, keys, themes."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from PIL import Image
from playwright.sync_api import Browser, expect

from attnviz.paths import ROOT
from benchmarks.server import serving
from tests.browser.views_seen import Seen

pytestmark = pytest.mark.browser
expect.set_options(timeout=60_000)  # the machine may be busy; nothing here measures time
DEMO = Path(__file__).with_name("views_demo.py")
VIEWS = ("picture_view", "matrix_view", "tiles_view", "rows_view", "colours_view", "lines_view", "waiting_view")


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """The demo page, served."""
    with serving(DEMO) as address:
        yield address


@pytest.fixture
def seen(browser: Browser, address: str) -> Iterator[Callable[..., Seen]]:
    """Opens the demo; at the end nothing may have gone wrong."""
    opened: list[tuple] = []

    def start(query: str = "", **options) -> Seen:
        context = browser.new_context(viewport={"width": 1280, "height": 1000}, **options)
        page = context.new_page()
        page.set_default_timeout(60_000)
        opened.append((context, Seen(page, address, VIEWS[:-1])))
        return opened[-1][1].open(query)

    yield start
    for context, found in opened:
        context.close()
        assert found.problems == []


def test_hover_marks_every_view_and_sends_nothing(seen):
    demo = seen()
    before, frames = demo.page.evaluate("({...__attnviz.draws})"), len(demo.wire)
    demo.canvas("picture_view").hover(position=demo.place(10))  # row 2, column 2
    expect(demo.sentence("picture_view")).to_have_text(
        "Patch row 2, column 2 attends to row 2, column 3 with 50.8 %, its strongest key"
    )
    expect(demo.sentence("matrix_view")).to_contain_text("Patch row 2, column 2 attends to row 2, column 3 with 50.8 %")
    expect(demo.sentence("tiles_view")).to_contain_text("patch row 2, column 2")
    expect(demo.sentence("colours_view")).to_have_text("Patch row 2, column 2")
    after = demo.page.evaluate("__attnviz.draws")
    assert all(after[name] > before[name] for name in VIEWS[:-1])
    assert len(demo.wire) == frames
    demo.page.mouse.move(5, 5)
    expect(demo.sentence("picture_view")).to_have_text("Point at or tap a patch to see what it attends to")
    assert len(demo.wire) == frames


def test_one_repaint_a_frame(seen):
    demo = seen()
    moves = """async () => {
      const view = __attnviz.views.picture_view, before = __attnviz.draws.picture_view;
      const box = view.canvas.getBoundingClientRect();
      for (let i = 0; i < 200; i++) {
        const at = {clientX: box.left + 60 + i, clientY: box.top + 60 + i};
        view.canvas.dispatchEvent(new PointerEvent("pointermove", at));
      }
      await new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)));
      return __attnviz.draws.picture_view - before;
    }"""
    assert demo.page.evaluate(moves) <= 2


def test_a_click_selects_and_a_second_deselects(seen):
    demo = seen()
    demo.canvas("picture_view").click(position=demo.place(20))
    expect(demo.page.get_by_text("picked [20]")).to_be_visible()
    demo.page.mouse.move(5, 5)  # the pointer leaves, the pick stays
    expect(demo.sentence("matrix_view")).to_contain_text("Patch row 3, column 4 attends to")
    demo.canvas("picture_view").click(position=demo.place(20))
    expect(demo.page.get_by_text("picked []")).to_be_visible()
    demo.canvas("picture_view").click(position=demo.place(20))  # the same pick again is heard again
    expect(demo.page.get_by_text("picked [20]")).to_be_visible()


def test_prefix_is_a_query_too(seen):
    demo = seen()
    demo.canvas("picture_view").click(position=demo.place(0))
    expect(demo.page.get_by_text("picked [0]")).to_be_visible()
    expect(demo.sentence("picture_view")).to_have_text("CLS attends to row 1, column 1 with 50.8 %, its strongest key")


def test_several_tokens(seen):
    demo = seen("several=1")
    for token in (20, 40, 30, 40):  # a second click takes it away
        demo.canvas("picture_view").click(position=demo.place(token))
    expect(demo.page.get_by_text("picked [20, 30]")).to_be_visible()
    demo.page.mouse.move(5, 5)
    expect(demo.sentence("picture_view")).to_contain_text("2 selected tokens together: 51.6 %")


def test_keyboard(seen):
    demo = seen()
    demo.canvas("picture_view").focus()
    for key in ("ArrowRight", "ArrowRight", "ArrowDown"):
        demo.page.keyboard.press(key)
    expect(demo.sentence("matrix_view")).to_contain_text("Patch row 2, column 2")
    live = demo.view("picture_view").locator("[aria-live=polite]")
    expect(live).to_contain_text("Patch row 2, column 2 attends to row 2, column 3 with 50.8 %")
    expect(demo.view("matrix_view").locator("[aria-live=polite]")).to_be_empty()  # one voice at a time
    demo.page.keyboard.press("Enter")
    expect(demo.page.get_by_text("picked [10]")).to_be_visible()
    demo.page.keyboard.press("Escape")
    demo.page.keyboard.press("Escape")
    expect(demo.page.get_by_text("picked []")).to_be_visible()


def test_tiles_open_a_head(seen):
    demo = seen()
    x, y = demo.page.evaluate("__attnviz.kinds.tiles.where(__attnviz.views.tiles_view, 4)")[:2]
    demo.canvas("tiles_view").click(position={"x": x + 40, "y": y + 40})
    expect(demo.page.get_by_text("cell 1 1")).to_be_visible()
    expect(demo.sentence("picture_view")).to_contain_text("attends to")
    demo.page.keyboard.press("ArrowLeft")
    demo.page.keyboard.press("Enter")
    expect(demo.page.get_by_text("cell 1 0")).to_be_visible()


def test_a_head_opens_before_python_answers(seen):
    demo = seen()
    opened = """async (at) => {
      const {tiles_view, picture_view, matrix_view} = __attnviz.views, sent = tiles_view.send;
      tiles_view.send = () => {}; // Python never hears of it
      __attnviz.kinds.tiles.pick(tiles_view, at);
      tiles_view.send = sent;
      await new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)));
      return [picture_view, matrix_view].map(({maps, index}) => [maps, index]);
    }"""
    assert demo.page.evaluate(opened, {"row": 1, "column": 2}) == [["layer 1", 2]] * 2
    expect(demo.page.get_by_text("cell 0 0")).to_be_visible()
    x, y = demo.page.evaluate("__attnviz.kinds.tiles.where(__attnviz.views.tiles_view, 1)")[:2]
    demo.canvas("tiles_view").click(position={"x": x + 40, "y": y + 40})  # this one it hears, and its answer holds
    expect(demo.page.get_by_text("cell 0 1")).to_be_visible()
    shown = "[__attnviz.views.picture_view, __attnviz.views.matrix_view].map(({maps, index}) => [maps, index])"
    assert demo.page.evaluate(shown) == [["layer 0", 1]] * 2


def test_a_map_still_on_its_way_is_shown_by_its_overview(seen):
    demo = seen()
    opened = """async (at) => {
      const {tiles_view, matrix_view} = __attnviz.views, record = __attnviz.records.get("layer 1");
      const painted = () => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)));
      const said = () => [matrix_view.sentence, matrix_view.words].map((part) => part.textContent);
      const under = () => __attnviz.kinds.matrix.at(matrix_view, 200, 200);
      tiles_view.send = () => {}; // Python never hears of it
      __attnviz.records.delete("layer 1");
      __attnviz.kinds.tiles.pick(tiles_view, at);
      await painted();
      const before = [...said(), under()];
      __attnviz.records.set("layer 1", record);
      __attnviz.signals.dispatchEvent(new CustomEvent("record", {detail: "layer 1"}));
      await painted();
      return [before, said(), under() !== null, matrix_view.maps];
    }"""
    rough, exact, readable, maps = demo.page.evaluate(opened, {"row": 1, "column": 2})
    assert "overview" in rough[0].lower()
    assert "block means" in rough[1]
    assert rough[2] is None  # no number is read off a mean
    assert "overview" not in exact[0].lower()
    assert "block means" not in exact[1]
    assert readable
    assert maps == "layer 1"


def test_matrix_reads_query_and_key(seen):
    demo = seen()
    x, y, w, h = demo.page.evaluate("__attnviz.kinds.matrix.where(__attnviz.views.matrix_view)")
    at = {"x": x + w * 11.5 / 65, "y": y + h * 10.5 / 65}  # query 10, key 11
    demo.canvas("matrix_view").hover(position=at)
    expect(demo.sentence("matrix_view")).to_contain_text("Patch row 2, column 2 attends to row 2, column 3 with 50.8 %")
    expect(demo.sentence("picture_view")).to_contain_text(
        "Patch row 2, column 2 attends to row 2, column 3 with 50.8 %"
    )
    demo.canvas("matrix_view").click(position=at)
    expect(demo.page.get_by_text("picked [10]")).to_be_visible()


def word(demo, side: str, index: int) -> dict[str, float]:
    """Where a word of the two columns lies."""
    where = "(view, at) => __attnviz.kinds.lines.where(__attnviz.views.lines_view, at)"
    x, y = demo.canvas("lines_view").evaluate(where, {"side": side, "index": index})
    return {"x": x, "y": y}


def drawn_lines(demo) -> list[list[float]]:
    """The lines on the canvas as [weight, query, key, head]."""
    return demo.page.evaluate("""() => {
      const {lines} = __attnviz.kinds, view = __attnviz.views.lines_view, record = lines.record(view);
      return lines.lines(view, record, lines.heads(view, record), lines.asked(view, record)).shown }""")


def test_words_in_two_columns_show_what_attends_to_what(seen):
    demo = seen()
    every = drawn_lines(demo)
    assert len(every) == 25  # of 32 entries, those of 8 % and more; two of them are the same word
    assert [line[0] for line in every] == sorted(line[0] for line in every)
    demo.wire.clear()
    demo.canvas("lines_view").hover(position=word(demo, "query", 2))
    expect(demo.sentence("lines_view")).to_have_text("Head 1: “sat” attends to “cat” with 80.0 %, its strongest key")
    assert {int(line[1]) for line in drawn_lines(demo)} == {2}
    demo.canvas("lines_view").hover(position=word(demo, "key", 3))
    expect(demo.sentence("lines_view")).to_have_text("“the” receives most, 100.0 %, from “the” (head 2)")
    assert {int(line[2]) for line in drawn_lines(demo)} == {3}  # the last word, not the first, which reads the same
    assert demo.wire == []
    demo.canvas("lines_view").click(position=word(demo, "query", 1))
    expect(demo.page.get_by_text("picked [1]")).to_be_visible()
    demo.page.mouse.move(5, 5)
    expect(demo.sentence("lines_view")).to_have_text("Head 2: “cat” attends to “the” with 80.0 %, its strongest key")
    assert not demo.problems


def test_two_columns_by_keyboard_and_with_chosen_heads(seen):
    demo = seen("heads=1")
    demo.canvas("lines_view").focus()
    for key in ("ArrowDown", "ArrowDown"):
        demo.page.keyboard.press(key)
    expect(demo.sentence("lines_view")).to_have_text("Head 2: “cat” attends to “the” with 80.0 %, its strongest key")
    assert {int(line[3]) for line in drawn_lines(demo)} == {1}
    demo.page.keyboard.press("Enter")
    expect(demo.page.get_by_text("picked [1]")).to_be_visible()
    demo.page.keyboard.press("ArrowRight")
    expect(demo.sentence("lines_view")).to_contain_text("“cat” receives most, 30.0 %, from “sat”")
    demo = seen("heads=")
    expect(demo.sentence("lines_view")).to_have_text("Choose a head")


def test_rows_of_numbers_say_what_they_are(seen):
    demo = seen()
    demo.canvas("picture_view").hover(position=demo.place(6))
    x, y = demo.page.evaluate("__attnviz.kinds.tiles.where(__attnviz.views.rows_view, 0)")[:2]
    demo.canvas("rows_view").hover(position={"x": x + 40, "y": y + 3})
    expect(demo.sentence("rows_view")).to_contain_text("of the relevance")
    expect(demo.view("rows_view").locator(".words")).to_contain_text("colour scale: shared")


def test_touch(seen):
    demo = seen("several=1", has_touch=True)
    for token in (20, 30):
        spot, box = demo.place(token), demo.canvas("picture_view").bounding_box()
        demo.page.touchscreen.tap(box["x"] + spot["x"], box["y"] + spot["y"])
    expect(demo.page.get_by_text("picked [20, 30]")).to_be_visible()


def test_dark_theme_and_sharp_pixels(seen):
    demo = seen("embed=true&embed_options=dark_theme", device_scale_factor=2)
    assert demo.page.evaluate("__attnviz.views.picture_view.ink.dark")
    width, shown = demo.canvas("picture_view").evaluate("c => [c.width, c.clientWidth]")
    assert width == 2 * shown
    outside = demo.pixel("picture_view", demo.place(9)["x"] - 60, demo.place(9)["y"])
    assert max(outside[:3]) < 140  # what lies outside of the crop fades into the dark ground


def test_waiting_view_is_calm(seen):
    demo = seen()
    expect(demo.sentence("waiting_view")).to_have_text("Loading")


def test_nothing_moves_while_records_arrive(browser: Browser, address: str):
    page = browser.new_page(viewport={"width": 1280, "height": 1000})
    found = Seen(page, address, VIEWS[:-1]).open()
    expected, shown = page.evaluate("""() => {
      const view = __attnviz.views.picture_view;
      return [view.root.expected(view.width), view.height];
    }""")
    page.close()
    assert abs(expected - shown) <= 2
    assert found.problems == []


def test_download_is_a_picture(seen, tmp_path: Path):
    demo = seen()
    with demo.page.expect_download() as waiting:
        demo.view("picture_view").locator(".save").click()
    assert waiting.value.suggested_filename == "the-house.png"
    waiting.value.save_as(tmp_path / "view.png")
    with Image.open(tmp_path / "view.png") as picture:
        assert min(picture.size) > 200


def test_text_comes_only_by_text_content():
    folder = ROOT / "attnviz" / "views"
    for path in folder.glob("*.js"):
        text = path.read_text()
        assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(", text), path.name
        assert set(re.findall(r"#[0-9a-fA-F]{3,8}\b", text)) <= {"#ffffff", "#000000", "#808080"}, path.name
