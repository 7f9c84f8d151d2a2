"""One forward pass of one layer: its time, and its peak memory in a separate process.

`python -m attnviz.measures.forward` is that process; `MemoryProbe` starts and queries it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

import torch

from attnviz.paths import PACKAGE
from attnviz.seeding import seeded
from attnviz.types import Tokens

CLEAR_REFS = Path("/proc/self/clear_refs")  # resets the peak memory of a process on Linux
MALLOC_SETTINGS = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}  # glibc frees at once


@dataclass(frozen=True)
class Subject:
    """A variant to be measured: its class, built anew for every number of tokens."""

    name: str
    kind: type  # called as kind(width, heads, tokens=..., **options)
    options: Mapping[str, Any] = field(default_factory=dict)  # plain enough for JSON


@dataclass(frozen=True)
class Setting:
    """The size of the layer, the device and the limits of a measurement."""

    width: int = 128
    heads: int = 4
    runs: int = 20
    device: str = "cpu"
    bytes_limit: float = 2e9  # peak memory of one forward
    seconds_limit: float = 120  # of all runs of one variant at one number of tokens


def grid_of(count: int) -> tuple[int, int]:
    """Rows and columns of the most nearly square grid of so many patches, not higher than wide."""
    rows = next(r for r in range(int(count**0.5), 0, -1) if count % r == 0)
    return rows, count // rows


def build(subject: Subject, count: int, setting: Setting) -> Any:
    """The variant for so many tokens, with parameters from a fixed seed."""
    with seeded(0):
        network = subject.kind(setting.width, setting.heads, tokens=Tokens.patches(*grid_of(count)), **subject.options)
    return network.eval().requires_grad_(False).to(setting.device)


def forward_of(subject: Subject, count: int, setting: Setting) -> Callable[[], object]:
    """A function that runs one forward pass over noise."""
    network, tokens = build(subject, count, setting), Tokens.patches(*grid_of(count))
    x = torch.randn(count, setting.width, generator=torch.Generator().manual_seed(0)).to(setting.device)

    def forward() -> object:
        with torch.no_grad():
            return network(x, queries=tokens)

    return forward


def time_run(run: Callable[[], object], device: str) -> float:
    """Seconds of one run: wall-clock time, or CPU time of a single thread, which other programs do not disturb."""
    alone = device == "cpu" and torch.get_num_threads() == 1
    clock = time.thread_time if alone else time.perf_counter
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)
    start = clock()
    run()
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)
    return clock() - start


class MemoryProbe:
    """A separate process that measures the memory of a forward pass, started on demand and restarted after a failure.

    One process serves many requests where the peak can be reset (Linux); elsewhere each request gets a fresh one.
    """

    def __init__(self) -> None:
        self.process: subprocess.Popen[str] | None = None

    def measure(self, subject: Subject, count: int, setting: Setting) -> tuple[int, float]:
        """Peak bytes and seconds of one forward. Raises ValueError if refused, RuntimeError if the process ended."""
        asked = {"module": subject.kind.__module__, "kind": subject.kind.__qualname__, "options": dict(subject.options)}
        asked |= {"name": subject.name, "count": count, "threads": torch.get_num_threads(), "setting": vars(setting)}
        if self.process is None:
            command, root = [sys.executable, "-m", "attnviz.measures.forward"], PACKAGE.parent
            given: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "cwd": root}
            self.process = subprocess.Popen(command, **given, env={**os.environ, **MALLOC_SETTINGS})
        process = self.process
        if process.stdin is None or process.stdout is None:
            raise RuntimeError("the measuring process has no pipes")
        try:
            process.stdin.write(json.dumps(asked) + "\n")
            process.stdin.flush()
            answer = process.stdout.readline()
        except BrokenPipeError:
            answer = ""
        if not answer or not CLEAR_REFS.exists():
            self.close()
        if not answer:
            raise RuntimeError("the process that measured its memory was ended, most likely for taking too much")
        found = json.loads(answer)
        if isinstance(found, str):
            raise ValueError(found)
        return int(found[0]), float(found[1])

    def close(self) -> None:
        """End the process, if one runs."""
        if self.process is not None:
            self.process.kill()
            self.process.communicate()
            self.process = None


def peak_of_one_forward(subject: Subject, count: int, setting: Setting) -> tuple[int, float]:
    """Peak bytes above those held before, and seconds, in a process that does nothing else."""
    forward = forward_of(subject, count, setting)
    forward()  # libraries are loaded on the first call; MALLOC_SETTINGS returns the rest
    if setting.device.startswith("cuda"):
        torch.cuda.reset_peak_memory_stats(setting.device)
        before = torch.cuda.memory_allocated(setting.device)
        seconds = time_run(forward, setting.device)
        return torch.cuda.max_memory_allocated(setting.device) - before, seconds
    before = reset_peak()
    seconds = time_run(forward, setting.device)
    return max(0, resident("VmHWM") - before), seconds


def resident(line: str) -> int:
    """Bytes this process holds now (VmRSS) or held at most (VmHWM)."""
    status = Path("/proc/self/status")
    if status.is_file():
        found = next(text for text in status.read_text().splitlines() if text.startswith(line))
        return int(found.split()[1]) * 1024
    from resource import RUSAGE_SELF, getrusage  # not on Windows

    return getrusage(RUSAGE_SELF).ru_maxrss  # bytes on macOS


def reset_peak() -> int:
    """Reset the peak where the kernel can, and return the bytes held now (elsewhere the peak so far)."""
    try:
        CLEAR_REFS.write_text("5")
    except OSError:
        return resident("VmHWM")
    return resident("VmRSS")


def main() -> int:
    """Serve memory requests, one line of JSON each, until the input ends; started by `MemoryProbe`."""
    for line in sys.stdin:
        asked = json.loads(line)
        torch.set_num_threads(asked["threads"])
        try:
            subject = Subject(asked["name"], getattr(import_module(asked["module"]), asked["kind"]), asked["options"])
            found: Any = peak_of_one_forward(subject, asked["count"], Setting(**asked["setting"]))
        except (ValueError, RuntimeError) as error:  # refused by the variant; out of memory
            found = str(error)
        sys.stdout.write(json.dumps(found) + "\n")
        sys.stdout.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main())
