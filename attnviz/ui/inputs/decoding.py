"""Where uploads are decoded: in processes of their own, which can be ended and take nothing from other visitors.

A decoder runs code of others over bytes of strangers. It may take for ever, ask for any amount of memory, or crash. In
a process of its own none of this reaches the app, and a slow picture does not hold what others need to compute.
"""

from __future__ import annotations

import atexit
import logging
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from threading import BoundedSemaphore, Timer
from typing import IO, cast

from PIL import Image

from attnviz.models.picture_files import CUT, BadImage
from attnviz.ui.core.cache import Busy
from attnviz.ui.inputs.decoding_worker import ANSWER, LENGTH, NO_MEMORY, PICTURE, READY

WORKER = Path(__file__).with_name("decoding_worker.py")
COMMAND = (sys.executable, "-I", str(WORKER), *filter(None, sys.path))
LIMIT = 10.0  # seconds for one picture; 25 million pixels take about one
PATIENCE = (
    12.0  # seconds a visitor waits for a process: longer than LIMIT, so that those behind a stuck one get through
)
START = 60.0  # seconds a process may take to start
KEPT = 2  # processes kept when there is nothing to do; each has about 50 MB
SLOW = f"Reading this picture takes longer than {LIMIT:.0f} seconds. Save it again as a plain PNG or JPEG."
MANY = "Many visitors are bringing pictures right now. Try again in a moment."
log = logging.getLogger("attnviz")


class Worker:
    """One process that reads pictures, one after another."""

    def __init__(self, command: Sequence[str]):
        few = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}  # threads would use up the memory it may have
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, pipesize=2**20, env={**os.environ, **few}
        )
        self.files, self.answers = cast(IO[bytes], self.process.stdin), cast(IO[bytes], self.process.stdout)
        self.ready = self.late = False

    def ask(self, raw: bytes, seconds: float) -> tuple[bytes, tuple[int, int], bytes]:
        """What it says about a file: a kind, width and height, bytes. Raises EOFError where it ends, or is ended."""
        if not self.ready:
            self.ready = self.answer(START)[0] == READY
        return self.answer(seconds, LENGTH.pack(len(raw)), raw)

    def answer(self, seconds: float, *question: bytes) -> tuple[bytes, tuple[int, int], bytes]:
        """The next answer; after so many seconds the process is ended."""
        timer = Timer(seconds, self.stop)
        timer.start()
        try:
            self.files.writelines(question)
            self.files.flush()
            head = self.answers.read(ANSWER.size)
            if len(head) == ANSWER.size:
                kind, width, height, length = ANSWER.unpack(head)
                if len(body := self.answers.read(length)) == length:
                    return kind, (width, height), body
        except OSError:  # the pipe is broken
            pass
        finally:
            timer.cancel()
        raise EOFError("the process that reads pictures has ended")

    def stop(self) -> None:
        """End a process that takes too long."""
        self.late = True
        self.process.kill()

    def end(self) -> None:
        """End the process and close its pipes."""
        self.process.kill()
        self.process.wait()
        for pipe in (self.files, self.answers):
            try:
                pipe.close()
            except OSError:  # half a file was still waiting to be read
                continue


class Decoders:
    """At most so many processes that read pictures, started when they are needed. Threads may share them."""

    def __init__(
        self,
        command: Sequence[str] = COMMAND,
        *,
        most: int = os.cpu_count() or 1,
        limit: float = LIMIT,
        patience: float = PATIENCE,
    ):
        self.command, self.limit, self.patience = command, limit, patience
        self.permits = BoundedSemaphore(most)
        self.idle: list[Worker] = []
        atexit.register(self.close)

    def start(self) -> None:
        """Start one process ahead of the first picture."""
        if not self.idle:
            self.idle.append(Worker(self.command))

    def decode(self, raw: bytes) -> Image.Image:
        """A file as an upright RGB picture. Raises BadImage, MemoryError, Busy."""
        if not self.permits.acquire(timeout=self.patience):
            raise Busy(MANY)
        try:
            worker = self.taken()
            try:
                kind, size, body = worker.ask(raw, self.limit)
            except EOFError as error:
                raise self.lost(worker) from error
            except BaseException:
                worker.end()
                raise
            self.put_back(worker)
        finally:
            self.permits.release()
        if kind == PICTURE:
            return Image.frombytes("RGB", size, body)
        if kind == NO_MEMORY:
            raise MemoryError
        raise BadImage(body.decode())

    def taken(self) -> Worker:
        """A process that waits for work, or a new one."""
        while self.idle:
            worker = self.idle.pop()
            if worker.process.poll() is None:
                return worker
            worker.end()
        return Worker(self.command)

    def put_back(self, worker: Worker) -> None:
        """Keep a process for the next picture, or end it where enough of them wait."""
        if len(self.idle) < KEPT:
            self.idle.append(worker)
        else:
            worker.end()

    def lost(self, worker: Worker) -> Exception:
        """Why a process gave no answer: the next picture gets a new one."""
        worker.end()
        log.warning("a process that reads pictures ended with %s%s", worker.process.returncode, " late" * worker.late)
        if not worker.ready:
            return RuntimeError(f"the process that reads pictures did not start: {' '.join(self.command[:3])}")
        return BadImage(SLOW if worker.late else CUT)

    def close(self) -> None:
        """End all that wait."""
        while self.idle:
            self.idle.pop().end()


DECODERS = Decoders()
