"""What is added to the page itself: the style of the frame and the scripts of the widgets, and to nothing else."""

from __future__ import annotations

import re

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.testclient import TestClient

from attnviz.paths import ROOT
from attnviz.ui.shell import first_paint

PAGE = "<html><head></head><body><div id=root></div></body></html>"
BROWSER = {"accept": "text/html,*/*;q=0.8"}


def page(request: Request) -> Response:
    """A page as a file server sends it: unchanged for whoever has it, and told by what it was asked."""
    if "if-none-match" in request.headers:
        return Response(status_code=304)
    return HTMLResponse(PAGE, headers={"etag": '"old"', "last-modified": "yesterday"})


@pytest.fixture
def client() -> TestClient:
    """A small app behind the middleware."""
    routes = [Route("/", page), Route("/text", lambda _: PlainTextResponse(PAGE))]
    return TestClient(first_paint.FirstPaint(Starlette(routes=routes)))


def test_a_page_has_the_style_and_the_scripts_at_its_end(client: TestClient):
    answer = client.get("/", headers=BROWSER)
    assert first_paint.STYLE.read_text() in answer.text
    assert answer.text.index("<style>") > answer.text.index("id=root")
    assert answer.text.endswith("</body></html>")
    assert int(answer.headers["content-length"]) == len(answer.content)
    assert set(re.findall(r"static/js/([\w.-]+)", answer.text)) == set(first_paint.scripts(first_paint.WIDGETS))


def test_a_browser_never_keeps_a_page_without_them(client: TestClient):
    answer = client.get("/", headers={**BROWSER, "if-none-match": '"old"'})
    assert answer.status_code == 200
    assert "<style>" in answer.text
    assert not {"etag", "last-modified"} & set(answer.headers)


def test_nothing_else_is_changed(client: TestClient):
    assert client.get("/text", headers=BROWSER).text == PAGE
    assert client.get("/", headers={"accept": "*/*"}).text == PAGE
    assert client.head("/", headers=BROWSER).content == b""


def test_every_widget_has_a_script_and_all_that_it_imports():
    for widget in first_paint.WIDGETS:
        assert list(first_paint.SCRIPTS.glob(f"{widget}.*.js")), widget
    found = set(first_paint.scripts(["ButtonGroup"]))
    named = set(re.findall(r"static/js/([\w.-]+\.js)", first_paint.INDEX.read_text()))
    assert found
    for name in found:
        imported = re.findall(r'(?:from|import)"\./([\w.-]+\.js)"', (first_paint.SCRIPTS / name).read_text())
        assert set(imported) <= found | named
    assert not first_paint.scripts(["NoSuchWidget"])


def test_every_component_says_when_it_has_its_place():
    """What stands below one that does not say so is hidden for seconds; those that take no place are let through."""
    invisible = {"attnviz/views/transport.js", "attnviz/views/library.js"}
    silent = [
        str(path.relative_to(ROOT))
        for path in sorted(ROOT.glob("attnviz/**/*.js"))
        if "export default function" in (code := path.read_text(encoding="utf-8")) and "dataset.placed" not in code
    ]
    assert set(silent) == invisible
