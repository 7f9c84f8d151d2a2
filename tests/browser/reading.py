"""What the browser tests read off a page: a view, its sentence, a parameter of the address."""

from __future__ import annotations

import re
from urllib.parse import parse_qs, urlsplit

from playwright.sync_api import Locator, Page


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
