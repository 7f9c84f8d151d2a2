"""A demo page of views as a browser test sees it."""

from __future__ import annotations

from collections.abc import Sequence

from playwright.sync_api import Page, expect


class Seen:
    """One open demo page, what crossed its wire and what went wrong. `views`: those that draw something."""

    def __init__(self, page: Page, address: str, views: Sequence[str]):
        self.page, self.address, self.views = page, address, views
        self.wire: list[int] = []
        self.problems: list[str] = []
        page.on("websocket", self.listen)
        page.on("pageerror", lambda error: self.problems.append(str(error)))
        page.on("console", lambda message: message.type == "error" and self.problems.append(message.text))
        page.on("request", self.asked)

    def listen(self, socket) -> None:
        """Count what goes either way."""
        for event in ("framesent", "framereceived"):
            socket.on(event, lambda data: self.wire.append(len(data)))

    def asked(self, request) -> None:
        """Only our own server may be asked."""
        if not request.url.startswith((self.address, "data:", "blob:")):
            self.problems.append(f"foreign host: {request.url}")

    def open(self, query: str = "") -> Seen:
        """Go there and wait until every view that can be drawn is drawn."""
        self.page.goto(f"{self.address}/?{query}")
        for name in self.views:
            self.page.wait_for_function("name => globalThis.__attnviz?.draws[name] > 0", arg=name)
            expect(self.sentence(name)).not_to_have_text("Loading")
        self.page.wait_for_timeout(300)
        return self

    def view(self, name: str):
        """One view by its key."""
        return self.page.locator(f".view:has(canvas[data-name='{name}'])")

    def canvas(self, name: str):
        """Its canvas."""
        return self.page.locator(f"canvas[data-name='{name}']")

    def sentence(self, name: str):
        """What it says in words."""
        return self.view(name).locator(".sentence")

    def where(self, name: str, at: object) -> dict[str, float]:
        """The middle of what a view shows at a place, in pixels of its canvas."""
        ask = """([name, at]) => {
          const view = __attnviz.views[name];
          return __attnviz.kinds[view.data.view].where(view, at) }"""
        x, y, w, h = [*self.page.evaluate(ask, [name, at]), 0, 0][:4]
        return {"x": x + w / 2, "y": y + h / 2}

    def place(self, token: int) -> dict[str, float]:
        """Where a token lies on the picture view."""
        return self.where("picture_view", token)

    def pixel(self, name: str, x: float, y: float) -> list[int]:
        """The colour of a canvas at a place, in CSS pixels."""
        look = (
            "(c, [x, y]) => [...c.getContext('2d').getImageData(x * devicePixelRatio, y * devicePixelRatio, 1, 1).data]"
        )
        return self.canvas(name).evaluate(look, [x, y])
