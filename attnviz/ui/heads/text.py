"""What the Heads page of a text is made of: maps of every layer in the browser, measures, dependencies."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import streamlit as st

from attnviz import views
from attnviz.measures.heads import value_weighted
from attnviz.measures.text_heads import Parsed, gold_arcs, measure_text_heads, predicted_heads, real
from attnviz.models.subwords import first_tokens
from attnviz.types import AttentionCall, Model, Tokens
from attnviz.ui.core.cache import forward, open_model
from attnviz.ui.heads.overview import Row, Table, place, together
from attnviz.ui.inputs.text_run import TextRun, prepared_text
from attnviz.ui.inputs.treebank import treebank
from attnviz.ui.widgets.display import masked_of
from attnviz.ui.widgets.text_display import Look, send

MOST_TILES = 128  # tokens up to which every head of every layer travels exact


def parsed(model: Model, text: str, tokens: Tokens) -> Parsed | None:
    """The words of a stored sentence and the words they depend on; None for any other text.

    None also where a model has no special token before the text, which stands for the root, or cuts the text short.
    """
    words = treebank().get(text)
    if words is None or model.tokenizer is None or tokens.words is None or tokens.words[0] >= 0:
        return None
    before = next((i for i, word in enumerate(tokens.words) if word >= 0), len(tokens))
    spans = [(start, stop) for start, stop, _, _ in words]
    first = tuple(before + i for i in first_tokens(text, model.tokenizer.encode(text), spans))
    if max(first) >= len(tokens) or any(tokens.words[i] < 0 for i in first):
        return None
    return Parsed(text, first, tuple(head for *_, head in words))


def gold(about: TextRun, look: Look) -> list[tuple[int, int]]:
    """The treebank's dependencies among what is shown; none for a text it does not hold."""
    found = parsed(about.model, about.sample.text, about.sample.tokens["main"])
    if found is None or about.sample.text != st.session_state.get("text"):
        return []
    pairs = [(look.groups.shown(a), look.groups.shown(b)) for a, b in gold_arcs(found)]
    return [(a, b) for a, b in pairs if a is not None and b is not None and a != b]


@st.cache_data(max_entries=8, show_spinner="Scoring every head against the treebank")
def syntax(name: str, model_digest: str) -> np.ndarray | None:
    """[layer head]: how often each head attends most to the word a word depends on, over the stored sentences.

    None where no stored sentence can be scored.
    """
    model = open_model(name)
    hits = []
    for text in treebank():
        sample = prepared_text(model.digest, text, model, text)
        found = parsed(model, text, sample.tokens["main"])
        if found is not None:
            hits.append(np.stack([predicted_heads(call, found) for call in forward(name, sample).calls]))
    return np.concatenate(hits, -1).mean(-1) if hits else None


def measured(about: TextRun) -> Table:
    """Every measure of every head on this text, and how each head does on the stored treebank sentences.

    Empty where rows do not sum to 1.
    """
    if not shares(about):
        return {}
    table = dict(_measured(about.model.digest, about.sample.digest, about.trace.calls))
    scored = syntax(about.name, about.model.digest)
    return table if scored is None else {**table, "syntax": scored}


@st.cache_data(max_entries=64, show_spinner=False)
def _measured(model_digest: str, sample_digest: str, _calls: Sequence[AttentionCall]) -> Table:
    return measure_text_heads(_calls)


def shares(about: TextRun) -> bool:
    """Whether the rows of all maps sum to 1, so that there are measures, lines and arcs."""
    return all(call.rule.stochastic for call in about.trace.calls)


def exact_row(call: AttentionCall, head: int, look: Look, chosen: Sequence[int]) -> Row:
    """The exact numbers of what is shown: a word attends by its tokens' mean, and receives their sum."""
    shares = call.rule.stochastic
    found = {"weight": call.token_map([head])}
    if shares:
        found["weighted by value"] = value_weighted(call, [head], range(len(call.queries)))
    rows = {name: look.maps(one.float().numpy(), shares=shares)[0, list(chosen)] for name, one in found.items()}
    return {name: together(one, shares=shares) for name, one in rows.items()}


def even(call: AttentionCall) -> float:
    """Entropy / log n of a head that attends alike to all it may: 1, or less where a mask hides some of it."""
    hidden, count = masked_of(call), len(call.keys)
    if hidden is None or count < 2:
        return 1.0
    rows = real(call.keys).numpy()
    return float(np.log((~hidden).sum(-1)[rows]).mean() / np.log(count)) if rows.any() else 1.0


def slots(about: TextRun) -> list[str]:
    """The name of each layer's maps in the browser."""
    return [f"read:{layer}" for layer in range(len(about.trace.calls))]


def send_all(about: TextRun, look: Look) -> bool:
    """Give the browser every layer exact where that is little; whether it was."""
    if len(look.tokens) > MOST_TILES:
        blocks = [views.block_means(look.maps(call.token_map().float().numpy())) for call in about.trace.calls]
        views.send_tiles("read:tiles", np.stack(blocks))
        return False
    for layer in range(len(about.trace.calls)):
        send_layer(about, look, layer)
    return True


def words_alone(look: Look, chosen: Sequence[int], on_pick: Callable[[tuple[int, ...]], None]) -> None:
    """The words of the text without any map, to choose one of them."""
    none = np.zeros((1, len(look.tokens)), np.float32)
    views.send_maps("read:words", none, titles=["Your text"], keys=look.tokens)
    views.text_view("question", maps="read:words", tokens=chosen, asks=True, on_pick=on_pick, label="Your text")


def send_layer(about: TextRun, look: Look, layer: int) -> str:
    """Give the browser the exact maps of one layer, as they are shown."""
    call = about.trace.calls[layer]
    return send(f"read:{layer}", call, look, [place(about, layer, head) for head in range(call.heads)])
