"""A hub on this machine: what the library asks of one, answered from a folder."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest

COMMIT = "0123456789abcdef0123456789abcdef01234567"
PART = 4096  # bytes sent at a time


@contextmanager
def serving(folders: dict[str, Path], *, gated: str = "", pause: float = 0.0) -> Iterator[str]:
    """The address of a hub that has these repositories; `pause`: seconds between two parts of a file."""

    class Hub(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

        def do_HEAD(self) -> None:
            self.answer(body=False)

        def do_GET(self) -> None:
            self.answer(body=True)

        def answer(self, *, body: bool) -> None:
            parts = unquote(urlsplit(self.path).path).strip("/").split("/")
            api = parts[:2] == ["api", "models"]
            repository = "/".join(parts[2:4] if api else parts[:2])
            rest = parts[4:] if api else parts[2:]
            if repository == gated:
                return self.refuse(403, "GatedRepo")
            if repository not in folders:
                return self.refuse(404, "RepoNotFound")
            if len(rest) > 1 and rest[1] not in ("main", COMMIT):
                return self.refuse(404, "RevisionNotFound")
            folder = folders[repository]
            if api:
                return self.say(described(repository, folder, rest[0] if rest else "revision"))
            return self.file(folder / "/".join(rest[2:]), body=body)

        def refuse(self, code: int, error: str) -> None:
            self.send_response(code)
            self.send_header("X-Error-Code", error)
            self.send_header("X-Error-Message", error)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def say(self, found: Any) -> None:
            raw = json.dumps(found).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(raw)))
            self.end_headers()
            self.wfile.write(raw)

        def file(self, file: Path, *, body: bool) -> None:
            if not file.is_file():
                return self.refuse(404, "EntryNotFound")
            raw = file.read_bytes()
            self.send_response(200)
            self.send_header("X-Repo-Commit", COMMIT)
            self.send_header("ETag", f'"{hashlib.sha256(raw).hexdigest()}"')
            self.send_header("Content-Length", str(len(raw)))
            self.end_headers()
            for start in range(0, len(raw) if body else 0, PART):
                self.wfile.write(raw[start : start + PART])
                time.sleep(pause)
            return None

    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()


def described(repository: str, folder: Path, what: str) -> Any:
    """A repository as the hub's API says it: its newest commit, or its files with their sizes."""
    files = sorted(file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file())
    if what == "tree":
        return [{"type": "file", "path": name, "size": (folder / name).stat().st_size, "oid": COMMIT} for name in files]
    return {"id": repository, "sha": COMMIT, "siblings": [{"rfilename": name} for name in files]}


@contextmanager
def as_hub(patch: pytest.MonkeyPatch, folders: dict[str, Path], cache: Path, **options: Any) -> Iterator[None]:
    """The library asks a hub on this machine, and keeps what it downloads below `cache`."""
    import huggingface_hub
    from huggingface_hub import constants, hf_api

    with serving(folders, **options) as address:
        for module in (constants, hf_api):
            patch.setattr(module, "ENDPOINT", address, raising=False)
        patch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", address + "/{repo_id}/resolve/{revision}/{filename}")
        patch.setattr(hf_api.api, "endpoint", address)
        patch.setattr(constants, "HF_HUB_CACHE", str(cache))
        patch.setattr(huggingface_hub.constants, "HF_HUB_DISABLE_XET", True)
        yield
