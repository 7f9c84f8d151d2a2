"""Random numbers that are the same each time: for parameters that are drawn before they are learned or loaded."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import torch

_drawing = threading.RLock()  # parameters come from the one generator of the process, whoever makes a network


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Draw from this seed, alone among all threads; the generator of the process is left as it was."""
    with _drawing, torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield
