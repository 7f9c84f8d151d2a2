"""What each variant costs on the Compare page: counted, read from the bench, and said in sentences."""

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

SIZES = (64, 256, 1024, 4096, 16384)  # squares, so that a grid variant can be made for each
SERVES = {  # what a variant may be asked for, in words
    "keep": "masks of single pairs",
    "key_padding": "leaving tokens out",
    "causal": "causal masks, so producing text",
    "cross": "attending to another sequence",
    "prefix": "CLS and registers",
}


@st.cache_data(max_entries=512, show_spinner=False)
def cost_of(name: str, n: int, options: Mapping[str, Any] | None = None) -> Cost | None:
    """What one layer costs for n tokens, in the shape of both benches; None where it cannot be made for so many."""
    side, made = isqrt(n), options or {}  # what needs no grid costs the same on one
    try:
        with seeded(0):
            return VARIANTS[name](SHAPE.width, SHAPE.heads, tokens=Tokens.patches(side, side), **made).cost(n, n)
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


def state_words(name: str, cost: Cost) -> str:
    """What a layer keeps for each token it has produced."""
    return (
        memory(cost.state_bytes) if "causal" in VARIANTS[name].supported_masks and cost.state_bytes else "cannot decode"
    )


def factor(own: float, other: float) -> str:
    """One number as a multiple of another."""
    ratio = own / other if other else float("inf")
    return f"{ratio:.2g} x" if ratio < 10 else f"{ratio:.0f} x"


# The table and the sentences -----------------------------------------------------------------------------------------
def size_choice(ground: Domain) -> int:
    """For how many tokens costs are counted."""
    return st.select_slider(
        "Tokens n",
        SIZES,
        value=SIZES[0],
        key="n",
        bind="query-params",
        format_func=lambda n: f"{n:,}",
        width=360,
        help="Costs of one layer for so many tokens, in the shape of the bench networks: "
        f"width {ground.width}, {ground.heads} heads. These read {ground.size}.",
    )


def cost_table(choice: Choice, n: int) -> None:
    """One row per variant, counted for n tokens."""
    header = [
        "Variant",
        "Parameters, attention",
        "Parameters, network",
        f"Multiply-adds a layer, n = {n:,}",
        "Its maps, if stored",
        "Kept while decoding",
        *choice.ground.columns,
    ]
    st.markdown(markdown_table(header, [cost_row(choice, name, n) for name in choice.variants]))
    st.caption(bench_words(choice))


def cost_row(choice: Choice, name: str, n: int) -> list[str]:
    """One row of the table."""
    ground = choice.ground
    cost, small = (cost_of(name, count, ground.options(name)) for count in (n, SIZES[0]))
    trained, network = ground.trained(name, choice.found), counted(ground.network_size(name))
    own = counted(ground.layers * small.parameters) if small else "none"
    if cost is None:
        return [title_of(name), own, network, *["none"] * 3, *trained]
    maps = memory(cost.map_bytes) if cost.map_bytes else "none made"
    return [title_of(name), own, network, counted(cost.multiply_adds), maps, state_words(name, cost), *trained]


def bench_words(choice: Choice) -> str:
    """How the networks were trained and what their intervals mean."""
    counts = "Counted for one layer, softmax left out; maps and state in float32."
    ground, found = choice.ground, choice.found
    row = next(filter(None, map(found.row, choice.variants)), None)
    if row is None:
        return f"{counts} No network has been trained yet: `make train NAME={ground.recipe}`."
    seeds = max(len(found.seeds(name)) for name in choice.variants)
    over = "seeds" if seeds >= 3 else f"{ground.over}, of one trained network: another seed may fall outside"
    return (
        f"{counts} Trained for {ground.training(row)}, {seeds} {'seed' if seeds == 1 else 'seeds'}, on "
        f"{row.get('device', 'an unnamed device')}. Intervals are 95 % over {over}. {ground.note}"
    )


def verdicts(choice: Choice, n: int) -> None:
    """What is lost and gained where the first variant is replaced by each of the others."""
    first, *others = choice.variants
    lines = [f"- **{title_of(name)}:** {verdict(choice, name, first, n)}" for name in others]
    st.markdown(f"Instead of **{title_of(first)}**:\n\n" + "\n".join(lines))


def verdict(choice: Choice, name: str, first: str, n: int) -> str:
    """One sentence for each of: cost, accuracy, what is served."""
    ground, found = choice.ground, choice.found
    own, base = (cost_of(one, n, ground.options(one)) for one in (name, first))
    parts = []
    if own and base:
        size, work = factor(own.parameters, base.parameters), factor(own.multiply_adds, base.multiply_adds)
        parts.append(f"**{size}** the attention parameters and **{work}** the multiply-adds at {n:,} tokens")
        if (
            own.state_bytes
            and base.state_bytes
            and {"causal"} <= VARIANTS[name].supported_masks & VARIANTS[first].supported_masks
        ):
            parts.append(f"**{factor(own.state_bytes, base.state_bytes)}** the memory while decoding")
    parts.append(accuracy_words(accuracy(found.seeds(name)), accuracy(found.seeds(first)), ground.score))
    lost, won = (
        words_of(a.supported_masks - b.supported_masks)
        for a, b in ((VARIANTS[first], VARIANTS[name]), (VARIANTS[name], VARIANTS[first]))
    )
    if lost:
        parts.append(f"cannot do: {lost}")
    if won:
        parts.append(f"can also do: {won}")
    if needed := VARIANTS[name].requirements - VARIANTS[first].requirements:
        parts.append(" and ".join(f"needs {ground.needs[need]}" for need in sorted(needed)))
    return "; ".join(parts) + "."


def words_of(kinds: frozenset[str]) -> str:
    """What may be asked of a variant, in words."""
    return ", ".join(words for kind, words in SERVES.items() if kind in kinds)


def accuracy_words(own: Accuracy | None, base: Accuracy | None, score: str) -> str:
    """How much more often it is right or wrong, and whether that could be chance."""
    if own is None or base is None:
        return "accuracy not known, since one of the two is not trained"
    points = own.top1 - base.top1
    apart = own.low > base.high or own.high < base.low
    how = "more" if points >= 0 else "fewer"
    chance = "" if apart else " (the intervals overlap)"
    return f"**{abs(points):.1f} points {how}** of {score} accuracy{chance}"
