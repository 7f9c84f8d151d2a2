"""Finds a Chromium for the tests and measurements; `python -m benchmarks.browser` installs one where there is none."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from playwright.sync_api import Error, sync_playwright

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
WAYS = (  # tried in this order until one leaves a browser that starts
    [[sys.executable, "-m", "playwright", "install", "chromium"]],
    [["apt-get", "update", "-q"], ["apt-get", "install", "-q", "-y", "--no-install-recommends", "chromium"]],
)


def chromium() -> str | None:
    """The browser named by $CHROMIUM, else the machine's own; None means Playwright's."""
    named = os.environ.get("CHROMIUM")
    return named or next((path for name in NAMES if (path := shutil.which(name))), None)


def starts() -> bool:
    """Whether a browser is there and shows an empty page."""
    with sync_playwright() as playwright:
        path = chromium()
        if path is None and not Path(playwright.chromium.executable_path).is_file():
            return False
        try:
            opened = playwright.chromium.launch(executable_path=path, args=FLAGS)
            opened.new_page().goto("about:blank")
            opened.close()
        except Error as error:
            sys.stderr.write(f"{path or 'the browser of Playwright'} does not start: {str(error).splitlines()[0]}\n")
            return False
    return True


def main() -> int:
    """Install a browser by the first way that works; returns the exit status."""
    if starts():
        return 0
    for commands in WAYS:
        sys.stderr.write(f"Installing a browser for the tests: {' '.join(commands[-1][-3:])}\n")
        try:
            for command in commands:
                subprocess.run(command, check=True, timeout=600)
        except (OSError, subprocess.SubprocessError) as error:
            sys.stderr.write(f"That did not work: {error}\n")
            continue
        if starts():
            return 0
    sys.stderr.write("No browser could be installed. Install Chromium or Chrome by hand, or name one in CHROMIUM.\n")
    return 1


if __name__ == "__main__":
    sys.exit(main())
