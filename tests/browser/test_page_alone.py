"""Pages without a server, opened from a file: hover and links work, nothing is requested, frames keep to themselves."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import Browser, FrameLocator, Locator, Page, expect

import attnviz
from attnviz.paths import ASSETS
from tests.browser.reading import sentence, view

pytestmark = pytest.mark.browser

WORDS = ("the", "tired", "cat", "sat", "down")
WEIGHTS = np.random.default_rng(3).dirichlet(np.full(len(WORDS), 0.3), size=(2, 3, len(WORDS)))
WEIGHTS *= 1 - np.eye(len(WORDS))  # no word attends to itself, so that sentences name the key
WEIGHTS /= WEIGHTS.sum(-1, keepdims=True)


@pytest.fixture
def alone(browser: Browser, tmp_path: Path):
    """Opens pages from files; at the end, nothing but those files was asked for, and no script failed."""
    asked, failed, page = list[str](), list[str](), browser.new_page(viewport={"width": 1100, "height": 800})
    page.on("request", lambda request: asked.append(request.url))
    page.on("pageerror", lambda error: failed.append(str(error)))
    page.on("console", lambda message: failed.append(message.text) if message.type == "error" else None)

    def opened(text: str) -> Page:
        file = tmp_path / "page.html"
        file.write_text(text, encoding="utf-8")
        page.goto(file.as_uri())
        return page

    yield opened
    assert {url.split(":")[0] for url in asked} <= {"file", "blob", "data", "about"}
    assert len([url for url in asked if url.startswith("file")]) == 1
    assert failed == []
    page.close()


def lines_at(page: Page | FrameLocator, word: int) -> tuple[Locator, dict]:
    """The opened head, and where a query stands in it."""
    return page.get_by_role("application", name="The opened head"), {"x": 60, "y": 30 + 24 * word + 12}


def said(layer: int, head: int, query: int) -> str:
    """What the lines say of a query: its strongest key."""
    row = WEIGHTS[layer, head, query]
    strongest = f"“{WORDS[int(row.argmax())]}” with {100 * row.max():.1f} %"
    return f"Layer {layer + 1}, head {head + 1}: “{WORDS[query]}” attends to {strongest}"


def test_a_file_is_hovered_and_its_maps_are_opened(alone):
    page = alone(attnviz.show(weights=WEIGHTS, tokens=WORDS).html())
    canvas, place = lines_at(page, 3)
    canvas.hover(position=place)
    expect(sentence(canvas)).to_contain_text(said(0, 0, 3))
    grid = view(page, "All heads")
    grid.focus()
    box = grid.bounding_box()
    assert box is not None
    page.mouse.click(box["x"] + box["width"] - 20, box["y"] + box["height"] - 30)  # the last map
    canvas.hover(position=place)
    expect(sentence(canvas)).to_contain_text(said(1, 2, 3))


def test_a_pick_is_asked_about_in_every_view(alone):
    page = alone(attnviz.show(weights=WEIGHTS, tokens=WORDS).html())
    grid = view(page, "All heads")
    expect(sentence(grid)).to_contain_text("“cat”")
    canvas, place = lines_at(page, 3)
    canvas.click(position=place)
    page.mouse.move(5, 5)
    expect(sentence(grid)).to_contain_text("“sat”")
    expect(sentence(canvas)).to_contain_text("“sat” attends to")


def test_a_picture_needs_no_server_either(alone):
    model = attnviz.load("vit-digits")
    sample = model.prepare(ASSETS / "samples" / "vit-digits" / "nine.png")
    trace = model(sample)
    page = alone(attnviz.show(model, sample, opened=(1, 2)).html())
    canvas = view(page, "The opened head")
    expect(sentence(canvas)).to_contain_text("attends to")
    tokens = trace.calls[1].keys
    middle = tokens.prefix + (tokens.grid[0] // 2) * tokens.grid[1] + tokens.grid[1] // 2
    row = trace.calls[1].token_map(heads=[2], rows=[middle])[0, 0].detach().numpy()
    rest = row[tokens.prefix :]
    best = int(rest.argmax())
    place = f"row {best // tokens.grid[1] + 1}, column {best % tokens.grid[1] + 1}"
    expect(sentence(canvas)).to_contain_text(f"to {place} with {100 * rest[best] / rest.sum():.3g} %")


@pytest.mark.parametrize("ground", ["light", "dark"])
def test_the_ground_is_as_asked(alone, ground: str):
    page = alone(attnviz.show(weights=WEIGHTS, tokens=WORDS).html(ground))
    colour = page.evaluate("getComputedStyle(document.documentElement).backgroundColor")
    assert colour == {"light": "rgb(255, 255, 255)", "dark": "rgb(17, 20, 26)"}[ground]


def test_many_in_one_notebook_do_not_disturb_each_other(alone):
    """Two frames hold records and views of the same names; each grows to its own height."""
    first = attnviz.show(weights=WEIGHTS, tokens=WORDS)
    second = attnviz.show(weights=WEIGHTS[::-1], tokens=WORDS)
    page = alone(f"<!doctype html><body>{first._repr_html_()}{second._repr_html_()}</body>")
    frames = [page.frame_locator("iframe").nth(at) for at in range(2)]
    one, place = lines_at(frames[0], 3)
    other, _ = lines_at(frames[1], 3)
    expect(sentence(other)).to_contain_text("attends to")
    before = sentence(other).inner_text()
    one.hover(position=place)
    expect(sentence(one)).to_contain_text(said(0, 0, 3))
    page.wait_for_timeout(300)
    assert sentence(other).inner_text() == before
    other.hover(position=place)
    row = WEIGHTS[1, 0, 3]
    expect(sentence(other)).to_contain_text(f"“{WORDS[int(row.argmax())]}”")
    heights = page.evaluate("[...document.querySelectorAll('iframe')].map((frame) => frame.clientHeight)")
    assert all(200 < height < 600 for height in heights)


def test_labels_are_text_whatever_they_say(alone):
    words = ("</script><script>document.title='gone'</script>", "<b>bold</b>", "c", "d", "e")
    page = alone(attnviz.show(weights=WEIGHTS, tokens=words, title="Mine").html())
    expect(sentence(view(page, "The opened head"))).to_contain_text("attends to")
    assert page.title() == "Mine"
    assert page.locator("b").count() == 0
