"""What the Embeddings page of a text is made of: pieces, rows of the table, neighbours, likeness by stage."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import streamlit as st
from jaxtyping import Float

from attnviz import plots
from attnviz.measures import embeddings as measures
from attnviz.measures.words import joined
from attnviz.plots import scatter
from attnviz.ui.core.cache import open_model, trace
from attnviz.ui.core.labels import layer_name, plain
from attnviz.ui.core.recorded import known
from attnviz.ui.embeddings.image import CONTENT, POSITION, VECTOR, signed
from attnviz.ui.inputs.text_run import TextRun, prepared_text
from attnviz.ui.widgets.output import dark

WRITTEN = 60  # points that still have room for their names


@dataclass(frozen=True, eq=False)
class Word:
    """One token on its way from a number to the vector that enters layer 1."""

    label: str
    id: int
    content: Float[np.ndarray, " feature"]
    position: Float[np.ndarray, " feature"]
    pieces: tuple[str, ...]  # of its word, itself among them

    @property
    def series(self) -> dict[str, np.ndarray]:
        """Every step by its name on screen; no position where nothing is added."""
        if not self.position.any():
            return {VECTOR: self.content}
        return {CONTENT: self.content, POSITION: self.position, VECTOR: self.content + self.position}

    @property
    def sentence(self) -> str:
        """What the steps are, in words."""
        pieces = " + ".join(map(plain, self.pieces))
        of = f", one of the pieces {pieces} of “{plain(joined(self.pieces))}”" if len(self.pieces) > 1 else ""
        return f"**{plain(self.label)}**{of} → number **{self.id}** → a row of **{len(self.content)}** numbers"

    def table(self, count: int = 8) -> dict[str, list[str]]:
        """The first numbers of every step, by column."""
        steps = {name.strip("+= "): values for name, values in self.series.items()}
        return {
            "First numbers": list(steps),
            **{str(k + 1): [signed(float(v[k])) for v in steps.values()] for k in range(count)},
        }

    def rows(self) -> tuple[list[str], list[list[float]]]:
        """All numbers of every step, for a file."""
        steps = list(self.series.values())
        header = ["number", *(name.strip("+= ").lower() for name in self.series)]
        return header, [[k + 1, *(float(v[k]) for v in steps)] for k in range(len(self.content))]


def word_of(about: TextRun, token: int) -> Word:
    """One token's number, content and position, as the model has them."""
    tokens, words = about.sample.tokens["main"], about.sample.tokens["main"].words or ()
    together = [i for i, word in enumerate(words) if word == words[token] >= 0] or [token]
    content, position = known(about.trace.token_embeddings["main"]), known(about.trace.position_embeddings["main"])
    return Word(
        tokens.labels[token],
        int(about.sample.inputs["main"][token]),
        content[token],
        position[token],
        tuple(tokens.labels[i] for i in together),
    )


def pieces_table(about: TextRun) -> dict[str, list]:
    """Every token with its number, in order."""
    tokens = about.sample.tokens["main"]
    return {
        "Token": list(range(len(tokens))),
        "Piece": list(tokens.labels),
        "Number": about.sample.inputs["main"].tolist(),
    }


def steps_figure(word: Word) -> Any:
    """Bars of every step, one under the other, on one range."""
    shown = tuple(word.series)
    return plots.stacked_bars(
        word.series, colours={POSITION: "position"}, shared=shown, dark=dark(), height=120 * len(shown) + 40
    )


@st.cache_resource(max_entries=4, show_spinner=False)
def unit_table(name: str, digest: str) -> Float[np.ndarray, "piece feature"]:
    """The model's table, every row scaled to length one."""
    rows = known(open_model(name).input_embeddings).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True).clip(1e-12)


def neighbours(about: TextRun, id: int, count: int = 10) -> list[tuple[str, float]]:
    """The pieces whose rows point most nearly the same way, with their cosines; special pieces are left out."""
    rows = unit_table(about.name, about.model.digest)
    cosines = rows @ rows[id]
    tokenizer = about.tokenizer
    cosines[sorted(tokenizer.special_ids)] = -2
    cosines[id] = -2
    best = np.argsort(-cosines, kind="stable")[:count]
    return [(tokenizer.label(int(i)), float(cosines[i])) for i in best]


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


def stages(about: TextRun) -> list[str]:
    """The places where a token's vector can be looked at, by their names on screen."""
    entered = "With position" if known(about.trace.position_embeddings["main"]).any() else "Enters layer 1"
    return ["Content", entered, *(f"After {layer_name(i).lower()}" for i in range(about.model.spec.layers))]


def vectors_at(about: TextRun, stage: int) -> Float[np.ndarray, "token feature"]:
    """Every token's vector at a stage: 0 content, 1 what enters layer 1, 2 after layer 1 ..."""
    return known(about.trace.token_embeddings["main"] if stage == 0 else about.trace.residuals["main"][stage - 1])


def plane_figure(about: TextRun, stage: int, token: int) -> tuple[Any, float]:
    """The tokens in the plane of their first two principal components, and the share of variance it holds."""
    vectors, labels = vectors_at(about, stage), about.sample.tokens["main"].labels
    _, scores, shares = measures.principal(vectors, 2)
    plane = np.pad(scores, ((0, 0), (0, 2 - scores.shape[1])))  # an empty text may be a single token
    figure = scatter(
        plane,
        names=labels,
        written=len(labels) <= WRITTEN,
        chosen=(token,),
        dark=dark(),
        colours=np.arange(len(labels), dtype=float),
        value="place",
        height=480,
    )
    return figure, float(shares[:2].sum())


def twin(about: TextRun, token: int, other: str) -> tuple[str, np.ndarray] | None:
    """Another occurrence of a token, in words, and the cosine of both at every stage; None if there is none.

    It is looked for in this text first, then in the other sentence.
    """
    ids = about.sample.inputs["main"]
    here = [i for i in (ids == ids[token]).nonzero()[:, 0].tolist() if i != token]
    label = plain(about.sample.tokens["main"].labels[token])
    if here:
        place, second = here[0], about
        where = f"“{label}” at token {token} and at token {place} of your text"
    else:
        found = elsewhere(about, other)
        there = (found.sample.inputs["main"] == ids[token]).nonzero()[:, 0].tolist()
        if not there or not other.strip():
            return None
        place, second = there[0], found
        where = f"“{label}” in your text and in the other sentence"
    mine, theirs = (
        [vectors_at(x, stage)[i] for stage in range(len(stages(x)))] for x, i in ((about, token), (second, place))
    )
    return where, np.array(
        [float(a @ b / (np.linalg.norm(a) * np.linalg.norm(b))) for a, b in zip(mine, theirs, strict=True)]
    )


def elsewhere(about: TextRun, other: str) -> TextRun:
    """A run of this model over another sentence."""
    sample = prepared_text(about.model.digest, other, about.model, other)
    return TextRun(model=about.model, name=about.name, sample=sample, trace=trace(about.name, sample), source="text")
