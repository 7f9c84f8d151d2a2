"""How maps over a text are shown: tokens or words, with or without special tokens, on which scale."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import streamlit as st
from jaxtyping import Bool, Float

from attnviz import views
from attnviz.measures.words import Grouping, grouping, word_map, word_mask
from attnviz.types import AttentionCall, Tokens
from attnviz.ui.core.labels import plain
from attnviz.ui.core.state import chosen_tokens, set_tokens
from attnviz.ui.widgets.answers import percent
from attnviz.ui.widgets.display import masked_of, mass_choice, scale_choice, unit_of
from attnviz.views.canvas import DEFAULT, ViewStyle

WHY_WORDS = (
    "As a query a word has the mean of its tokens' rows, as a key the sum of their columns: rows still sum to 1."
)
WHY_HIDE = (
    "Special tokens (CLS, SEP, BOS) often take most of the weight. Without them, each row is rescaled to sum to 1."
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

        Rows that do not sum to 1 (`shares` off) are not rescaled.
        """
        return word_map(values, rows or self.groups, keys or self.groups, renormalise=shares and not self.special)[0]

    def rows(self, values: Float[np.ndarray, "map key"]) -> Float[np.ndarray, "map group_key"]:
        """Single rows over tokens as rows over what is shown."""
        found = np.stack([values[..., list(group)].sum(-1) for group in self.groups.groups], -1)
        return found if self.special else found / found.sum(-1, keepdims=True).clip(1e-12)

    def masked(self, call: AttentionCall) -> Bool[np.ndarray, "group_query group_key"] | None:
        """Which keys are masked; None where there is no mask."""
        found = masked_of(call)
        return None if found is None else word_mask(found, self.groups, self.groups)

    def left_out(self, values: Float[np.ndarray, "map query key"], *, shares: bool = True) -> str:
        """Which special tokens are hidden and how much weight lies on them, as a sentence; empty where none is."""
        if self.special:
            return ""
        labels = zip(self.all.labels, self.all.words or (), strict=True)
        names = ", ".join(dict.fromkeys(plain(label) for label, word in labels if word < 0))
        if not shares:
            return f"Hidden: {names}. Rows are not rescaled, since they do not sum to 1."
        lost = word_map(values, self.groups, self.groups)[1]
        return (
            f"Hidden: {names}, which take {percent(float(lost.mean()))} of the weight. Rows are rescaled to sum to 1."
        )

    def pick(self, chosen: Sequence[int]) -> None:
        """A pick of what is shown, kept by the number of its first token; to deselect it keeps the last one."""
        if chosen:
            set_tokens("token", [self.groups.first(group) for group in chosen])

    def picked(self, default: int, *, several: bool = False) -> tuple[int, ...]:
        """What is picked, by its number among what is shown."""
        tokens = chosen_tokens("token", len(self.all), (default,))
        groups = [group for token in tokens if (group := self.groups.shown(token)) is not None]
        groups = list(dict.fromkeys(groups)) or [0]
        return tuple(groups if several else groups[-1:])


def look_at(tokens: Tokens, *, by_word: bool = True, mass: bool = False) -> Look:
    """The popover of rare options; what it holds is in the URL. Without `by_word` every token is shown by itself.

    `mass`: whether maps may be cut down to the words that hold most of them.
    """
    words, hide = False, False
    with st.popover("Display", icon=":material/tune:", key="display"):
        if by_word:
            words = st.toggle("Whole words", key="words", bind="query-params", help=WHY_WORDS)
            hide = st.toggle("Hide special tokens", key="leave", bind="query-params", help=WHY_HIDE)
        look = scale_choice()
        share = mass_choice() if mass else None
    real = any(word >= 0 for word in tokens.words or ())
    special = not (hide and real)
    style = ViewStyle(**look, mass=share)
    return Look(grouping(tokens, whole_words=words, special=special), tokens, special, style)


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
        unit=unit_of(call),
        masked=look.masked(call),
    )
    return slot


def middle(tokens: Tokens) -> int:
    """A token of the text in its middle, where a page starts; the first token of an empty text."""
    inside = [i for i, word in enumerate(tokens.words or ()) if word >= 0]
    return inside[len(inside) // 2] if inside else 0
