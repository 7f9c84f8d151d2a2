"""The pictures of the Translate page: both texts, lines between them, the next tokens, both models' alignments."""

from __future__ import annotations

import html
from collections.abc import Callable
from dataclasses import replace
from typing import Literal, NamedTuple

import numpy as np
import streamlit as st
from jaxtyping import Bool, Float

from attnviz import plots, views
from attnviz.measures.words import grouping, word_map
from attnviz.models.translation import TranslationModel
from attnviz.types import AttentionCall, Tokens
from attnviz.ui.core.state import chosen_token, one_of, set_tokens
from attnviz.ui.shell.errors import report_errors
from attnviz.ui.translate.scene import Written, pick, plain
from attnviz.ui.widgets.answers import percent
from attnviz.ui.widgets.layer_head import Part, part_choice
from attnviz.ui.widgets.output import dark, plot
from attnviz.ui.widgets.text_display import WHY_WORDS

Branch = Literal["cross", "encoder", "decoder"]
BRANCHES: dict[str, str] = {  # identifier -> label
    "cross": "Cross-attention",
    "encoder": "Encoder self-attention",
    "decoder": "Decoder self-attention",
}
SHOWN = 8  # of the likeliest tokens
SAYS = {
    "cross": "Queries are the French tokens, each at the step that generated it; keys are the English tokens.",
    "encoder": "Queries and keys are the English tokens: how the sentence is encoded before a word is generated.",
    "decoder": "Queries are the steps, keys the French tokens read so far; later ones are masked.",
}


class Look(NamedTuple):
    """Which attention is shown."""

    branch: Branch
    part: Part = Part()  # the mean over all


def look_choice(model: TranslationModel) -> Look:
    """Cross-attention or one of the self-attentions, and the layer and head."""
    with st.container(horizontal=True, vertical_alignment="bottom"):
        branch = one_of("Attention", BRANCHES, default="cross", key="look")
        return Look(branch, part_choice(model.spec.layers, model.spec.heads))


def calls_of(here: Written, branch: Branch) -> list[AttentionCall]:
    """The attention calls of a branch, one for each layer."""
    calls = here.trace.calls
    if branch == "cross":
        return [call for call in calls if call.name.endswith("cross")]
    return [call for call in calls if call.name.startswith(branch) and not call.name.endswith("cross")]


def map_of(here: Written, look: Look) -> Float[np.ndarray, "query key"]:
    """One map: of one head, or the mean over heads, layers or both."""
    return look.part.map_of(calls_of(here, look.branch))


def first(tokens: Tokens, count: int, stream: str = "") -> Tokens:
    """The first tokens of a text."""
    return Tokens(tokens.labels[:count], stream=stream or tokens.stream, words=(tokens.words or ())[:count])


def tokens_of(here: Written, branch: Branch, step: int) -> tuple[Tokens, Tokens]:
    """Queries and keys of a map, as far as the text is generated."""
    source, read = here.trace.calls[0].keys, here.trace.calls[-1].queries
    if branch == "encoder":
        return source, source
    asking = first(here.tokens, step)
    return asking, source if branch == "cross" else first(read, step, f"{here.model.name}: read")


def send(here: Written, look: Look, step: int) -> None:
    """Give the browser the map, and the probability of each generated token."""
    asking, keys = tokens_of(here, look.branch, step)
    masked: Bool[np.ndarray, "query key"] | None = ~np.tri(step, dtype=bool) if look.branch == "decoder" else None
    shown = map_of(here, look)[: len(asking), : len(keys)]
    views.send_maps("translate:map", shown[None], titles=[look.part.name], keys=keys, queries=asking, masked=masked)
    sure = np.array([here.probabilities[:step]], dtype=np.float32)
    views.send_maps(
        "translate:sure", sure, titles=["Probability"], keys=first(here.tokens, step), map_type="probability"
    )


def query_choice(here: Written, look: Look, at: int) -> int:
    """The query whose row is shown: the chosen French token; in the encoder, one that is chosen there."""
    if look.branch != "encoder":
        return at
    count = len(here.trace.calls[0].keys)
    return chosen_token("asking", count, count // 2)


def texts(here: Written, look: Look, step: int, at: int, row: int) -> None:
    """The French so far with the chosen token, and the tokens the query attends to."""
    asking, _ = tokens_of(here, look.branch, step)
    st.markdown("**French**, coloured by the probability of each token")
    views.text_view(
        "translate:french",
        maps="translate:sure",
        tokens=[at],
        style=views.ViewStyle(scale="linear", shared=True),
        height=160,
        back="translate:map" if look.branch == "cross" else None,
        label="The French generated so far",
        on_pick=pick,
    )
    names = {"cross": "English", "encoder": "English", "decoder": "French read so far"}
    st.markdown(f"**{names[look.branch]}**, coloured by the attention of {code(asking.labels[row])}, {look.part.name}")
    views.text_view(
        "translate:keys",
        maps="translate:map",
        tokens=[row],
        height=160,
        on_pick=follow,
        label=f"{names[look.branch]}, by attention",
    )
    views.lines_view(
        "translate:lines",
        maps="translate:map",
        heads=[0],
        tokens=[row],
        min_weight=0.03,
        label=f"{SAYS[look.branch]} {look.part.name.capitalize()}",
        on_pick=follow if look.branch == "encoder" else pick,
    )
    st.caption(SAYS[look.branch])


def follow(tokens: tuple[int, ...]) -> None:
    """An English token becomes the query."""
    if tokens:
        set_tokens("asking", tokens[-1:])


def code(label: str) -> str:
    """A token as it stands in a sentence of ours."""
    return f"**{plain(label)}**"


def next_tokens(here: Written, at: int) -> None:
    """The likeliest tokens at a step, the likeliest first."""
    ids = here.beam.ids
    said = here.trace.logits["word"][at].softmax(-1)
    top = said.topk(SHOWN)
    options = top.indices.tolist()
    if ids[at] not in options:
        options[-1] = ids[at]
    labels = [html.escape(here.model.named([*ids[:at], option]).labels[-1]) for option in options]
    figure = plots.bars(
        said[options].numpy(),
        labels=labels,
        horizontal=True,
        form=".1%",
        shown=True,
        dark=dark(),
        chosen=options.index(ids[at]),
        limits=(0, 1.2),
        most_ticks=SHOWN,
        height=270,
    )
    plots.change(figure, xaxis={"visible": False}, yaxis={"automargin": True})
    mine = code(here.tokens.labels[at])
    st.markdown(f"**Step {at + 1}:** generated {mine}, probability {percent(here.probabilities[at])}")
    plot(figure, "translate:next", alt=f"The likeliest tokens at step {at + 1}, and the one that was generated")


def alignments(here: Written, other: Callable[[], Written], look: Look, at: int) -> None:
    """The alignments of both models for the same sentence, side by side; where one is damaged, the page goes on."""
    cross = look if look.branch == "cross" else Look("cross")
    whole = st.toggle("Whole words", key="words", bind="query-params", help=WHY_WORDS)
    left, right = st.columns(2, gap="medium")
    with left:
        alignment(here, cross, "Transformer", cross.part.name, whole, at=at)
    with right, report_errors():
        alignment(other(), Look("cross"), "Recurrent, 2015", "its only head", whole)


def alignment(here: Written, look: Look, name: str, which: str, whole: bool, at: int | None = None) -> None:
    """What one model generated, and its map: rows are the French tokens or words, columns the English ones.

    With `at` a token is marked, and a click chooses another.
    """
    slot = f"translate:{here.model.name}"
    french, english = (grouping(tokens, whole_words=whole) for tokens in (here.tokens, here.trace.calls[-1].keys))
    shown, _ = word_map(map_of(here, look)[None], french, english)
    st.markdown(f"**{name}**, {which}  \n{plain(here.text) or '*nothing*'}")
    written, read = (named_apart(group.tokens) if whole else group.tokens for group in (french, english))
    views.send_maps(slot, shown, titles=[which], keys=read, queries=written)
    marked = [] if at is None else [group for group in [french.shown(at)] if group is not None]

    def look_at(groups: tuple[int, ...]) -> None:
        pick([french.first(group) for group in groups])

    views.matrix_view(
        f"{slot}:matrix",
        maps=slot,
        label=f"{name}: French over English",
        height=460,
        tokens=marked,
        on_pick=None if at is None else look_at,
    )
    st.caption(quality(here.model))


def named_apart(words: Tokens) -> Tokens:
    """Whole words under a stream of their own: else views of tokens would take their indices for tokens."""
    return replace(words, stream=f"{words.stream}: words")


def quality(model: TranslationModel) -> str:
    """How good a translator is, from its card."""
    tests = [test for test in model.facts.get("tests", []) if test["decoding"] != "greedy"]
    scores = "; ".join(
        f"BLEU {test['bleu']:.1f} ({test['decoding']}) on {test['sentences']:,} sentences of {test['name']}"
        for test in tests
    )
    if not scores:
        return ""
    facts = model.facts
    learned = f"{facts['parameters']:,} parameters, {facts['steps']:,} steps in {facts['minutes']:.0f} minutes"
    return f"{learned}. {scores}, all held out."


def row_table(here: Written, look: Look, row: int) -> tuple[list[str], list[tuple[str, float]]]:
    """The row of one query, for a table."""
    asking, keys = tokens_of(here, look.branch, len(here.beam.ids))
    weights = map_of(here, look)[row].tolist()
    return [asking.labels[row], "weight"], list(zip(keys.labels, weights, strict=True))
