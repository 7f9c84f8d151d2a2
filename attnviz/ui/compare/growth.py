"""How costs grow with the number of tokens on the Compare page: counted from the formulas, and measured here."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import closing
from threading import Lock
from typing import cast

import numpy as np
import streamlit as st

from attnviz.attention import VARIANTS, Cost
from attnviz.measures import reference
from attnviz.measures.cost import Row, Step, device_name, measure
from attnviz.measures.forward import Setting, Subject
from attnviz.models import DamagedFile
from attnviz.plots.growth import growth
from attnviz.ui.compare.choice import Choice, title_of
from attnviz.ui.compare.costs import SIZES, cost_of
from attnviz.ui.compare.domain import Domain
from attnviz.ui.core import assets
from attnviz.ui.core.cache import core
from attnviz.ui.core.device import best_device
from attnviz.ui.shell.training_status import watch
from attnviz.ui.widgets.output import dark, plot

GUIDES = {"O(n)": 1, "O(n²)": 2}
MEASURED = "attnviz:measured"  # session key: (bench, variant, n) -> Row
LIMITS = {"bytes_limit": 1e9, "seconds_limit": 30}  # a visitor waits, and others want the machine too
MEASURE_HELP = (
    "Measures one forward pass of one layer, for 64 to 16,384 tokens: the median of 20 runs in which the variants take "
    "turns, and the peak memory of a process of its own. It takes some minutes, in which the rest of this page does "
    "not respond; opening another page ends it, and what is done is kept."
)
NOT_MEASURED = "Nothing has been measured yet on {device}. "
REFERENCE = (
    "Measured once, on {machine}, {date}: median of {runs} forward passes after warm-up, the processor's own time of "
    "one thread; width {width}, {heads} heads, one sequence, torch {torch}, each variant with its default options "
    "(`{command}`). Another machine or implementation gives other times."
)
MEASURING = "Another visitor is measuring, and two at once would disturb each other. Try again in a minute."


def charts(choice: Choice) -> None:
    """Four charts against n: what is counted, and what was measured when the visitor asked for it."""
    left, right = st.columns(2, gap="medium")
    with left:
        st.markdown("**Multiply-adds** of one layer, counted")
        multiply_adds_chart(choice)
    with right:
        st.markdown("**KV cache or state** while decoding, counted")
        cache_chart(choice)
    if st.button(
        "Measure latency and memory on this machine", icon=":material/timer:", key="measure", help=MEASURE_HELP
    ):
        run(choice)
    rows, variants, words = measured_rows(choice), choice.variants, describe_setting()
    if not rows:  # of this visitor: then what was measured once and comes with the app
        rows, words = reference_rows(choice)
    if not rows:
        st.caption(NOT_MEASURED.format(device=device_name(setting().device)) + MEASURE_HELP)
        return
    left, right = st.columns(2, gap="medium")
    with left:
        st.markdown("**Latency** of one layer, measured")
        measured_chart(rows, variants, lambda row: row.seconds, "latency", "s", "Seconds per forward pass")
    with right:
        st.markdown("**Peak memory** above what was held before, measured")
        measured_chart(rows, variants, lambda row: row.peak_bytes, "memory", "B", "Bytes")
    st.caption(" ".join([words, *describe_skipped(rows)]))


def draw_growth(
    variants: Sequence[str],
    series: Mapping[str, Sequence[float]],
    key: str,
    y_title: str,
    description: str,
    *,
    unit: str = "",
    guides: Mapping[str, int] = GUIDES,
) -> None:
    """One quantity against n on logarithmic axes; a variant has one colour in every chart."""
    colours = {title_of(name): place for place, name in enumerate(variants)}
    titled = {title_of(name): values for name, values in series.items()}
    figure = growth(titled, sizes=SIZES, guides=guides, colours=colours, unit=unit, y_title=y_title, dark=dark())
    plot(figure, key, alt=f"{description} against the number of tokens, on logarithmic axes")


# Counted -------------------------------------------------------------------------------------------------------------
def multiply_adds_chart(choice: Choice) -> None:
    """Multiply-adds of one layer against n."""
    series = {name: cost_series(choice.domain, name, "multiply_adds") for name in choice.variants}
    draw_growth(choice.variants, series, "cost:work", "Multiply-adds per layer", "Multiply-adds")


def cache_chart(choice: Choice) -> None:
    """What a layer keeps while decoding against n, for the variants that can decode."""
    decoders = [name for name in choice.variants if "causal" in VARIANTS[name].supported_masks]
    if not decoders:
        st.info("None of these variants can decode token by token, so none has a cache.")
        return
    series = {name: cost_series(choice.domain, name, "state_bytes") for name in decoders}
    title, description = "Bytes per layer", "Bytes of the KV cache or state while decoding"
    draw_growth(choice.variants, series, "cost:state", title, description, unit="B", guides={"O(n)": 1})


def cost_series(domain: Domain, name: str, field: str) -> list[float]:
    """One number of a variant's cost at every size; not a number where it cannot be built."""
    costs: list[Cost | None] = [cost_of(name, n, domain.options(name)) for n in SIZES]
    return [float("nan") if cost is None else float(getattr(cost, field)) for cost in costs]


# Measured ------------------------------------------------------------------------------------------------------------
@st.cache_resource(show_spinner=False)
def stopwatch() -> Lock:
    """Held by whoever measures: two at once would measure each other."""
    return Lock()


def setting() -> Setting:
    """What is measured on: the graphics card where there is one, else the processor."""
    return Setting(device="cuda" if best_device().type == "cuda" else "cpu", **LIMITS)


def measured_rows(choice: Choice) -> list[Row]:
    """What this visitor has measured of these variants, built as for this domain."""
    kept: dict[tuple[str, str, int], Row] = st.session_state.get(MEASURED, {})
    recipe, variants = choice.domain.recipe, choice.variants
    return [row for (measured_for, name, _), row in kept.items() if measured_for == recipe and name in variants]


def reference_rows(choice: Choice) -> tuple[list[Row], str]:
    """What was measured of these variants on the reference machine, and on what; none where there is no such file.

    A damaged file is one sentence: everything else on the page is there without it.
    """
    try:
        with assets.reading(reference.FILE):
            found = reference.load(reference.FILE)
    except DamagedFile as error:
        st.warning(str(error), icon=":material/info:")
        return [], ""
    if found is None:
        return [], ""
    rows = [row for row in found.rows if row.name in choice.variants]
    return rows, REFERENCE.format(**{name: getattr(found, name) for name in reference.FIELDS})


def run(choice: Choice) -> None:
    """Measure, with a bar; every finished size is kept, so that what interrupts it loses the rest only."""
    if not stopwatch().acquire(blocking=False):
        st.info(MEASURING)
        return
    try:
        subjects = [Subject(name, VARIANTS[name], choice.domain.options(name)) for name in choice.variants]
        steps = cast(Generator[Step, None, None], measure(subjects, SIZES, setting()))
        with core(), closing(steps):  # a visitor who goes elsewhere ends it
            follow(choice.domain, steps)
    finally:
        stopwatch().release()


def follow(domain: Domain, steps: Iterable[Step]) -> None:
    """Show how far a measurement is, and keep its rows."""
    bar = st.progress(0.0, "Starting")
    for step in steps:
        watch()  # a training of this visitor is not left alone meanwhile
        bar.progress(min(1.0, step.share), step.text.capitalize())
        rows = {(domain.recipe, row.name, row.count): row for row in step.rows}
        st.session_state.setdefault(MEASURED, {}).update(rows)
    bar.empty()


def measured_chart(
    rows: Sequence[Row], variants: Sequence[str], read: Callable[[Row], float | None], key: str, unit: str, title: str
) -> None:
    """One measured quantity against n; what was not measured leaves a gap."""
    values = {(row.name, row.count): read(row) for row in rows}
    series = {
        name: [values.get((name, n)) or np.nan for n in SIZES]
        for name in variants
        if any(values.get((name, n)) for n in SIZES)
    }
    if not series:
        st.info("None of these sizes could be measured within the limits.")
        return
    draw_growth(variants, series, f"live:{key}", title, f"{title}, measured,", unit=unit)


def describe_setting() -> str:
    """On what, and how."""
    used = setting()
    clock = "the processor's own time of one thread" if used.device == "cpu" else "the time until the card is done"
    return (
        f"Measured on {device_name(used.device)}: median of {used.runs} forward passes after warm-up, {clock}; width "
        f"{used.width}, {used.heads} heads, one sequence."
    )


def describe_skipped(rows: Sequence[Row]) -> list[str]:
    """Where each variant stopped, and why: once for each."""
    first: dict[str, Row] = {}
    for row in sorted(rows, key=lambda row: row.count):
        if row.skipped:
            first.setdefault(row.name, row)
    return [f"{title_of(row.name)} stops before {row.count:,} tokens: {row.skipped}." for row in first.values()]
