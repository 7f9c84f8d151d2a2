"""What the Compare page needs to know to compare attention variants on a text."""

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
from attnviz.attention.variants.window import Window
from attnviz.measures.text_heads import TEXT_MEASURES, real
from attnviz.measures.words import Grouping, singly
from attnviz.models import ImageModel, TextModel
from attnviz.models.text import Reader
from attnviz.seeding import seeded
from attnviz.training.text.bench import OPTIONS, READ, SHAPE, config_of
from attnviz.types import AttentionCall, Sample, Tokens
from attnviz.ui.compare.domain import Answer, DisplayedMaps, Domain, MapRecord, MapStyle, Panel
from attnviz.ui.core.bench import TEXTS, Bench, Row, accuracy, read_bench
from attnviz.ui.core.cache import open_model
from attnviz.ui.core.state import one_of
from attnviz.ui.inputs.text_run import TextRun, read_by, remarks
from attnviz.ui.widgets.text_answers import sentiment, tag_words
from attnviz.ui.widgets.text_display import Look as TextStyle
from attnviz.ui.widgets.text_display import look_at, middle

PANELS = {"text": "Text", "matrix": "Matrix"}  # how a map is drawn, by its name in the address
WITHOUT_GRID = tuple(name for name, variant in VARIANTS.items() if "grid" not in variant.requirements)
NOT_IN_BENCH = (
    "The bench of sentences leaves this variant out: texts of several lengths are trained together, and padding the "
    "short ones would change what it computes. Shared weights show it."
)


@dataclass(frozen=True, eq=False)
class TextMapStyle(MapStyle):
    """Maps over the visitor's text, as a text or as a matrix."""

    input_name: ClassVar[str] = "your text"
    text: TextStyle  # what pages of texts share
    matrix: bool

    def arrange(
        self, values: Float[np.ndarray, "map *row key"], rows: Tokens | None, keys: Tokens, *, stochastic: bool
    ) -> DisplayedMaps:
        """Axes of tokens as tokens or words, with or without special tokens; other axes as they are."""
        columns = self.grouping(keys)
        if rows is None:
            maps = self.text.maps(values[:, None], singly(Tokens(("all",))), columns, shares=stochastic)
            return DisplayedMaps(maps[:, 0], None, columns.tokens)
        groups = self.grouping(rows)
        return DisplayedMaps(self.text.maps(values, groups, columns, shares=stochastic), groups.tokens, columns.tokens)

    def grouping(self, tokens: Tokens) -> Grouping:
        """How the tokens of an axis are grouped: as the visitor chose for the text, else each by itself."""
        return self.text.groups if tokens.words is not None else singly(tokens)

    def masked(self, calls: Sequence[AttentionCall]) -> Bool[np.ndarray, "query key"] | None:
        """What the mask of a layer forbids, over what is drawn."""
        return self.text.masked(calls[0]) if len(calls) == 1 else None

    def left_out(self, values: Float[np.ndarray, "map query key"], *, stochastic: bool) -> str:
        """Which special tokens, and how much weight they had."""
        return self.text.left_out(values, shares=stochastic)

    def selected(self, tokens: Tokens) -> tuple[int, ...]:
        """The selected word."""
        return self.text.picked(middle(tokens))

    def token(self, selected: Sequence[int]) -> int:
        """Its first token."""
        return self.text.groups.first(selected[-1])

    def select(self, indices: tuple[int, ...]) -> None:
        """A click on a word selects it in every panel; a click on the selected one keeps it."""
        self.text.pick(indices)

    def draw(
        self,
        key: str,
        panel: Panel,
        record: MapRecord,
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
            maps=record.name,
            index=record.index,
            tokens=tokens,
            style=replace(self.view, shared=shared),
            on_pick=self.select,
            label=label,
            height=height,
        )


class TextDomain(Domain):
    """Sentences, in subword tokens."""

    page, recipe, donor, inputs = "text/compare", TEXTS, "sentences", "sentences"
    variants, default_variants = WITHOUT_GRID, ("mha", "window", "linear", "xca")
    requirement_names: ClassVar = {"length": "a known maximum length"}
    width, heads, layers, input_size = SHAPE.width, SHAPE.heads, SHAPE.layers, f"at most {SHAPE.context_length} tokens"
    measures = (TEXT_MEASURES["entropy"], TEXT_MEASURES["reach"])
    score, accuracy_columns = "SST-2", ("SST-2 (95 %)", "Part of speech")
    interval_over = "sentences"
    note = (
        "SST-2: is the sentiment of a sentence about a film positive or negative? Half of the answers are right by "
        "chance. Part of speech: of single words; it has no interval, since words of one sentence are not independent."
    )
    attention_help = (
        "Attention: the token-to-token map over the text. Native maps: what the formula computes, which need not be "
        "such a map. Rollout: the maps of all layers chained."
    )
    separate_help = (
        "**Trained separately.** Every variant in a network of its own: same texts, steps, optimiser and shape, "
        "trained from scratch. Maps differ because the networks have learned different things."
    )
    token_name = "word"
    mean_pooling = "all words alike, since the answer is read from their mean"
    statistics_help = (
        "Means over all layers and heads, on this text. Head diversity is the mean Jensen-Shannon distance of two "
        "heads of a layer: 0 where all maps are equal, 1 where no two heads attend to a common word."
    )
    shift = "{mean} of the weight lies on other words, over all queries."
    shift_of_token = "{mean} of the weight lies on other words, over all queries, {own} for the selected word."

    def bench(self) -> Bench:
        """What has been trained."""
        return read_bench(TEXTS)

    def options(self, name: str, prefix: int = 0) -> dict[str, Any]:
        """As on the bench; tokens without a position attend to everything past a window."""
        free = {"global_prefix": True} if prefix and issubclass(VARIANTS[name], Window) else {}
        return {**OPTIONS.get(name, {}), **free}

    def prepare(self, model: ImageModel | TextModel) -> Sample:
        """The visitor's text, in tokens; with the second one where the model in the sidebar reads pairs."""
        return read_by(model, pair=not open_model(st.session_state["model"]).spec.causal)

    def map_style(self, tokens: Tokens | None) -> TextMapStyle:
        """Text or matrix, and the popover that pages of texts share."""
        panels = one_of("Panels", PANELS, default="text", key="panels")
        text = look_at(tokens or Tokens((), words=()))
        return TextMapStyle(text.style, text, panels == "matrix")

    def send_input(self, panels: Sequence[Panel]) -> None:
        """Say what was left out of the text."""
        model, sample, trace = panels[0].contents()
        remarks(TextRun(model=model, name=model.name, sample=sample, trace=trace, source="text"))

    def measured_rows(self, tokens: Tokens) -> torch.Tensor:
        """The rows of tokens that stand for text."""
        return real(tokens).nonzero()[:, 0]

    def answer(self, panel: Panel, token: int) -> Answer:
        """The sentiment, and the part of speech of the selected word."""
        model, _, trace = panel.contents()
        part_of_speech = tag_words(model, trace, token)
        return Answer(*sentiment(trace), f"{part_of_speech}." if part_of_speech else "")

    def untrained(self, name: str) -> str:
        """Why there is no network with a variant: not yet, or not at all."""
        return super().untrained(name) if name in READ else NOT_IN_BENCH

    def network_size(self, name: str) -> int:
        """Parameters of the bench network with this variant, most of them the table of token embeddings."""
        return network_size(name)

    def accuracies(self, name: str, bench: Bench) -> list[str]:
        """SST-2 with its interval, and parts of speech."""
        rows = bench.seeds(name)
        sst = accuracy(rows)
        if sst is None:
            return ["not trained"] * 2
        return [sst.text, f"{np.mean([row['upos'] for row in rows]):.1f}\u00a0%"]

    def training(self, row: Row) -> str:
        """How long, on how much, and what they were tested on."""
        steps = f"{row['steps']:,} steps of {row['batch']:,} tokens" if {"steps", "batch"} <= row.keys() else "a time"
        return (
            f"{steps} on both tasks, tested on {row['held_out']:,} held-out sentences about films and "
            f"{row['words_held_out']:,} held-out words"
        )


@st.cache_data(max_entries=64, show_spinner=False)
def network_size(name: str) -> int:
    """Parameters of the bench network with this variant."""
    with seeded(0):
        return sum(parameter.numel() for parameter in Reader(config_of(name)).parameters())
