"""Charts of the Compare page: accuracy against cost, and which heads share keys."""

from __future__ import annotations

import streamlit as st

from attnviz.attention import VARIANTS
from attnviz.plots.intervals import intervals
from attnviz.plots.sharing import sharing
from attnviz.training.images.bench import EQUAL, SAME
from attnviz.ui.compare import costs
from attnviz.ui.compare.choice import Choice, capital, title_of
from attnviz.ui.compare.domain import Domain
from attnviz.ui.compare.growth import cost_series
from attnviz.ui.core.bench import accuracy
from attnviz.ui.core.state import one_of
from attnviz.ui.widgets.output import dark, plot

COSTS = {"multiply_adds": "Multiply-adds", "parameters": "Parameters"}  # by their names in the address
AXIS_TITLES = {"multiply_adds": "Multiply-adds per layer at 64 tokens", "parameters": "Parameters of the network"}


def accuracy_chart(choice: Choice) -> None:
    """Accuracy against cost with intervals: the chosen variants in colour, everything else trained in grey."""
    domain, bench, variants = choice.domain, choice.bench, choice.variants
    if not bench.rows:
        train = f"`make train NAME={domain.recipe}` trains a network for every variant."
        st.info(f"There is no accuracy to show yet: {train}")
        return
    against = one_of("Accuracy against", COSTS, default="multiply_adds", key="against")
    runs = [(name, run) for name in VARIANTS for run in (SAME, EQUAL) if bench.seeds(name, run)]
    values = [value for run in runs if (value := accuracy(bench.seeds(*run))) is not None]
    figure = intervals(
        [cost_of_run(choice, *run, against) for run in runs],
        [value.top1 for value in values],
        [value.low for value in values],
        [value.high for value in values],
        names=[title_of(name) for name, _ in runs],
        colours=[variants.index(name) if name in variants else None for name, _ in runs],
        hollow=[run == EQUAL for _, run in runs],
        x_title=AXIS_TITLES[against],
        y_title=capital(domain.score),
        unit=" %",
        dark=dark(),
        height=400,
    )
    score = capital(domain.score)
    plot(figure, "cost:accuracy", alt=f"{score} accuracy with 95 % intervals against cost, one dot for each variant")
    rings = "; rings are the runs at equal parameters" if any(run == EQUAL for _, run in runs) else ""
    st.caption(f"Bars are 95 % intervals{rings}. Grey: trained, but not chosen above.")


def cost_of_run(choice: Choice, name: str, run: str, against: str) -> float:
    """What accuracy is drawn against: multiply-adds of one layer, or the parameters of the trained network."""
    if against == "multiply_adds":
        return cost_series(choice.domain, name, "multiply_adds")[0]
    return float(choice.bench.seeds(name, run)[0]["parameters"])


def sharing_panel(domain: Domain) -> None:
    """The slider of groups: which heads share keys, and what that saves."""
    heads, dim = domain.heads * 2, domain.width // domain.heads
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
        alt=f"{heads} query heads, {groups} heads of keys and values, and which query head reads which",
    )
    grouped, full = 2 * 4 * groups * dim, 2 * 4 * heads * dim
    width = heads * dim
    st.markdown(
        f"With **{heads} heads** of {dim} numbers, **{groups}** of keys and values ({name}): the KV cache of a decoder "
        f"takes {costs.memory(grouped)} for every token and layer instead of {costs.memory(full)}, and a layer has "
        f"{costs.counted(2 * width * width + 2 * width * groups * dim)} parameters instead of "
        f"{costs.counted(4 * width * width)}."
    )
