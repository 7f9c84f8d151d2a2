"""A tab whose server was killed and started again: the page comes back whole, and the next click is followed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, FilePayload, Locator, Page, expect

from attnviz.ui.inputs.image_run import GONE
from tests.browser import conftest
from tests.browser.reading import expect_chosen, view, wait_for
from tests.ui.test_app_frame import png

pytestmark = pytest.mark.browser
CONNECTED = "[data-testid=stApp][data-test-connection-state=CONNECTED]"
# What the console says while there is no server.
UNREACHABLE = "ERR_(CONNECTION|EMPTY|SOCKET)|WebSocket|timed out|No response received|not responding"


class Server:
    """A server that can be killed and started again under the same address."""

    def __init__(self, folder: Path):
        self.log = folder / "log.txt"
        self.process, self.address = conftest.start_server(self.log)

    def kill(self) -> None:
        """End it without a word, as a crash does."""
        self.process.kill()
        self.process.wait()

    def start(self) -> None:
        """Start it anew: it knows of no session."""
        self.process, _ = conftest.start_server(self.log, port=urlsplit(self.address).port)


@pytest.fixture(scope="module")
def mortal(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server of this file's own."""
    running = Server(tmp_path_factory.mktemp("mortal"))
    yield running
    running.kill()


@pytest.fixture
def tab(browser: Browser, mortal: Server) -> Iterator[Page]:
    """A browser page of that server, which may say that it finds none."""
    with conftest.watched(browser, mortal.address) as opened:
        opened.watch.allowed.append(UNREACHABLE)  # type: ignore[attr-defined]
        yield opened


def show(page: Page, address: str) -> None:
    """Open an address and wait until it is drawn."""
    page.goto(address)
    page.locator("h1").first.wait_for()
    conftest.settle(page)


def restart(page: Page, mortal: Server) -> None:
    """Kill the server, start it again, and wait until the tab is connected: no longer."""
    mortal.kill()
    page.locator(CONNECTED).wait_for(state="detached")
    mortal.start()
    page.locator(CONNECTED).wait_for(state="attached")


def choose(page: Page, group: str, label: str) -> None:
    """Press one of a row of buttons."""
    page.get_by_role("radiogroup", name=group, exact=True).get_by_role("radio", name=label, exact=True).click()


def pixels(canvas: Locator) -> str:
    """What a canvas shows, as a data address."""
    return canvas.evaluate("canvas => canvas.toDataURL()")


def expect_new_pixels(page: Page, canvas: Locator, old: str) -> None:
    """Wait until a canvas shows something else."""
    wait_for(page, lambda: pixels(canvas) != old, True, "another picture on the canvas")


def icons(page: Page) -> list[str]:
    """Where the icons of the tab come from."""
    return [link.get_attribute("href") or "" for link in page.locator("link[rel~=icon]").all()]


def test_the_icon_of_the_tab_needs_no_server(tab: Page, mortal: Server):
    show(tab, f"{mortal.address}/lesson")
    held = "data:image/png;base64,"
    wait_for(
        tab, lambda: any(address.startswith(held) for address in icons(tab)), True, "an icon that came with the page"
    )
    assert not any("/media/" in address for address in icons(tab))


LARGE = "Your picture with the attention of layer 1, head "


@pytest.mark.parametrize("at_once", [True, False], ids=["at once", "after a while"])
def test_a_click_after_a_restart_is_followed(at_once: bool, tab: Page, mortal: Server):
    show(tab, f"{mortal.address}/heads?model=vit-digits&layer=1&head=2&sample=seven")
    before = pixels(view(tab, f"{LARGE}2"))
    restart(tab, mortal)
    if not at_once:
        tab.wait_for_timeout(1000)
        conftest.settle(tab)
    choose(tab, "Head", "4")
    expect(view(tab, f"{LARGE}4")).to_be_visible()
    expect(tab.get_by_text("Layer 1, head 4:")).to_be_visible()
    expect_new_pixels(tab, view(tab, f"{LARGE}4"), before)
    expect_chosen(tab, "head", "4")
    expect_chosen(tab, "sample", "seven")


@pytest.mark.parametrize(
    ("address", "group", "label", "said"),
    [
        ("compare?model=vit&variants=mha,linear&sample=cat&layer=1", "Layer", "3", "layer 3, head"),
        ("heads?model=sentences&layer=2&head=3", "Head", "1", "Layer 2, head 1:"),
    ],
    ids=["compare", "text"],
)
def test_other_pages_come_back_too(address: str, group: str, label: str, said: str, tab: Page, mortal: Server):
    show(tab, f"{mortal.address}/{address}")
    canvas = tab.get_by_role("application").first  # the first view: tables are drawn on a canvas, too
    before = pixels(canvas)
    restart(tab, mortal)
    choose(tab, group, label)
    expect(tab.get_by_text(said).first).to_be_visible()
    expect_new_pixels(tab, canvas, before)


def test_an_upload_that_is_gone_is_said_and_a_sample_takes_its_place(tab: Page, mortal: Server):
    show(tab, f"{mortal.address}/heads?model=vit-digits&layer=1&head=2&sample=seven")
    file: FilePayload = {"name": "mine.png", "mimeType": "image/png", "buffer": png()}
    tab.get_by_test_id("stSidebar").get_by_test_id("stFileUploaderDropzoneInput").set_input_files(file)
    picture = tab.get_by_test_id("stSidebar").get_by_role("combobox", name="Picture")
    expect(picture).to_have_value("upload")
    conftest.settle(tab)
    restart(tab, mortal)
    expect(picture).not_to_have_value("upload")
    conftest.settle(tab)
    expect(tab.get_by_test_id("stAlert")).to_have_count(1)
    expect(tab.get_by_test_id("stAlert")).to_contain_text(GONE)
    choose(tab, "Head", "4")
    expect(tab.get_by_text("Layer 1, head 4:")).to_be_visible()
