"""The views of text in a real browser: a sentence, lines, a matrix with words, arcs, tiles, all linked."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Browser, expect

from benchmarks.server import serving
from tests.browser.views_seen import Seen

pytestmark = pytest.mark.browser
expect.set_options(timeout=60_000)  # the machine may be busy; nothing here measures time
DEMO = Path(__file__).with_name("views_text_demo.py")
VIEWS = ("text", "arcs", "matrix", "lines", "tiles", "row", "cross text", "cross lines", "target")
DARK = "embed=true&embed_options=dark_theme"
PUPPY, BARK, ED, GRAND, MOTHER, COMMA = 2, 3, 4, 7, 8, 9  # tokens of the demo's sentence; CLS is 0


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """The demo page, served."""
    with serving(DEMO) as address:
        yield address


@pytest.fixture(scope="module")
def demos(browser: Browser, address: str) -> Iterator[Callable[..., Seen]]:
    """Opens the demo; the same page for the same question, unless a test picks something and asks for a `fresh` one."""
    opened: dict[str, Seen] = {}

    def start(query: str = "", *, fresh: bool = False, **options) -> Seen:
        name = f"{query} {options} {len(opened) if fresh else ''}"
        if name not in opened:
            page = browser.new_context(viewport={"width": 1280, "height": 1400}, **options).new_page()
            page.set_default_timeout(60_000)
            opened[name] = Seen(page, address, VIEWS)
            opened[name].open(query)
        opened[name].page.mouse.move(5, 5)
        return opened[name]

    yield start
    for demo in opened.values():
        demo.page.context.close()


@pytest.fixture
def seen(demos: Callable[..., Seen]) -> Iterator[Callable[..., Seen]]:
    """Pages of the views; at the end none of them may have logged an error."""
    used: list[Seen] = []

    def start(query: str = "", **options) -> Seen:
        used.append(demos(query, **options))
        return used[-1]

    yield start
    for demo in used:
        assert demo.problems == []


def token(index: int) -> dict[str, int]:
    """What a view of running text calls a place."""
    return {"token": index}


def hover(demo: Seen, name: str, at: object) -> None:
    """Rest the pointer on a place of a view."""
    demo.canvas(name).hover(position=demo.where(name, at))


def legend(demo: Seen, name: str):
    """What a view says below its canvas."""
    return demo.view(name).locator(".words")


def boxes(demo: Seen, name: str = "text") -> list[list[float]]:
    """Where every token lies."""
    return demo.page.evaluate("name => __attnviz.views[name].layout.places", name)


def lines(demo: Seen) -> dict[tuple[int, int, int], float]:
    """The lines that are drawn: weight by (query, key, head)."""
    shown = demo.page.evaluate("""() => {
      const {lines} = __attnviz.kinds, view = __attnviz.views.lines, record = lines.record(view);
      return lines.lines(view, record, lines.heads(view, record), lines.asked(view, record)).shown }""")
    return {(query, key, head): weight for weight, query, key, head in shown}


def weights(demo: Seen, name: str = "all") -> np.ndarray:
    """What the browser knows of the maps [head query key]; masked is NaN."""
    cells, peaks, special, shape, zero, top, holes = demo.page.evaluate(
        """name => {
      const {cells, peaks, keys: {special}, shape, zero, top, holes} = __attnviz.records.get(name);
      return [[...cells], peaks.map((part) => [...part]), [...special], shape, zero, top, holes] }""",
        name,
    )
    cells = np.array(cells, float).reshape(shape)
    values = (cells - zero) * np.array(peaks).reshape(2, *shape[:2]).transpose(1, 2, 0)[..., special] / top
    return np.where(holes & (cells == 0), np.nan, values)


def test_a_hovered_word_colours_the_sentence_and_is_marked_everywhere(seen):
    demo = seen()
    expect(demo.sentence("text")).to_have_text("Point at or tap a word to see what it attends to")
    before, frames = demo.page.evaluate("({...__attnviz.draws})"), len(demo.wire)
    hover(demo, "text", token(BARK))
    said = "“bark” attends to “puppy” with 51.1 %, its strongest key"
    for name in ("text", "matrix"):
        expect(demo.sentence(name)).to_have_text(said)
    expect(demo.view("text").locator(".tip")).to_have_text(said)
    expect(demo.sentence("arcs")).to_contain_text("“bark” attends to")
    expect(demo.sentence("lines")).to_contain_text("“bark” attends to")
    expect(demo.sentence("tiles")).to_contain_text("What “bark” attends to in each head")
    after = demo.page.evaluate("__attnviz.draws")
    assert all(after[name] > before[name] for name in VIEWS)
    assert len(demo.wire) == frames
    yellow, (x, y, _, _) = [253, 231, 37], boxes(demo)[PUPPY]  # the end of viridis
    assert np.abs(np.array(demo.pixel("text", x + 3, y + 14)[:3]) - yellow).max() < 12


def test_picks_in_the_sentence_reach_python_and_add_up(seen):
    demo = seen("several=1", fresh=True)
    demo.canvas("text").click(position=demo.where("text", token(PUPPY)))
    expect(demo.page.get_by_text("picked [2]")).to_be_visible()
    demo.canvas("text").click(position=demo.where("text", token(MOTHER)), modifiers=["Shift"])
    expect(demo.page.get_by_text("picked [2, 8]")).to_be_visible()
    demo.page.mouse.move(5, 5)
    both = weights(demo)[0, [PUPPY, MOTHER]].sum(0)
    expect(demo.sentence("text")).to_contain_text(f"2 selected tokens together: {100 * both.max():.1f} % to ")
    demo.canvas("arcs").click(position=demo.where("arcs", token(GRAND)))
    expect(demo.page.get_by_text("picked [7]")).to_be_visible()


def test_a_sentence_by_keyboard(seen):
    demo = seen("tokens=64", fresh=True)
    demo.canvas("text").focus()
    for key in ("ArrowRight", "ArrowRight", "ArrowRight", "ArrowRight"):
        demo.page.keyboard.press(key)
    expect(demo.sentence("matrix")).to_contain_text("“bark” attends to")
    expect(demo.view("text").locator("[aria-live=polite]")).to_contain_text("“bark” attends to")
    demo.page.keyboard.press("ArrowDown")
    below = demo.page.evaluate("__attnviz.views.text.cursor.token")
    (x, y, w, _), (left, top, wide, _) = boxes(demo)[BARK], boxes(demo)[below]
    assert top > y
    assert abs((left + wide / 2) - (x + w / 2)) < 60
    demo.page.keyboard.press("ArrowUp")
    demo.page.keyboard.press("Enter")
    expect(demo.page.get_by_text(f"picked [{BARK}]")).to_be_visible()
    demo.page.keyboard.press("Escape")
    demo.page.keyboard.press("Escape")
    expect(demo.page.get_by_text("picked []")).to_be_visible()


def test_tokens_of_a_word_touch_and_words_do_not(seen):
    places = boxes(seen())
    right = [x + w for x, _, w, _ in places]
    assert places[ED][0] == right[BARK]
    assert places[MOTHER][0] == right[GRAND]
    assert places[BARK][0] - right[PUPPY] >= 4
    assert places[COMMA][0] - right[MOTHER] < 4  # signs stand close


CONTRAST = """() => {
  const view = __attnviz.views.text, {context, ratio, layout} = view, found = [];
  const light = ([r, g, b]) => [r, g, b].map((part) => part / 255)
    .map((part) => (part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4))
    .reduce((sum, part, i) => sum + part * [0.2126, 0.7152, 0.0722][i], 0);
  for (const [x, y, w, h] of layout.places) {
    const {data} = context.getImageData((x + 6) * ratio, (y + 6) * ratio, (w - 12) * ratio, (h - 12) * ratio);
    const counts = new Map();
    for (let i = 0; i < data.length; i += 4) {
      const name = [...data.slice(i, i + 3)].join();
      counts.set(name, (counts.get(name) ?? 0) + 1);
    }
    const ground = light([...counts].reduce((a, b) => (b[1] > a[1] ? b : a))[0].split(",").map(Number));
    const ratios = [...counts.keys()].map((name) => light(name.split(",").map(Number)))
      .map((own) => (Math.max(own, ground) + 0.05) / (Math.min(own, ground) + 0.05));
    found.push(Math.max(...ratios));
  }
  return found }"""


@pytest.mark.parametrize("look", ["causal=1", f"signed=1&causal=1&{DARK}"])
def test_letters_can_be_read_on_every_colour(seen, look):
    demo = seen(look, device_scale_factor=3)  # large enough for some pixels to be all letter
    assert demo.page.evaluate("__attnviz.views.text.ink.dark") == ("dark" in look)
    for index in (BARK, MOTHER, 15):
        hover(demo, "text", token(index))
        expect(demo.sentence("text")).not_to_have_text("Point at or tap a word to see what it attends to")
        demo.page.wait_for_timeout(100)
        ratios = demo.page.evaluate(CONTRAST)
        outlined = {index, demo.page.evaluate("__attnviz.views.text.hit?.token")}
        assert min(r for i, r in enumerate(ratios) if i not in outlined | {COMMA, 14}) >= 4.5


def test_masked_words_are_no_zeros_anywhere(seen):
    demo = seen("causal=1&heads=12&min_weight=0")
    known = weights(demo)
    assert np.isnan(known[0, BARK, MOTHER])
    expect(legend(demo, "matrix")).to_contain_text("hatched: masked")
    x, y, w, h = demo.page.evaluate("__attnviz.kinds.matrix.where(__attnviz.views.matrix)")
    at = {"x": x + w * (MOTHER + 0.5) / 16, "y": y + h * (BARK + 0.5) / 16}
    demo.canvas("matrix").hover(position=at)
    masked = "“bark” to “…mother” is masked: this query may not attend to that key"
    expect(demo.sentence("matrix")).to_have_text(masked)
    expect(demo.sentence("text")).to_have_text(masked)
    expect(legend(demo, "text")).to_contain_text("hatched: masked")
    assert {key for _, key, _ in lines(demo)} == set(range(BARK + 1))
    hover(demo, "lines", {"side": "key", "index": MOTHER})
    assert {query for query, _, _ in lines(demo)} == set(range(MOTHER, 16))
    hover(demo, "text", token(BARK))  # zero has the scale's first colour, masked has none of its colours
    ground = demo.page.evaluate(
        """([x, y]) => {
      const {context, ratio} = __attnviz.views.text;
      const {data} = context.getImageData((x + 2) * ratio, (y + 2) * ratio, 8, 4), grey = [];
      for (let i = 0; i < data.length; i += 4) {
        const part = [...data.slice(i, i + 3)];
        grey.push(Math.max(...part) - Math.min(...part));
      }
      return Math.max(...grey) }""",
        boxes(demo)[MOTHER][:2],
    )
    assert ground < 30


def test_without_a_mask_nothing_is_called_masked(seen):
    demo = seen()
    hover(demo, "text", token(BARK))
    expect(demo.sentence("text")).to_contain_text("“bark” attends to")
    for name in ("text", "matrix", "tiles"):
        expect(legend(demo, name)).not_to_contain_text("masked")


def test_scores_are_signed_and_lines_say_why_there_are_none(seen):
    demo = seen("signed=1&causal=1")
    hover(demo, "text", token(BARK))
    expect(demo.sentence("text")).to_contain_text(f"“bark” to “puppy”: scores {weights(demo)[0, BARK, PUPPY]:.3g}")
    expect(legend(demo, "text")).to_contain_text("hatched: masked")
    largest = f"{np.nanmax(np.abs(weights(demo))):.3g}"  # all tiles share one range
    expect(demo.view("tiles").locator(".number")).to_have_text([f"−{largest}", largest])
    expect(demo.sentence("lines")).to_have_text("Lines need rows that sum to 1")
    expect(demo.sentence("arcs")).to_have_text("Arcs need one text and rows that sum to 1")


def test_special_tokens_can_be_left_out(seen):
    demo = seen("drop=1")
    hover(demo, "text", token(BARK))
    expect(demo.sentence("text")).to_contain_text("“bark” attends to")
    rest = weights(demo)[0, BARK].copy()
    left = rest[[0, 15]].sum()
    said = re.fullmatch("“bark” attends to “puppy” with (.*) %, its strongest key", demo.sentence("text").inner_text())
    out = re.search(r"CLS and SEP left out \((.*) %\), rest rescaled", legend(demo, "text").inner_text())
    assert said
    assert out
    assert float(said[1]) == pytest.approx(100 * rest[PUPPY] / (1 - left), abs=0.5)  # bytes carry no more
    assert float(out[1]) == pytest.approx(100 * left, abs=0.5)
    drawn = lines(demo)
    assert not {key for _, key, _ in drawn} & {0, 15}
    assert drawn[BARK, PUPPY, 0] == pytest.approx(rest[PUPPY] / (1 - left), rel=0.01)


@pytest.mark.parametrize(("top_k", "top_p", "min_weight"), [(2, 1, 0), (0, 0.6, 0), (3, 0.9, 0.05), (0, 1, 0.1)])
def test_lines_are_the_strongest_of_each_row(seen, top_k, top_p, min_weight):
    demo = seen(f"heads=12&top_k={top_k}&top_p={top_p}&min_weight={min_weight}")
    known, expected = weights(demo), set()
    for head, query in itertools.product(range(12), range(16)):
        row = known[head, query]
        order = np.argsort(-row, kind="stable")
        if top_p < 1:
            order = order[: np.searchsorted(row[order].cumsum(), top_p * row.sum() - 1e-9) + 1]
        if top_k:
            order = order[:top_k]
        expected |= {(query, int(key), head) for key in order if row[key] >= max(min_weight, 1e-9)}
    assert set(lines(demo)) == expected
    assert 12 * 16 <= len(expected) < 12 * 16 * 16
    hover(demo, "lines", {"side": "key", "index": 0})
    assert set(lines(demo)) == {line for line in expected if line[1] == 0}


def ink(demo: Seen) -> int:
    """How many pixels are drawn left of the matrix, right of the name of its axis."""
    return demo.page.evaluate("""() => {
      const view = __attnviz.views.matrix, [x, y, , h] = __attnviz.kinds.matrix.where(view), {ratio} = view;
      const {data} = view.context.getImageData(28 * ratio, y * ratio, (x - 32) * ratio, h * ratio);
      return data.filter((value, i) => i % 4 === 3 && value > 0).length }""")


def test_a_matrix_has_its_words_and_above_64_those_of_the_pointer(seen):
    few, many = seen(), seen("tokens=80")
    assert ink(few) > 800
    assert ink(many) == 0
    x, y, w, h = many.page.evaluate("__attnviz.kinds.matrix.where(__attnviz.views.matrix)")
    many.canvas("matrix").hover(position={"x": x + w * 5.5 / 80, "y": y + h * 30.5 / 80})
    expect(many.sentence("matrix")).to_contain_text("attends to")
    many.page.wait_for_function("__attnviz.views.matrix.hit?.query === 30")
    many.page.wait_for_timeout(100)
    assert 20 < ink(many) < 800


def test_five_hundred_words_stay_light(seen):
    demo = seen("tokens=512&heads=4&min_weight=0&causal=1")
    page = demo.page
    count = """() => {
      const inside = (root) => [...root.querySelectorAll("*")]
        .reduce((sum, {shadowRoot}) => sum + 1 + (shadowRoot ? inside(shadowRoot) : 0), 0);
      return inside(document) }"""
    assert page.evaluate(count) < 600  # Streamlit's own included; no node a word
    sizes = page.evaluate("Object.values(__attnviz.views).map(({canvas}) => [canvas.width, canvas.height])")
    assert max(max(size) for size in sizes) <= 1280
    shown = lines(demo)
    assert len(shown) == 3000  # of half a million
    known = weights(demo, "all 0")
    assert min(shown.values()) == pytest.approx(np.sort(known[known > 0])[-3000], rel=0.01)
    kept, frames = page.evaluate("globalThis.keptLines = __attnviz.views.lines.kept.all; true"), len(demo.wire)
    assert kept
    page.evaluate("__attnviz.views.lines.stage.scrollTop = 6000")
    page.wait_for_timeout(300)
    hover_at = demo.canvas("lines").bounding_box()
    page.mouse.move(hover_at["x"] + 40, hover_at["y"] + 200)
    expect(demo.sentence("lines")).to_contain_text("attends to")
    index = page.evaluate("__attnviz.views.lines.hit.index")
    assert 240 < index < 270  # what lies there after scrolling
    assert {query for query, _, _ in lines(demo)} == {index}
    page.mouse.move(5, 5)
    page.wait_for_timeout(300)
    assert page.evaluate("__attnviz.views.lines.kept.all === keptLines")  # a repaint looks at no cell again
    assert len(demo.wire) == frames


def test_the_keyboard_scrolls_to_its_word(seen):
    demo = seen("tokens=512&heads=4&min_weight=0&causal=1")
    demo.canvas("lines").focus()
    for _ in range(40):
        demo.page.keyboard.press("ArrowDown")
    demo.page.wait_for_timeout(300)
    top, height = demo.page.evaluate("(({stage}) => [stage.scrollTop, stage.clientHeight])(__attnviz.views.lines)")
    assert top > 0
    assert top < 24 * 40 < top + height
    demo.canvas("arcs").focus()
    for _ in range(40):
        demo.page.keyboard.press("ArrowRight")
    demo.page.wait_for_timeout(300)
    left, width = demo.page.evaluate("(({stage}) => [stage.scrollLeft, stage.clientWidth])(__attnviz.views.arcs)")
    x, _, w, _ = boxes(demo, "arcs")[39]
    assert 0 < left <= x
    assert x + w <= left + width


@pytest.mark.parametrize("name", ["text", "lines", "arcs"])
def test_a_download_holds_what_is_scrolled_out_of_the_window_too(name: str, seen, tmp_path: Path):
    demo = seen("tokens=512&heads=4&min_weight=0&causal=1")
    size = "(name) => (({canvas}) => [canvas.width, canvas.height])(__attnviz.views[name])"
    before = demo.page.evaluate(size, name)
    demo.page.evaluate("(name) => __attnviz.views[name].stage.scrollTo(700, 700)", name)
    with demo.page.expect_download() as waiting:
        demo.view(name).locator(".save").click()
    waiting.value.save_as(tmp_path / "view.png")
    with Image.open(tmp_path / "view.png") as picture:
        assert np.asarray(picture.convert("RGBA"))[..., 3].min() == 255
        inked = np.asarray(picture.convert("L")) < 128  # letters and lines on white
        wide, high = picture.size
    down, along = (24 * 512, 0) if name == "lines" else (int(max(box[i] for box in boxes(demo, name))) for i in (1, 0))
    assert high >= down
    assert wide >= min(along, 16_000)  # no browser draws on more
    assert inked[:, -250:].any() if name == "arcs" else inked[-250:-110].any()  # the last words
    demo.page.wait_for_timeout(300)
    assert demo.page.evaluate(size, name) == before
    scrolled = "(name) => (({stage}) => stage.scrollTop + stage.scrollLeft)(__attnviz.views[name])"
    assert demo.page.evaluate(scrolled, name) > 0


def test_arcs_that_are_gold_dependencies_are_marked(seen):
    demo = seen("drop=1")
    known = weights(demo)[1].copy()
    rest = known / (1 - known[:, [0, 15]].sum(-1, keepdims=True))
    gold = [(2, 1), (3, 2), (8, 6), (3, 8), (11, 10)]
    both = sum(rest[pair] >= 0.1 for pair in gold)
    assert 0 < both < 5
    expect(legend(demo, "arcs")).to_contain_text(f"{both} of 5 are also in the map")
    hover(demo, "arcs", token(MOTHER))
    expect(legend(demo, "arcs")).to_contain_text("1 of 2 are also in the map")
    expect(demo.view("arcs").locator(".tip")).to_contain_text("Gold dependency: to “the”")
    expect(demo.sentence("text")).to_contain_text("“…mother” attends to")


def test_a_key_pointed_at_shows_the_arcs_that_end_there(seen):
    demo = seen()
    hover(demo, "lines", {"side": "key", "index": PUPPY})
    ending = (weights(demo)[1, :, PUPPY] >= 0.1).sum()
    assert ending
    expect(demo.sentence("arcs")).to_have_text(f"{ending} arcs end at “puppy”")


@pytest.mark.parametrize("mode", ["rows", "matrix"])
def test_tiles_of_words(seen, mode):
    demo = seen(f"mode={mode}&causal=1")
    tile = demo.page.evaluate("__attnviz.kinds.tiles.where(__attnviz.views.tiles, 0)")
    rows = mode == "rows"
    expect(demo.sentence("tiles")).to_contain_text("Point at or tap a word" if rows else "Every map whole")
    hover(demo, "text", token(MOTHER))
    expect(demo.sentence("tiles")).to_contain_text("“…mother”")
    expect(legend(demo, "tiles")).to_contain_text("hatched: masked")
    x, y, w, h = tile  # without CLS, the second of 15 columns is token 2; of rows, the third of 16 is
    at = {"x": x + w * 1.5 / 15, "y": y + h / 2} if rows else {"x": x + w / 2, "y": y + h * 2.5 / 16}
    demo.canvas("tiles").hover(position=at)
    expect(demo.sentence("text")).to_contain_text("“puppy” attends to")
    last = [x + w - 12, y + h / 2] if rows else [x + w - 12, y + 8]  # masked: hatched, not the colour of zero
    pixel = np.array(demo.pixel("tiles", *last))
    assert pixel[3] == 255
    assert np.ptp(pixel[:3]) < 30


def test_one_number_a_word_and_two_sentences(seen):
    demo = seen()
    hover(demo, "row", token(BARK))
    expect(demo.sentence("row")).to_contain_text("“bark” has 50.5 % of the relevance, the highest of 16")
    hover(demo, "cross text", token(PUPPY))
    given = 100 * weights(demo, "cross")[0, 2, PUPPY]
    expect(demo.sentence("cross text")).to_have_text(f"“chiot” attends to “puppy” with {given:.1f} %")
    demo.canvas("cross text").click(position=demo.where("cross text", token(PUPPY)))
    demo.page.wait_for_timeout(300)
    assert demo.page.evaluate("__attnviz.views['cross text'].tokens") == [2]  # a key is no query: nothing is selected
    hover(demo, "cross lines", {"side": "query", "index": 2})
    expect(demo.sentence("cross text")).to_contain_text("“chiot” attends to")
    # the text is of another sentence
    expect(demo.sentence("text")).to_have_text("Point at or tap a word to see what it attends to")


def test_a_word_of_another_text_shows_what_attends_to_it(seen):
    demo = seen()
    painted = """() => { const {text} = __attnviz.kinds, view = __attnviz.views.target;
      return text.attendingTo(view, text.record(view))?.key ?? null }"""
    sure = demo.sentence("target").inner_text()
    cross = weights(demo, "cross")[0]
    for name, at in (("cross text", token(ED)), ("cross lines", {"side": "key", "index": ED})):
        hover(demo, name, at)
        best = int(cross[:, ED].argmax())
        word = ["", "le", "chiot", "aboy", "…ait", "."][best]
        said = f"“…ed” receives most from “{word}”: {100 * cross[best, ED]:.1f}"
        expect(demo.sentence("target")).to_contain_text(said)
        expect(legend(demo, "target")).to_contain_text("how much each word attends to “…ed”")
        assert demo.page.evaluate(painted) == ED
    hover(demo, "cross lines", {"side": "query", "index": 2})  # now the words are queries themselves
    assert demo.page.evaluate(painted) is None
    expect(demo.sentence("target")).not_to_contain_text("receives most")
    hover(demo, "text", token(ED))  # a word of no text that these attend to
    expect(demo.sentence("target")).to_have_text(sure)


def test_words_are_shown_as_text_whatever_they_say(seen):
    demo = seen("odd=1")
    hover(demo, "text", token(1))
    expect(demo.sentence("text")).to_contain_text("“</script><img src=x onerror=alert(1)>” attends to")
    for index, label in ((2, "👩‍🚀"), (3, "שלום"), (4, "${1+1}"), (6, "<F0>")):
        hover(demo, "text", token(index))
        expect(demo.sentence("text")).to_contain_text(f"“{label}” attends to")
    hover(demo, "text", token(7))
    expect(demo.sentence("text")).to_contain_text("aaa…” attends to")  # cut to a length that can be read
    assert demo.page.locator("img[src=x]").count() == 0
    assert max(x + w for x, _, w, _ in boxes(demo)) <= 1280


def test_touch_picks_a_word(seen):
    demo = seen(fresh=True, has_touch=True)
    spot, box = demo.where("text", token(PUPPY)), demo.canvas("text").bounding_box()
    demo.page.touchscreen.tap(box["x"] + spot["x"], box["y"] + spot["y"])
    expect(demo.page.get_by_text("picked [2]")).to_be_visible()


def test_nothing_moves_while_records_arrive(seen):
    moved = seen().page.evaluate("""() => ["text", "arcs", "matrix", "lines"].map((name) => {
      const {root, width, height} = __attnviz.views[name];
      return root.expected(width) - height })""")
    assert all(-2 <= gap <= 24 for gap in moved)
