"""What a computation takes, counted while it runs: entries of its largest tensor, multiply-adds of its products."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode


class Largest(TorchDispatchMode):
    """Remembers the largest number of entries of any tensor that an operation returned."""

    def __init__(self) -> None:
        super().__init__()
        self.entries = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        self.entries = max([self.entries, *(t.numel() for t in tree_leaves(result) if isinstance(t, Tensor))])
        return result


def largest(computation: Callable[[], Any]) -> int:
    """Entries of the largest tensor made by the computation, forward and backward."""
    with Largest() as mode:
        computation()
    return mode.entries


def multiply_adds(computation: Callable[[], Any]) -> int:
    """Multiply-adds of all matrix products; those inside the fused attention kernel of the CPU count as 0."""
    with FlopCounterMode(display=False) as counter:
        computation()
    return counter.get_total_flops() // 2
