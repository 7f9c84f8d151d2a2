"""`python -m benchmarks.text_views`: attention over words, in our views and in those of two peers, in the same browser.

The same tensors, once the 12 heads of one layer, once 12 layers of 12 heads. Ours: sentence, lines of all heads, matrix
and all heads small, on one page; bertviz: its head view, its model view; CircuitsVis: its attention heads. For each the
bytes that carry the attention, seconds until drawn (the pictures are there and two frames have passed), DOM nodes, and
the longest task that kept the browser from answering. Ours count from a click in an open app, Python and WebSocket
included; peers from opening their finished page, their scripts served locally. A peer that takes over a minute, or
whose page would not fit into a tab, is named instead.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from playwright.sync_api import Browser, Page, sync_playwright
from playwright.sync_api import Error as BrowserError
from playwright.sync_api import TimeoutError as TooLong
from torch import Tensor

from benchmarks import peer_page
from benchmarks.bertviz import BUDGET, FRAMES, Figures, median, settled
from benchmarks.browser import FLAGS, chromium
from benchmarks.server import serving
from benchmarks.tensors import attention

VIEWS = Path(__file__).with_name("text_views_app.py")
PATIENCE = 60_000  # milliseconds a peer may take
CIRCUITSVIS = "circuitsvis==1.43.3 importlib-metadata==5.2.0 zipp==4.1.2"
CELL = 20  # bytes a cell of a map takes in a peer's page, as a decimal number
WATCH = """globalThis.tasks = [];
new PerformanceObserver((list) => tasks.push(...list.getEntries().map(({duration}) => duration)))
  .observe({type: "longtask", buffered: true})"""
NODES = """() => {
  const inside = (root) => [...root.querySelectorAll("*")]
    .reduce((sum, {shadowRoot}) => sum + 1 + (shadowRoot ? inside(shadowRoot) : 0), 0);
  return inside(document) }"""
LONGEST = "() => Math.max(0, ...tasks)"
DRAWN = """names => globalThis.__attnviz && names.every(name => {
  const view = __attnviz.views[name];
  return __attnviz.draws[name] > 0 && view && view.sentence.textContent !== "Loading" })"""
COLUMNS = {"MB": "bytes", "drawn s": "drawn", "nodes": "nodes", "longest task s": "longest"}


class NotRun(Exception):
    """A cell of the table without numbers; the message says why."""


def main() -> int:
    """Print a table for each number of tokens and of layers, ratios last."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.text_views", description=__doc__)
    parser.add_argument("--tokens", type=int, nargs="*", default=[64, 128, 256, 512])
    parser.add_argument("--layers", type=int, nargs="*", default=[1, 12])
    parser.add_argument("--runs", type=int, default=3)
    options = parser.parse_args()
    with sync_playwright() as playwright, serving(VIEWS) as address:
        launch = partial(playwright.chromium.launch, executable_path=chromium(), args=FLAGS)
        for tokens in options.tokens:
            for layers in options.layers:
                report(launch, address, tokens, layers, options.runs)
    return 0


def report(launch: Callable[[], Browser], address: str, tokens: int, layers: int, runs: int) -> None:
    """One table: medians of all runs, and how many times ours the peers' numbers are; every tool in its own browser."""
    whole = layers > 1
    tools: dict[str, Callable[[Browser], Figures]] = {
        "attnviz, all views": lambda browser: ours(browser, address, tokens, layers),
        "bertviz model view" if whole else "bertviz head view": lambda browser: bertviz(browser, tokens, layers),
        "CircuitsVis heads": lambda browser: circuitsvis(browser, tokens, layers),
    }
    rows: dict[str, Figures] = {}
    lines = [
        f"\n{tokens} tokens, {layers} layers x 12 heads, median of {runs}"
        if whole
        else f"\n{tokens} tokens, 12 heads of one layer, median of {runs}",
        "",
    ]
    lines.append(f"| {'tool':20} | " + " | ".join(f"{name:>14}" for name in COLUMNS) + " |")
    lines.append("|" + "-" * 22 + ("|" + "-" * 16) * len(COLUMNS) + "|")
    for name, measure in tools.items():
        browser = launch()
        try:
            found = rows[name] = median([measure(browser) for _ in range(runs)])
        except (NotRun, peer_page.MissingPeer) as error:
            lines.append(f"| {name:20} | {error}")
            continue
        except BrowserError as error:
            why = "stopped after 60 s" if isinstance(error, TooLong) else "the browser broke down"
            lines.append(f"| {name:20} | {why}")
            continue
        finally:
            browser.close()
        shown = [found["bytes"] / 1e6, found["drawn"], found["nodes"], found["longest"]]
        lines.append(
            f"| {name:20} | " + " | ".join(f"{n:14.{d}f}" for n, d in zip(shown, (2, 2, 0, 2), strict=True)) + " |"
        )
    first, *peers = rows.items()
    for name, found in peers:
        ratios = (
            f"{column.removesuffix(' s')} x {found[key] / first[1][key]:.1f}"
            for column, key in COLUMNS.items()
            if first[1][key]
        )
        lines.append(f"{name} against ours: {', '.join(ratios)}")
    sys.stdout.write("\n".join(lines) + "\n")
    sys.stdout.flush()


def ours(browser: Browser, address: str, tokens: int, layers: int) -> Figures:
    """One run through our views, in a new page of a running app."""
    page = opened(browser)
    received: list[int] = []
    page.on("websocket", lambda socket: socket.on("framereceived", lambda frame: received.append(len(frame))))
    page.goto(f"{address}/?tokens={tokens}&layers={layers}")
    settled(page)
    before = sum(received)
    page.evaluate("tasks.length = 0")  # what it takes to open an app is not what it takes to draw
    started = time.perf_counter()
    page.get_by_role("button", name="Show").click()
    page.wait_for_function(DRAWN, arg=["text", "lines", "matrix", "grid"], polling="raf")
    page.evaluate(FRAMES)
    return figures(page, started, lambda: sum(received) - before)


def bertviz(browser: Browser, tokens: int, layers: int) -> Figures:
    """One run through bertviz's head view of one layer, or its model view of all."""
    scripts, view = peer_page.scripts(), "model_view" if layers > 1 else "head_view"
    html = peer_page.html(view, given(tokens, layers), [f"t{i}" for i in range(tokens)])
    return peer(browser, html, len(html), "svg line" if view == "head_view" else "svg", scripts)


def circuitsvis(browser: Browser, tokens: int, layers: int) -> Figures:
    """One run through CircuitsVis, which draws the heads of all layers in one list; its script is in the page."""
    try:
        from circuitsvis.attention import attention_heads  # pyright: ignore[reportMissingImports]  # optional peer
    except ImportError as error:
        raise peer_page.MissingPeer(f"not installed: run `pip install --no-deps {CIRCUITSVIS}` first") from error
    weights = given(tokens, layers).flatten(0, 1)
    body = attention_heads(weights, [f"t{i}" for i in range(tokens)]).local_src
    data = len(body) - len(attention_heads(weights[:1, :1, :1], ["t0"]).local_src)
    return peer(browser, f"<!doctype html><meta charset=utf-8><body>{body}</body>", data, "img, canvas, table", {})


def given(tokens: int, layers: int) -> Tensor:
    """The tensors [layer head query key]. Raises NotRun where a page of decimal numbers would not fit into a tab."""
    if (size := layers * 12 * tokens**2 * CELL) > BUDGET:
        raise NotRun(f"not opened: a page of about {size / 1e6:.0f} MB")
    return attention(tokens, layers)


def peer(browser: Browser, html: str, size: int, selector: str, scripts: dict[str, bytes]) -> Figures:
    """One run through a peer's finished page, whose numbers are `size` bytes of it."""
    page = opened(browser)
    page.route("**/*", peer_page.serve(scripts, html))
    started = time.perf_counter()
    try:
        page.goto("http://127.0.0.1:9/peer", wait_until="commit")
        peer_page.drawn(page, selector, PATIENCE)
    except TooLong:
        page.close()
        raise
    return figures(page, started, lambda: size)


def opened(browser: Browser) -> Page:
    """A page that watches for long tasks."""
    page = browser.new_page(viewport={"width": 1280, "height": 1600})
    page.set_default_timeout(PATIENCE)
    page.add_init_script(WATCH)
    return page


def figures(page: Page, started: float, size: Callable[[], int]) -> Figures:
    """What a drawn page measures; closes it."""
    drawn = time.perf_counter() - started
    page.wait_for_timeout(500)  # tasks are reported a little later
    found = {"drawn": drawn, "nodes": page.evaluate(NODES), "longest": page.evaluate(LONGEST) / 1000, "bytes": size()}
    page.close()
    return found


if __name__ == "__main__":
    sys.exit(main())
