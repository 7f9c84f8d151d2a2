"""Parameters drawn from a seed: the same each time, one thread at a time, and the process draws on as before."""

from __future__ import annotations

import threading

import torch

from attnviz.seeding import seeded


def drawn(seed: int) -> list[float]:
    """A few numbers of this seed."""
    with seeded(seed):
        return torch.randn(4).tolist()


def test_a_seed_gives_the_same_numbers_and_another_gives_others():
    assert drawn(1) == drawn(1)
    assert drawn(1) != drawn(2)
    assert drawn(3) == torch.randn(4, generator=torch.Generator().manual_seed(3)).tolist()


def test_the_generator_of_the_process_is_left_as_it_was():
    torch.manual_seed(7)
    untouched = torch.randn(4).tolist()
    torch.manual_seed(7)
    drawn(1)
    assert torch.randn(4).tolist() == untouched


def test_one_seed_inside_another_goes_back_to_the_outer_one():
    found: list[bool] = []

    def draw() -> None:
        with seeded(1):
            begin = torch.randn(2).tolist()
            drawn(2)
            found.append([*begin, *torch.randn(2).tolist()] == drawn(1))

    inside = threading.Thread(target=draw, daemon=True)
    inside.start()
    inside.join(10)
    assert found == [True], "a thread waits for itself, or goes on with other numbers"


def test_another_thread_waits_until_all_is_drawn():
    inside, found = threading.Event(), list[list[float]]()

    def draw() -> None:
        inside.set()
        found.append(drawn(2))

    other = threading.Thread(target=draw)
    with seeded(1):
        first = torch.randn(2).tolist()
        other.start()
        assert inside.wait(10)
        other.join(0.2)
        assert other.is_alive(), "it drew from the generator of this thread's seed"
        assert not found
        assert [*first, *torch.randn(2).tolist()] == drawn(1)
    other.join(10)
    assert found == [drawn(2)]
