"""Response headers the Streamlit server does not send by itself, and one address it should not serve."""

from __future__ import annotations

import base64
import hashlib
import re
from pathlib import Path

import streamlit as st
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

CLOSED = ("/_stcore/metrics", "/_stcore/script-health-check")


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
