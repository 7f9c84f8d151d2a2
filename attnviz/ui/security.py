"""Response headers the Streamlit server does not send by itself."""

from __future__ import annotations


class SecurityHeaders:
    """Middleware placeholder."""

    def __init__(self, app):
        self.app = app

    async def __call__(self, scope, receive, send):
        """Pass through."""
        await self.app(scope, receive, send)
