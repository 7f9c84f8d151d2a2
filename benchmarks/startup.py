"""`python -m benchmarks.startup`: seconds from `streamlit run app.py` to the first picture in a browser.

Cold: a server just started, its first visitor, an empty browser. Warm: the next visitor of the same server, in a new
browser context. Both end when the large view has drawn its picture and its map and two frames have passed.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from pathlib import Path

from playwright.sync_api import Browser, sync_playwright

from benchmarks.browser import FLAGS, chromium
from benchmarks.server import serving

APP = Path(__file__).resolve().parents[1] / "app.py"
DRAWN = """() => { const shared = globalThis.__attnviz;
  return shared?.opened?.has("picture") && shared.opened.size > 1 && (shared.draws.total ?? 0) > 0 }"""
FRAMES = "() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))"


def visit(browser: Browser, address: str) -> float:
    """Seconds from asking for the page to its first picture, in a browser that has seen nothing yet."""
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    page = context.new_page()
    page.set_default_timeout(120_000)
    started = time.perf_counter()
    page.goto(address, wait_until="commit")
    page.wait_for_function(DRAWN, polling="raf")
    page.evaluate(FRAMES)
    seconds = time.perf_counter() - started
    context.close()
    return seconds


def measured(browser: Browser) -> dict[str, float]:
    """One fresh server and two visitors."""
    started = time.perf_counter()
    with serving(APP) as address:
        ready = time.perf_counter() - started
        first = visit(browser, address)
        return {
            "server answers": ready,
            "first visitor sees a picture": first,
            "cold, together": ready + first,
            "warm, next visitor": visit(browser, address),
        }


def main() -> int:
    """Print the median of some runs."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.startup", description=__doc__)
    parser.add_argument("--runs", type=int, default=3)
    runs = parser.parse_args().runs
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium(), args=FLAGS)
        found = [measured(browser) for _ in range(runs)]
        browser.close()
    sys.stdout.write(f"| median of {runs} | seconds |\n|---|---|\n")
    for name in found[0]:
        sys.stdout.write(f"| {name} | {statistics.median(run[name] for run in found):.1f} |\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
