"""`make screenshot`: take docs/app.png, the screenshot at the top of the README, from the running app."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from playwright.sync_api import expect, sync_playwright

from attnviz.paths import ROOT
from benchmarks.browser import FLAGS, chromium
from benchmarks.server import serving

SETTLED = "[data-testid=stApp][data-test-connection-state=CONNECTED][data-test-script-state=notRunning]"


def main() -> int:
    """Open a page of a fresh server, wait until everything is drawn, and save a screenshot."""
    parser = argparse.ArgumentParser(prog="python -m docs.screenshot", description=__doc__)
    parser.add_argument("--address", default="heads?model=vit&sample=pepper&layer=4", help="page and its choices")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "app.png")
    parser.add_argument("--size", type=int, nargs=2, default=(1440, 900), metavar=("WIDTH", "HEIGHT"))
    parser.add_argument("--dark", action="store_true")
    options = parser.parse_args()
    width, height = options.size
    with sync_playwright() as playwright, serving(ROOT / "app.py") as server:
        browser = playwright.chromium.launch(executable_path=chromium(), args=FLAGS)
        page = browser.new_page(
            viewport={"width": width, "height": height}, color_scheme="dark" if options.dark else "light"
        )
        page.set_default_timeout(120_000)
        page.goto(f"{server}/{options.address}")
        page.locator("canvas").first.wait_for()
        page.locator(SETTLED).wait_for(state="attached")
        expect(page.get_by_test_id("stSkeleton")).to_have_count(0, timeout=120_000)
        page.wait_for_timeout(3000)  # the tiles of all heads come a layer at a time
        options.out.parent.mkdir(parents=True, exist_ok=True)
        page.screenshot(path=options.out)
        browser.close()
    sys.stdout.write(f"{options.out}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
