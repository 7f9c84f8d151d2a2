"""Several jobs at once, each in a process of its own; one process at a time on one state."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from attnviz.training.jobs import AlreadyRunning, locked, run_jobs


def describe(number: int) -> tuple[int, int, int]:
    """The number, and which process with how many threads it was given to."""
    return number, os.getpid(), torch.get_num_threads()


def fail(number: int) -> int:
    """Fail at 1."""
    if number == 1:
        raise ValueError("one")
    return number


def test_one_job_at_a_time_runs_in_order_here() -> None:
    assert [(n, p) for n, p, _ in run_jobs(describe, [3, 1, 2])] == [(n, os.getpid()) for n in (3, 1, 2)]


@pytest.mark.trains
def test_jobs_run_in_processes_of_their_own() -> None:
    found = list(run_jobs(describe, [1, 2, 3], 2))
    assert sorted(number for number, _, _ in found) == [1, 2, 3]
    assert os.getpid() not in {process for _, process, _ in found}
    assert {threads for _, _, threads in found} == {1}


@pytest.mark.trains
def test_the_first_error_is_raised() -> None:
    with pytest.raises(ValueError, match="one"):
        list(run_jobs(fail, [0, 1, 2], 2))


@pytest.mark.trains
def test_an_item_waits_until_it_is_ready() -> None:
    """1 waits for the result of 3; what never is ready is named."""
    taken: list[int] = []
    for number, *_ in run_jobs(describe, [1, 3, 4, 5], 2, lambda item: item != 1 or 3 in taken):
        taken.append(number)
    assert taken.index(3) < taken.index(1)
    assert sorted(taken) == [1, 3, 4, 5]
    with pytest.raises(ValueError, match=r"ready: \[1\]"):
        list(run_jobs(describe, [1], 2, lambda item: False))


def test_a_lock_is_of_one_and_ends(tmp_path: Path) -> None:
    with locked(tmp_path / "state"), pytest.raises(AlreadyRunning, match="Another process"), locked(tmp_path / "state"):
        pass
    with locked(tmp_path / "state"):
        pass
