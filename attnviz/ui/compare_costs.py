"""What each variant costs on the Compare page: counted, read from the bench, and said in sentences."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import isqrt
from typing import NamedTuple

import numpy as np
import streamlit as st
from scipy import stats

from attnviz.attention import VARIANTS, Cost
from attnviz.training.bench import APART, EQUAL, SAME, SHAPE, parameters
from attnviz.training.live import seeded
from attnviz.types import Tokens, UnsupportedMask
from attnviz.ui.bench import Bench, Row
from attnviz.ui.compare import title_of
from attnviz.ui.compare_numbers import markdown_table

SIZES = (64, 256, 1024, 4096, 16384)  # squares, so that a grid variant can be made for each
SERVES = {  # what a variant may be asked for, in words
    "keep": "masks of single pairs",
    "key_keep": "leaving tokens out",
    "causal": "causal masks, so producing text",
    "cross": "attending to another sequence",
    "prefix": "CLS and registers",
}


@st.cache_data(max_entries=512, show_spinner=False)
def cost_of(name: str, n: int) -> Cost | None:
    """What one layer costs for n tokens, in the shape of the bench; None where it cannot be made for so many."""
    side = isqrt(n)
    try:
        with seeded(0):
            return VARIANTS[name](SHAPE.width, SHAPE.heads, tokens=Tokens.patches(side, side)).cost(n, n)
    except (UnsupportedMask, ValueError):
        return None


@st.cache_data(max_entries=64, show_spinner=False)
def network_size(name: str) -> int:
    """Parameters of the bench network with this variant."""
    return parameters(replace(SHAPE, variant=name))


def unequal(name: str) -> bool:
    """Whether the bench trains this variant a second time, at the parameters of multi-head attention."""
    return abs(network_size(name) / network_size("mha") - 1) > APART


class Accuracy(NamedTuple):
    """Top-1 in percent with its 95 % interval, and where that comes from."""

    top1: float
    low: float
    high: float
    seeds: int

    @property
    def words(self) -> str:
        """On screen."""
        return f"{self.top1:.1f}\u00a0% ({self.low:.1f}\u2009–\u2009{self.high:.1f})"


def accuracy(rows: Sequence[Row]) -> Accuracy | None:
    """Over seeds where there are three or more (Student's t), else of the first network over pictures (Wilson)."""
    if not rows:
        return None
    values = [float(row["top1"]) for row in rows]
    if len(values) >= 3:
        half = stats.t.ppf(0.975, len(values) - 1) * np.std(values, ddof=1) / len(values) ** 0.5
        return Accuracy(
            float(np.mean(values)), float(np.mean(values) - half), float(np.mean(values) + half), len(values)
        )
    first = min(rows, key=lambda row: row["seed"])
    low, high = first["interval"]
    return Accuracy(float(first["top1"]), float(low), float(high), 1)


# Words for numbers ---------------------------------------------------------------------------------------------------
def counted(value: float) -> str:
    """A count with three digits: 66,048 as "66.0 k"."""
    for size, letter in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:.3g}\u00a0{letter}"
    return f"{value:.0f}"


def memory(count: int) -> str:
    """Bytes for people."""
    for size, letter in ((2**30, "GB"), (2**20, "MB"), (2**10, "kB")):
        if count >= size:
            return f"{count / size:.3g}\u00a0{letter}"
    return f"{count}\u00a0B"


def state_words(name: str, cost: Cost) -> str:
    """What a layer keeps for each token it has produced."""
    return memory(cost.state_bytes) if "causal" in VARIANTS[name].serves and cost.state_bytes else "cannot decode"


def factor(own: float, other: float) -> str:
    """One number as a multiple of another."""
    ratio = own / other if other else float("inf")
    return f"{ratio:.2g} x" if ratio < 10 else f"{ratio:.0f} x"


# The table and the sentences -----------------------------------------------------------------------------------------
def size_choice() -> int:
    """For how many tokens costs are counted."""
    return st.select_slider("Tokens n", SIZES, value=SIZES[0], key="n", bind="query-params",
                            format_func=lambda n: f"{n:,}", width=360,
                            help="Costs of one layer for so many tokens, in the shape of the bench networks: width "
                            f"{SHAPE.width}, {SHAPE.heads} heads. The networks above read 64 patches.")  # fmt: skip


def cost_table(variants: Sequence[str], n: int, found: Bench) -> None:
    """One row per variant, counted for n tokens."""
    header = ["Variant", "Parameters, attention", "Parameters, network", f"Multiply-adds a layer, n = {n:,}",
              "Its maps, if stored", "Kept while decoding", "Top-1 (95 %)", "Top-1, equal parameters"]  # fmt: skip
    st.markdown(markdown_table(header, [cost_row(name, n, found) for name in variants]))
    st.caption(bench_words(found, variants))


def cost_row(name: str, n: int, found: Bench) -> list[str]:
    """One row of the table."""
    cost, small = cost_of(name, n), cost_of(name, SIZES[0])
    right = [accuracy(found.seeds(name, run)) for run in (SAME, EQUAL)]
    trained = [one.words if one else "not trained" for one in right]
    if right[0] and not right[1] and not unequal(name):
        trained[1] = "same network"  # within a tenth already, so the bench trains it once
    own = counted(SHAPE.layers * small.parameters) if small else "none"
    if cost is None:
        return [title_of(name), own, counted(network_size(name)), *["none"] * 3, *trained]
    maps = memory(cost.map_bytes) if cost.map_bytes else "none made"
    return [title_of(name), own, counted(network_size(name)), counted(cost.multiply_adds), maps,
            state_words(name, cost), *trained]  # fmt: skip


def bench_words(found: Bench, variants: Sequence[str]) -> str:
    """How the networks were trained and what their intervals mean."""
    counts = "Counted for one layer, softmax left out; maps and state in float32."
    row = next(filter(None, map(found.row, variants)), None)
    if row is None:
        return f"{counts} No network has been trained yet: `make train NAME=bench`."
    seeds = max(len(found.seeds(name)) for name in variants)
    steps = f"{row['steps']:,} steps of {row['batch']} pictures" if {"steps", "batch"} <= row.keys() else "one recipe"
    over = "over seeds" if seeds >= 3 else "over pictures, of one trained network: another seed may fall outside"
    held = f", {row['held_out']:,} held-out pictures" if "held_out" in row else ""
    return (f"{counts} Trained for {steps}, {seeds} {'seed' if seeds == 1 else 'seeds'}{held}, on "
            f"{row.get('device', 'an unnamed device')}. Intervals are 95 % {over}.")  # fmt: skip


def verdicts(variants: Sequence[str], n: int, found: Bench) -> None:
    """What is lost and gained where the first variant is replaced by each of the others."""
    first, *others = variants
    lines = [f"- **{title_of(name)}:** {verdict(name, first, n, found)}" for name in others]
    st.markdown(f"Instead of **{title_of(first)}**:\n\n" + "\n".join(lines))


def verdict(name: str, first: str, n: int, found: Bench) -> str:
    """One sentence for each of: cost, accuracy, what is served."""
    own, base = cost_of(name, n), cost_of(first, n)
    parts = []
    if own and base:
        size, work = factor(own.parameters, base.parameters), factor(own.multiply_adds, base.multiply_adds)
        parts.append(f"**{size}** the attention parameters and **{work}** the multiply-adds at {n:,} tokens")
        if own.state_bytes and base.state_bytes and {"causal"} <= VARIANTS[name].serves & VARIANTS[first].serves:
            parts.append(f"**{factor(own.state_bytes, base.state_bytes)}** the memory while decoding")
    parts.append(accuracy_words(accuracy(found.seeds(name)), accuracy(found.seeds(first))))
    lost, won = (words_of(a.serves - b.serves) for a, b in ((VARIANTS[first], VARIANTS[name]),
                                                            (VARIANTS[name], VARIANTS[first])))  # fmt: skip
    if lost:
        parts.append(f"cannot do: {lost}")
    if won:
        parts.append(f"can also do: {won}")
    if needed := VARIANTS[name].needs - VARIANTS[first].needs:
        parts.append(" and ".join({"grid": "needs a grid of patches", "length": "needs a fixed number of tokens"}[x]
                                  for x in sorted(needed)))  # fmt: skip
    return "; ".join(parts) + "."


def words_of(kinds: frozenset[str]) -> str:
    """What may be asked of a variant, in words."""
    return ", ".join(words for kind, words in SERVES.items() if kind in kinds)


def accuracy_words(own: Accuracy | None, base: Accuracy | None) -> str:
    """How much better or worse it names pictures, and whether that could be chance."""
    if own is None or base is None:
        return "accuracy not known, since one of the two is not trained"
    points = own.top1 - base.top1
    apart = own.low > base.high or own.high < base.low
    how = "more" if points >= 0 else "fewer"
    chance = "" if apart else " (the intervals overlap)"
    return f"**{abs(points):.1f} points {how}** of top-1 accuracy{chance}"
