"""Embeddings and Positions in a real browser: a click is followed everywhere, and every choice is in the address."""

from __future__ import annotations

import pytest
from playwright.sync_api import Locator, Page, expect

from attnviz.ui.positions.ablation import CHANGES
from tests.browser.reading import chosen, expect_chosen, sentence, view

pytestmark = pytest.mark.browser
WAIT = 60_000
GRID = 4  # patches per side of `vit-digits`, which computes at once


def point(canvas: Locator, x: float, y: float) -> dict[str, float]:
    """A place on a canvas, in fractions of its size."""
    canvas.scroll_into_view_if_needed()
    box = canvas.bounding_box()
    assert box is not None
    return {"x": x * box["width"], "y": y * box["height"]}


def test_a_click_on_a_patch_is_followed_from_pixels_to_vector(page: Page, server: str, settle):
    page.goto(f"{server}/embeddings?model=vit-digits&token=1&stage=After+layer+2")  # an old address
    settle(page)
    expect(page.get_by_text("Patch row 1, column 1 · 2 × 2 pixels")).to_be_visible()
    alike = view(page, "Cosine to the chosen patch")
    expect(sentence(alike)).to_contain_text("cosine", timeout=WAIT)
    alike.hover(position=point(alike, 0.5, 0.6))
    expect(sentence(alike)).to_contain_text("itself: cosine 1")
    assert chosen(page, "token") == "1"  # hovering changes nothing
    alike.click(position=point(alike, 0.5, 0.6))
    settle(page)
    expect(page.get_by_text("Patch row 1, column 1 · 2 × 2 pixels")).to_have_count(0)
    token = chosen(page, "token") or "11"  # the middle patch is the default and not in the address
    row, column = divmod(int(token) - 1, GRID)
    expect(page.get_by_text(f"Patch row {row + 1}, column {column + 1} · 2 × 2 pixels")).to_be_visible()
    page.reload()
    settle(page)
    expect(page.get_by_text(f"Patch row {row + 1}, column {column + 1} · 2 × 2 pixels")).to_be_visible()
    expect(page.get_by_text("After layer 2", exact=True).first).to_be_visible()
    expect_chosen(page, "stage", "layer-2")


def test_hovering_links_the_colours_with_the_picture(page: Page, server: str, settle):
    page.goto(f"{server}/embeddings?model=vit-digits")
    settle(page)
    colours, alike = view(page, "Principal components"), view(page, "Cosine to the chosen patch")
    expect(sentence(alike)).to_contain_text("cosine", timeout=WAIT)
    before = sentence(alike).text_content()
    colours.hover(position=point(colours, 0.2, 0.3))
    expect(sentence(alike)).not_to_have_text(before or "")


def test_a_tile_chooses_its_patch(page: Page, server: str, settle):
    page.goto(f"{server}/positions?model=vit-digits&token=16&embed_options=dark_theme")
    settle(page)
    tiles = view(page, "Centred cosine of position embeddings")
    expect(tiles).to_be_visible(timeout=WAIT)
    expect(sentence(view(page, "Own positions"))).to_contain_text("attends to", timeout=WAIT)
    tiles.click(position={"x": 80, "y": 60})
    expect(page.get_by_text("of the weight of row 1, column 1")).to_be_visible(timeout=WAIT)
    settle(page)
    expect_chosen(page, "token", "1")


def test_positions_by_deep_link(page: Page, server: str, settle):
    page.goto(f"{server}/positions?model=vit-digits&change=Shuffled&head=2&scheme=none")
    settle(page)
    expect(page.get_by_text(f"{CHANGES['shuffled']} positions").first).to_be_attached(timeout=WAIT)
    expect(page.get_by_text("nothing can tell them apart")).to_be_visible()
    page.get_by_role("radio", name=CHANGES["none"]).click()
    expect(page.get_by_text(f"{CHANGES['none']} positions").first).to_be_attached(timeout=WAIT)
    settle(page)
    expect_chosen(page, "change", None)  # the default is not in the address
    assert (chosen(page, "head"), chosen(page, "scheme")) == ("2", "none")


def test_an_experiment_makes_its_choices(page: Page, server: str, settle):
    page.goto(f"{server}/positions?model=vit-digits")
    settle(page)
    page.get_by_role("button", name="Permute the positions").click()
    settle(page)
    expect_chosen(page, "change", "shuffled")
