"""One head's map before and after a change, side by side on one scale."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import streamlit as st
from jaxtyping import Bool, Float

from attnviz import views
from attnviz.types import AttentionCall, NoTokenMap, Tokens, Trace
from attnviz.ui.core.labels import head_name, layer_name, spoken_name
from attnviz.ui.core.recorded import known
from attnviz.ui.core.state import call_choice, chosen_token, head_choice, set_tokens
from attnviz.ui.inputs.model_run import ModelRun
from attnviz.ui.widgets import display, text_display
from attnviz.ui.widgets.answers import percent
from attnviz.ui.widgets.display import masked_of, unit_of
from attnviz.views.canvas import ViewStyle

SLOT = "test:maps"
NAMES = ("Before", "After")
NO_MAP = "There is no token-to-token map to compare. The reason: {}. Choose another layer, or another model."


@dataclass(frozen=True, eq=False)
class Compared:
    """The maps of one head, before and after."""

    maps: Float[np.ndarray, "two query key"]
    call: AttentionCall
    title: str


def compare(
    about: ModelRun, changed: Trace, token: int, gone: Callable[[int, int], Bool[np.ndarray, "query key"]]
) -> Compared | None:
    """The controls and both maps; `gone(layer, head)` says which edges are taken away.

    `token`: the query to begin with. `changed` holds two edits, of which the first changes nothing. None where there is
    no map, which is said.
    """
    tokens = about.sample.tokens["main"]
    with st.container(horizontal=True, vertical_alignment="bottom"):
        at = call_choice(about.trace)
        head = head_choice(about.trace.calls[at])
        style = display.display() if tokens.grid is not None else text_display.look_at(tokens, by_word=False).style
    before, call = about.trace.calls[at], changed.calls[at]
    try:
        maps = both_maps(call, before, head)
    except NoTokenMap as error:
        st.info(NO_MAP.format(str(error).rstrip(".")), icon=":material/info:")
        return None
    title = f"{layer_name(before.layer)}, {head_name(head).lower()}"
    missing = gone(before.layer, head)
    if missing.shape == maps.shape[1:]:
        send(before, maps, missing, title)
        query = chosen_token("token", len(tokens), token)
        st.markdown(lost_words(before, maps[0], missing, query))
        draw(tokens, query, replace(style, shared=True), title)
    return Compared(maps, before, title)


def both_maps(call: AttentionCall, before: AttentionCall, head: int) -> Float[np.ndarray, "two query key"]:
    """The map of a head before and after. Raises NoTokenMap."""
    found = known(call.token_map([head])).astype(np.float32)
    found = found if found.ndim == 4 else np.broadcast_to(found, (2, *found.shape[-3:]))  # nothing differs up to here
    return np.stack([known(before.token_map([head])).astype(np.float32)[0], found[1, 0]])


def send(before: AttentionCall, maps: np.ndarray, gone: np.ndarray, title: str) -> None:
    """Give the browser both maps as one record, so that they have one scale."""
    masked = masked_of(before)
    masked = np.zeros(maps.shape[1:], dtype=bool) if masked is None else masked
    masked = np.stack([masked, masked | gone])
    views.send_maps(
        SLOT,
        np.where(masked, 0, maps),
        titles=[f"{name}: {title.lower()}" for name in NAMES],
        keys=before.keys,
        signed=bool((maps < 0).any()),
        map_type=before.rule.map_type,
        unit=unit_of(before),
        masked=masked,
    )


def draw(tokens: Tokens, query: int, style: ViewStyle, title: str) -> None:
    """Both maps, linked by what is pointed at."""

    def pick(now: tuple[int, ...]) -> None:
        if now:
            set_tokens("token", now[:1])

    for index, (column, name) in enumerate(zip(st.columns(2, gap="large"), NAMES, strict=True)):
        with column:
            st.markdown(f"**{name}:** {title.lower()}")
            view: dict[str, Any] = {"maps": SLOT, "index": index, "tokens": (query,), "style": style, "on_pick": pick}
            view["label"] = f"{name} the change, {title.lower()}"
            if tokens.grid is not None:
                views.picture_view(f"test:map:{index}", picture="picture", height=380, **view)
            else:
                views.text_view(f"test:map:{index}", **view)


def lost_words(call: AttentionCall, before: np.ndarray, gone: np.ndarray, query: int) -> str:
    """How much of the weight of a query lay on what was taken away, as a sentence; empty where that is not defined."""
    if not call.rule.stochastic:
        return ""
    share = float(before[query][gone[query]].sum())
    return f"{percent(share)} of the weight of {spoken_name(call.queries, query)} lay on what is taken away."
