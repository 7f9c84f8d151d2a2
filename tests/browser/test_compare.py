"""The Compare page in a real browser, on made-up networks: linked panels, deep links, both themes, two widths."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import pairwise

import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from attnviz.ui.compare import maps
from attnviz.ui.compare.choice import MAPS, NATIVE, ROLLOUT
from attnviz.ui.compare.image import ImageDomain
from attnviz.ui.compare.numbers import NOT_SCORED
from tests import made_up_bench
from tests.browser.conftest import start_server, stop_server, watched
from tests.browser.reading import chosen, expect_chosen, sentence, view

pytestmark = pytest.mark.browser
WAIT = 120_000


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server whose bench is made up, with one network missing."""
    folder = made_up_bench.write(tmp_path_factory.mktemp("bench"), ["mha", "window2d", "linear", "linformer", "xca"])
    module = ("tests.browser.with_bench", str(folder))
    process, address = start_server(folder / "log.txt", module=module)
    yield address
    stop_server(process)


@pytest.fixture(params=[(1280, 900), (1920, 1000)], ids=["1280", "1920"])
def wide(request: pytest.FixtureRequest, browser: Browser, address: str) -> Iterator[Page]:
    """A page of either width, watched like `page`."""
    with watched(browser, address, *request.param, wait=WAIT) as opened:
        yield opened


def drawn(page: Page, address: str, settle) -> None:
    """Open an address and wait until the first panel shows a map."""
    page.goto(address)
    settle(page)
    expect(sentence(view(page, "Multi-head attention: your picture"))).to_contain_text("attends to", timeout=WAIT)
    page.wait_for_timeout(500)


def point(canvas: Locator, x: float, y: float) -> dict[str, float]:
    """A place on a canvas, in fractions of its size."""
    canvas.scroll_into_view_if_needed()
    box = canvas.bounding_box()
    assert box is not None
    return {"x": x * box["width"], "y": y * box["height"]}


def test_one_patch_moves_every_panel_and_a_click_is_kept(wide: Page, address: str, settle):
    frames: list[str] = []
    wide.on(
        "websocket",
        lambda socket: (
            socket.on("framesent", lambda _: frames.append("sent")),
            socket.on("framereceived", lambda _: frames.append("received")),
        ),
    )
    drawn(wide, f"{address}/compare?variants=mha,window2d,linear,linformer&sample=cat", settle)
    titles = ("Multi-head attention", "Window attention in tiles", "Linear attention", "Linformer")
    first, *others = (view(wide, f"{title}: your picture") for title in titles)
    frames.clear()
    first.hover(position=point(first, 0.4, 0.3))
    expect(sentence(first)).not_to_contain_text("Patch row 5, column 5 ")
    named = re.search(r"Patch row \d+, column \d+", sentence(first).text_content() or "")
    assert named
    for other in others:
        expect(sentence(other)).to_contain_text(named[0])
    assert frames == []
    first.click(position=point(first, 0.4, 0.3))
    expect(wide).to_have_url(re.compile(r"token=\d+"), timeout=WAIT)
    settle(wide)
    row, column = divmod(int(chosen(wide, "token") or "0"), 8)
    assert named[0] == f"Patch row {row + 1}, column {column + 1}"


def test_panels_stand_side_by_side_and_do_not_overlap(wide: Page, address: str, settle):
    drawn(wide, f"{address}/compare?variants=mha,window2d,linear,linformer,xca,gqa&sample=cat", settle)
    boxes = [
        view(wide, f"{title}: your picture").bounding_box()
        for title in ("Multi-head attention", "Window attention in tiles", "Linear attention")
    ]
    assert len({box["y"] for box in boxes if box}) == 1
    edges = [(box["x"], box["x"] + box["width"]) for box in boxes if box]
    assert all(left[1] <= right[0] for left, right in pairwise(edges))
    assert all(box["width"] >= 220 for box in boxes if box)
    expect(wide.get_by_text(ImageDomain().untrained("gqa").split("`")[0])).to_be_visible()
    expect(wide.get_by_text(maps.NO_MAP)).to_be_visible()
    expect(view(wide, "Cross-covariance attention: channels")).to_be_visible()
    assert not wide.evaluate("() => document.documentElement.scrollWidth > document.documentElement.clientWidth")


def test_the_page_is_whole_in_the_dark_with_shared_weights(wide: Page, address: str, settle):
    link = "variants=mha,gqa,linear,xca&weights=shared&layer=2&head=3&n=4096&embed_options=dark_theme"
    drawn(wide, f"{address}/compare?sample=cat&{link}", settle)
    expect(wide.get_by_text(NOT_SCORED).first).to_be_visible()
    expect(wide.get_by_text("n = 4,096")).to_be_visible()
    wide.get_by_text("Formulas, limits and sources").click()
    expect(wide.locator(".katex").first).to_be_visible()
    expect(wide.locator(".katex-error")).to_have_count(0)
    expect_chosen(wide, "layer", "2")


def test_native_maps_and_rollouts_are_one_click_away(wide: Page, address: str, settle):
    drawn(wide, f"{address}/compare?variants=mha,linformer,xca&sample=cat", settle)
    wide.get_by_text(MAPS[NATIVE], exact=True).click()
    matrix = view(wide, "Linformer: weights over slots")
    expect(matrix).to_be_visible(timeout=WAIT)
    matrix.hover(position=point(matrix, 0.3, 0.5))
    expect(sentence(matrix)).to_contain_text("slot")
    wide.get_by_text(MAPS[ROLLOUT], exact=True).last.click()
    expect(view(wide, "Multi-head attention: your picture with its rollout")).to_be_visible(timeout=WAIT)
    expect(wide.get_by_text(maps.NO_ROLLOUT).first).to_be_visible()
