"""Walks through maps too large to be kept: a block at a time, counted, and their results kept instead."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import streamlit as st
import torch
from torch import Tensor

from attnviz.methods import Method
from attnviz.methods import discard as thinning
from attnviz.methods.discard import Blocks, fused_blocks, thinned
from attnviz.methods.rollout import Open, row_stochastic, stochastic
from attnviz.types import AttentionCall
from attnviz.ui.core.budget import TooLarge
from attnviz.ui.core.cache import second_core
from attnviz.ui.core.sized_cache import SizedCache
from attnviz.ui.inputs.model_run import ModelRun

HELD = 8_000_000  # entries of all layers' fused maps that are kept in memory; above, rows are recomputed
WALKING = "Following attention back, a block of rows at a time. A smaller input size is quicker."
MOST_SLOW, MOST_OTHERS = 512, 1_100  # tokens: of slow methods, and of those but rollout and raw attention
Count = Callable[[], None]


def check_size(method: Method, tokens: int) -> None:
    """Refuse inputs for which a method would take minutes or hold whole maps. Raises TooLarge."""
    most = MOST_SLOW if method.slow else MOST_OTHERS
    if tokens > most and not method.control:
        raise TooLarge(
            f"{method.title} is computed for at most {most:,} tokens, and this input has {tokens:,}. Choose a smaller "
            "input size in the sidebar; attention rollout and raw attention take any."
        )


def too_many(visit: ModelRun) -> bool:
    """Whether the fused maps of all layers are too many to be kept in memory."""
    return sum(len(c.queries) * len(c.keys) for c in visit.trace.calls) > HELD


def every_weight(visit: ModelRun, options: Mapping[str, Any]) -> bool:
    """Whether one walk gives the rollout of every residual weight: a mean over heads, nothing discarded, no mask."""
    return options.get("fusion", "mean") == "mean" and not options.get("discard", 0.0) and row_stochastic(visit.trace)


@st.cache_resource(show_spinner=False)
def walks_kept() -> SizedCache[tuple[Tensor, Tensor | None]]:
    """The walks through large maps made last, with raw attention beside them: at most 64, at most 50 MB."""
    return SizedCache(entries=64, size=50_000_000)


@contextmanager
def progress(visit: ModelRun, discard: bool = False) -> Iterator[Count]:
    """A bar that moves each time a block of rows is computed, in the place of the result."""
    place, done, shown = st.empty(), 0, -1
    total = sum(times(call, discard) * sum(1 for _ in call.blocks()) for call in visit.trace.calls)

    def count() -> None:
        nonlocal done, shown
        done += 1
        if (percent := min(100, 100 * done // total)) > shown:  # a message for every block would slow the walk down
            shown = percent
            place.progress(percent, WALKING)

    try:
        yield count
    finally:
        place.empty()


def times(call: AttentionCall, discard: bool) -> int:
    """How often each block of a call is computed: a discard over a whole layer counts its entries twice before."""
    return 3 if discard and len(call.queries) * len(call.keys) > thinning.HELD else 1


def walking(fusion: str, discard: float, by_row: bool, count: Count | None) -> Open:
    """Fused maps that nobody keeps: each block is computed when it is asked for, and counted."""

    def opened(call: AttentionCall) -> Blocks:
        blocks = side_by_side(fused_blocks(stochastic(call), fusion))

        def block(rows: list[int]) -> Tensor:
            if count is not None:
                count()
            return blocks(rows)

        return thinned(call, block, discard, by_row)

    return opened


@st.cache_resource(show_spinner=False)
def helpers() -> ThreadPoolExecutor:
    """Threads that compute the other half of a block."""
    return ThreadPoolExecutor(thread_name_prefix="attnviz-block")


def side_by_side(blocks: Blocks) -> Blocks:
    """The same blocks, half of their rows computed by another thread whenever a second core is free."""

    def halves(rows: list[int]) -> Tensor:
        with second_core() as free:
            if not free or len(rows) < 2:
                return blocks(rows)
            middle = len(rows) // 2
            other = helpers().submit(blocks, rows[middle:])
            return torch.cat([blocks(rows[:middle]), other.result()], -2)

    return halves
