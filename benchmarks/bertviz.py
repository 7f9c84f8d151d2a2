"""`python -m benchmarks.bertviz`: the same tensors through bertviz and through our views, in the same browser.

For both: bytes that carry the attention, seconds until drawn (the pictures are there and two frames have passed after
it), seconds of a layer switch, DOM nodes. bertviz: from opening its finished page, its scripts served locally; the
layer by its menu. Ours: from a click in an open app, packing in Python and the WebSocket included; bytes are of the
WebSocket; the layer by its button, until its map is large, at first as the means of blocks that the grid has. Until its
exact rows are there, and both by a click in the grid, is printed below the table.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path

from playwright.sync_api import Browser, Page, sync_playwright
from playwright.sync_api import Error as BrowserError

from benchmarks import peer_page
from benchmarks.browser import FLAGS, chromium
from benchmarks.server import serving
from benchmarks.tensors import GRIDS, attention

VIEWS = Path(__file__).with_name("views_app.py")
FRAMES = "() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))"
WHERE = "(canvas, at) => __attnviz.kinds.tiles.where(__attnviz.views.grid, at)"
NODES = "() => document.querySelectorAll('*').length"
EXACT = """([layer, head]) => {
  const {views: {matrix}, records} = __attnviz, maps = `layer ${layer}`;
  return matrix?.maps === maps && matrix.index === head && !matrix.rough && Boolean(records.get(maps)?.ready) }"""
OPENED = f"() => globalThis.__attnviz?.records.get('overview')?.ready && ({EXACT})([0, 0])"
LARGE = f"""at => {{
  const {{rough}} = __attnviz.views.matrix, [layer, head] = at;
  return (rough?.row === layer && rough.column === head) || ({EXACT})(at) }}"""
Figures = dict[str, float]
BUDGET = 150_000_000  # bytes of a peer page above which it is not opened: the tab would not survive


def main() -> int:
    """Print a table for each number of tokens, ratios last."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.bertviz", description=__doc__)
    parser.add_argument("--tokens", type=int, nargs="*", choices=list(GRIDS), default=list(GRIDS))
    parser.add_argument("--runs", type=int, default=3)
    options = parser.parse_args()
    try:
        scripts = peer_page.scripts()
        with sync_playwright() as playwright, serving(VIEWS) as address:
            launch = partial(playwright.chromium.launch, executable_path=chromium(), args=FLAGS)
            for tokens in options.tokens:
                report(launch, scripts, address, tokens, options.runs)
    except peer_page.MissingPeer as error:
        sys.stderr.write(f"{error}\n")
        return 2
    return 0


def report(launch: Callable[[], Browser], scripts: dict[str, bytes], address: str, tokens: int, runs: int) -> None:
    """The table of one number of tokens: medians of all runs; every tool in its own browser."""
    with closing(launch()) as browser:
        ours = median([measure_ours(browser, address, tokens) for _ in range(runs)])
    rows = {"attnviz, all heads": ours}
    for view in ("model_view", "head_view"):
        page = peer_page.html(view, attention(tokens), [f"t{i}" for i in range(tokens)])
        if len(page) > BUDGET:
            sys.stdout.write(f"bertviz {view} at {tokens} tokens: a page of {len(page) / 1e6:.0f} MB, not opened\n")
            continue
        with closing(launch()) as browser:
            try:
                rows[f"bertviz {view}"] = median([measure_peer(browser, scripts, page, view) for _ in range(runs)])
            except BrowserError as error:
                size, why = len(page) / 1e6, type(error).__name__
                sys.stdout.write(f"bertviz {view} at {tokens} tokens: {size:.0f} MB, no picture: {why}\n")
    lines = [f"\n{tokens} tokens, 12 layers x 12 heads, median of {runs}", ""]
    lines.append(f"| {'tool':22} | {'MB':>8} | {'drawn s':>8} | {'switch s':>8} | {'nodes':>8} |")
    lines.append("|" + "-" * 24 + ("|" + "-" * 10) * 4 + "|")
    for name, figures in rows.items():
        numbers = [figures["bytes"] / 1e6, figures["drawn"], figures["switch"], figures["nodes"]]
        shown = [f"{n:8.2f}" if n == n else "       –" for n in numbers[:3]] + [f"{numbers[3]:8.0f}"]
        lines.append(f"| {name:22} | " + " | ".join(shown) + " |")
    for name, figures in list(rows.items())[1:]:
        ratios = {key: figures[key] / ours[key] for key in figures if figures[key] == figures[key]}
        lines.append(f"{name} against ours: " + ", ".join(f"{key} x {value:.1f}" for key, value in ratios.items()))
    lines.append(
        f"ours: {ours['hover']:.0f} bytes during 40 hovers; another layer exact {ours['exact']:.2f} s; "
        f"in the grid {ours['grid']:.2f} s, exact {ours['grid exact']:.2f} s, "
        f"another head {ours['head']:.2f} s"
    )
    sys.stdout.write("\n".join(lines) + "\n")
    sys.stdout.flush()


def measure_ours(browser: Browser, address: str, tokens: int) -> Figures:
    """One run through our views, in a new page of a running app."""
    page = browser.new_page(viewport={"width": 1280, "height": 1600})
    received: list[int] = []
    page.on("websocket", lambda socket: socket.on("framereceived", lambda frame: received.append(len(frame))))
    page.goto(f"{address}/?tokens={tokens}")
    settled(page)
    before = sum(received)
    started = time.perf_counter()
    page.get_by_role("button", name="Show").click()
    page.wait_for_function(OPENED, polling="raf")
    page.evaluate(FRAMES)
    drawn = time.perf_counter() - started
    settled(page)
    wire = sum(received) - before
    nodes = page.evaluate(NODES)
    button = median([by_button(page, layer, 0) for layer in (1, 2, 3)])
    grid = median([by_grid(page, layer, 4) for layer in (6, 8, 10)])
    head = median([by_grid(page, 10, head) for head in (2, 5, 8)])["large"]
    hover = hover_bytes(page, received)
    page.close()
    return {
        "bytes": wire,
        "drawn": drawn,
        "nodes": nodes,
        "hover": hover,
        "switch": button["large"],
        "exact": button["exact"],
        "grid": grid["large"],
        "grid exact": grid["exact"],
        "head": head,
    }


def by_button(page: Page, layer: int, head: int) -> Figures:
    """Seconds from the click on a layer's button until its map is painted large, and until it is exact."""
    page.get_by_role("radiogroup", name="Layer").get_by_role("radio", name=str(layer), exact=True).hover()
    return pressed(page, layer, head)


def by_grid(page: Page, layer: int, head: int) -> Figures:
    """Seconds from the click on a head in the grid until it is painted large, and until it is exact."""
    grid = page.locator("canvas[data-name=grid]")
    x, y, w, h = grid.evaluate(WHERE, 12 * layer + head)
    grid.hover(position={"x": x + w / 2, "y": y + h / 2})
    return pressed(page, layer, head)


def pressed(page: Page, layer: int, head: int) -> Figures:
    """Press what is under the pointer and wait for this head."""
    started = time.perf_counter()
    page.mouse.down()
    page.mouse.up()
    figures = {}
    for name, painted in (("large", LARGE), ("exact", EXACT)):
        page.wait_for_function(painted, arg=[layer, head], polling="raf")
        page.evaluate(FRAMES)
        figures[name] = time.perf_counter() - started
    settled(page)
    return figures


def hover_bytes(page: Page, received: list[int]) -> int:
    """What crosses the wire while the pointer wanders over the matrix."""
    box = page.locator("canvas").last.bounding_box()
    if box is None:
        raise RuntimeError("the matrix is not on the page")
    before = sum(received)
    for step in range(40):
        page.mouse.move(box["x"] + 5 + step * 7, box["y"] + 5 + step * 7)
    page.wait_for_timeout(300)
    return sum(received) - before


def measure_peer(browser: Browser, scripts: dict[str, bytes], html: str, view: str) -> Figures:
    """One run through bertviz."""
    page = browser.new_page(viewport={"width": 1280, "height": 1600})
    page.set_default_timeout(300_000)
    page.route("**/*", peer_page.serve(scripts, html))
    started = time.perf_counter()
    page.goto("http://127.0.0.1:9/peer", wait_until="commit")
    peer_page.drawn(page, "svg line" if view == "head_view" else "svg")
    drawn = time.perf_counter() - started
    nodes = page.evaluate(NODES)
    switch = float("nan")  # the model view shows all layers and has nothing to switch
    if view == "head_view":
        started = time.perf_counter()
        page.select_option("#layer", "1")
        page.evaluate(FRAMES)
        switch = time.perf_counter() - started
    page.close()
    return {"bytes": len(html.encode()), "drawn": drawn, "switch": switch, "nodes": nodes}


def median(runs: list[Figures]) -> Figures:
    """The median of each figure."""
    return {key: statistics.median(run[key] for run in runs) for key in runs[0]}


def settled(page: Page) -> None:
    """Wait until the app is connected and no script runs."""
    page.wait_for_timeout(250)
    state = "[data-testid=stApp][data-test-connection-state=CONNECTED][data-test-script-state=notRunning]"
    page.locator(state).wait_for(state="attached", timeout=60_000)


if __name__ == "__main__":
    sys.exit(main())
