"""Who may train when: a few races at once on one server, the others in line; a race nobody looks at is paused.

Whoever watches calls `Track.look` again and again, so that a visitor who has left costs nothing.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

import torch

from attnviz.training.live.runs import Diverged, TrainingRun
from attnviz.types import NoTokenMap, UnsupportedMask

MAX_RUNNING = 2  # races at once on one server
AWAY = 30.0  # seconds after which a race that nobody looks at is paused
LONGEST = 300.0  # seconds of a processor core after which a race ends; a busy server takes longer, and may
NO_MEMORY = "There was not enough memory to go on. Try again in a moment."
FAILED = "Training ended because of an error on our side; it has been logged. Start again, or choose another variant."
log = logging.getLogger("attnviz")


class Queue:
    """Lets at most `room` races run at once; the others wait in line and start by themselves."""

    def __init__(
        self,
        room: int = MAX_RUNNING,
        away: float = AWAY,
        clock: Callable[[], float] = time.monotonic,
        work: Callable[[], float] = time.thread_time,
    ):
        self.max_running, self.away, self.clock, self.work = room, away, clock, work
        self.running: list[TrainingRun] = []
        self.line: list[TrainingRun] = []
        self.lock = threading.Lock()

    def submit(self, race: TrainingRun) -> None:
        """Start a race, or let it go on, as soon as there is room."""
        with self.lock:
            if race in self.running:  # it was asked to stop and has not yet
                race.state = "running"
            elif race not in self.line and race.state in ("ready", "stopped"):
                race.state, race.notice, race.looked = "waiting", "", self.clock()
                self.line.append(race)
            self.schedule()

    def leave(self, race: TrainingRun, patience: float = 5.0) -> None:
        """Stop a race between two steps; it can go on later."""
        with self.lock:
            if race in self.line:
                self.line.remove(race)
            if race.active:
                race.state = "stopped" if race.step else "ready"
        if race.thread is not None:
            race.thread.join(patience)

    def look(self, race: TrainingRun) -> int:
        """Say that somebody still watches. Returns the place in line, 0 where it does not wait."""
        with self.lock:
            race.looked = self.clock()
            self.schedule()
            return self.line.index(race) + 1 if race in self.line else 0

    def schedule(self) -> None:
        """Fill the free places from the line, leaving out who has gone. The lock is held."""
        for race in [r for r in self.line if self.is_stale(r)]:
            self.line.remove(race)
            self.pause(race)
        while self.line and len(self.running) < self.max_running:
            race = self.line.pop(0)
            self.running.append(race)
            race.state = "running"
            race.thread = threading.Thread(target=self.drive, args=(race,), name="live training", daemon=True)
            race.thread.start()

    def drive(self, race: TrainingRun) -> None:
        """The thread of one race: steps until it is done, stopped, deserted or out of time."""
        try:
            while race.state == "running" and race.step < race.steps:
                started, rested = self.clock(), self.work()
                race.advance()
                race.seconds += self.clock() - started
                race.work += self.work() - rested
                if self.is_stale(race):
                    self.pause(race)
                elif race.work > LONGEST and race.step < race.steps:
                    self.fail(race, f"Training took more than {LONGEST / 60:.0f} minutes of a core and was ended here.")
        except (Diverged, NoTokenMap, UnsupportedMask) as error:  # told in words by whoever raised it
            self.fail(race, str(error))
        except Exception as error:
            log.exception("a live training failed")
            self.fail(race, NO_MEMORY if out_of_memory(error) else FAILED)
        finally:
            with self.lock:
                self.running.remove(race)
                if race.state == "running" and race.step < race.steps:  # it was told to go on while it was stopping
                    race.state = "waiting"
                    self.line.insert(0, race)
                elif race.state == "running":
                    race.state = "done"
                self.schedule()

    def is_stale(self, race: TrainingRun) -> bool:
        """Whether nobody has looked for too long."""
        return self.clock() - race.looked > self.away

    def pause(self, race: TrainingRun) -> None:
        """Stop a race whose visitor has gone; it can go on when somebody comes back."""
        race.state = "stopped" if race.step else "ready"
        race.notice = "Training was paused because nobody was watching."

    def fail(self, race: TrainingRun, sentence: str) -> None:
        """End a race that cannot go on, with a sentence for the visitor."""
        race.state, race.notice = "failed", sentence


def out_of_memory(error: BaseException) -> bool:
    """Whether an error says that no memory was left; torch has no class of its own for that of the processor."""
    return isinstance(error, (MemoryError, torch.OutOfMemoryError)) or "can't allocate memory" in str(error)
