"""The pictures of the Translate page: both texts, lines between them, the next pieces, both networks' alignments."""

from __future__ import annotations

import html
from collections.abc import Callable
from dataclasses import replace
from typing import Literal, NamedTuple

import numpy as np
import streamlit as st
from jaxtyping import Bool, Float

from attnviz import plots, views
from attnviz.measures.words import grouped, grouping
from attnviz.models.translation import TranslationModel
from attnviz.types import AttentionCall, Tokens
from attnviz.ui.core.state import chosen_token, one_of, set_tokens
from attnviz.ui.shell.errors import report_errors
from attnviz.ui.translate.scene import Written, pick, plain
from attnviz.ui.widgets.answers import percent
from attnviz.ui.widgets.layer_head import Part, part_choice
from attnviz.ui.widgets.output import dark, plot
from attnviz.ui.widgets.text_display import WHY_WORDS

Kind = Literal["cross", "encoder", "decoder"]
KINDS: dict[str, Kind] = {"Across": "cross", "Within English": "encoder", "Within French": "decoder"}
SHOWN = 8  # pieces among the likeliest
SAYS = {
    "cross": "Every French piece, at the step that wrote it, over the English.",
    "encoder": "Every English piece over the English: how the sentence is read before a word is written.",
    "decoder": "Every step over the French it had read by then; what comes later is masked.",
}


class Look(NamedTuple):
    """Which attention is shown."""

    kind: Kind
    part: Part = Part()  # the mean over all


def look_choice(model: TranslationModel) -> Look:
    """Between the languages or within one of them, and the layer and head."""
    with st.container(horizontal=True, vertical_alignment="bottom"):
        kind = one_of("Attention", list(KINDS), default=next(iter(KINDS)), key="look")
        return Look(KINDS[kind], part_choice(model.config.layers, model.config.heads))


def calls_of(here: Written, kind: Kind) -> list[AttentionCall]:
    """The attention calls of a kind, one for each layer."""
    calls = here.trace.calls
    if kind == "cross":
        return [call for call in calls if call.name.endswith("cross")]
    return [call for call in calls if call.name.startswith(kind) and not call.name.endswith("cross")]


def map_of(here: Written, look: Look) -> Float[np.ndarray, "query key"]:
    """One map: of one head, or the mean over heads, layers or both."""
    return look.part.map_of(calls_of(here, look.kind))


def first(tokens: Tokens, count: int, stream: str = "") -> Tokens:
    """The first tokens of a text."""
    return Tokens(tokens.labels[:count], stream=stream or tokens.stream, words=(tokens.words or ())[:count])


def tokens_of(here: Written, kind: Kind, step: int) -> tuple[Tokens, Tokens]:
    """Queries and keys of a map, as far as the text is written."""
    source, read = here.trace.calls[0].keys, here.trace.calls[-1].queries
    if kind == "encoder":
        return source, source
    asking = first(here.tokens, step)
    return asking, source if kind == "cross" else first(read, step, f"{here.model.name}: read")


def send(here: Written, look: Look, step: int) -> None:
    """Give the browser the map, and how sure the network was of each piece."""
    asking, keys = tokens_of(here, look.kind, step)
    masked: Bool[np.ndarray, "query key"] | None = ~np.tri(step, dtype=bool) if look.kind == "decoder" else None
    shown = map_of(here, look)[: len(asking), : len(keys)]
    views.send_maps("translate:map", shown[None], titles=[look.part.name], keys=keys, queries=asking, masked=masked)
    sure = np.array([here.chances[:step]], dtype=np.float32)
    views.send_maps(
        "translate:sure", sure, titles=["How likely"], keys=first(here.tokens, step), map_type="probability"
    )


def asking_choice(here: Written, look: Look, at: int) -> int:
    """The piece whose row is shown: the looked-at French one; within English, one that is picked there."""
    if look.kind != "encoder":
        return at
    count = len(here.trace.calls[0].keys)
    return chosen_token("asking", count, count // 2)


def texts(here: Written, look: Look, step: int, at: int, row: int) -> None:
    """The French so far with the looked-at piece, and the words the asking piece looks at."""
    asking, _ = tokens_of(here, look.kind, step)
    st.markdown("**French**, coloured by how likely each piece was")
    views.text_view(
        "translate:french",
        maps="translate:sure",
        tokens=[at],
        style=views.ViewStyle(scale="linear", shared=True),
        height=160,
        back="translate:map" if look.kind == "cross" else None,
        label="The French that is written so far",
        on_pick=pick,
    )
    names = {"cross": "English", "encoder": "English", "decoder": "French read so far"}
    st.markdown(f"**{names[look.kind]}**, coloured by the attention of {code(asking.labels[row])}, {look.part.name}")
    views.text_view(
        "translate:keys",
        maps="translate:map",
        tokens=[row],
        height=160,
        on_pick=follow,
        label=f"{names[look.kind]}, by attention",
    )
    views.lines_view(
        "translate:lines",
        maps="translate:map",
        heads=[0],
        tokens=[row],
        min_weight=0.03,
        label=f"{SAYS[look.kind]} {look.part.name.capitalize()}",
        on_pick=follow if look.kind == "encoder" else pick,
    )
    st.caption(SAYS[look.kind])


def follow(tokens: tuple[int, ...]) -> None:
    """An English piece is looked from."""
    if tokens:
        set_tokens("asking", tokens[-1:])


def code(label: str) -> str:
    """A piece as it stands in a sentence of ours."""
    return f"**{plain(label)}**"


def next_pieces(here: Written, at: int) -> None:
    """What the network could have written at a step, the likeliest first."""
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
    figure.update_yaxes(automargin=True)
    figure.update_xaxes(visible=False)
    mine = code(here.tokens.labels[at])
    st.markdown(f"**Step {at + 1}:** it wrote {mine}, {percent(here.chances[at])} likely")
    plot(figure, "translate:next", alt=f"The likeliest pieces at step {at + 1}, and the one that was written")


def alignments(here: Written, other: Callable[[], Written], look: Look, at: int) -> None:
    """The whole map of both networks for the same sentence, side by side; where one is damaged, the page goes on."""
    cross = look if look.kind == "cross" else Look("cross")
    whole = st.toggle("Whole words", key="words", bind="query-params", help=WHY_WORDS)
    left, right = st.columns(2, gap="medium")
    with left:
        alignment(here, cross, "Transformer", cross.part.name, whole, at=at)
    with right, report_errors():
        alignment(other(), Look("cross"), "Recurrent, 2015", "its one attention", whole)


def alignment(here: Written, look: Look, name: str, which: str, whole: bool, at: int | None = None) -> None:
    """What one network wrote, and its map: rows are the French pieces or words, columns the English ones.

    With `at` a piece is marked, and one that is clicked is looked at.
    """
    slot = f"translate:{here.model.name}"
    french, english = (grouping(tokens, whole_words=whole) for tokens in (here.tokens, here.trace.calls[-1].keys))
    shown, _ = grouped(map_of(here, look)[None], french, english)
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
    st.caption(record(here.model))


def named_apart(words: Tokens) -> Tokens:
    """Whole words under a stream of their own: views of pieces on this page would take their numbers for pieces."""
    return replace(words, stream=f"{words.stream}: words")


def record(model: TranslationModel) -> str:
    """How good a translator is, from its card."""
    tests = [test for test in model.facts.get("tests", []) if test["decoding"] != "greedy"]
    told = "; ".join(
        f"BLEU {test['bleu']:.1f} ({test['decoding']}) on {test['sentences']:,} sentences of {test['name']}"
        for test in tests
    )
    if not told:
        return ""
    facts = model.facts
    learned = f"{facts['parameters']:,} parameters, {facts['steps']:,} steps in {facts['minutes']:.0f} minutes"
    return f"{learned}. {told}, none of them trained on."


def row_table(here: Written, look: Look, row: int) -> tuple[list[str], list[tuple[str, float]]]:
    """The row of one piece, for a table."""
    asking, keys = tokens_of(here, look.kind, len(here.beam.ids))
    weights = map_of(here, look)[row].tolist()
    return [asking.labels[row], "weight"], list(zip(keys.labels, weights, strict=True))
