"""Models of texts in a real browser: a sentence is typed, words pointed at and picked, heads opened, links followed."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Page, expect

from tests.browser.reading import chosen, expect_chosen, sentence, until, view

pytestmark = pytest.mark.browser
WAIT = 60_000


def test_a_sentence_is_typed_and_a_word_looked_from(page: Page, server: str, settle):
    page.goto(f"{server}/?model=sentences")
    settle(page)
    box = page.get_by_label("Your text")
    box.fill("The dog saw a </script><b>cat</b>.")
    box.press("Control+Enter")
    settle(page)
    expect_chosen(page, "text", "The dog saw a </script><b>cat</b>.")
    text = view(page, "Layer 5, mean")
    text.hover(position={"x": 20, "y": 20})  # the first box, which is CLS
    expect(sentence(text)).to_contain_text("CLS attends to", timeout=WAIT)
    text.focus()
    page.keyboard.press("ArrowRight")
    expect(sentence(text)).to_contain_text("attends to", timeout=WAIT)
    assert page.evaluate("document.querySelectorAll('b').length") == 0


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("model", ["sentences", "stories"])
def test_heads_are_opened_and_every_view_drawn(model: str, theme: str, page: Page, server: str, settle):
    page.goto(f"{server}/heads?model={model}&embed_options={theme}_theme")
    settle(page)
    page.get_by_role("button", name="Previous token").click()
    settle(page)
    layer = chosen(page, "layer") or ("5" if model == "sentences" else "6")
    large = view(page, "Your text with the attention")
    expect(large).to_have_attribute("aria-label", re.compile(f"layer {layer}"), timeout=WAIT)
    for name, label in (("Matrix", "All weights"), ("Arcs", "Arcs of"), ("Lines", "Lines of")):
        page.get_by_role("radio", name=name).or_(page.get_by_role("button", name=name, exact=True)).first.click()
        expect(view(page, label)).to_be_visible(timeout=WAIT)
        settle(page)
    assert page.get_by_text("went wrong on our side").count() == 0


def test_lines_follow_the_opened_head_before_python_answers(page: Page, server: str, settle):
    page.goto(f"{server}/heads?model=sentences&layer=2&head=3&beside=Head+1")
    settle(page)
    drawn = (
        "(({views: {lines}, kinds, records}) => "
        "[lines.maps, kinds.lines.heads(lines, records.get(lines.maps))].join())(__attnviz)"
    )
    until(page, drawn, "read:1,2,0")
    page.evaluate("document.addEventListener('click', (event) => event.stopPropagation(), {capture: true, once: true})")
    layers, heads = (page.get_by_role("radiogroup", name=name, exact=True) for name in ("Layer", "Head"))
    layers.get_by_role("radio", name="4", exact=True).click()  # the app never hears of it
    until(page, drawn, "read:3,2,0")
    heads.get_by_role("radio", name="6", exact=True).click()
    expect(view(page, "Lines of layer 2, head 6")).to_be_visible(timeout=WAIT)
    until(page, drawn, "read:1,5,0")


def test_a_link_brings_words_head_and_options(page: Page, server: str, settle):
    page.goto(f"{server}/heads?model=sentences&text=The%20cats%20sleep.&layer=2&head=3&token=2&words=true&view=Matrix")
    settle(page)
    expect(page.get_by_text("Layer 2, head 3:")).to_be_visible(timeout=WAIT)
    expect(view(page, "All weights of layer 2, head 3")).to_be_visible(timeout=WAIT)


def test_pictures_and_texts_are_one_click_apart(page: Page, server: str, settle):
    page.goto(server)
    settle(page)
    page.get_by_role("button", name="Use a sentence").click()
    settle(page)
    expect(page.get_by_label("Your text")).to_be_visible(timeout=WAIT)
    page.get_by_role("button", name="Use a picture").click()
    settle(page)
    expect(page.get_by_role("button", name="Use a sentence")).to_be_visible(timeout=WAIT)
