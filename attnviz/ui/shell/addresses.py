"""Addresses that are no page: they lead to the nearest page, which says so, instead of to an empty window."""

from __future__ import annotations

from collections.abc import Collection

import streamlit as st
from starlette.datastructures import Headers
from starlette.responses import RedirectResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from attnviz.paths import PAGES

RENAMED = {"rollout": "explain"}  # what a page was called in addresses that are older than its name
REDIRECTED = "redirected"  # parameter of the address: another one was opened, and there is no page at that one
NO_PAGE = "There is no page at the address you opened, so this is {title}. Every page is listed in the sidebar."


def page_names() -> set[str]:
    """What stands in the address of each page but the first."""
    return {path.stem for path in PAGES.glob("*.py")} - {"start"}


def say_redirected(title: str) -> None:
    """Say once that another address was opened; the parameter goes with it, so that no link carries it on."""
    place = st.empty()  # always there, so that what follows keeps its place and its state
    if REDIRECTED in st.query_params:
        del st.query_params[REDIRECTED]
        place.info(NO_PAGE.format(title=title), icon=":material/wrong_location:")


class KnownPages:
    """ASGI middleware: where Streamlit would send its index.html at an address that is no page, a redirect to a page.

    Streamlit sends it at any address. Below the first level its scripts are then looked for in the wrong place, and the
    window stays empty; at the first level a dialog speaks of files on the server.
    """

    def __init__(self, app: ASGIApp, pages: Collection[str]):
        self.app, self.pages = app, pages

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on everything but HTML at an unknown address."""
        names = below_base(scope["path"]) if scope["type"] == "http" else []
        if not names or (len(names) == 1 and names[0] in self.pages):
            await self.app(scope, receive, send)
            return
        leads = False

        async def send_or_lead(message: Message) -> None:
            nonlocal leads
            if message["type"] == "http.response.start" and message["status"] == 200:
                leads = Headers(raw=message["headers"]).get("content-type", "").startswith("text/html")
                if leads:
                    await RedirectResponse(self.nearest(names, scope), 302)(scope, receive, send)
            if not leads:
                await send(message)

        await self.app(scope, receive, send_or_lead)

    def nearest(self, names: list[str], scope: Scope) -> str:
        """A link from here to the page these parts of an address begin with, else to the first page.

        It is relative, since a proxy may have taken something off the address that the browser has to keep. The old
        name of a page leads there without a word: it is the same page.
        """
        asked = RENAMED.get(names[0], names[0])
        page = asked if asked in self.pages else ""
        said = "" if page and len(names) == 1 else f"{REDIRECTED}=1"
        query = "&".join(filter(None, (scope["query_string"].decode("latin-1"), said)))
        return f"{'../' * (len(names) - 1) or './'}{page}{query and '?'}{query}"


def below_base(path: str) -> list[str]:
    """The parts of an address after the one the whole app stands at (`server.baseUrlPath`)."""
    base = "/" + str(st.get_option("server.baseUrlPath")).strip("/")
    return path.removeprefix(base).strip("/").split("/") if path.strip("/") != base.strip("/") else []
