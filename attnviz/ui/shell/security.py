"""Whom the server answers, response headers Streamlit does not send by itself, and addresses it should not serve."""

from __future__ import annotations

import base64
import hashlib
import os
import re
from pathlib import Path

import streamlit as st
from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

CLOSED = ("/_stcore/metrics", "/_stcore/script-health-check")
LOCAL = ("localhost", "127.0.0.1", "[::1]")  # names every machine has for itself
MORE_HOSTS = "ATTNVIZ_HOSTS"  # environment variable: further names, separated by commas; "*.example.org", "*" for any
HOST = re.compile(r"([a-z0-9_-]+(?:\.[a-z0-9_-]+)*|\[[0-9a-f:.]+\])\.?(?::[0-9]*)?", re.ASCII)  # with or without a port
FOREIGN_HOST = (
    "attnviz does not answer under this host name. On the machine it runs on, open it as localhost; "
    f"whoever runs it for others lists its host names in {MORE_HOSTS}.\n"
)
FOREIGN_ORIGIN = (
    "attnviz does not answer requests from pages of another site. Open it by itself; "
    f"whoever runs it behind a proxy lists its host names in {MORE_HOSTS}.\n"
)


def inline_scripts(page: str) -> list[str]:
    """The sources 'sha256-…' that allow exactly the scripts written into this HTML page, and no others."""
    scripts = re.findall(r"<script(?![^>]*\bsrc=)[^>]*>(.*?)</script>", page, re.DOTALL)
    digests = (hashlib.sha256(script.encode()).digest() for script in scripts)
    return [f"'sha256-{base64.b64encode(digest).decode()}'" for digest in digests]


def content_policy() -> str:
    """What a page of ours may load: only what this server sends. The hash follows the installed Streamlit."""
    index = Path(st.__file__).parent / "static" / "index.html"
    scripts = " ".join(["'self'", "blob:", *inline_scripts(index.read_text(encoding="utf-8"))])
    return "; ".join(
        (
            "default-src 'self'",
            f"script-src {scripts}",  # components are imported from a blob: address
            "style-src 'self' 'unsafe-inline'",
            "img-src 'self' data: blob:",
            "media-src 'self' blob:",
            "font-src 'self' data:",
            "connect-src 'self' data:",  # the camera widget reads its own photo from a data: address
            "worker-src blob:",
            "object-src 'none'",
            "base-uri 'self'",
            "form-action 'self'",
            "frame-ancestors 'self'",
        )
    )


class SecurityHeaders:
    """ASGI middleware: a content policy and three smaller headers on every answer; websockets pass through."""

    def __init__(self, app: ASGIApp):
        self.app = app
        named = {
            "content-security-policy": content_policy(),
            "x-content-type-options": "nosniff",
            "referrer-policy": "same-origin",
            "permissions-policy": "camera=(self), microphone=(), geolocation=()",
        }
        self.headers = [(name.encode(), value.encode()) for name, value in named.items()]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer 404 for closed addresses, else add the headers to what the app answers."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message.get("headers", []), *self.headers]}
            await send(message)

        closed = scope["path"].rstrip("/").endswith(CLOSED)
        answer = PlainTextResponse("Not found", status_code=404) if closed else self.app
        await answer(scope, receive, send_with_headers)


class KnownHosts:
    """ASGI middleware: only requests to, and from pages of, the host names of this server are answered.

    Without it a page of any site could reach a server on the visitor's own machine, by a name that it has made to mean
    this machine (DNS rebinding). Starlette's TrustedHostMiddleware looks at no origin and says no next step. Streamlit
    looks at the origins of websockets, but asks another host for its own address before it refuses one: it meets none.
    """

    def __init__(self, app: ASGIApp, hosts: str | None = None):
        self.app = app
        more = os.environ.get(MORE_HOSTS, "") if hosts is None else hosts
        self.hosts = [*LOCAL, *(name.strip().lower() for name in more.split(",") if name.strip())]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on requests and websockets of ours, else say why not."""
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        hosts, origins = headers.getlist("host"), headers.getlist("origin")
        answer: ASGIApp = self.app
        if len(hosts) != 1 or not self.ours(hosts[0]):
            answer = PlainTextResponse(FOREIGN_HOST, status_code=400)
        elif not all(self.ours(origin.partition("://")[2]) for origin in origins):
            answer = PlainTextResponse(FOREIGN_ORIGIN, status_code=403)
        elif origins:
            scope = {**scope, "headers": same_origin(scope, hosts[0])}
        await answer(scope, receive, send)

    def ours(self, authority: str) -> bool:
        """Whether "localhost:8501" or "[::1]" names this server."""
        match = HOST.fullmatch(authority.lower())
        return match is not None and any(
            match[1].endswith(name[1:]) if name.startswith("*") else match[1] == name for name in self.hosts
        )


def same_origin(scope: Scope, host: str) -> list[tuple[bytes, bytes]]:
    """The headers of a request from a page of ours, as if that had been opened under the name the request is for.

    A proxy may have changed one of the two, and of two names of this server Streamlit would know one only.
    """
    origin = f"http://{host}".encode("latin-1")
    return [(name, origin if name == b"origin" else value) for name, value in scope["headers"]]
