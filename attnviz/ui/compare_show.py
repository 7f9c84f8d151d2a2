"""How the panels of the Compare page are drawn: picture or matrix, what kind of map it is, and the answer below."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import streamlit as st

from attnviz import views
from attnviz.types import Tokens
from attnviz.ui import compare_maps as maps
from attnviz.ui.answers import best, percent
from attnviz.ui.compare import LOOKS, NATIVE, Choice
from attnviz.ui.compare_maps import KINDS, Native, Slot
from attnviz.ui.compare_numbers import Cell, estimate_words
from attnviz.ui.compare_panels import SAME, Panel
from attnviz.ui.prose import section
from attnviz.ui.state import set_tokens, token_name

TALL = 340  # of a picture or matrix
ANSWER, PATCH = "Answer", "One patch"


def pick(chosen: tuple[int, ...]) -> None:
    """A click on a patch holds it in every panel; letting go keeps the last one."""
    if chosen:
        set_tokens("token", chosen)


def layout(count: int) -> tuple[int, int]:
    """Panels side by side, and pixels below which they wrap: four become two rows of two, six stand three by three."""
    return (4, 290) if count == 4 else (min(count, 3), 250)


def draw(choice: Choice, cells: Sequence[Cell], tokens: tuple[int, ...]) -> None:
    """All panels, in rows as wide as the window allows."""
    slots, reasons = prepare(choice, cells, tokens)
    across, narrowest = layout(len(cells))
    grid = st.grid(across, min_column_width=narrowest, gap="small", key="panels")
    for cell in cells:
        with grid.cell():
            heading(choice, cell)
            if choice.shown == NATIVE:
                draw_natives(choice, cell, tokens)
            elif cell.panel.variant in slots:
                draw_picture(choice, cell, slots[cell.panel.variant], tokens)
            else:
                st.info(reasons[cell.panel.variant])
                if choice.shown == LOOKS and cell.panel.trace is not None:
                    draw_natives(choice, cell, tokens)
            answer(choice, cell.panel)


def prepare(choice: Choice, cells: Sequence[Cell], tokens: tuple[int, ...]) -> tuple[dict[str, Slot], dict[str, str]]:
    """Send what the panels draw: where each map lies, and why some have none."""
    shown = [cell.panel for cell in cells]
    with st.container(gap=None):
        maps.share_pictures(shown)
        if choice.shown == LOOKS:
            slots = maps.send_looks([(cell.panel, cell.layer, cell.head) for cell in cells])
            return slots, {panel.variant: maps.no_map(panel) for panel in shown}
        if choice.shown == NATIVE:
            return {}, {}
        return maps.send_rollouts(shown, "readout" if st.session_state.get("start") != PATCH else None)


def start_choice(tokens: Tokens, chosen: int) -> None:
    """Where the rollouts start."""
    with st.container(horizontal=True, vertical_alignment="bottom"):
        at = st.segmented_control("Rollouts start at", [ANSWER, PATCH], default=ANSWER, required=True, key="start",
                                  bind="query-params")  # fmt: skip
        where = "all patches alike, since the answer is read from their mean" if tokens.prefix == 0 else "the answer"
        st.caption(f"From {where if at == ANSWER else token_name(tokens, chosen)}, heads averaged, half of every layer "
                   "kept by the residual path.")  # fmt: skip


def heading(choice: Choice, cell: Cell) -> None:
    """The variant, and which head of it is shown."""
    small = "" if cell.panel.trace is None or choice.shown == maps_of_all(choice) else cell.words
    st.markdown(f"**{cell.panel.title}**  \n:small[:gray[{small or '​'}]]")


def maps_of_all(choice: Choice) -> str:
    """The way of showing that is about no single head."""
    return "" if choice.shown in (LOOKS, NATIVE) else choice.shown


def draw_picture(choice: Choice, cell: Cell, slot: Slot, tokens: tuple[int, ...]) -> None:
    """The visitor's picture with one map over it."""
    panel, look = cell.panel, choice.look
    relevance = maps_of_all(choice) == choice.shown
    what = "rollout" if relevance else "attention"
    views.picture_view(f"panel:{panel.variant}", picture=slot.picture, maps=slot.name, index=slot.index, tokens=tokens,
                       scale=look.scale, colours=look.colours, drop_prefix=look.drop_prefix, network=look.network,
                       shared=True, height=TALL, on_pick=pick,
                       label=f"{panel.title}: your picture with its {what}")  # fmt: skip
    if relevance:
        caveats = dict.fromkeys(c.rule.caveat for c in panel.calls(0) if c.rule.caveat)
        st.caption(" ".join(["Relevance.", *caveats]))
        return
    found = maps.effective(panel)
    sums = "" if found.stochastic else " Rows do not sum to one."
    signed = " Entries below zero are blue." if found.signed else ""
    st.caption(f"{capital(KINDS[found.kind])}.{signed}{sums} {found.caveat} {estimate_words(cell)}")


def draw_natives(choice: Choice, cell: Cell, tokens: tuple[int, ...]) -> None:
    """What the formula really computes, map by map."""
    panel = cell.panel
    if panel.trace is None:
        st.info(panel.reason)
        return
    for number, one in enumerate(maps.natives(panel, cell.layer, cell.head)):
        draw_native(choice, panel, one, f"native:{panel.variant}:{number}", tokens)


def draw_native(choice: Choice, panel: Panel, one: Native, slot: str, tokens: tuple[int, ...]) -> None:
    """One native map: a matrix, or one number per patch over the picture."""
    at = 0
    if len(one.steps) > 1:
        at = one.steps.index(st.selectbox(capital(one.title), one.steps, key=f"step {slot}", width=200))
    maps.send_native(slot, one)
    shape = " x ".join(f"{axis} {count}" for axis, count in zip(one.axes, one.values.shape[1:], strict=True))
    drawn: dict[str, Any] = {"scale": choice.look.scale, "colours": choice.look.colours, "height": TALL,
                             "drop_prefix": choice.look.drop_prefix, "on_pick": pick}  # fmt: skip
    if one.rows is None and one.columns.grid is not None:
        views.picture_view(f"view:{slot}", picture=maps.picture_slot(panel), maps=slot, index=at, tokens=(),
                           label=f"{panel.title}: {one.title} over your picture", **drawn)  # fmt: skip
    elif one.rows is not None:
        views.matrix_view(f"view:{slot}", maps=slot, index=at, tokens=tokens if one.axes[0] == "query" else (),
                          label=f"{panel.title}: {one.title}", **drawn)  # fmt: skip
    st.caption(f"{capital(one.title)}: {shape}. {capital(KINDS[one.kind])}.")


def answer(choice: Choice, panel: Panel) -> None:
    """What the network of a panel says the picture shows."""
    if panel.trace is None or panel.model is None:
        return
    name, probability = best(panel.model, panel.trace, 1)[0]
    whole = "With this formula in every layer the network" if choice.mode == SAME else "Its network"
    st.markdown(f"{whole} says **{name}** ({percent(probability)}).")
    if panel.fresh:
        st.caption("This formula has parameters that multi-head attention lacks; they are at their starting values.")


def capital(text: str) -> str:
    """A text with its first letter large."""
    return text[:1].upper() + text[1:]


def draw_difference(choice: Choice, cells: Sequence[Cell], tokens: tuple[int, ...]) -> None:
    """One chosen map minus another, on a scale around zero; words and choice on the right."""
    mapped = {panel.title for panel in maps.comparable([cell.panel for cell in cells])}
    offered = {cell.panel.title: cell for cell in cells if cell.panel.title in mapped}
    picture, words = st.columns([1.4, 1], gap="medium")
    with words:
        section("compare", "Difference of two")
        if len(offered) < 2:
            st.info("A difference needs two variants with token maps; choose another one above.")
            return
        one, other = pick_side("First", "first", list(offered), 0), pick_side("Second", "second", list(offered), 1)
        if one == other:
            st.info("Choose two different variants: a map minus itself is zero everywhere.")
            return
    sides = [offered[one], offered[other]]
    with picture:
        difference = maps.send_difference(*((c.panel, c.layer, c.head) for c in sides))
        views.picture_view("difference", picture=maps.picture_slot(sides[0].panel), maps="difference", tokens=tokens,
                           scale=choice.look.scale, drop_prefix=choice.look.drop_prefix, network=choice.look.network,
                           height=TALL + 60, on_pick=pick, label=f"{one} minus {other}")  # fmt: skip
    warm, cold = (f"{cell.panel.title} ({cell.place.lower()})" for cell in sides)
    words.caption(
        f"Red or orange: {warm} gives more. Blue: {cold} gives more. {moved_words(difference, sides, tokens)}"
    )


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


def tokens_of_first(found: Sequence[Panel]) -> Tokens:
    """The patches of the first of the panels, all of which show something."""
    return maps.tokens_of(found[0])
