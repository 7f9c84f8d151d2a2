"""Decides which training runs may run: a few at a time on one server, the others queued, unwatched ones paused.

A page calls `Queue.heartbeat` again and again while a visitor watches, so a run whose visitor has left costs nothing.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

import torch

from attnviz.training.live.runs import Diverged, TrainingRun
from attnviz.types import NoTokenMap, UnsupportedMask

MAX_RUNNING = 2  # runs at a time on one server
STALE_AFTER = 30.0  # seconds without a heartbeat after which a run is paused
MAX_CORE_SECONDS = 300.0  # processor time after which a run is ended; wall time may be longer on a busy server
NO_MEMORY = "There was not enough memory to continue. Try again in a moment."
FAILED = "Training ended because of an error on our side; it has been logged. Start again, or choose another variant."
log = logging.getLogger("attnviz")


class Queue:
    """Runs at most `max_running` trainings at a time; the others wait and start by themselves."""

    def __init__(
        self,
        max_running: int = MAX_RUNNING,
        stale_after: float = STALE_AFTER,
        clock: Callable[[], float] = time.monotonic,
        core_clock: Callable[[], float] = time.thread_time,
    ):
        self.max_running, self.stale_after = max_running, stale_after
        self.clock, self.core_clock = clock, core_clock
        self.running: list[TrainingRun] = []
        self.waiting: list[TrainingRun] = []
        self.lock = threading.Lock()

    def submit(self, run: TrainingRun) -> None:
        """Start or resume a run as soon as fewer than `max_running` others are running."""
        with self.lock:
            if run in self.running:  # it was asked to stop and has not stopped yet
                run.state = "running"
            elif run not in self.waiting and run.state in ("ready", "stopped"):
                run.state, run.notice, run.last_seen = "queued", "", self.clock()
                self.waiting.append(run)
            self.schedule()

    def stop(self, run: TrainingRun, timeout: float = 5.0) -> None:
        """Stop a run between two steps and wait for its thread; it can be resumed."""
        with self.lock:
            if run in self.waiting:
                self.waiting.remove(run)
            if run.active:
                run.state = "stopped" if run.step else "ready"
        if run.thread is not None:
            run.thread.join(timeout)

    def heartbeat(self, run: TrainingRun) -> int:
        """Note that a run is being watched. Returns its position in the queue, 0 where it is not queued."""
        with self.lock:
            run.last_seen = self.clock()
            self.schedule()
            return self.waiting.index(run) + 1 if run in self.waiting else 0

    def schedule(self) -> None:
        """Pause stale runs that wait, then start as many of the others as fit. The lock is held."""
        for run in [waiting for waiting in self.waiting if self.is_stale(waiting)]:
            self.waiting.remove(run)
            self.pause(run)
        while self.waiting and len(self.running) < self.max_running:
            run = self.waiting.pop(0)
            self.running.append(run)
            run.state = "running"
            run.thread = threading.Thread(target=self.execute, args=(run,), name="live training", daemon=True)
            run.thread.start()

    def execute(self, run: TrainingRun) -> None:
        """The thread of one run: steps until it is done, stopped, stale or out of time."""
        try:
            while run.state == "running" and run.step < run.steps:
                started, core_started = self.clock(), self.core_clock()
                run.advance()
                run.seconds += self.clock() - started
                run.core_seconds += self.core_clock() - core_started
                if self.is_stale(run):
                    self.pause(run)
                elif run.core_seconds > MAX_CORE_SECONDS and run.step < run.steps:
                    limit = f"{MAX_CORE_SECONDS / 60:.0f} minutes of processor time"
                    self.fail(run, f"Training was ended: it took more than {limit}.")
        except (Diverged, NoTokenMap, UnsupportedMask) as error:  # their messages are written for visitors
            self.fail(run, str(error))
        except Exception as error:
            log.exception("a live training failed")
            self.fail(run, NO_MEMORY if out_of_memory(error) else FAILED)
        finally:
            with self.lock:
                self.running.remove(run)
                if run.state == "running" and run.step < run.steps:  # it was resumed while it was stopping
                    run.state = "queued"
                    self.waiting.insert(0, run)
                elif run.state == "running":
                    run.state = "done"
                self.schedule()

    def is_stale(self, run: TrainingRun) -> bool:
        """Whether the last heartbeat is too long ago."""
        return self.clock() - run.last_seen > self.stale_after

    def pause(self, run: TrainingRun) -> None:
        """Stop a run that nobody watches; it can be resumed."""
        run.state = "stopped" if run.step else "ready"
        run.notice = "Training was paused because nobody was watching."

    def fail(self, run: TrainingRun, sentence: str) -> None:
        """End a run that cannot continue, with a sentence for the visitor."""
        run.state, run.notice = "failed", sentence


def out_of_memory(error: BaseException) -> bool:
    """Whether an error means that memory ran out; torch has no exception class for main memory."""
    return isinstance(error, (MemoryError, torch.OutOfMemoryError)) or "can't allocate memory" in str(error)
