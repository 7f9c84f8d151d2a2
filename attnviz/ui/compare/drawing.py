"""How the panels of the Compare page are drawn: which maps, of which type, and the answer below."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
import streamlit as st
from jaxtyping import Float

from attnviz import views
from attnviz.types import Trace
from attnviz.ui.compare import maps
from attnviz.ui.compare.choice import ATTENTION, NATIVE, ROLLOUT, Choice, capital
from attnviz.ui.compare.domain import MapRecord, MapStyle, Panel
from attnviz.ui.compare.heads import PanelHead, choose_head, panel_heads
from attnviz.ui.compare.maps import NativeMap
from attnviz.ui.compare.numbers import estimate_error
from attnviz.ui.compare.panels import SHARED
from attnviz.ui.core.labels import plain, token_name
from attnviz.ui.core.state import one_of, select
from attnviz.ui.shell.prose import section
from attnviz.ui.widgets.answers import percent
from attnviz.ui.widgets.display import type_words

HEIGHT = 340  # of a picture or matrix
EMPTY = "\u200b"  # a line of no width
ANSWER, TOKEN = "answer", "token"  # where rollouts start, by their names in the address
SAME_SIDES = "Choose two different variants: a map minus itself is zero everywhere."
NO_SHIFT = "The rows of one of the two do not sum to 1, so the difference is no shift of weight."
NEW_PARAMETERS = "This formula has parameters that multi-head attention lacks; they are at their initial values."


def side_by_side(choice: Choice, style: MapStyle, panels: Sequence[Panel]) -> tuple[list[PanelHead], tuple[int, ...]]:
    """The panels in the chosen heads; which heads and which token are returned for what stands below.

    There are no heads where no panel has a trace, and for rollouts, which average over heads.
    """
    first = next((panel for panel in panels if panel.trace is not None), None)
    whole = [PanelHead(panel, 0, 0) for panel in panels]
    if first is None:
        draw(choice, style, whole, ())
        return [], ()
    selected = style.selected(first.tokens)
    if choice.maps == ROLLOUT:
        choose_start(choice, first, style.token(selected))
        draw(choice, style, whole, selected)
        return [], selected
    heads = panel_heads(panels, *choose_head(choice, first))
    draw(choice, style, heads, selected)
    return heads, selected


def layout(count: int) -> tuple[int, int]:
    """Panels side by side, and pixels below which they wrap: four stand in one row, six three by three."""
    return (4, 215) if count == 4 else (min(count, 3), 250)


def draw(choice: Choice, style: MapStyle, heads: Sequence[PanelHead], tokens: tuple[int, ...]) -> None:
    """All panels, in rows as wide as the window allows."""
    records, reasons = send_maps(choice, style, heads)
    columns, narrowest = layout(len(heads))
    grid = st.grid(columns, min_column_width=narrowest, gap="small", border=True, key="panels:grid")
    for head in heads:
        with grid.cell():
            draw_heading(choice, head)
            if choice.maps == NATIVE:
                draw_native_maps(style, head, tokens)
            elif head.panel.variant in records:
                draw_map(choice, style, head, records[head.panel.variant], tokens)
            else:
                st.info(reasons[head.panel.variant])
                if choice.maps == ATTENTION and head.panel.trace is not None:
                    draw_native_maps(style, head, tokens)
            draw_answer(choice, style, head.panel, tokens)


def send_maps(
    choice: Choice, style: MapStyle, heads: Sequence[PanelHead]
) -> tuple[dict[str, MapRecord], dict[str, str]]:
    """Give the browser what the panels draw: where the map of each variant lies, and why some have none."""
    panels = [head.panel for head in heads]
    with st.container(gap=None):
        if traced := [panel for panel in panels if panel.trace is not None]:
            choice.domain.send_input(traced)
        if choice.maps == ATTENTION:
            records = maps.send_attention(style, [(head.panel, head.layer, head.head) for head in heads])
            return records, {panel.variant: maps.missing_map_reason(panel) for panel in panels}
        if choice.maps == NATIVE:
            return {}, {}
        return maps.send_rollouts(style, panels, None if from_token() else "answer")


def from_token() -> bool:
    """Whether rollouts start at the selected token, so that there is one row for each."""
    return st.session_state.get("start") == TOKEN


def choose_start(choice: Choice, first: Panel, token: int) -> None:
    """Where the rollouts start."""
    _, sample, trace = first.contents()
    starts = {ANSWER: "Answer", TOKEN: f"Selected {choice.domain.token_name}"}
    with st.container(horizontal=True, vertical_alignment="bottom"):
        start = one_of("Start from", starts, default=ANSWER, key="start")
        answer = "the answer" if reads_one_token(trace) else choice.domain.mean_pooling
        place = answer if start == ANSWER else plain(token_name(sample.tokens["main"], token))
        st.caption(f"From {place}; mean over heads, half of every layer kept by the residual path.")


def reads_one_token(trace: Trace) -> bool:
    """Whether the answer is read from a single token."""
    return float(next(iter(trace.pooling.values())).max()) == 1


def draw_heading(choice: Choice, head: PanelHead) -> None:
    """The variant, and which head of it is shown; an empty second line keeps the panels level."""
    label = EMPTY if head.panel.trace is None or choice.maps == ROLLOUT else head.label
    st.markdown(f"**{head.panel.title}**  \n:small[:gray[{label}]]")


def draw_map(choice: Choice, style: MapStyle, head: PanelHead, record: MapRecord, tokens: tuple[int, ...]) -> None:
    """The visitor's input with one map over it, and what type of map it is."""
    panel, rollout = head.panel, choice.maps == ROLLOUT
    label = f"{panel.title}: {style.input_name} with its {'rollout' if rollout else 'attention'}"
    draw = partial(style.draw, f"panel:{panel.variant}", panel, record, tokens, label, height=HEIGHT)
    if rollout:
        draw(shared=True, row=not from_token())
        caveats = dict.fromkeys(call.rule.caveat for call in panel.calls(0) if call.rule.caveat)
        st.caption(" ".join(["Relevance.", *caveats]))
        return
    every = maps.token_maps(panel)
    weights = every.stochastic and not every.signed
    draw(shared=weights)  # a common colour scale has a meaning only where all rows sum to 1
    st.caption(describe_map(style, head))


def describe_map(style: MapStyle, head: PanelHead) -> str:
    """The type of a map, what has to be known of it, and what was left out of it."""
    every = maps.token_maps(head.panel)
    values = maps.head_map(every, head.layer, head.head)[None].numpy()
    sentences = [
        type_words(every.map_type, every.caveat),
        "Entries below zero are blue." if every.signed else "",
        every.caveat,
        estimate_error(head),
        style.left_out(values, stochastic=every.stochastic and not every.signed),
    ]
    return " ".join(filter(None, sentences))


def draw_native_maps(style: MapStyle, head: PanelHead, tokens: tuple[int, ...]) -> None:
    """What the formula computes, map by map."""
    panel = head.panel
    if panel.trace is None:
        st.info(panel.reason)
        return
    for number, one in enumerate(maps.native_maps(panel, head.layer, head.head)):
        draw_native_map(style, panel, one, f"native:{panel.variant}:{number}", tokens)


def draw_native_map(style: MapStyle, panel: Panel, one: NativeMap, record: str, tokens: tuple[int, ...]) -> None:
    """One native map: a matrix, or one number per token."""
    index = 0
    if len(one.steps) > 1:
        index = one.steps.index(st.selectbox(capital(one.title), one.steps, key=f"step {record}", width=200))
    maps.send_native(style, record, one)
    shape = " x ".join(f"{axis} {count}" for axis, count in zip(one.axes, one.values.shape[1:], strict=True))
    if one.rows is not None:
        views.matrix_view(
            f"view:{record}",
            maps=record,
            index=index,
            tokens=tokens if one.axes[0] == "query" else (),
            style=style.view,
            height=HEIGHT,
            on_pick=style.select,
            label=f"{panel.title}: {one.title}",
        )
    elif one.columns == panel.tokens:
        label = f"{panel.title}: {one.title} over {style.input_name}"
        style.draw(f"view:{record}", panel, MapRecord(record, index), (), label, height=HEIGHT, row=True)
    st.caption(f"{capital(one.title)}: {shape}. {type_words(one.map_type)}")


def draw_answer(choice: Choice, style: MapStyle, panel: Panel, tokens: tuple[int, ...]) -> None:
    """What the network of a panel predicts for the input."""
    if panel.trace is None:
        return
    answer = choice.domain.answer(panel, style.token(tokens))
    network = "With this formula in every layer the network" if choice.mode == SHARED else "Its network"
    note = f"  \n{answer.note}" if answer.note else ""
    st.markdown(f"{network} predicts **{answer.label}** ({percent(answer.probability)}).{note}")
    if panel.new_parameters:
        st.caption(NEW_PARAMETERS)


def draw_difference(choice: Choice, style: MapStyle, heads: Sequence[PanelHead], tokens: tuple[int, ...]) -> None:
    """One chosen map minus another, on a scale around zero; words and choice on the right."""
    mapped = {panel.variant for panel in maps.comparable([head.panel for head in heads])}
    offered = {head.panel.variant: head for head in heads if head.panel.variant in mapped}
    drawn, words = st.columns([1.4, 1], gap="medium")
    with words:
        section(choice.domain.page, "Difference of two")
        if len(offered) < 2:
            st.info("A difference needs two variants with token maps; choose another one above.")
            return
        titles = {variant: head.panel.title for variant, head in offered.items()}
        first = select("First", titles, key="first")
        second = select("Second", titles, default=list(titles)[1], key="minus")
        if first == second:
            st.info(SAME_SIDES)
            return
    sides = [offered[first], offered[second]]
    with drawn:
        difference = maps.send_difference(style, *((side.panel, side.layer, side.head) for side in sides))
        label, record = f"{titles[first]} minus {titles[second]}", MapRecord("difference", 0)
        style.draw("difference", sides[0].panel, record, tokens, label, height=HEIGHT + 60)
    warm, cold = (f"{side.panel.title} ({side.place.lower()})" for side in sides)
    shift = describe_shift(choice, difference, sides, tokens)
    words.caption(f"Red or orange: more weight in {warm}. Blue: more weight in {cold}. {shift}")


def describe_shift(
    choice: Choice, difference: Float[np.ndarray, "query key"], sides: Sequence[PanelHead], tokens: tuple[int, ...]
) -> str:
    """How much weight lies elsewhere, where the rows of both maps sum to 1."""
    if not all(maps.token_maps(side.panel).stochastic for side in sides):
        return NO_SHIFT
    rows = 0.5 * np.abs(difference).sum(-1)
    mean = percent(float(rows.mean()))
    if not tokens:
        return choice.domain.shift.format(mean=mean)
    return choice.domain.shift_of_token.format(mean=mean, own=percent(float(rows[list(tokens)].mean())))
