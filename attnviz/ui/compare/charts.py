"""Charts of the Compare page: how costs grow, accuracy against cost, and which heads share keys."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import streamlit as st

from attnviz.attention import VARIANTS, Cost
from attnviz.plots.growth import growth
from attnviz.plots.intervals import intervals
from attnviz.plots.sharing import sharing
from attnviz.training.images.bench import EQUAL, SAME
from attnviz.ui.compare import costs
from attnviz.ui.compare.choice import Choice, capital, title_of
from attnviz.ui.compare.domain import Domain
from attnviz.ui.core.bench import accuracy
from attnviz.ui.core.state import one_of
from attnviz.ui.widgets.output import dark, plot

AGAINST = {"Multiply-adds": "multiply-adds a layer at 64 tokens", "Parameters": "parameters of the network"}
GUIDES = {"O(n)": 1, "O(n²)": 2}


def state_chart(choice: Choice) -> None:
    """What a layer keeps while decoding against n, for the variants that can decode."""
    able = [name for name in choice.variants if "causal" in VARIANTS[name].supported_masks]
    if not able:
        st.info("None of these variants can decode token by token, so none keeps anything.")
        return
    series = {name: counted(choice.ground, name, "state_bytes") for name in able}
    grow(
        choice.variants,
        series,
        "cost:state",
        "Bytes a layer",
        "Bytes kept while decoding",
        unit="B",
        guides={"O(n)": 1},
    )


def work_chart(choice: Choice) -> None:
    """Multiply-adds of one layer against n."""
    series = {name: counted(choice.ground, name, "multiply_adds") for name in choice.variants}
    grow(choice.variants, series, "cost:work", "Multiply-adds a layer", "Multiply-adds")


def grow(
    variants: Sequence[str],
    series: Mapping[str, Sequence[float]],
    key: str,
    title: str,
    said: str,
    *,
    unit: str = "",
    guides: Mapping[str, int] = GUIDES,
) -> None:
    """One quantity against n on logarithmic axes; a variant has one colour in every chart."""
    colours = {title_of(name): place for place, name in enumerate(variants)}
    named = {title_of(name): values for name, values in series.items()}
    figure = growth(named, sizes=costs.SIZES, guides=guides, colours=colours, unit=unit, y_title=title, dark=dark())
    plot(figure, key, alt=f"{said} against the number of tokens, on logarithmic axes")


def counted(ground: Domain, name: str, field: str) -> list[float]:
    """One number of a variant's cost at every size."""
    return [value_of(costs.cost_of(name, n, ground.options(name)), field) for n in costs.SIZES]


def value_of(cost: Cost | None, field: str) -> float:
    """One number of a cost; not a number where there is none."""
    return float("nan") if cost is None else float(getattr(cost, field))


def accuracy_chart(choice: Choice) -> None:
    """Accuracy against cost with intervals: the chosen variants in colour, everything else trained in grey."""
    ground, found, variants = choice.ground, choice.found, choice.variants
    if not found.rows:
        st.info(
            f"There is no accuracy to show yet: `make train NAME={ground.recipe}` trains a network for every variant."
        )
        return
    against = one_of("Accuracy against", list(AGAINST), default="Multiply-adds", key="against")
    entries = [(name, run) for name in VARIANTS for run in (SAME, EQUAL) if found.seeds(name, run)]
    values = [accuracy(found.seeds(*entry)) for entry in entries]
    across = [
        counted(ground, name, "multiply_adds")[0]
        if against == "Multiply-adds"
        else float(found.seeds(name, run)[0]["parameters"])
        for name, run in entries
    ]
    known = [one for one in values if one is not None]
    paint = [variants.index(name) if name in variants else None for name, _ in entries]
    figure = intervals(
        across,
        [a.top1 for a in known],
        [a.low for a in known],
        [a.high for a in known],
        names=[title_of(name) for name, _ in entries],
        colours=paint,
        hollow=[run == EQUAL for _, run in entries],
        x_title=AGAINST[against].capitalize(),
        y_title=capital(ground.score),
        unit=" %",
        dark=dark(),
        height=400,
    )
    said = f"{capital(ground.score)} accuracy with 95 % intervals against cost, one dot for each variant"
    plot(figure, "cost:accuracy", alt=said)
    rings = "; rings are the runs at equal parameters" if any(run == EQUAL for _, run in entries) else ""
    st.caption(f"Bars are 95 % intervals{rings}. Grey: trained, but not chosen above.")


def sharing_panel(ground: Domain) -> None:
    """The slider of groups: which heads share keys, and what that saves."""
    heads, dim = ground.heads * 2, ground.width // ground.heads
    options = [g for g in range(1, heads + 1) if heads % g == 0]
    groups = st.select_slider(
        "Groups of heads that share keys and values",
        options,
        value=options[-2],
        key="groups",
        bind="query-params",
        width=360,
    )
    name = {1: "multi-query attention", heads: "multi-head attention"}.get(groups, "grouped-query attention")
    plot(
        sharing([head * groups // heads for head in range(heads)], dark=dark()),
        "sharing",
        alt=f"{heads} query heads, {groups} heads of keys and values, and which query reads which",
    )
    kept, whole = 2 * 4 * groups * dim, 2 * 4 * heads * dim
    d = heads * dim
    st.markdown(
        f"With **{heads} heads** of {dim} numbers, **{groups}** of keys and values ({name}): a decoder keeps "
        f"{costs.memory(kept)} for every token and layer instead of {costs.memory(whole)}, and a layer has "
        f"{costs.counted(2 * d * d + 2 * d * groups * dim)} parameters instead of {costs.counted(4 * d * d)}."
    )
