"""What the Compare page needs to know to compare kinds of attention on a text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import streamlit as st
import torch
from jaxtyping import Bool, Float

from attnviz import views
from attnviz.attention import VARIANTS
from attnviz.measures.text_heads import TEXT_MEASURES, real
from attnviz.measures.words import singly
from attnviz.models.text import Reader
from attnviz.seeding import seeded
from attnviz.training.text.bench import OPTIONS, READ, SHAPE, config_of
from attnviz.types import AttentionCall, Sample, Tokens
from attnviz.ui.compare.domain import Domain, MapStyle, Panel, Shown, Slot
from attnviz.ui.core.bench import TEXTS, Bench, Row, accuracy, bench
from attnviz.ui.core.cache import open_model
from attnviz.ui.core.labels import of_text
from attnviz.ui.core.state import one_of
from attnviz.ui.inputs.text_run import TextRun, read_by, remarks
from attnviz.ui.widgets.answers import percent
from attnviz.ui.widgets.text_answers import sentiment, tag_words
from attnviz.ui.widgets.text_display import Look as TextLook
from attnviz.ui.widgets.text_display import look_at, middle

TEXT, MATRIX = "Text", "Matrix"
FLAT = tuple(
    name for name, kind in VARIANTS.items() if "grid" not in kind.requirements
)  # what can do without a picture
MOVED = (
    "The bench of sentences leaves this variant out: texts of several lengths are trained together, and filling up the "
    "short ones would change what it computes. Same weights shows it."
)


@dataclass(frozen=True, eq=False)
class WordLook(MapStyle):
    """Maps over the visitor's text, as a text or as a matrix."""

    over: ClassVar[str] = "your text"
    own: TextLook  # what pages of texts share
    matrix: bool

    def shown(
        self, values: Float[np.ndarray, "map *row key"], rows: Tokens | None, keys: Tokens, *, shares: bool
    ) -> Shown:
        """Axes of pieces as pieces or words, with or without special tokens; other axes as they are."""
        across = self.own.groups if keys.words is not None else singly(keys)
        down = singly(Tokens(("all",))) if rows is None else self.own.groups if rows.words is not None else singly(rows)
        found = self.own.maps(values if rows is not None else values[:, None], down, across, shares=shares)
        return Shown(found if rows is not None else found[:, 0], None if rows is None else down.tokens, across.tokens)

    def masked(self, calls: Sequence[AttentionCall]) -> Bool[np.ndarray, "query key"] | None:
        """What a layer may not look at, over what is shown."""
        return self.own.masked(calls[0]) if len(calls) == 1 else None

    def left_out(self, values: Float[np.ndarray, "map query key"], *, shares: bool) -> str:
        """Which special tokens, and how much lay on them."""
        return self.own.left_out(values, shares=shares)

    def picked(self, tokens: Tokens) -> tuple[int, ...]:
        """The word that is held."""
        return self.own.picked(middle(tokens))

    def token(self, picked: Sequence[int]) -> int:
        """The first piece of it."""
        return self.own.groups.first(picked[-1])

    def pick(self, chosen: tuple[int, ...]) -> None:
        """A click on a word holds it in every panel; letting go keeps the last one."""
        self.own.pick(chosen)

    def draw(
        self,
        key: str,
        panel: Panel,
        slot: Slot,
        tokens: Sequence[int],
        label: str,
        *,
        height: int,
        shared: bool = False,
        row: bool = False,
    ) -> None:
        """The text with one map over it, or the whole map; a matrix of many words needs more height than a picture."""
        view = views.matrix_view if self.matrix and not row else views.text_view
        view(
            key,
            maps=slot.name,
            index=slot.index,
            tokens=tokens,
            style=replace(self.style, shared=shared),
            on_pick=self.pick,
            label=label,
            height=height,
        )


class Texts(Domain):
    """Sentences, in pieces of words."""

    page, recipe, donor, reads = "text/compare", TEXTS, "sentences", "sentences"
    variants, first = FLAT, ("mha", "window", "linear", "xca")
    needs: ClassVar = {"length": "to know the longest text it will read"}
    width, heads, layers, size = SHAPE.width, SHAPE.heads, SHAPE.layers, f"at most {SHAPE.context_length} pieces"
    measures = (TEXT_MEASURES["entropy"], TEXT_MEASURES["reach"])
    score, columns = "SST-2", ("SST-2 (95 %)", "Part of speech")
    over = "sentences"
    note = (
        "SST-2: does a sentence about a film praise it or blame it? Half of the answers are right by chance. Part of "
        "speech: of single words; it has no interval, since words of one sentence do not stand alone."
    )

    def worded(self, text: str) -> str:
        """A sentence about pictures and patches, said of texts and words."""
        return of_text(text)

    def bench(self) -> Bench:
        """What has been trained."""
        return bench(TEXTS)

    def options(self, name: str, prefix: int = 0) -> dict[str, Any]:
        """As on the bench; a window lets tokens without a place see everything."""
        free = {"global_prefix": True} if name == "window" and prefix else {}
        return {**OPTIONS.get(name, {}), **free}

    def prepare(self, model: Any) -> Sample:
        """The visitor's text, in pieces."""
        return read_by(model, pair=not open_model(st.session_state["model"]).spec.causal)

    def look(self, tokens: Tokens | None) -> WordLook:
        """Text or matrix, and the popover that pages of texts share."""
        drawn = one_of("Panels", [TEXT, MATRIX], default=TEXT, key="panels")
        own = look_at(tokens or Tokens((), words=()))
        return WordLook(own.style, own, drawn == MATRIX)

    def share(self, panels: Sequence[Panel]) -> None:
        """Say what was left out of the text."""
        model, sample, trace = panels[0].shows()
        remarks(TextRun(model=model, name=model.name, sample=sample, trace=trace, source="text"))

    def counted(self, tokens: Tokens) -> torch.Tensor:
        """The rows of real pieces."""
        return real(tokens).nonzero()[:, 0]

    def answer(self, panel: Panel, token: int) -> str:
        """Praise or blame, and what it takes a word for."""
        model, _, trace = panel.shows()
        said, sure = sentiment(trace)
        word = tag_words(model, trace, token)
        return f"says **{said}** ({percent(sure)})." + (f"  \n{word}." if word else "")

    def untrained(self, name: str) -> str:
        """Why there is no network with a variant: not yet, or not at all."""
        return super().untrained(name) if name in READ else MOVED

    def network_size(self, name: str) -> int:
        """Parameters of the bench network with this variant, most of them the table of pieces."""
        return network_size(name)

    def trained(self, name: str, found: Bench) -> list[str]:
        """SST-2 with its interval, and parts of speech."""
        rows = found.seeds(name)
        right = accuracy(rows)
        if right is None:
            return ["not trained"] * 2
        return [right.words, f"{np.mean([row['upos'] for row in rows]):.1f}\u00a0%"]

    def training(self, row: Row) -> str:
        """How long, on how much, and what they were tested on."""
        steps = f"{row['steps']:,} steps of {row['batch']:,} pieces" if {"steps", "batch"} <= row.keys() else "a time"
        return (
            f"{steps} on both tasks, tested on {row['held_out']:,} held-out sentences about films and "
            f"{row['words_held_out']:,} held-out words"
        )


@st.cache_data(max_entries=64, show_spinner=False)
def network_size(name: str) -> int:
    """Parameters of the bench network with this variant."""
    with seeded(0):
        return sum(parameter.numel() for parameter in Reader(config_of(name)).parameters())
