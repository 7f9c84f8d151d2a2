"""Heads and Queries and keys in a real browser: hovering links every view without a byte, clicks are in the URL."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Locator, Page, expect

from attnviz.ui.queries_keys.pairs import PICTURE_SAYS, PICTURES
from tests.browser.reading import chosen, expect_chosen, sentence, until, view

pytestmark = pytest.mark.browser
GRID, PREFIX = 16, 1  # patches per side of `vit`, and CLS before them
WAIT = 60_000


def drawn(page: Page, address: str, settle) -> None:
    """Open an address and wait until the large view shows a map."""
    page.goto(address)
    settle(page)
    first = page.get_by_role("application").first
    expect(sentence(first)).to_contain_text("attends to", timeout=WAIT)
    page.wait_for_timeout(300)


def point(canvas: Locator, x: float, y: float) -> dict[str, float]:
    """A place on a canvas, in fractions of its size."""
    canvas.scroll_into_view_if_needed()
    box = canvas.bounding_box()
    assert box is not None
    return {"x": x * box["width"], "y": y * box["height"]}


def test_hovering_a_patch_moves_every_view_and_sends_nothing(page: Page, server: str, settle):
    frames: list[str] = []
    page.on(
        "websocket",
        lambda socket: (
            socket.on("framesent", lambda _: frames.append("sent")),
            socket.on("framereceived", lambda _: frames.append("received")),
        ),
    )
    drawn(page, f"{server}/heads?layer=3&head=2&sample=cat", settle)
    views = [
        view(page, "Your picture"),
        view(page, "Every head"),
        view(page, "All weights"),
        view(page, "Weights times"),
    ]
    before = [sentence(one).text_content() for one in views]
    frames.clear()
    views[0].hover(position=point(views[0], 0.5, 0.4))
    expect(sentence(views[0])).not_to_have_text(before[0] or "")
    named = re.search(r"row \d+, column \d+", sentence(views[0]).text_content() or "")
    assert named
    for one in views[1:]:
        expect(sentence(one)).to_contain_text(named[0])
    assert frames == []


def test_a_click_is_kept_in_the_address_and_opens_again(page: Page, server: str, settle):
    drawn(page, f"{server}/heads?layer=3&head=2&sample=cat", settle)
    large = view(page, "Your picture")
    large.click(position=point(large, 0.5, 0.4))
    expect(page).to_have_url(re.compile(r"token=\d+"), timeout=WAIT)
    settle(page)
    row, column = divmod(int(chosen(page, "token") or "0") - PREFIX, GRID)
    said = f"what row {row + 1}, column {column + 1} attends to"
    expect(page.get_by_text(said)).to_be_visible()
    drawn(page, page.url, settle)
    expect(page.get_by_text(f"Layer 3, head 2: {said}")).to_be_visible()


def test_a_button_opens_its_layer_before_python_answers(page: Page, server: str, settle):
    drawn(page, f"{server}/heads?layer=1&head=2&sample=cat", settle)
    shown = "['large', 'matrix'].map((name) => [__attnviz.views[name].maps, __attnviz.views[name].index])"
    page.evaluate("document.addEventListener('click', (event) => event.stopPropagation(), {capture: true, once: true})")
    layers, heads = (page.get_by_role("radiogroup", name=name, exact=True) for name in ("Layer", "Head"))
    layers.get_by_role("radio", name="4", exact=True).click()  # the app never hears of it
    until(page, shown, [["heads:3", 1]] * 2)
    expect(page.get_by_text("Layer 1, head 2: what")).to_be_visible()
    heads.get_by_role("radio", name="5", exact=True).click()  # this one it hears, and its answer holds
    expect(page.get_by_text("Layer 1, head 5: what")).to_be_visible(timeout=WAIT)
    settle(page)
    until(page, shown, [["heads:0", 4]] * 2)


def test_a_click_on_a_small_map_opens_its_head_and_back_returns(page: Page, server: str, settle):
    drawn(page, f"{server}/heads?layer=1&head=2&sample=cat", settle)
    grid = view(page, "Every head")
    grid.click(position=point(grid, 0.9, 0.15))
    expect(page.get_by_text(re.compile(r"^Layer 1, head [3-6]: what"))).to_be_visible(timeout=WAIT)
    settle(page)
    expect_chosen(page, "layer", "1")
    assert chosen(page, "head") in ("3", "4", "5", "6")
    page.go_back()
    expect(page.get_by_text(re.compile(r"^Layer 1, head 2: what"))).to_be_visible(timeout=WAIT)


def test_several_patches_are_picked_with_shift(page: Page, server: str, settle):
    drawn(page, f"{server}/heads?several=true&sample=cat&token=40", settle)
    large = view(page, "Your picture")
    large.click(position=point(large, 0.5, 0.4), modifiers=["Shift"])
    expect(page.get_by_text("what 2 selected tokens attend to, summed")).to_be_visible(timeout=WAIT)
    large.click(position=point(large, 0.6, 0.7), modifiers=["Shift"])
    expect(page.get_by_text("what 3 selected tokens attend to, summed")).to_be_visible(timeout=WAIT)
    assert len((chosen(page, "token") or "").split(",")) == 3


def test_the_keyboard_reaches_every_patch(page: Page, server: str, settle):
    drawn(page, f"{server}/heads?token=20&sample=cat", settle)
    large = view(page, "Your picture")
    large.focus()
    large.press("ArrowRight")
    large.press("ArrowDown")
    large.press("Enter")
    expect(page).to_have_url(re.compile(rf"token={20 + 1 + GRID}(&|$)"), timeout=WAIT)


def test_one_click_finds_a_head(page: Page, server: str, settle):
    drawn(page, f"{server}/heads?sample=cat", settle)
    page.get_by_role("button", name="Most local", exact=True).click()
    settle(page)
    order = page.get_by_text(re.compile(r"^Layer \d+, head \d+: what"))
    opened = order.text_content()
    page.goto(f"{server}/heads?sample=cat&order=distance")
    settle(page)
    page.get_by_role("button", name="Most local", exact=True).click()
    settle(page)
    expect(order).to_have_text(opened or "")


def test_a_query_and_a_key_are_picked_each_in_its_own_picture(page: Page, server: str, settle):
    drawn(page, f"{server}/queries_keys?layer=2&head=3&sample=cat&token=50&key=60", settle)
    expect(page.get_by_text("Query row 4, column 2:")).to_be_visible()
    expect(page.get_by_text("Key row 4, column 12:")).to_be_visible()
    answer = view(page, "Key: click a patch to choose it")
    answer.click(position=point(answer, 0.5, 0.5))
    expect(page.get_by_text("Key row 4, column 12:")).to_have_count(0, timeout=WAIT)
    settle(page)
    expect_chosen(page, "token", "50")
    assert chosen(page, "key") != "60"


def test_the_matrix_picture_turns_and_says_so(page: Page, server: str, settle):
    drawn(page, f"{server}/queries_keys?sample=cat", settle)
    name = PICTURES["columns"]
    page.get_by_role("radio", name=name).or_(page.get_by_text(name)).first.click()
    expect(page.get_by_text(PICTURE_SAYS["columns"])).to_be_visible(timeout=WAIT)
    expect_chosen(page, "picture", "columns")
