"""What the browser tests read off a page: a view, its sentence, a parameter of the address."""

from __future__ import annotations

import re
from collections.abc import Callable
from urllib.parse import parse_qs, urlsplit

from playwright.sync_api import Error, Locator, Page

WAIT, LOOK = 60_000, 100  # milliseconds: how long to wait for an answer of the page, and between two looks


def view(page: Page, name: str) -> Locator:
    """The canvas of a view by the start of its label."""
    return page.get_by_role("application", name=re.compile(f"^{re.escape(name)}"))


def sentence(canvas: Locator) -> Locator:
    """What a view says in words below its canvas."""
    return frame(canvas).locator(".sentence")


def legend(canvas: Locator) -> Locator:
    """The line below a canvas that says what its colours mean."""
    return frame(canvas).locator(".legend")


def frame(canvas: Locator) -> Locator:
    """A view with all that belongs to it."""
    return canvas.locator("xpath=ancestor::*[contains(@class, 'view')][1]")


def chosen(page: Page, name: str) -> str | None:
    """A parameter of the address."""
    return parse_qs(urlsplit(page.url).query).get(name, [None])[0]


def expect_chosen(page: Page, name: str, wanted: str | None) -> None:
    """Wait until the address says so of a parameter; a busy app may answer after it seemed to have settled."""
    wait_for(page, lambda: chosen(page, name), wanted, f"{name} in the address")


def until(page: Page, script: str, wanted: object = True) -> None:
    """Wait until a script answers as wanted; what it needs may not be there yet.

    Playwright's own wait_for_function does so by eval, which the app's policy forbids.
    """

    def answer() -> object:
        try:
            return page.evaluate(script)
        except Error as error:
            return error

    wait_for(page, answer, wanted, script)


def wait_for(page: Page, look: Callable[[], object], wanted: object, what: str) -> None:
    """Look again and again until the answer is the wanted one."""
    found = None
    for _ in range(WAIT // LOOK):
        if (found := look()) == wanted:
            return
        page.wait_for_timeout(LOOK)
    raise AssertionError(f"{what}: found {found}, not {wanted}")
