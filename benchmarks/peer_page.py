"""bertviz's pages, made from given tensors and opened without a network: its three scripts come from npm packages."""

from __future__ import annotations

import shutil
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path

from playwright.sync_api import Page, Route
from torch import Tensor

SCRIPTS = {  # what bertviz asks a CDN for -> npm package, file inside it
    "require.min.js": ("requirejs@2.3.6", "package/require.js"),
    "d3.min.js": ("d3@5.7.0", "package/dist/d3.min.js"),
    "jquery.min.js": ("jquery@2.1.4", "package/dist/jquery.min.js"),
}
FOLDER = Path("build/npm")


class MissingPeer(RuntimeError):
    """bertviz or its scripts are not on this machine; the message says how to get them."""


def scripts() -> dict[str, bytes]:
    """The three scripts, fetched once by `npm pack` into build/npm."""
    if shutil.which("npm") is None:
        raise MissingPeer("npm is needed once, to fetch the three scripts bertviz loads from a CDN.")
    FOLDER.mkdir(parents=True, exist_ok=True)
    found = {}
    for name, (package, member) in SCRIPTS.items():
        archive = FOLDER / f"{package.replace('@', '-')}.tgz"
        if not archive.is_file():
            subprocess.run(["npm", "pack", package], cwd=FOLDER, check=True, capture_output=True)
        with tarfile.open(archive) as packed:
            file = packed.extractfile(member)
            if file is None:
                raise MissingPeer(f"{package} holds no {member}.")
            found[name.split(".")[0]] = file.read()
    return found


def html(view: str, attention: Tensor, tokens: list[str]) -> str:
    """bertviz's "head_view" or "model_view" page of attention [layer head query key]."""
    try:
        import bertviz
    except ImportError as error:
        raise MissingPeer(
            "Run `pip install -r requirements-bench.txt` and `pip install --no-deps bertviz==1.4.1` first."
        ) from error
    layers = tuple(layer[None] for layer in attention)  # one [1 head query key] a layer
    page = getattr(bertviz, view)(layers, tokens, html_action="return").data
    return f"<!doctype html><meta charset=utf-8><body>{page}</body>"


def serve(files: dict[str, bytes], body: str) -> Callable[[Route], None]:
    """A Playwright route: the page, and each script by the name in its address; everything else is refused."""

    def answer(route: Route) -> None:
        address = route.request.url
        if address.endswith("/peer"):
            route.fulfill(body=body, content_type="text/html")
            return
        name = next((n for n in files if n in address), None)
        if name is None:
            route.abort()
        else:
            anywhere = {"access-control-allow-origin": "*"}
            route.fulfill(body=files[name], content_type="text/javascript", headers=anywhere)

    return answer


def drawn(page: Page, selector: str, timeout: float = 120_000) -> None:
    """Wait until the selector is there and two frames have been painted after it."""
    page.wait_for_selector(selector, state="attached", timeout=timeout)
    page.evaluate("() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")
