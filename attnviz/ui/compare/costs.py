"""What each variant costs on the Compare page, counted and read from the bench: a table, and its trade-offs."""

from __future__ import annotations

from collections.abc import Mapping
from math import isqrt
from typing import Any

import streamlit as st

from attnviz.attention import VARIANTS, Cost
from attnviz.seeding import seeded
from attnviz.training.images.bench import SHAPE
from attnviz.types import Tokens, UnsupportedMask
from attnviz.ui.compare.choice import Choice, title_of
from attnviz.ui.compare.domain import Domain
from attnviz.ui.compare.numbers import markdown_table
from attnviz.ui.core.bench import Accuracy, accuracy
from attnviz.ui.core.state import read_address, write_address

SIZES = (64, 256, 1024, 4096, 16384)  # squares, so that a grid variant can be built for each
MASK_NAMES = {  # what a variant may support, by its names in `supported_masks`
    "keep": "masks of single pairs",
    "key_padding": "leaving tokens out",
    "causal": "causal masks, so generating text",
    "cross": "attending to another sequence",
    "prefix": "CLS and registers",
}


@st.cache_data(max_entries=2048, show_spinner=False)
def cost_of(name: str, n: int, options: Mapping[str, Any] | None = None, heads: int = SHAPE.heads) -> Cost | None:
    """What one layer costs for n tokens, with heads as wide as those of both benches; None where it cannot be built."""
    side, width = isqrt(n), heads * (SHAPE.width // SHAPE.heads)  # what needs no grid costs the same on one
    try:
        with seeded(0):
            return VARIANTS[name](width, heads, tokens=Tokens.patches(side, side), **(options or {})).cost(n, n)
    except (UnsupportedMask, ValueError):
        return None


# Words for numbers ---------------------------------------------------------------------------------------------------
def counted(value: float) -> str:
    """A count with three digits: 66,048 as "66.0 k"."""
    for size, letter in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{three_digits(value / size)}\u00a0{letter}"
    return f"{value:.0f}"


def memory(count: int) -> str:
    """Bytes for people."""
    for size, letter in ((2**30, "GB"), (2**20, "MB"), (2**10, "kB")):
        if count >= size:
            return f"{three_digits(count / size)}\u00a0{letter}"
    return f"{count}\u00a0B"


def three_digits(value: float) -> str:
    """A number below 1,024, rounded to three digits: 1,006 as "1010", where the format alone would say 1.01e+03."""
    return f"{float(f'{value:.3g}'):g}"


def cache_size(name: str, cost: Cost) -> str:
    """What a layer keeps of the tokens it has generated."""
    decodes = "causal" in VARIANTS[name].supported_masks and cost.state_bytes
    return memory(cost.state_bytes) if decodes else "cannot decode"


def factor(own: float, other: float) -> str:
    """One number as a multiple of another."""
    ratio = own / other if other else float("inf")
    return f"{ratio:.2g} x" if ratio < 10 else f"{ratio:.0f} x"


# The table and the sentences -----------------------------------------------------------------------------------------
def choose_size(domain: Domain) -> int:
    """For how many tokens costs are counted."""
    options = {str(n): f"{n:,}" for n in SIZES}
    read_address("n", options)
    chosen = st.select_slider(
        "Tokens n",
        list(options),
        value=str(SIZES[0]),
        key="n",
        persist_state="session",
        format_func=options.__getitem__,
        width=360,
        help="Costs of one layer for so many tokens, in the shape of the bench networks: "
        f"width {domain.width}, {domain.heads} heads. These read {domain.input_size}.",
    )
    write_address("n", chosen, str(SIZES[0]))
    return int(chosen)


def cost_table(choice: Choice, n: int) -> None:
    """One row per variant, counted for n tokens."""
    header = [
        "Variant",
        "Parameters, attention",
        "Parameters, network",
        f"Multiply-adds a layer, n = {n:,}",
        "Attention-matrix memory",
        "KV cache while decoding",
        *choice.domain.accuracy_columns,
    ]
    st.markdown(markdown_table(header, [cost_row(choice, name, n) for name in choice.variants]))
    st.caption(describe_bench(choice))


def cost_row(choice: Choice, name: str, n: int) -> list[str]:
    """One row of the table."""
    domain = choice.domain
    cost, small = (cost_of(name, count, domain.options(name)) for count in (n, SIZES[0]))
    accuracies, network = domain.accuracies(name, choice.bench), counted(domain.network_size(name))
    attention = counted(domain.layers * small.parameters) if small else "none"
    if cost is None:
        return [title_of(name), attention, network, *["none"] * 3, *accuracies]
    maps = memory(cost.map_bytes) if cost.map_bytes else "none formed"
    multiply_adds, cache = counted(cost.multiply_adds), cache_size(name, cost)
    return [title_of(name), attention, network, multiply_adds, maps, cache, *accuracies]


def describe_bench(choice: Choice) -> str:
    """How the networks were trained and what their intervals mean."""
    counts = "Counted for one layer, softmax left out; maps and cache in float32."
    domain, bench = choice.domain, choice.bench
    row = next(filter(None, map(bench.row, choice.variants)), None)
    if row is None:
        return f"{counts} No network has been trained yet: `make train NAME={domain.recipe}`."
    seeds = max(len(bench.seeds(name)) for name in choice.variants)
    over = "seeds" if seeds >= 3 else f"{domain.interval_over}, of one trained network: another seed may fall outside"
    return (
        f"{counts} Trained for {domain.training(row)}, {seeds} {'seed' if seeds == 1 else 'seeds'}, on "
        f"{row.get('device', 'an unnamed device')}. Intervals are 95 % over {over}. {domain.note}"
    )


def trade_offs(choice: Choice, n: int) -> None:
    """What is lost and gained by switching from the first variant to each of the others."""
    first, *others = choice.variants
    lines = [f"- **{title_of(name)}:** {trade_off(choice, name, first, n)}" for name in others]
    st.markdown(f"Instead of **{title_of(first)}**:\n\n" + "\n".join(lines))


def trade_off(choice: Choice, name: str, first: str, n: int) -> str:
    """One clause for each of: cost, accuracy, what is supported."""
    domain, bench = choice.domain, choice.bench
    own, base = (cost_of(one, n, domain.options(one)) for one in (name, first))
    parts = []
    if own and base:
        size, work = factor(own.parameters, base.parameters), factor(own.multiply_adds, base.multiply_adds)
        parts.append(f"**{size}** the attention parameters and **{work}** the multiply-adds at {n:,} tokens")
        if (
            own.state_bytes
            and base.state_bytes
            and {"causal"} <= VARIANTS[name].supported_masks & VARIANTS[first].supported_masks
        ):
            parts.append(f"**{factor(own.state_bytes, base.state_bytes)}** the KV cache while decoding")
    parts.append(compare_accuracy(accuracy(bench.seeds(name)), accuracy(bench.seeds(first)), domain.score))
    lost, won = (
        mask_names(a.supported_masks - b.supported_masks)
        for a, b in ((VARIANTS[first], VARIANTS[name]), (VARIANTS[name], VARIANTS[first]))
    )
    if lost:
        parts.append(f"cannot do: {lost}")
    if won:
        parts.append(f"can also do: {won}")
    if needed := VARIANTS[name].requirements - VARIANTS[first].requirements:
        parts.append(" and ".join(f"needs {domain.requirement_names[need]}" for need in sorted(needed)))
    return "; ".join(parts) + "."


def mask_names(supported: frozenset[str]) -> str:
    """What a variant supports, in words."""
    return ", ".join(words for name, words in MASK_NAMES.items() if name in supported)


def compare_accuracy(own: Accuracy | None, base: Accuracy | None, score: str) -> str:
    """The difference of two accuracies, and whether it could be chance."""
    if own is None or base is None:
        return "accuracy not known, since one of the two is not trained"
    points = own.top1 - base.top1
    apart = own.low > base.high or own.high < base.low
    how = "more" if points >= 0 else "fewer"
    chance = "" if apart else " (the intervals overlap)"
    return f"**{abs(points):.1f} points {how}** of {score} accuracy{chance}"
