"""The style of the frame and the widgets' scripts, named in the page itself: what comes late moves what is there."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

import streamlit as st
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

STYLE = Path(__file__).with_name("app.css")
INDEX = Path(st.__file__).parent / "static" / "index.html"
SCRIPTS = INDEX.parent / "static" / "js"
# Parts of Streamlit's frontend that nearly every page needs, each in a script that is else asked for when first drawn.
WIDGETS = (
    "BidiComponent",
    "Button",
    "ButtonGroup",
    "Checkbox",
    "DownloadButton",
    "FileUploader",
    "ImageList",
    "Selectbox",
    "Slider",
    "TextInput",
)
# By these Streamlit would answer that its own page is unchanged, or compress it before anything is added.
KEPT_BACK = (b"if-none-match", b"if-modified-since", b"accept-encoding")


class FirstPaint:
    """ASGI middleware: adds app.css to every HTML page, and asks for the scripts of usual widgets at once.

    `st.html` could bring the style too, but only after the first elements stand on the page.
    """

    def __init__(self, app: ASGIApp):
        self.app = app
        links = (f'<link rel="modulepreload" crossorigin href="./static/js/{name}">\n' for name in scripts(WIDGETS))
        self.added = f"{''.join(links)}<style>\n{STYLE.read_text(encoding='utf-8')}</style>\n".encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on everything but a page that is read as a document."""
        if scope["type"] != "http" or scope["method"] != "GET" or not asks_for_page(scope):
            await self.app(scope, receive, send)
            return
        start: Message | None = None
        body = b""

        async def send_whole(message: Message) -> None:
            nonlocal start, body
            if message["type"] == "http.response.start" and is_page(message):
                start = message
                return
            if start is None:
                await send(message)
                return
            body += message.get("body", b"")
            if not message.get("more_body"):
                # at the end, since what Streamlit adds to the head would otherwise win over rules of equal weight
                page = body.replace(b"</body>", self.added + b"</body>", 1)
                await send(sized(start, len(page)))
                await send({"type": "http.response.body", "body": page})

        asked = [(name, value) for name, value in scope["headers"] if name not in KEPT_BACK]
        await self.app({**scope, "headers": asked}, receive, send_whole)


def asks_for_page(scope: Scope) -> bool:
    """Whether a browser asks for a document, not for a script or a picture."""
    return "text/html" in Headers(scope=scope).get("accept", "")


def is_page(message: Message) -> bool:
    """Whether an answer begins that is an HTML page."""
    return Headers(raw=message["headers"]).get("content-type", "").startswith("text/html")


def sized(start: Message, length: int) -> Message:
    """The beginning of an answer for a body of another length, which is no longer the file its tag speaks of."""
    headers = MutableHeaders(raw=list(start["headers"]))
    headers["content-length"] = str(length)
    del headers["etag"]
    del headers["last-modified"]
    return {**start, "headers": headers.raw}


def scripts(widgets: Iterable[str]) -> list[str]:
    """The files of these widgets and of all that they import, but for those the page names already."""
    found = set(re.findall(r"static/js/([\w.-]+\.js)", INDEX.read_text(encoding="utf-8")))
    named = frozenset(found)
    waiting = [path.name for widget in widgets for path in SCRIPTS.glob(f"{widget}.*.js")]
    while waiting:
        if (name := waiting.pop()) not in found:
            found.add(name)
            waiting += re.findall(r'(?:from|import)"\./([\w.-]+\.js)"', (SCRIPTS / name).read_text(encoding="utf-8"))
    return sorted(found - named)
