"""Follow a token in a real browser: the scrubber by mouse and keys, a click on picture and words, no jumps."""

from __future__ import annotations

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.browser.reading import chosen, expect_chosen, wait_for

pytestmark = pytest.mark.browser
WAIT = 60_000


def opened(page: Page, address: str, settle) -> Locator:
    """The column of stages, once it is drawn."""
    page.goto(address)
    path = page.locator(".path")
    expect(path.locator("li.current")).to_be_visible(timeout=WAIT)
    settle(page)
    return path


def current(path: Locator) -> str:
    """The title of the stage that is open."""
    return path.locator("li.current > .row > span").first.inner_text()


def test_keys_move_the_scrubber_and_the_address_follows(page: Page, server: str, settle):
    path = opened(page, f"{server}/follow?sample=cat&at_stage=scores", settle)
    assert current(path) == "Scores"
    path.get_by_role("slider").focus()
    page.keyboard.press("ArrowRight")
    assert current(path) == "Softmax"
    expect(path.locator(".legend canvas")).to_have_count(1)
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    assert current(path) == "Heads joined"
    expect_chosen(page, "at_stage", "heads")
    settle(page)
    assert current(path) == "Heads joined"
    expect(path.get_by_role("slider")).to_be_focused()
    page.keyboard.press("End")
    assert "6" in current(path)
    expect(path.locator("li.current .share").first).to_be_visible()


def test_the_column_keeps_its_height(page: Page, server: str, settle):
    page.emulate_media(reduced_motion="reduce")
    path = opened(page, f"{server}/follow?model=stories&at_stage=enter", settle)
    heights = set()
    for number in range(6):
        box = path.bounding_box()
        assert box is not None
        heights.add(round(box["height"]))
        path.locator(".row").nth(3 * number).click()
    assert len(heights) == 1


def test_a_click_on_the_picture_follows_another_patch(page: Page, server: str, settle):
    path = opened(page, f"{server}/follow?sample=cat", settle)
    picture = path.get_by_role("application")
    box = picture.bounding_box()
    assert box is not None
    picture.click(position={"x": box["width"] * 2.5 / 16, "y": box["height"] * 1.5 / 16})
    expect_chosen(page, "token", str(1 + 16 + 2))
    expect(path.locator(".said")).to_contain_text("row 2, column 3", timeout=WAIT)
    path.get_by_role("button", name="CLS").click()
    expect_chosen(page, "token", "0")
    expect(path.get_by_role("button", name="CLS")).to_have_attribute("aria-pressed", "true", timeout=WAIT)


def test_a_click_on_a_word_and_a_strip_under_the_pointer(page: Page, server: str, settle):
    path = opened(page, f"{server}/follow?model=sentences&at_stage=add", settle)
    path.locator(".words button").nth(2).click()
    expect_chosen(page, "token", "2")
    settle(page)
    path.locator("li.current .line .strip").first.hover()
    values = path.locator("li.current .line > span:last-child")
    numbers = [float(text.replace("\N{MINUS SIGN}", "-")) for text in values.all_inner_texts()]
    assert len(numbers) == 3
    assert numbers[0] + numbers[1] == pytest.approx(numbers[2], abs=0.02 * max(1, *map(abs, numbers)))
    assert chosen(page, "at_stage") == "add"


def test_it_plays_to_the_end_without_asking_the_server_at_each_stage(page: Page, server: str, settle):
    path = opened(page, f"{server}/follow?model=sentences&at_stage=depth-3", settle)
    path.get_by_role("button", name="Play").click()
    wait_for(page, lambda: "5" in current(path), True, "the last layer")
    expect(path.get_by_role("button", name="Play")).to_be_visible(timeout=WAIT)
    expect_chosen(page, "at_stage", "depth-5")


def test_the_main_view_begins_above_the_fold(page: Page, server: str, settle):
    page.set_viewport_size({"width": 1280, "height": 720})
    path = opened(page, f"{server}/follow?sample=cat", settle)
    box = path.locator(".scene canvas").first.bounding_box()
    assert box is not None
    assert box["y"] + box["height"] <= 800
