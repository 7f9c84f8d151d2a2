"""The maps beside the large one: other methods and controls, with their usual options, same start and class."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import streamlit as st
from jaxtyping import Float

from attnviz.methods import CONTROLS, METHODS, flow
from attnviz.types import NoTokenMap, UnsupportedMask
from attnviz.ui.core.budget import TooLarge
from attnviz.ui.core.cache import core
from attnviz.ui.explain import steps
from attnviz.ui.explain.choice import FLOW, ROLLOUT, Choice, make_main
from attnviz.ui.explain.large import too_many
from attnviz.ui.inputs.model_run import ModelRun

BOUND = "flow bound"
BOUND_TITLE = "Bound of attention flow"
BOUND_WORDS = "min(1, column sum of the first layer): no flow exceeds it"
CONTROL = "a control: it knows nothing of the network"
HALF, NARROWEST = 380, 200  # pixels: of half the page beside another one, and of a small picture


@dataclass(frozen=True, eq=False)
class Tile:
    """One small map beside the large one, or why there is none."""

    name: str
    title: str
    row: Float[np.ndarray, " token"] | None  # divided by its sum, unless signed
    signed: bool = False
    note: str = ""  # what stands beside it in small
    why: str = ""
    main: bool = False  # whether a click makes it the main one


def tiles(visit: ModelRun, choice: Choice, word: Sequence[int] = ()) -> list[Tile]:
    """The maps that were asked for, in the order of the table; `word`: the tokens of the word relevance starts at."""
    graph = steps.graph_of(visit)
    found = [tile(visit, usual(choice, name), word, graph) for name in choice.compared]
    if FLOW in (choice.method, *choice.compared) and not flow.is_bound(visit.trace):
        given = choice if choice.method == FLOW else usual(choice, FLOW)
        at = 1 + choice.compared.index(FLOW) if FLOW in choice.compared else 0
        found[at:at] = bound_tile(visit, given, word)
    return found


def usual(choice: Choice, name: str) -> Choice:
    """The same start and class, explained by another method with its usual options."""
    options = {option.name: option.default for option in (METHODS | CONTROLS)[name].options}
    return replace(choice, method=name, options=options, compared=())


def starts_of(choice: Choice, word: Sequence[int]) -> Any:
    """Where relevance starts: at every token of a word alike, where it starts at one."""
    return list(word) if len(word) > 1 else choice.start_token


def tile(visit: ModelRun, choice: Choice, word: Sequence[int], graph: Callable[[], Any]) -> Tile:
    """The map of one method, or the sentence that says why it has none."""
    how, start = choice.how, starts_of(choice, word)
    made = partial(Tile, choice.method, how.title, signed=how.signed, main=not how.control)
    layer = {} if (option := how.layer_option) is None else {option.name: choice.at}
    try:
        if choice.method == ROLLOUT:
            large = too_many(visit)
            row = (
                steps.walked(visit, choice).steps[choice.at]
                if large
                else steps.rollouts(visit, choice, start)[choice.at]
            )
        else:
            row = steps.kept_map(visit, choice, start, layer, graph)[0].float().cpu().numpy()
        note = CONTROL if how.control else steps.in_line(choice.labels(visit.sample.tokens["main"]))
        note = " · ".join(filter(None, [note, steps.completeness(visit, choice)]))
    except (NoTokenMap, UnsupportedMask, TooLarge) as error:
        return made(None, why=f"{how.title} does not apply here: {str(error).rstrip('.')}.")
    row = row.mean(0) if row.ndim == 2 else row
    return made(row if how.signed else steps.shares(row), note=note)


def bound_tile(visit: ModelRun, choice: Choice, word: Sequence[int]) -> list[Tile]:
    """The bound of the flow, which in a deep network is the flow; nothing where flow is not defined."""
    try:
        with core():
            row = flow.bound(visit.trace, starts_of(choice, word), **choice.options).float().cpu().numpy()
    except NoTokenMap:
        return []
    row = row.mean(0) if row.ndim == 2 else row
    return [Tile(BOUND, BOUND_TITLE, steps.shares(row), note=BOUND_WORDS)]


def places_for(tiles: Sequence[Tile]) -> tuple[Any, Any]:
    """Where the large picture stands and where the small ones do: below it where halves would be too narrow for two."""
    if not tiles:
        large, beside = st.columns([1.5, 1], gap="medium")
        return large, beside
    halves = st.grid(2, min_column_width=HALF, gap="medium")
    return halves.container(), halves.container()


def draw(one: Tile, choice: Choice, places: dict[str, tuple[str, int]], view: Callable[..., None]) -> None:
    """One small map under its heading, drawn by `view`, or the sentence that says why there is none."""
    st.markdown(f"**{one.title}**  \n{steps.quiet(one.note)}" if one.note else f"**{one.title}**")
    if one.row is None:
        st.info(one.why)
        return
    slot, index = places[one.name]
    pick = partial(make_main, choice, one.name) if one.main else None
    what = f"{one.title}, beside {choice.title.lower()}"
    view(f"tile:{one.name}", maps=slot, index=index, label=what, on_pick=pick, height=300)
