"""Several trainings at once, each in a process of its own, and a lock against starting the same ones twice."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path
from typing import TypeVar

import torch

try:
    import fcntl
except ImportError:  # Windows: two runs at once are not noticed there
    fcntl = None

Item = TypeVar("Item")
Result = TypeVar("Result")


class AlreadyRunning(RuntimeError):
    """Another process works on the same state."""


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Work on a folder alone; the lock ends with the process, however it ends. Raises AlreadyRunning."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as file:
        if fcntl is not None:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                raise AlreadyRunning(f"Another process is training in {folder}; end it first.") from error
        yield


def run_jobs(
    work: Callable[[Item], Result],
    items: Sequence[Item],
    jobs: int = 1,
    ready: Callable[[Item], bool] = lambda item: True,
) -> Iterator[Result]:
    """The results of all items, as they are there; `jobs` processes share the threads of this one.

    With more than one, `work` must be picklable, and an item waits until it is `ready`, which may depend on results
    taken before. The first error is raised, and nothing more begins; so it is where nothing is ready (ValueError).
    """
    if jobs == 1:
        yield from map(work, items)
        return
    threads, waiting, running = max(1, torch.get_num_threads() // jobs), list(items), set[Future[Result]]()
    with ProcessPoolExecutor(jobs, get_context("spawn"), start_worker, (os.getpid(), threads)) as pool:
        while waiting or running:
            for item in [item for item in waiting if ready(item)][: jobs - len(running)]:
                waiting.remove(item)
                running.add(pool.submit(work, item))
            if not running:
                raise ValueError(f"nothing that is left is ready: {waiting}")
            done, running = wait(running, return_when=FIRST_COMPLETED)
            for future in done:
                yield future.result()


def start_worker(parent: int, threads: int) -> None:
    """Take a share of the threads, and end with the parent: a worker left behind would train what is started again."""
    torch.set_num_threads(threads)

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
