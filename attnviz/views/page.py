"""Views that stand alone: one piece of HTML that needs no server, for notebooks and as a file.

    with Page("Heads of my model") as page:
        send_maps("layer 1", maps, titles=titles, keys=tokens)
        matrix_view("all", maps="layer 1")
    page.save("heads.html")

Inside the block, what would go to a visitor's browser stays in the page: what views are told, and the records they
read. Hovering, linking and downloads are the browser's own work, so all of that lives on; what only Python could answer
does not. Nothing is loaded from anywhere: the page forbids itself every request.
"""

from __future__ import annotations

import html
import json
from base64 import b64encode
from contextvars import ContextVar, Token
from pathlib import Path
from typing import Any

from attnviz.plots import theme
from attnviz.views.library import library, library_data, read

LARGEST = 24_000_000  # bytes of all records of a page: beyond, browsers and notebooks become slow
FRAME = 620  # pixels a page is tall in a notebook until it says its own height
POLICY = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:"
SHELL = """<!doctype html>
<html lang="en" data-theme="{theme}"><head><meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title><style>{css}</style></head>
<body><main></main>
<script type="application/json" id="page">{data}</script>
<script type="module">{script}</script></body></html>
"""


class Page:
    """A page of views, filled by the block it is opened for; a notebook shows it by itself."""

    def __init__(self, title: str = "attnviz") -> None:
        self.title = title
        self.records: dict[str, bytes] = {}
        self.shapes: dict[str, dict[str, Any]] = {}  # of records, so that a view can reserve its height
        self.parts: list[dict[str, Any]] = []  # in the order they are shown
        self._open: list[Token[Page | None]] = []

    def __enter__(self) -> Page:
        self._open.append(CURRENT.set(self))
        return self

    def __exit__(self, *_: object) -> None:
        CURRENT.reset(self._open.pop())

    def heading(self, text: str) -> None:
        """A line above what follows."""
        self.parts.append({"tag": "h2", "text": text})

    def words(self, text: str) -> None:
        """A paragraph of plain text."""
        self.parts.append({"tag": "p", "text": text})

    def take_record(self, name: str, blob: bytes, shape: dict[str, Any]) -> None:
        """Keep a record; one of the same name is replaced. Raises ValueError where all together are too large."""
        self.records[name], self.shapes[name] = blob, shape
        if (size := sum(map(len, self.records.values()))) > LARGEST:
            raise ValueError(
                f"a page holds at most {LARGEST / 1e6:.0f} MB, and these maps pack to {size / 1e6:.0f} MB or more: "
                "show fewer layers, or a part of the tokens"
            )

    def take_view(self, data: dict[str, Any]) -> None:
        """Keep what a view is told."""
        self.parts.append({"data": data})

    def html(self, ground: str = "auto") -> str:
        """The whole page; `ground` is "light", "dark", or "auto": what the reader's system prefers.

        Raises ValueError for another ground.
        """
        if ground not in ("auto", "light", "dark"):
            raise ValueError(f"ground is {ground!r}; known: auto, light, dark")
        data = {
            "library": library_data(),
            "records": [b64encode(blob).decode() for blob in self.records.values()],
            "parts": self.parts,
        }
        return SHELL.format(
            theme=ground,
            policy=POLICY,
            title=html.escape(self.title),
            css=style_sheet(),
            data=json.dumps(data).replace("<", "\\u003c"),  # no sign in it ends the script
            script=script(),
        )

    def save(self, path: str | Path, ground: str = "auto") -> None:
        """Write the whole page as one file, which any browser opens without a network."""
        Path(path).write_text(self.html(ground), encoding="utf-8")

    def _repr_html_(self) -> str:
        """The page in a frame of its own, so that many of them in one notebook do not disturb each other."""
        title, whole = html.escape(self.title), html.escape(self.html())
        return f'<iframe title="{title}" style="width: 100%; height: {FRAME}px; border: 0" srcdoc="{whole}"></iframe>'


CURRENT: ContextVar[Page | None] = ContextVar("attnviz page", default=None)


def script() -> str:
    """The views' own modules, each as a function that gives what it exports, and what puts a page together."""
    modules = {"library": library(), "transport": read("transport.js"), "view": read("view.js")}
    made = [f"const {name} = (() => {{\n{exported(code)}\n}})();" for name, code in modules.items()]
    return "\n".join([*made, read("page.js")]).replace("</script", "<\\/script")


def exported(code: str) -> str:
    """A module as the body of a function that returns its default export."""
    return code.replace("export default function", "return function")


def style_sheet() -> str:
    """Colours as Streamlit names them, in both themes, and how a page is laid out."""
    light, dark = (colours(at) for at in (0, 1))
    return read("page.css").replace("/* light */", light).replace("/* dark */", dark)


def colours(at: int) -> str:
    """The variables that views read, from the colours of the app's theme."""
    role = {name: pair[at] for name, pair in theme.COLOURS.items()}
    said = {
        "background-color": role["ground"],
        "secondary-background-color": role["grid"],
        "text-color": role["text"],
        "border-color": role["grid"],
        "primary-color": role["query"],
        "font": "system-ui, sans-serif",
    }
    return " ".join(f"--st-{name}: {value};" for name, value in said.items())
