"""A real server and a real browser. Every test that takes `page` also checks that nothing went wrong on the way.

`server` is the address of a fresh server for the whole run; `page` is a browser page that fails the test on an error in
the console or a request to any other host; `settle(page)` waits until the app has answered.
"""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, Request, expect, sync_playwright

from attnviz.paths import ROOT
from benchmarks.browser import FLAGS as BROWSER_FLAGS
from benchmarks.browser import chromium

FLAGS = [
    *BROWSER_FLAGS,
    "--use-fake-device-for-media-stream",  # a camera that shows a moving pattern, and asks nobody
    "--use-fake-ui-for-media-stream",
]
WAIT = 60_000  # milliseconds: the machine may be busy; nothing here measures time
expect.set_options(timeout=WAIT)
EXPECTED = re.compile(r"/[a-z_]+/_stcore/(health|host-config)$")  # two 404 of every deep link, while the base is sought


def settle(page: Page) -> None:
    """Wait until the app has answered: connected, no script running, no placeholder left."""
    page.wait_for_timeout(250)  # widgets wait up to 200 ms before they tell the server
    app = "[data-testid=stApp][data-test-connection-state=CONNECTED][data-test-script-state=notRunning]"
    page.locator(app).wait_for(state="attached", timeout=WAIT)
    expect(page.get_by_test_id("stSkeleton")).to_have_count(0, timeout=WAIT)


def free_port() -> int:
    """A port nobody listens on."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def start_server(
    log: Path,
    *options: str,
    module: Sequence[str] = ("streamlit",),
    environment: dict[str, str] | None = None,
    port: int | None = None,
) -> tuple[subprocess.Popen, str]:
    """The app as a visitor's `streamlit run app.py` starts it, on a free port; waits until it is healthy.

    `module`: what is run in Streamlit's place, with its first arguments.
    """
    port = free_port() if port is None else port
    command = [sys.executable, "-m", *module, "run", "app.py", "--server.headless", "true"]
    command += ["--server.address", "127.0.0.1", "--server.port", str(port), *options]
    with log.open("w") as file:
        process = subprocess.Popen(
            command, cwd=ROOT, stdout=file, stderr=file, env={**os.environ, **(environment or {})}
        )
    address = f"http://127.0.0.1:{port}"
    for _ in range(240):
        if process.poll() is not None:
            break
        try:
            with urllib.request.urlopen(f"{address}/_stcore/health", timeout=5):
                return process, address
        except (urllib.error.URLError, OSError):
            time.sleep(0.25)
    process.kill()
    raise RuntimeError(f"the server did not start:\n{log.read_text()}")


def stop_server(process: subprocess.Popen) -> None:
    """End a server that `start_server` began."""
    process.terminate()
    try:
        process.wait(timeout=10)
    except subprocess.TimeoutExpired:
        process.kill()


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a running app."""
    process, address = start_server(tmp_path_factory.mktemp("server") / "log.txt")
    yield address
    stop_server(process)


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Chromium without a window: the system's if there is one, else Playwright's own."""
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=chromium(), args=FLAGS)
        yield opened
        opened.close()


class Watch:
    """What a page said and asked for that it should not have."""

    def __init__(self, page: Page, host: str):
        self.host, self.problems = host, []
        self.allowed: list[str] = []  # patterns of console errors that a test expects
        page.on("console", self.heard)
        page.on("pageerror", lambda error: self.problems.append(f"error: {error}"))
        page.on("request", self.asked)

    def heard(self, message: ConsoleMessage) -> None:
        """Errors count, but for the two known 404."""
        address = message.location.get("url", "")
        known = "404" in message.text and EXPECTED.search(urlsplit(address).path)
        if message.type == "error" and not known:
            self.problems.append(f"console: {message.text} ({address})")

    def asked(self, request: Request) -> None:
        """Only our own host may be asked for anything."""
        parts = urlsplit(request.url)
        if parts.scheme in ("http", "https", "ws", "wss") and parts.netloc != self.host:
            self.problems.append(f"foreign host: {request.url}")

    def unexpected(self) -> list[str]:
        """All problems but those a test has allowed."""
        return [p for p in self.problems if not any(re.search(pattern, p) for pattern in self.allowed)]


@contextmanager
def watched(browser: Browser, address: str, width: int = 1280, height: int = 900, wait: int = WAIT) -> Iterator[Page]:
    """A fresh browser page; `page.watch` holds what went wrong, and leaving fails if anything did."""
    context = browser.new_context(viewport={"width": width, "height": height})
    opened = context.new_page()
    opened.set_default_timeout(wait)
    opened.watch = Watch(opened, urlsplit(address).netloc)  # type: ignore[attr-defined]
    yield opened
    problems = opened.watch.unexpected()  # type: ignore[attr-defined]
    context.close()
    assert not problems, "\n".join(problems)


@pytest.fixture
def page(browser: Browser, server: str) -> Iterator[Page]:
    """A fresh browser page of 1280 x 900, watched."""
    with watched(browser, server) as opened:
        yield opened


@pytest.fixture(name="settle")
def settle_fixture():
    """The function `settle`, for tests that import nothing from here."""
    return settle
