"""Walks through maps too large to be kept: a block at a time, counted, and their results kept instead."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import streamlit as st
from torch import Tensor

from attnviz.methods import Method
from attnviz.methods.discard import Blocks
from attnviz.methods.rollout import Open
from attnviz.types import BLOCK, AttentionCall
from attnviz.ui.core.budget import TooLarge
from attnviz.ui.core.sized_cache import SizedCache
from attnviz.ui.inputs.model_run import ModelRun

HELD = 8_000_000  # entries of all layers' fused maps that are kept in memory; above, rows are recomputed
WALKING = "Following attention back, a block of rows at a time"
MOST_SLOW, MOST_OTHERS = 512, 1_100  # tokens: of slow methods, and of those but rollout and raw attention
Count = Callable[[], None]


def check_size(method: Method, tokens: int) -> None:
    """Refuse inputs for which a method would take minutes or hold whole maps. Raises TooLarge."""
    most = MOST_SLOW if method.slow else MOST_OTHERS
    if tokens > most:
        raise TooLarge(
            f"{method.title} is computed for at most {most:,} tokens, and this input has {tokens:,}. Choose a smaller "
            "input size in the sidebar; attention rollout and raw attention take any."
        )


def too_many(visit: ModelRun) -> bool:
    """Whether the fused maps of all layers are too many to be kept in memory."""
    return sum(len(c.queries) * len(c.keys) for c in visit.trace.calls) > HELD


@st.cache_resource(show_spinner=False)
def walks_kept() -> SizedCache[tuple[Tensor, Tensor | None]]:
    """The walks through large maps made last, with raw attention beside them: at most 64, at most 50 MB."""
    return SizedCache(entries=64, size=50_000_000)


@contextmanager
def progress(visit: ModelRun) -> Iterator[Count]:
    """A bar that moves each time a block of rows is computed, in the place of the result."""
    place, done = st.empty(), 0
    total = sum(-(-len(call.queries) // BLOCK) for call in visit.trace.calls)

    def count() -> None:
        nonlocal done
        done += 1
        place.progress(min(1.0, done / total), WALKING)

    try:
        yield count
    finally:
        place.empty()


def counted(fused: Callable[[AttentionCall], Blocks], count: Count | None) -> Open:
    """The same maps, with each block counted that is asked for."""

    def opened(call: AttentionCall) -> Blocks:
        blocks = fused(call)

        def block(rows: list[int]) -> Tensor:
            if count is not None:
                count()
            return blocks(rows)

        return block

    return opened
