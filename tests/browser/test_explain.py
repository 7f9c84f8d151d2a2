"""The page Explain in a real browser: linked pictures, a clicked patch or layer, sliders by keyboard, deep links."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.browser.reading import chosen, expect_chosen, legend, sentence, view

pytestmark = pytest.mark.browser
WAIT = 60_000
PICTURES = ("the rollout", "raw attention")
GRID, PREFIX = 16, 1  # patches per side of `vit`, and CLS before them


def drawn(page: Page, address: str, settle) -> None:
    """Open an address and wait until the large view shows a map."""
    page.goto(address)
    settle(page)
    expect(sentence(view(page, "Your picture with the rollout"))).to_contain_text("relevance", timeout=WAIT)
    page.wait_for_timeout(300)


def point(canvas: Locator, x: float, y: float) -> dict[str, float]:
    """A place on a canvas, in fractions of its size."""
    canvas.scroll_into_view_if_needed()
    box = canvas.bounding_box()
    assert box is not None
    return {"x": x * box["width"], "y": y * box["height"]}


def test_hovering_marks_the_same_patch_in_every_view_and_sends_nothing(page: Page, server: str, settle):
    frames: list[str] = []
    page.on(
        "websocket",
        lambda socket: (
            socket.on("framesent", lambda _: frames.append("sent")),
            socket.on("framereceived", lambda _: frames.append("received")),
        ),
    )
    drawn(page, f"{server}/explain?sample=cat", settle)
    large, raw = view(page, "Your picture with the rollout"), view(page, "Your picture with raw")
    frames.clear()
    large.hover(position=point(large, 0.5, 0.4))
    expect(sentence(large)).to_contain_text("of the relevance, rank")
    named = re.search(r"row \d+, column \d+", sentence(large).text_content() or "")
    assert named
    expect(sentence(raw)).to_contain_text(named[0])
    assert frames == []


@pytest.mark.parametrize("model", ["vit", "sentences"])
def test_the_options_of_display_stand_beside_the_method(page: Page, server: str, settle, model):
    page.goto(f"{server}/explain?model={model}")
    settle(page)
    method = page.locator(".st-key-method").bounding_box()
    display = page.get_by_role("button", name="Display").bounding_box()
    assert method is not None
    assert display is not None
    middle = display["y"] + display["height"] / 2
    assert method["y"] < middle < method["y"] + method["height"]


def test_a_clicked_patch_becomes_the_target_and_hovering_then_shows_any(page: Page, server: str, settle):
    drawn(page, f"{server}/explain?sample=cat", settle)
    large = view(page, "Your picture with the rollout")
    large.click(position=point(large, 0.5, 0.4))
    expect(page).to_have_url(re.compile(r"target=token"), timeout=WAIT)
    settle(page)
    row, column = divmod(int(chosen(page, "token") or "0") - PREFIX, GRID)
    heading = f"Rollout of row {row + 1}, column {column + 1}, layers 1 to 6"
    expect(page.get_by_text(heading)).to_be_visible()
    large.hover(position=point(large, 0.6, 0.6))
    other = re.compile(rf"of the relevance of (?!row {row + 1}, column {column + 1}\b)row \d+, column \d+")
    expect(sentence(large)).to_contain_text(other)
    expect(sentence(view(page, "Your picture with raw"))).to_contain_text(other)
    drawn(page, page.url, settle)  # the link shows the same
    expect(page.get_by_text(heading)).to_be_visible()


def test_maps_have_ranges_of_their_own_or_one_for_all(page: Page, server: str, settle):
    drawn(page, f"{server}/explain?sample=cat", settle)
    legends = [legend(view(page, f"Your picture with {name}")) for name in PICTURES]
    numbers = [one.locator(".number") for one in legends]
    assert numbers[0].nth(0).inner_text() == numbers[1].nth(0).inner_text() == "0 %"  # an even map looks even
    assert numbers[0].all_inner_texts() != numbers[1].all_inner_texts()
    for one in legends:
        expect(one).to_contain_text("linear from zero")
    page.get_by_role("button", name="Compare with").click()
    page.get_by_role("radio", name="From the minimum").click()
    for one in legends:
        expect(one).to_contain_text("from the minimum of the row", timeout=WAIT)
    assert numbers[0].nth(0).inner_text() != "0 %"  # relevance is spread: the least patch has some
    assert numbers[0].all_inner_texts() != numbers[1].all_inner_texts()
    expect_chosen(page, "range", "stretched")
    page.get_by_role("radio", name="Shared").click()
    for one in legends:
        expect(one).to_contain_text("colour scale: shared", timeout=WAIT)
        expect(one).not_to_contain_text("from the minimum of the row")
    assert numbers[0].all_inner_texts() == numbers[1].all_inner_texts()
    assert numbers[0].nth(0).inner_text() == "0 %"
    expect_chosen(page, "range", "shared")


def test_a_clicked_layer_becomes_the_first_and_back_returns(page: Page, server: str, settle):
    drawn(page, f"{server}/explain?sample=cat", settle)
    tiles = view(page, "Rollout, layer by layer")
    tiles.click(position=point(tiles, 0.58, 0.5))
    expect(page.get_by_text("Rollout of the answer, layers 4 to 6")).to_be_visible(timeout=WAIT)
    settle(page)
    expect_chosen(page, "from", "4")
    page.go_back()
    expect(page.get_by_text("Rollout of the answer, layers 1 to 6")).to_be_visible(timeout=WAIT)


def test_a_deep_link_opens_every_choice(page: Page, server: str, settle):
    link = "fusion=Maximum&alpha=70&discard=90&rows=true&from=3&target=Mean+of+patches"
    drawn(page, f"{server}/rollout?sample=cat&{link}", settle)
    labels = "head fusion maximum · residual weight 70 % · discard ratio 90 % · per row on · from layer 3"
    expect(page.get_by_text(labels)).to_be_visible()
    expect(page.get_by_text("Rollout of all patches, layers 3 to 6")).to_be_visible()


def test_sliders_by_keyboard_reach_the_address_and_the_picture(page: Page, server: str, settle):
    drawn(page, f"{server}/explain?sample=cat", settle)
    before = sentence(view(page, "Your picture with the rollout")).text_content() or ""
    page.get_by_role("button", name="Options").click()
    thumb = page.get_by_role("slider", name="Discard ratio")
    thumb.focus()
    for _ in range(6):
        thumb.press("ArrowRight")
    expect(page.get_by_text("discard ratio 30 %")).to_be_visible(timeout=WAIT)
    settle(page)
    expect_chosen(page, "discard", "30")
    expect(sentence(view(page, "Your picture with the rollout"))).not_to_have_text(before)


def test_the_page_is_whole_in_the_dark(page: Page, server: str, settle):
    drawn(page, f"{server}/rollout?sample=cat&target=One+patch&token=120&embed_options=dark_theme", settle)
    expect(page.get_by_text("Rollout of row 8, column 8, layers 1 to 6")).to_be_visible()
    expect(page.locator(".katex").first).to_be_visible()
    expect(page.get_by_text("‖x‖ to ‖attention(x)‖")).to_be_visible()


@pytest.mark.parametrize(("model", "kind"), [("vit-digits", "picture"), ("sentences", "text")])
def test_hovering_one_small_map_moves_the_others_and_a_click_makes_it_the_main_one(
    page: Page, server: str, settle, model: str, kind: str
):
    page.goto(f"{server}/explain?model={model}&with=generic+attention&with=input+x+gradient")
    settle(page)
    one, other = (view(page, f"{name}, beside") for name in ("Generic attention", "Input times gradient"))
    main = view(page, f"Your {kind} with the rollout")
    expect(sentence(one)).to_contain_text("relevance", timeout=WAIT)
    settle(page)
    before = [sentence(canvas).text_content() for canvas in (other, main)]
    x = 0.5 if kind == "picture" else 0.35
    one.hover(position=point(one, x, 0.6 if kind == "picture" else 0.2))
    for canvas, was in zip((other, main), before, strict=True):
        expect(sentence(canvas)).not_to_have_text(was or "")
    if kind == "picture":
        named = re.search(r"row \d+, column \d+", sentence(one).text_content() or "")
        assert named
        for canvas in (other, main):
            expect(sentence(canvas)).to_contain_text(named[0])
    one.click(position=point(one, x, 0.6 if kind == "picture" else 0.2))
    expect_chosen(page, "method", "generic attention")
    expect_chosen(page, "with", "rollout")
    expect(view(page, f"Your {kind} with the generic attention")).to_be_visible()


@pytest.mark.parametrize(("model", "width"), [("vit-digits", 768), ("vit-digits", 1440), ("sentences", 768)])
def test_small_maps_stand_in_two_columns(page: Page, server: str, settle, model: str, width: int):
    page.set_viewport_size({"width": width, "height": 900})
    page.goto(f"{server}/explain?model={model}&with=norm-based&with=generic+attention&with=legrad&with=random")
    settle(page)
    boxes = [
        view(page, f"{name}, beside").bounding_box()
        for name in ("Norm-based attention", "Generic attention", "LeGrad", "Random")
    ]
    places = {round(box["x"]) for box in boxes if box is not None}
    assert len(places) == 2
