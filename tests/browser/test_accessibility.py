"""Every page in both themes, checked by axe-core: no serious finding. What is Streamlit's own markup is named here."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page

from attnviz.ui.shell.menu import MENU
from tests.browser.conftest import WAIT, settle

pytestmark = pytest.mark.browser
SERIOUS = {"serious", "critical"}
# Rule -> inside of what its findings are not ours. Streamlit writes the menu as a list of headings and groups of links.
FOREIGN = {"list": "[data-testid=stSidebarNav]", "listitem": "[data-testid=stSidebarNav]"}
CONTRAST = {"runOnly": ["color-contrast"]}


@contextmanager
def opened(browser: Browser, address: str, theme: str = "light") -> Iterator[Page]:
    """A page in which axe may run: the app forbids scripts that are no files of its own."""
    context = browser.new_context(viewport={"width": 1280, "height": 900}, bypass_csp=True)
    page = context.new_page()
    page.set_default_timeout(WAIT)
    page.goto(f"{address}?embed_options={theme}_theme")
    page.get_by_role("heading", level=1).first.wait_for()
    settle(page)
    yield page
    context.close()


def findings(page: Page, context: str | None = None, options: dict | None = None) -> list[str]:
    """What axe-core finds wrong on a page or in a part of it, as rule, markup and message."""
    return [
        f"{one['id']}: {node['html']} {node['failureSummary']}"
        for one in Axe().run(page, context, options).response["violations"]
        if one["impact"] in SERIOUS
        for node in one["nodes"]
        if not is_foreign(page, one["id"], node["target"])
    ]


def is_foreign(page: Page, rule: str, target: list[str | list[str]]) -> bool:
    """Whether what a rule found is markup that we do not write."""
    inside, node = FOREIGN.get(rule), target[0]
    if inside is None or not isinstance(node, str):  # a path into a shadow tree, which only our components have
        return False
    return page.locator(node).evaluate("(node, all) => Boolean(node.closest(all))", inside)


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("name", MENU)
def test_no_serious_finding(name: str, theme: str, browser: Browser, server: str):
    place = "" if name == next(iter(MENU)) else name
    with opened(browser, f"{server}/{place}", theme) as page:
        assert not findings(page)


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_a_button_is_readable_under_the_pointer_and_in_focus(theme: str, browser: Browser, server: str):
    with opened(browser, f"{server}/generate", theme) as page:
        for kind in ("primary", "secondary"):
            button = f'[data-testid="stMain"] button[kind="{kind}"]:not(:disabled)'
            page.locator(button).first.hover()
            page.wait_for_timeout(400)  # colours change slowly
            assert not findings(page, button, CONTRAST)
            page.locator(button).first.focus()
            page.wait_for_timeout(400)
            assert not findings(page, button, CONTRAST)


def test_a_serious_finding_is_found(browser: Browser):
    page = browser.new_page()
    page.set_content("<html lang=en><title>x</title><h1 style='color:#eee;background:#fff'>pale</h1><img src=x>")
    found = {finding.split(":")[0] for finding in findings(page)}
    page.close()
    assert found >= {"color-contrast", "image-alt"}
