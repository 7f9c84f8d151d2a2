"""Train in a real browser: curves grow by themselves, a run stops and goes on, epochs are replayed, Heads opens it."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Page, expect

from attnviz.attention import VARIANTS
from attnviz.ui.inputs.samples import TRAINED_HERE
from attnviz.ui.train.runs import NOT_TRAINED
from tests.browser.reading import expect_chosen, sentence, view

pytestmark = pytest.mark.browser
WAIT = 180_000  # milliseconds: what is measured here is learning, on a machine that may be busy
# An old link, by titles instead of identifiers; long enough to be stopped on the way.
LINK = "train?variant=Uniform&rival=Multi-head+attention&epochs=20"
TITLES = [VARIANTS[name].title for name in ("uniform", "mha")]


def press(page: Page, name: str) -> None:
    """Click a button of the page by its name; Streamlit has a Stop of its own above it, while a script runs."""
    page.get_by_test_id("stMainBlockContainer").get_by_role("button", name=name, exact=True).click()


def test_a_run_from_start_to_the_other_pages(page: Page, server: str, settle):
    page.goto(f"{server}/{LINK}")
    settle(page)
    expect(page.get_by_text(NOT_TRAINED)).to_be_visible(timeout=WAIT)
    expect(page.locator(".js-plotly-plot")).to_have_count(2)
    expect_chosen(page, "variant", "uniform")
    expect_chosen(page, "rival", "mha")
    press(page, "Start")
    expect(page.get_by_text(re.compile(r"^Epoch \d+ of 20 · step \d+ of 400"))).to_be_visible(timeout=WAIT)
    expect(page.get_by_text(re.compile(r"^Epoch [1-9]\d* of 20"))).to_be_visible(timeout=WAIT)  # without a click

    press(page, "Stop")
    stopped = page.get_by_text(re.compile(r"^Stopped at epoch \d+ of 20 · step \d+"))
    expect(stopped).to_be_visible(timeout=WAIT)
    settle(page)
    reached = stopped.text_content()
    page.wait_for_timeout(1500)
    expect(stopped).to_have_text(reached or "")
    press(page, "Resume")
    page.get_by_role("link", name="Positions").click()  # it goes on beside other pages, and says so
    expect(page.get_by_role("heading", name="Positions", exact=True)).to_be_visible(timeout=WAIT)
    bar = page.get_by_test_id("stSidebar").get_by_text(" and ".join(TITLES))
    expect(bar).to_be_visible(timeout=WAIT)
    expect(bar).to_have_count(0, timeout=WAIT)
    page.get_by_role("link", name="Train", exact=True).click()
    expect(page.get_by_text("Epoch 20 of 20 · step 400 of 400")).to_be_visible(timeout=WAIT)
    settle(page)

    maps = view(page, "The digit with layer 3, head 1").nth(1)  # of the second network
    expect(sentence(maps)).to_contain_text("attends to", timeout=WAIT)
    after = sentence(maps).text_content()
    thumb = page.get_by_role("slider", name="Replay: epoch")
    thumb.focus()
    thumb.press("Home")
    expect(sentence(maps)).not_to_have_text(after or "", timeout=WAIT)
    settle(page)
    expect_chosen(page, "epoch", "0")

    press(page, f"Open {TITLES[1]} in Heads")
    expect(page.get_by_role("heading", name="Heads", exact=True)).to_be_visible(timeout=WAIT)
    settle(page)
    box = page.get_by_test_id("stSidebar").get_by_role("combobox", name="Model")
    expect(box).to_have_value(f"{TRAINED_HERE}{TITLES[1]}")
    expect(sentence(page.get_by_role("application").first)).to_contain_text("attends to", timeout=WAIT)
