"""How the panels of the Compare page are drawn: which maps, what kind of map it is, and the answer below."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
import streamlit as st

from attnviz import views
from attnviz.types import Trace
from attnviz.ui.compare import maps
from attnviz.ui.compare.choice import LOOKS, NATIVE, Choice, capital
from attnviz.ui.compare.domain import MapStyle, Panel, Slot
from attnviz.ui.compare.maps import Native
from attnviz.ui.compare.numbers import Cell, estimate_words
from attnviz.ui.compare.panels import SAME
from attnviz.ui.core.labels import plain, token_name
from attnviz.ui.core.state import one_of
from attnviz.ui.shell.prose import section
from attnviz.ui.widgets.answers import percent
from attnviz.ui.widgets.display import KINDS

TALL = 340  # of a picture or matrix
ANSWER, ONE = "Answer", "One patch"


def layout(count: int) -> tuple[int, int]:
    """Panels side by side, and pixels below which they wrap: four become two rows of two, six stand three by three."""
    return (4, 290) if count == 4 else (min(count, 3), 250)


def draw(choice: Choice, look: MapStyle, cells: Sequence[Cell], tokens: tuple[int, ...]) -> None:
    """All panels, in rows as wide as the window allows."""
    slots, reasons = prepare(choice, look, cells, tokens)
    across, narrowest = layout(len(cells))
    grid = st.grid(across, min_column_width=narrowest, gap="small", key="panels:grid")
    for cell in cells:
        with grid.cell():
            heading(choice, cell)
            if choice.shown == NATIVE:
                draw_natives(look, cell, tokens)
            elif cell.panel.variant in slots:
                draw_map(choice, look, cell, slots[cell.panel.variant], tokens)
            else:
                st.info(reasons[cell.panel.variant])
                if choice.shown == LOOKS and cell.panel.trace is not None:
                    draw_natives(look, cell, tokens)
            answer(choice, look, cell.panel, tokens)


def prepare(
    choice: Choice, look: MapStyle, cells: Sequence[Cell], tokens: tuple[int, ...]
) -> tuple[dict[str, Slot], dict[str, str]]:
    """Send what the panels draw: where each map lies, and why some have none."""
    shown = [cell.panel for cell in cells]
    with st.container(gap=None):
        if seen := [panel for panel in shown if panel.trace is not None]:
            choice.ground.share(seen)
        if choice.shown == LOOKS:
            slots = maps.send_looks(look, [(cell.panel, cell.layer, cell.head) for cell in cells])
            return slots, {panel.variant: maps.no_map(panel) for panel in shown}
        if choice.shown == NATIVE:
            return {}, {}
        one = st.session_state.get("start") == ONE
        return maps.send_rollouts(look, shown, None if one else "answer")


def start_choice(choice: Choice, first: Panel, token: int) -> None:
    """Where the rollouts start."""
    _, sample, trace = first.shows()
    said = choice.ground.worded
    with st.container(horizontal=True, vertical_alignment="bottom"):
        at = one_of("Rollouts start at", [ANSWER, ONE], default=ANSWER, key="start", format_func=said)
        where = said(read_from(trace)) if at == ANSWER else plain(token_name(sample.tokens["main"], token))
        st.caption(f"From {where}, heads averaged, half of every layer kept by the residual path.")


def read_from(trace: Trace) -> str:
    """What an answer is read from, in words."""
    alone = float(next(iter(trace.pooling.values())).max()) == 1
    return "the answer" if alone else "all patches alike, since the answer is read from their mean"


def heading(choice: Choice, cell: Cell) -> None:
    """The variant, and which head of it is shown."""
    small = "" if cell.panel.trace is None or choice.shown == maps_of_all(choice) else cell.words
    st.markdown(f"**{cell.panel.title}**  \n:small[:gray[{small or '​'}]]")


def maps_of_all(choice: Choice) -> str:
    """The way of showing that is about no single head."""
    return "" if choice.shown in (LOOKS, NATIVE) else choice.shown


def draw_map(choice: Choice, look: MapStyle, cell: Cell, slot: Slot, tokens: tuple[int, ...]) -> None:
    """What the visitor brought with one map over it, and what kind of map it is."""
    panel = cell.panel
    relevance = maps_of_all(choice) == choice.shown
    what = "rollout" if relevance else "attention"
    label, row = f"{panel.title}: {look.over} with its {what}", relevance and st.session_state.get("start") != ONE
    draw = partial(look.draw, f"panel:{panel.variant}", panel, slot, tokens, label, height=TALL)
    if relevance:
        draw(shared=True, row=row)
        caveats = dict.fromkeys(c.rule.caveat for c in panel.calls(0) if c.rule.caveat)
        st.caption(choice.ground.worded(" ".join(["Relevance.", *caveats])))
        return
    found = maps.effective(panel)
    shares = found.stochastic and not found.signed
    draw(shared=shares)  # other maps are no shares of one, so a common range of colours would mean nothing
    sums = "" if found.stochastic or "sum to" in found.caveat else " Rows do not sum to 1."
    signed = " Entries below zero are blue." if found.signed else ""
    left = look.left_out(maps.one_of(found, cell.layer, cell.head)[None].numpy(), shares=shares)
    caveat = choice.ground.worded(found.caveat)
    kind = KINDS[found.kind].split(":")[0] if found.caveat else KINDS[found.kind]  # a caveat is more exact
    st.caption(f"{capital(kind)}.{signed}{sums} {caveat} {estimate_words(cell)} {left}")


def draw_natives(look: MapStyle, cell: Cell, tokens: tuple[int, ...]) -> None:
    """What the formula really computes, map by map."""
    panel = cell.panel
    if panel.trace is None:
        st.info(panel.reason)
        return
    for number, one in enumerate(maps.natives(panel, cell.layer, cell.head)):
        draw_native(look, panel, one, f"native:{panel.variant}:{number}", tokens)


def draw_native(look: MapStyle, panel: Panel, one: Native, slot: str, tokens: tuple[int, ...]) -> None:
    """One native map: a matrix, or one number per token."""
    at = 0
    if len(one.steps) > 1:
        at = one.steps.index(st.selectbox(capital(one.title), one.steps, key=f"step {slot}", width=200))
    maps.send_native(look, slot, one)
    shape = " x ".join(f"{axis} {count}" for axis, count in zip(one.axes, one.values.shape[1:], strict=True))
    if one.rows is not None:
        views.matrix_view(
            f"view:{slot}",
            maps=slot,
            index=at,
            tokens=tokens if one.axes[0] == "query" else (),
            style=look.style,
            height=TALL,
            on_pick=look.pick,
            label=f"{panel.title}: {one.title}",
        )
    elif one.columns == panel.tokens:
        label = f"{panel.title}: {one.title} over {look.over}"
        look.draw(f"view:{slot}", panel, Slot(slot, at), (), label, height=TALL, row=True)
    st.caption(f"{capital(one.title)}: {shape}. {capital(KINDS[one.kind])}.")


def answer(choice: Choice, look: MapStyle, panel: Panel, tokens: tuple[int, ...]) -> None:
    """What the network of a panel makes of the input."""
    if panel.trace is None:
        return
    whole = "With this formula in every layer the network" if choice.mode == SAME else "Its network"
    st.markdown(f"{whole} {choice.ground.answer(panel, look.token(tokens))}")
    if panel.fresh:
        st.caption("This formula has parameters that multi-head attention lacks; they are at their starting values.")


def draw_difference(choice: Choice, look: MapStyle, cells: Sequence[Cell], tokens: tuple[int, ...]) -> None:
    """One chosen map minus another, on a scale around zero; words and choice on the right."""
    mapped = {panel.title for panel in maps.comparable([cell.panel for cell in cells])}
    offered = {cell.panel.title: cell for cell in cells if cell.panel.title in mapped}
    drawn, words = st.columns([1.4, 1], gap="medium")
    with words:
        section(choice.ground.page, "Difference of two")
        if len(offered) < 2:
            st.info("A difference needs two variants with token maps; choose another one above.")
            return
        one, other = pick_side("First", "first", list(offered), 0), pick_side("Second", "minus", list(offered), 1)
        if one == other:
            st.info("Choose two different variants: a map minus itself is zero everywhere.")
            return
    sides = [offered[one], offered[other]]
    with drawn:
        difference = maps.send_difference(look, *((c.panel, c.layer, c.head) for c in sides))
        look.draw("difference", sides[0].panel, Slot("difference", 0), tokens, f"{one} minus {other}", height=TALL + 60)
    warm, cold = (f"{cell.panel.title} ({cell.place.lower()})" for cell in sides)
    moved = choice.ground.worded(moved_words(difference, sides, tokens))
    words.caption(f"Red or orange: {warm} gives more. Blue: {cold} gives more. {moved}")


def pick_side(label: str, key: str, options: list[str], at: int) -> str:
    """One of the two variants of a difference."""
    if st.session_state.get(key, options[at]) not in options:
        del st.session_state[key]
    return st.selectbox(label, options, index=at, key=key, bind="query-params")


def moved_words(difference: np.ndarray, sides: Sequence[Cell], tokens: tuple[int, ...]) -> str:
    """How much weight lies elsewhere, where both maps share out one."""
    if not all(maps.effective(cell.panel).stochastic for cell in sides):
        return "One of the two does not share out one, so this is no shift of weight."
    rows = 0.5 * np.abs(difference).sum(-1)
    own = f", {percent(float(rows[list(tokens)].mean()))} for the picked patch" if tokens else ""
    return f"{percent(float(rows.mean()))} of the weight lies on other patches, over all queries{own}."
