"""A question on Heads in a real browser: a click on a patch answers it, and the rest of the page comes back."""

from __future__ import annotations

import pytest
from playwright.sync_api import Page, expect

from tests.browser.reading import view

pytestmark = pytest.mark.browser
WAIT = 60_000


@pytest.mark.parametrize("how", ["click", "keys"])
def test_a_guess_reveals_the_page(page: Page, server: str, settle, how: str):
    page.goto(f"{server}/heads?model=vit&layer=2&head=3&ask=true&only=question")
    settle(page)
    canvas = view(page, "Your picture")
    expect(canvas).to_be_visible(timeout=WAIT)
    expect(page.get_by_test_id("stSidebar")).to_be_hidden()
    expect(page.get_by_role("heading", name="Heads", exact=True)).to_be_hidden()
    expect(view(page, "Every head")).to_have_count(0)
    page.wait_for_timeout(500)
    if how == "click":
        canvas.click(position={"x": 300, "y": 200})
    else:
        canvas.focus()
        for key in ("ArrowDown", "Enter"):
            page.keyboard.press(key)
    expect(view(page, "Every head")).to_be_visible(timeout=WAIT)
    expect(page.get_by_test_id("stSidebar")).to_be_visible()
    expect(page.get_by_role("heading", name="Heads", exact=True)).to_be_visible()
    expect(page.get_by_text("of 1 right")).to_be_visible()
