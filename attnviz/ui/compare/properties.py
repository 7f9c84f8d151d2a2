"""What each variant serves, as its class declares it, and its costs beside those of multi-head attention: one table."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import streamlit as st

from attnviz.attention import VARIANTS, Cost, Variant
from attnviz.ui.compare.costs import cost_of, title_of
from attnviz.ui.compare.domain import Domain
from attnviz.ui.widgets.output import download, table

TICK, GROWING, CONSTANT, NONE = "✓", "grows", "constant", ""
LONG, LONGER = 4096, 16384  # tokens; what is kept of both alike does not grow


class Property(NamedTuple):
    """One column of ticks."""

    title: str
    help: str
    holds: Callable[[type[Variant]], bool]


PROPERTIES = {
    "causal": Property(
        "Causal", "No token attends to a later one, as in a decoder.", lambda kind: "causal" in kind.supported_masks
    ),
    "cross": Property(
        "Cross", "Queries of one sequence attend to the keys of another.", lambda kind: "cross" in kind.supported_masks
    ),
    "padding": Property(
        "Padding", "Tokens can be left out, for each input others.", lambda kind: "key_padding" in kind.supported_masks
    ),
    "band": Property(
        "Window", "Attention can be kept to a band of neighbours.", lambda kind: "band" in kind.supported_masks
    ),
    "any length": Property(
        "Any length", "It reads more or fewer tokens than it was built for.", lambda kind: not fixed_length(kind)
    ),
    "grid": Property(
        "Needs a grid", "Its tokens are patches in rows and columns.", lambda kind: "grid" in kind.requirements
    ),
    "prefix": Property(
        "CLS", "It reads tokens without a place, such as CLS.", lambda kind: "prefix" in kind.supported_masks
    ),
}
CACHE_HELP = "What a layer keeps while it decodes token by token: constant where it does not grow with the tokens."
RATIOS = {  # fields of Cost, as multiples of multi-head attention's
    "parameters": "Parameters",
    "multiply_adds": "Multiply-adds",
    "map_bytes": "Matrix memory",
    "state_bytes": "Cache",
}


def fixed_length(kind: type[Variant]) -> bool:
    """Whether a variant reads only as many tokens as it was built for."""
    return "length" in kind.requirements


def cache_kind(name: str, domain: Domain) -> str:
    """Whether what a layer keeps while decoding grows with the tokens; nothing where it cannot decode."""
    if "causal" not in VARIANTS[name].supported_masks:
        return NONE
    kept = [cost.state_bytes for n in (LONG, LONGER) if (cost := cost_of(name, n, domain.options(name)))]
    return CONSTANT if len(set(kept)) == 1 else GROWING


def ratio(own: Cost | None, other: Cost | None, field: str) -> float | None:
    """One cost as a multiple of another; None where there is none, as of a matrix that is never formed."""
    if own is None or other is None or not getattr(own, field) or not getattr(other, field):
        return None
    return round(getattr(own, field) / getattr(other, field), 4)


def property_row(name: str, domain: Domain, n: int, heads: int) -> dict[str, Any]:
    """One row: ticks, and costs of a layer for n tokens and so many heads."""
    own, full = (cost_of(one, n, domain.options(one), heads) for one in (name, "mha"))
    ticks = {one.title: TICK if one.holds(VARIANTS[name]) else NONE for one in PROPERTIES.values()}
    costs = {f"{title}, x": ratio(own, full, field) for field, title in RATIOS.items()}
    return {"Variant": title_of(name), **ticks, "While decoding": cache_kind(name, domain), **costs}


def property_table(domain: Domain, n: int, heads: int) -> None:
    """Every variant of the domain in a table that sorts by a click on a column, with a button for it as CSV."""
    rows = [property_row(name, domain, n, heads) for name in domain.variants]
    config: dict[str, Any] = {"Variant": st.column_config.TextColumn(pinned=True)}
    config |= {one.title: st.column_config.TextColumn(help=one.help, width="small") for one in PROPERTIES.values()}
    config["While decoding"] = st.column_config.TextColumn(help=CACHE_HELP, width="small")
    config |= {
        f"{title}, x": st.column_config.NumberColumn(help=f"{title} as a multiple of multi-head attention's.")
        for title in RATIOS.values()
    }
    st.dataframe(rows, hide_index=True, column_config=config, height=36 * (len(rows) + 1), key="properties")
    download("Table as CSV", lambda: as_csv(rows), "variants.csv")


def as_csv(rows: Sequence[dict[str, Any]]) -> bytes:
    """The table with "yes" for a tick and nothing where there is none."""
    words = {TICK: "yes"}
    return table(list(rows[0]), ([words.get(value, value) for value in row.values()] for row in rows))
