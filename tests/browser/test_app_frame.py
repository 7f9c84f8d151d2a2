"""The frame in a real browser: first screen, sample pictures, uploads, links, history, themes, keyboard, camera."""

from __future__ import annotations

import io
import re
from pathlib import Path

import pytest
from PIL import Image
from playwright.sync_api import Browser, FilePayload, Page, expect

from attnviz.ui.inputs.image_run import ALONE, FOLDED
from attnviz.ui.shell.addresses import NO_PAGE
from attnviz.ui.shell.page import section
from tests.browser import conftest
from tests.browser.reading import expect_chosen, until

pytestmark = pytest.mark.browser
PAGES = {
    "": section("start", "title"),
    "embeddings": "Embeddings",
    "positions": "Positions",
    "follow": "Follow a token",
    "queries_keys": "Queries and keys",
    "heads": "Heads",
    "explain": "Explain",
    "compare": "Compare",
    "translate": "Translate",
    "generate": "Generate",
    "lesson": "Lesson",
    "train": "Train",
}


def show(page: Page, address: str) -> None:
    """Open an address and wait until it is drawn."""
    page.goto(address)
    page.locator("h1").first.wait_for()
    conftest.settle(page)


def picture(size: tuple[int, int] = (90, 60), colour: str = "orange", kind: str = "PNG") -> FilePayload:
    """A file to upload."""
    file = io.BytesIO()
    Image.new("RGB", size, colour).save(file, kind)
    return {"name": "mine.png", "mimeType": "image/png", "buffer": file.getvalue()}


def chosen_picture(page: Page):
    """The list of pictures in the sidebar."""
    return page.get_by_test_id("stSidebar").get_by_role("combobox", name="Picture")


def test_the_first_screen_shows_answer_and_map(page: Page, server: str):
    show(page, f"{server}/?model=vit-digits")
    expect(page.get_by_role("progressbar").first).to_be_visible()
    expect(page.get_by_text(re.compile(r"^3 · \d+\.\d\s%$"))).to_be_visible()
    canvas = page.locator("canvas").first
    expect(canvas).to_be_visible()
    sentence = page.locator(".sentence").first
    before = sentence.inner_text()
    box = canvas.bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + box["width"] * 0.5, box["y"] + box["height"] * 0.6)
    expect(sentence).not_to_have_text(before)
    expect(sentence).to_contain_text("%")


def test_a_sample_is_one_click_away_and_history_follows(page: Page, server: str):
    show(page, f"{server}/?model=vit-digits")
    for name in ("zero", "seven"):
        page.get_by_role("button", name=name).click()
        expect(page).to_have_url(re.compile(f"sample={name}"))
        expect(chosen_picture(page)).to_have_value(name)
    expect(page.get_by_text(re.compile("^7 · "))).to_be_visible()
    conftest.settle(page)
    page.go_back()
    expect(chosen_picture(page)).to_have_value("zero")
    expect(page.get_by_text(re.compile("^0 · "))).to_be_visible()
    page.go_forward()
    expect(chosen_picture(page)).to_have_value("seven")


def test_samples_by_keyboard(page: Page, server: str):
    show(page, f"{server}/?model=vit-digits")
    page.get_by_role("button", name="zero").focus()
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect(chosen_picture(page)).to_have_value("two")
    expect(page.get_by_role("button", name="two", exact=True)).to_have_attribute("aria-pressed", "true")


@pytest.mark.slow
@pytest.mark.parametrize("path", PAGES)
def test_a_link_to_any_page_of_a_fresh_server_shows_that_state(path: str, browser: Browser, tmp_path: Path):
    process, server = conftest.start_server(tmp_path / "log.txt")
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    try:
        page = context.new_page()
        page.set_default_timeout(conftest.WAIT)
        watch = conftest.Watch(page, server.removeprefix("http://"))
        show(page, f"{server}/{path}?model=vit-digits&sample=zero&token=7")
        expect(page.locator("h1").first).to_have_text(PAGES[path])
        expect(chosen_picture(page)).to_have_value("zero")
        expect(page.get_by_role("combobox", name="Model")).to_have_value("vit-digits")
        assert "token=7" in page.url
        assert page.get_by_text("Page not found").count() == 0
        assert not watch.unexpected(), watch.unexpected()
    finally:
        context.close()
        conftest.stop_server(process)


@pytest.mark.parametrize("path", PAGES)
def test_every_page_opens_by_its_link(path: str, page: Page, server: str):
    show(page, f"{server}/{path}?model=vit-digits&sample=nine&token=7")
    expect(page.locator("h1").first).to_have_text(PAGES[path])
    if path in ALONE:  # it asks for no model: what the others read stands folded away, and is kept
        expect(chosen_picture(page)).to_have_count(0)
        page.get_by_text(FOLDED).click()
    expect(chosen_picture(page)).to_have_value("nine")
    expect(page.get_by_text("What this does not tell you")).to_be_attached()
    assert page.get_by_text("went wrong on our side").count() == 0


def test_the_address_keeps_the_picture_on_the_way_back(page: Page, server: str):
    """From a page that folds the choice of a picture away; a copied link would show another one."""
    show(page, f"{server}/?sample=barn")
    for name in ("Translate", "Start", "Heads"):
        page.get_by_role("link", name=name, exact=True).first.click()
        expect(page.locator("h1").first).to_have_text(PAGES[name.lower()] if name != "Start" else PAGES[""])
        conftest.settle(page)
        assert "sample=barn" in page.url


def test_unknown_values_fall_back(page: Page, server: str):
    show(page, f"{server}/heads?model=nobody&sample=%3Cscript%3E&layer=99&head=x&token=99999&scale=Cubic")
    expect(page.locator("h1").first).to_have_text("Heads")
    expect(page.get_by_role("combobox", name="Model")).to_have_value("vit")
    expect(chosen_picture(page)).to_have_value("pepper")
    (said,) = page.get_by_test_id("stAlert").all_inner_texts()  # one line says what is not here, and as plain text
    assert all(f"“{name}”" in said for name in ("nobody", "script", "99", "x", "99999"))


@pytest.mark.parametrize(
    ("path", "title"),
    [("heads/x", "Heads"), ("heads/x/y", "Heads"), ("nonsense", PAGES[""]), ("nonsense/x", PAGES[""])],
)
def test_an_address_that_is_no_page_says_so_and_shows_the_nearest(path: str, title: str, page: Page, server: str):
    show(page, f"{server}/{path}?model=vit-digits&sample=nine")
    expect(page.locator("h1").first).to_have_text(title)
    said = page.get_by_test_id("stAlert")
    expect(said).to_have_text(re.compile(re.escape(NO_PAGE.partition("{")[0])))
    expect(chosen_picture(page)).to_have_value("nine")
    assert page.get_by_role("dialog").count() == 0
    assert "redirected" not in page.url
    page.get_by_test_id("stSidebar").get_by_role("link", name="Explain").click()
    expect(page.locator("h1").first).to_have_text("Explain")
    expect(said).to_have_count(0)


def test_a_question_leads_to_its_page_and_keeps_the_picture(page: Page, server: str):
    show(page, f"{server}/?model=vit-digits&sample=seven")
    page.get_by_role("button", name="What does each head attend to?").click()
    expect(page.locator("h1").first).to_have_text("Heads")
    conftest.settle(page)
    expect(chosen_picture(page)).to_have_value("seven")
    assert "sample=seven" in page.url
    assert "model=vit-digits" in page.url


def test_the_square_the_network_sees_can_be_moved(page: Page, server: str):
    show(page, f"{server}/?model=vit-digits&sample=seven")
    bars = page.get_by_role("progressbar")
    before = bars.first.get_attribute("aria-valuenow")
    crop = page.get_by_test_id("stSidebar").get_by_text("Crop", exact=True)
    crop.click()
    page.get_by_role("slider", name="Zoom").focus()
    for _ in range(10):
        page.keyboard.press("ArrowRight")
    expect_chosen(page, "zoom", "2")
    expect(bars.first).not_to_have_attribute("aria-valuenow", before or "")
    crop.click()  # also while it is closed the address has to keep it
    page.get_by_test_id("stSidebar").get_by_role("link", name="Heads").click()
    expect(page.locator("h1").first).to_have_text("Heads")
    conftest.settle(page)
    expect_chosen(page, "zoom", "2")


def test_an_upload_is_shown_and_survives_a_change_of_page(page: Page, server: str):
    show(page, f"{server}/?model=vit-digits")
    page.get_by_test_id("stSidebar").get_by_test_id("stFileUploaderDropzoneInput").set_input_files(picture())
    expect(chosen_picture(page)).to_have_value("upload")
    page.get_by_test_id("stSidebar").get_by_role("link", name="Heads").click()
    expect(page.locator("h1").first).to_have_text("Heads")
    conftest.settle(page)
    expect(chosen_picture(page)).to_have_value("upload")


@pytest.mark.parametrize(
    ("raw", "sentence"),
    [
        (b"<svg xmlns='http://www.w3.org/2000/svg' onload='alert(1)'/>", "an SVG drawing"),
        (b"<!doctype html><script>alert(1)</script>", "a web page"),
        (picture((1, 1))["buffer"], "too small to show anything"),
    ],
)
def test_a_bad_upload_gets_one_sentence(raw: bytes, sentence: str, page: Page, server: str):
    show(page, f"{server}/?model=vit-digits&sample=zero")
    file: FilePayload = {"name": "evil.png", "mimeType": "image/png", "buffer": raw}
    page.get_by_test_id("stSidebar").get_by_test_id("stFileUploaderDropzoneInput").set_input_files(file)
    expect(page.get_by_test_id("stAlert")).to_contain_text(sentence)
    expect(page.get_by_test_id("stAlert")).to_have_count(1)
    expect(chosen_picture(page)).to_have_value("zero")


def test_a_damaged_file_leaves_the_upload_it_was_to_replace(page: Page, server: str):
    show(page, f"{server}/?model=vit-digits&sample=zero")
    uploader = page.get_by_test_id("stSidebar").get_by_test_id("stFileUploaderDropzoneInput")
    uploader.set_input_files(picture())
    expect(chosen_picture(page)).to_have_value("upload")
    conftest.settle(page)
    uploader.set_input_files({"name": "bad.jfif", "mimeType": "image/jpeg", "buffer": picture()["buffer"][:60]})
    expect(page.get_by_test_id("stAlert")).to_contain_text("damaged")
    conftest.settle(page)
    expect(page.get_by_test_id("stAlert")).to_have_count(1)
    expect(chosen_picture(page)).to_have_value("upload")


def test_the_camera_is_opened_on_demand_only(page: Page, server: str):
    page.add_init_script(
        """globalThis.asked = 0;
        navigator.mediaDevices.getUserMedia = () => { asked += 1; return Promise.reject(new Error("none")); };"""
    )
    show(page, f"{server}/?model=vit-digits")
    assert page.evaluate("asked") == 0
    page.get_by_test_id("stSidebar").get_by_text("Use the camera").click()
    expect(page.get_by_test_id("stSidebar").get_by_test_id("stCameraInput")).to_be_visible()
    until(page, "asked > 0")


def test_a_photo_becomes_the_picture(page: Page, server: str):
    show(page, f"{server}/?model=vit-digits")
    page.get_by_test_id("stSidebar").get_by_text("Use the camera").click()
    take, taken = page.get_by_role("button", name="Take Photo"), page.get_by_role("button", name="Clear photo")
    streams = "() => [...document.querySelectorAll('video')].some(v => v.readyState >= 2 && v.videoWidth > 0)"
    for _ in range(480):
        # Until the camera has shown a first frame, the button takes a photo of nothing; a visitor presses it again.
        if page.evaluate(streams) and take.count():
            take.click()
            page.wait_for_timeout(2000)
        if taken.count():
            break
        page.wait_for_timeout(250)
    expect(taken).to_be_visible()
    expect(chosen_picture(page)).to_have_value("camera")
    conftest.settle(page)
    assert page.get_by_test_id("stAlert").count() == 0


@pytest.mark.parametrize(("scheme", "ground"), [("light", "rgb(255, 255, 255)"), ("dark", "rgb(17, 20, 26)")])
def test_the_system_chooses_the_theme(scheme: str, ground: str, browser: Browser, server: str):
    context = browser.new_context(color_scheme=scheme)  # type: ignore[arg-type]
    page = context.new_page()
    page.set_default_timeout(conftest.WAIT)
    show(page, f"{server}/?model=vit-digits")
    assert page.get_by_test_id("stApp").evaluate("e => getComputedStyle(e).backgroundColor") == ground
    context.close()


def test_another_model_keeps_the_page_alive(page: Page, server: str):
    show(page, f"{server}/heads?layer=5&head=6&token=200")
    page.get_by_role("combobox", name="Model").click()
    page.get_by_role("option", name="vit-digits").click()
    expect(chosen_picture(page)).to_have_value("three")
    conftest.settle(page)
    assert page.get_by_test_id("stAlert").count() == 0


def test_the_page_does_not_move_while_it_loads(page: Page, server: str):
    show(page, f"{server}/?model=vit-digits")
    page.get_by_role("button", name="seven").click()
    conftest.settle(page)
    place = page.locator("canvas").first.bounding_box()
    page.get_by_role("button", name="eight", exact=True).click()
    conftest.settle(page)
    assert page.locator("canvas").first.bounding_box() == place
