"""What the Embeddings page of a text is made of: tokens, rows of the token embedding, neighbours, two contexts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import streamlit as st
import torch
from jaxtyping import Float
from torch import Tensor

from attnviz import plots
from attnviz.measures import embeddings as measures
from attnviz.measures.words import word_label
from attnviz.plots import scatter
from attnviz.ui.core.cache import trace
from attnviz.ui.core.labels import plain
from attnviz.ui.embeddings.stages import (
    STEP_COLOURS,
    TOKEN,
    all_numbers,
    as_sum,
    first_numbers,
    stages,
    steps_of,
    vectors_at,
)
from attnviz.ui.inputs.text_run import TextRun, prepared_text
from attnviz.ui.widgets.output import dark

WRITTEN = 60  # points that still have room for their names
NO_TABLE = "This model hands out no token embedding, so there are no rows to compare this token's with."
NO_TWIN = "“{token}” stands neither a second time in your text nor in the other sentence. Type one with it."


@dataclass(frozen=True, eq=False)
class Word:
    """One token on its way from its id to the vector that enters layer 1."""

    label: str
    id: int
    steps: dict[str, Float[np.ndarray, " feature"]]  # by name on screen
    tokens: tuple[str, ...]  # of its word, itself among them

    @property
    def sentence(self) -> str:
        """What the steps are, in words."""
        tokens, width = " + ".join(map(plain, self.tokens)), len(next(iter(self.steps.values())))
        of = f", one of the tokens {tokens} of “{plain(word_label(self.tokens))}”" if len(self.tokens) > 1 else ""
        return f"**{plain(self.label)}**{of} → token id **{self.id}** → a row of **{width}** numbers"

    def table(self) -> dict[str, list[str]]:
        """The first numbers of every step, by column."""
        return first_numbers(self.steps)

    def rows(self) -> tuple[list[str], list[list[str | float]]]:
        """All numbers of every step, for a file."""
        return all_numbers(self.steps)


def word_of(run: TextRun, token: int) -> Word:
    """One token's id and vectors, as the model has them."""
    tokens, words = run.sample.tokens["main"], run.sample.tokens["main"].words
    together = [token]
    if words is not None and words[token] >= 0:
        together = [i for i, word in enumerate(words) if word == words[token]]
    id = int(run.sample.inputs["main"][token])
    return Word(tokens.labels[token], id, steps_of(run, token, TOKEN), tuple(tokens.labels[i] for i in together))


def tokens_table(run: TextRun) -> dict[str, list]:
    """Every token with its id, in order."""
    tokens = run.sample.tokens["main"]
    return {
        "Position": list(range(len(tokens))),
        "Token": list(tokens.labels),
        "Token id": run.sample.inputs["main"].tolist(),
    }


def steps_figure(word: Word) -> Any:
    """Bars of every step, one under the other, on one range."""
    steps = as_sum(word.steps)
    return plots.stacked_bars(
        steps, colours=STEP_COLOURS, shared=tuple(steps), dark=dark(), height=120 * len(steps) + 40
    )


@st.cache_resource(max_entries=16, show_spinner=False)
def row_lengths(digest: str, _table: Tensor) -> Float[Tensor, " token"]:
    """The length of every row of a token embedding, kept by the digest of its model."""
    return _table.float().norm(dim=-1).clamp_min(1e-12)


@torch.no_grad()
def neighbours(run: TextRun, id: int, count: int = 10) -> list[tuple[str, float]]:
    """The tokens whose rows point most nearly the same way, with their cosines; special tokens are left out.

    Empty where the model hands out no token embedding.
    """
    table, tokenizer = run.model.input_embeddings, run.tokenizer
    if table is None:
        return []
    lengths = row_lengths(run.model.digest, table)
    cosines = (table @ table[id]).float() / (lengths * lengths[id])
    left_out = sorted({id, *tokenizer.special_ids} & set(range(len(table))))
    cosines[left_out] = -2.0
    best = cosines.topk(min(count, len(table) - len(left_out)))
    return [(tokenizer.label(int(i)), float(c)) for c, i in zip(best.values, best.indices, strict=True)]


def neighbour_figure(found: list[tuple[str, float]]) -> Any:
    """Bars of the neighbours' cosines."""
    labels = [f"{i + 1} {label}" for i, (label, _) in enumerate(found)]
    return plots.bars(
        [cosine for _, cosine in found],
        labels=labels,
        colours="muted",
        form=".2f",
        horizontal=True,
        shown=True,
        most_ticks=20,
        dark=dark(),
        height=30 * len(found) + 60,
    )


def plane_figure(run: TextRun, stage: str, token: int) -> tuple[Any, float]:
    """The tokens in the plane of their first two principal components, and the share of variance it holds."""
    vectors, labels = vectors_at(run, stage), run.sample.tokens["main"].labels
    _, scores, shares = measures.principal(vectors, 2)
    plane = np.pad(scores, ((0, 0), (0, 2 - scores.shape[1])))  # an empty text may be a single token
    figure = scatter(
        plane,
        names=labels,
        written=len(labels) <= WRITTEN,
        chosen=(token,),
        dark=dark(),
        colours=np.arange(len(labels), dtype=float),
        value="position",
        height=480,
    )
    return figure, float(shares[:2].sum())


def twin(run: TextRun, token: int, other: str) -> tuple[str, np.ndarray] | None:
    """Another occurrence of a token, in words, and the cosine of both at every stage; None if there is none.

    It is looked for in this text first, then in the other sentence.
    """
    ids = run.sample.inputs["main"]
    here = [i for i in (ids == ids[token]).nonzero()[:, 0].tolist() if i != token]
    label = plain(run.sample.tokens["main"].labels[token])
    if here:
        place, second = here[0], run
        where = f"“{label}” at positions {token} and {place} of your text"
    else:
        found = elsewhere(run, other)
        there = (found.sample.inputs["main"] == ids[token]).nonzero()[:, 0].tolist()
        if not there or not other.strip():
            return None
        place, second = there[0], found
        where = f"“{label}” in your text and in “{plain(other)}”"
    pairs = [(vectors_at(run, stage)[token], vectors_at(second, stage)[place]) for stage in stages(run)]
    return where, np.array([float(a @ b / (np.linalg.norm(a) * np.linalg.norm(b)).clip(1e-12)) for a, b in pairs])


def elsewhere(run: TextRun, other: str) -> TextRun:
    """A run of this model over another sentence."""
    sample = prepared_text(run.model.digest, other, run.model, other)
    return TextRun(model=run.model, name=run.name, sample=sample, trace=trace(run.name, sample), source="text")
