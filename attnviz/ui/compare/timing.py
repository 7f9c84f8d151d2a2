"""Latency and memory on the Compare page, measured on this machine while the visitor waits, with a bar that moves."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import closing
from threading import Lock
from typing import cast

import numpy as np
import streamlit as st

from attnviz.attention import VARIANTS
from attnviz.measures.cost import Row, Step, device_name, measure
from attnviz.measures.forward import Setting, Subject
from attnviz.ui.compare import charts as compare_charts
from attnviz.ui.compare.choice import Choice, title_of
from attnviz.ui.compare.costs import SIZES
from attnviz.ui.compare.domain import Domain
from attnviz.ui.core.cache import core
from attnviz.ui.core.device import best_device
from attnviz.ui.shell.training_status import watch

KEPT = "attnviz:measured"  # session key: (bench, variant, n) -> Row
LIMITS = {"bytes_limit": 1e9, "seconds_limit": 30}  # a visitor waits, and others want the machine too
ASK = (
    "Measures one forward of one layer, for 64 to 16,384 tokens: the median of 20 runs in which the variants take "
    "turns, and the most memory that a process of its own holds. It takes some minutes, in which nothing else on this "
    "page answers; another page ends it, and what is done stays."
)


@st.cache_resource(show_spinner=False)
def stopwatch() -> Lock:
    """Held by whoever measures: two at once would measure each other."""
    return Lock()


def setting() -> Setting:
    """What is measured on: the graphics card where there is one, else the processor."""
    return Setting(device="cuda" if best_device().type == "cuda" else "cpu", **LIMITS)


def charts(choice: Choice) -> None:
    """Four charts against n: what is counted, and what was measured when the visitor asked for it."""
    left, right = st.columns(2, gap="medium")
    with left:
        st.markdown("**Multiply-adds** of one layer, counted")
        compare_charts.work_chart(choice)
    with right:
        st.markdown("**Cache or state** while decoding, counted")
        compare_charts.state_chart(choice)
    if st.button("Measure latency and memory here", icon=":material/timer:", key="measure", help=ASK):
        run(choice)
    rows, variants = measured(choice), choice.variants
    if not rows:
        st.caption(f"Nothing has been measured yet on {device_name(setting().device)}. {ASK}")
        return
    left, right = st.columns(2, gap="medium")
    with left:
        st.markdown("**Latency** of one layer, measured")
        chart(rows, variants, lambda row: row.seconds, "latency", "s", "Seconds a forward")
    with right:
        st.markdown("**Peak memory** above what was held before, measured")
        chart(rows, variants, lambda row: row.peak_bytes, "memory", "B", "Bytes")
    st.caption(" ".join([measured_words(), *skipped_words(rows)]))


def measured(choice: Choice) -> list[Row]:
    """What this visitor has measured of these variants, made as on this ground."""
    kept: dict[tuple[str, str, int], Row] = st.session_state.get(KEPT, {})
    return [row for (of, name, _), row in kept.items() if of == choice.ground.recipe and name in choice.variants]


def run(choice: Choice) -> None:
    """Measure, with a bar; every finished size is kept, so that what interrupts it loses the rest only."""
    if not stopwatch().acquire(blocking=False):
        st.info("Somebody is measuring right now, and two at once would disturb each other. Try again in a minute.")
        return
    try:
        subjects = [Subject(name, VARIANTS[name], choice.ground.options(name)) for name in choice.variants]
        steps = cast(Generator[Step, None, None], measure(subjects, SIZES, setting()))
        with core(), closing(steps):  # a visitor who goes elsewhere ends it
            follow(choice.ground, steps)
    finally:
        stopwatch().release()


def follow(ground: Domain, steps: Iterable[Step]) -> None:
    """Show how far a measurement is, and keep its rows."""
    bar = st.progress(0.0, "Starting")
    for step in steps:
        watch()  # a training of this visitor is not left alone meanwhile
        bar.progress(min(1.0, step.share), step.text.capitalize())
        st.session_state.setdefault(KEPT, {}).update({(ground.recipe, row.name, row.count): row for row in step.rows})
    bar.empty()


def chart(
    rows: Sequence[Row], variants: Sequence[str], read: Callable[[Row], float | None], key: str, unit: str, title: str
) -> None:
    """One measured quantity against n; what was not measured leaves a gap."""
    found = {(row.name, row.count): read(row) for row in rows}
    series = {
        name: [found.get((name, n)) or np.nan for n in SIZES]
        for name in variants
        if any(found.get((name, n)) for n in SIZES)
    }
    if not series:
        st.info("None of these sizes could be measured within the limits.")
        return
    compare_charts.grow(variants, series, f"live:{key}", title, f"{title}, measured,", unit=unit)


def measured_words() -> str:
    """On what, and how."""
    where = setting()
    clock = "the processor's own time of one thread" if where.device == "cpu" else "the time until the card is done"
    return (
        f"Measured on {device_name(where.device)}: median of {where.runs} forwards after warm-up, {clock}; width "
        f"{where.width}, {where.heads} heads, one sequence."
    )


def skipped_words(rows: Sequence[Row]) -> list[str]:
    """Where each variant stopped, and why: once for each."""
    first: dict[str, Row] = {}
    for row in sorted(rows, key=lambda row: row.count):
        if row.skipped:
            first.setdefault(row.name, row)
    return [f"{title_of(row.name)} stops before {row.count:,} tokens: {row.skipped}." for row in first.values()]
