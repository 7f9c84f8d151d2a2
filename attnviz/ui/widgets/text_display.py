"""How maps over a text are shown: pieces or words, with or without special tokens, on which scale."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import streamlit as st
from jaxtyping import Bool, Float

from attnviz import views
from attnviz.measures.words import Grouping, grouped, grouped_mask, grouping
from attnviz.types import AttentionCall, Tokens
from attnviz.ui.core.state import chosen_tokens, one_of, set_tokens
from attnviz.ui.widgets.answers import percent
from attnviz.ui.widgets.display import COLOURS, FIRST, SCALES, WHY_SCALE, masked_of
from attnviz.views.canvas import DEFAULT, ViewStyle

WHY_WORDS = "What a word gives is the mean over its pieces, what it gets their sum: rows still sum to one."
WHY_SPECIAL = (
    "CLS, SEP and BOS often take most of the weight. Without them the rest is divided so that rows sum to one."
)


@dataclass(frozen=True, eq=False)
class Look:
    """How maps are drawn, and over what."""

    groups: Grouping
    all: Tokens  # of the text
    special: bool  # whether special tokens are shown
    style: ViewStyle = DEFAULT  # special tokens are left out before maps are sent

    @property
    def tokens(self) -> Tokens:
        """What is shown."""
        return self.groups.tokens

    def maps(
        self,
        values: Float[np.ndarray, "map query key"],
        rows: Grouping | None = None,
        keys: Grouping | None = None,
        *,
        shares: bool = True,
    ) -> Float[np.ndarray, "map group_query group_key"]:
        """Maps over tokens as maps over what is shown, also where only one of their axes is of tokens.

        Rows that are no shares of one are not divided by what is left of them.
        """
        return grouped(values, rows or self.groups, keys or self.groups, renormalise=shares and not self.special)[0]

    def rows(self, values: Float[np.ndarray, "map key"]) -> Float[np.ndarray, "map group_key"]:
        """Single rows over tokens as rows over what is shown."""
        found = np.stack([values[..., list(group)].sum(-1) for group in self.groups.groups], -1)
        return found if self.special else found / found.sum(-1, keepdims=True).clip(1e-12)

    def masked(self, call: AttentionCall) -> Bool[np.ndarray, "group_query group_key"] | None:
        """What a mask forbids; None where there is none."""
        found = masked_of(call)
        return None if found is None else grouped_mask(found, self.groups, self.groups)

    def left_out(self, values: Float[np.ndarray, "map query key"], *, shares: bool = True) -> str:
        """What was left out, in words; empty where nothing was."""
        if self.special:
            return ""
        names = ", ".join(
            dict.fromkeys(label for label, word in zip(self.all.labels, self.all.words or (), strict=True) if word < 0)
        )
        if not shares:
            return f"{names} left out; rows are not divided by the rest, since they are no shares of one."
        lost = grouped(values, self.groups, self.groups)[1]
        return (
            f"{names} left out: {percent(float(lost.mean()))} of the weight lay on them; rows are divided by the rest."
        )

    def pick(self, chosen: Sequence[int]) -> None:
        """A pick of what is shown, kept by the number of its first token; letting go keeps the last one."""
        if chosen:
            set_tokens("token", [self.groups.first(group) for group in chosen])

    def picked(self, default: int, *, several: bool = False) -> tuple[int, ...]:
        """What is picked, by its number among what is shown."""
        tokens = chosen_tokens("token", len(self.all), (default,))
        groups = [group for token in tokens if (group := self.groups.shown(token)) is not None]
        groups = list(dict.fromkeys(groups)) or [0]
        return tuple(groups if several else groups[-1:])


def look_at(tokens: Tokens, *, grouped: bool = True) -> Look:
    """The popover of rare options; what it holds is in the URL. Without `grouped` every token is shown by itself."""
    words, special = False, True
    with st.popover("Display", icon=":material/tune:", key="display"):
        if grouped:
            words = st.toggle("Whole words", key="words", bind="query-params", help=WHY_WORDS)
            special = not st.toggle("Leave out special tokens", key="leave", bind="query-params", help=WHY_SPECIAL)
        scale = one_of("Scale", list(SCALES), default=FIRST, key="scale", help=WHY_SCALE)
        colours = st.selectbox("Colours", list(COLOURS), key="colours", bind="query-params")
    real = any(word >= 0 for word in tokens.words or ())
    groups = grouping(tokens, whole_words=words, special=special or not real)
    return Look(groups, tokens, special or not real, ViewStyle(SCALES[scale], COLOURS[colours or "Viridis"]))


def send(
    slot: str,
    call: AttentionCall,
    look: Look,
    titles: Sequence[str],
    values: Float[np.ndarray, "map query key"] | None = None,
    kind: str = "",
) -> str:
    """Give the browser maps of a call (all its heads, unless others are given) as they are shown; their slot."""
    shares = call.rule.stochastic
    shown = look.maps(call.token_map().float().numpy() if values is None else values, shares=shares)
    views.send_maps(
        slot,
        shown,
        titles=list(titles),
        keys=look.tokens,
        map_type=kind or call.rule.map_type,
        signed=not shares and bool((shown < 0).any()),
        unit="percent" if shares else "number",
        masked=look.masked(call),
    )
    return slot


def middle(tokens: Tokens) -> int:
    """A piece of the text in its middle, where a page starts; the first token of an empty text."""
    pieces = [i for i, word in enumerate(tokens.words or ()) if word >= 0]
    return pieces[len(pieces) // 2] if pieces else 0
