"""A Streamlit server for a measurement: on a free port, waited for, ended afterwards."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def serving(script: Path) -> Iterator[str]:
    """The address of `streamlit run script`, answering."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    options = ["--server.headless", "true", "--server.port", str(port), "--server.address", "127.0.0.1"]
    command = [sys.executable, "-m", "streamlit", "run", str(script), *options, "--server.fileWatcherType", "none"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    address = f"http://127.0.0.1:{port}"
    try:
        wait_until_healthy(process, address)
        yield address
    finally:
        process.terminate()
        process.wait(timeout=10)


def wait_until_healthy(process: subprocess.Popen, address: str) -> None:
    """Return once the server answers. Raises RuntimeError when it ends or takes over a minute."""
    for _ in range(1200):
        if process.poll() is not None:
            break
        try:
            with urllib.request.urlopen(f"{address}/_stcore/health", timeout=5):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.05)
    raise RuntimeError("the server did not start")
