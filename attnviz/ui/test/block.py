"""Edges blocked: some queries may not attend to some keys, in layers and heads of choice; what the answer loses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import streamlit as st
import torch
from jaxtyping import Float
from torch import Tensor

from attnviz import plots, views
from attnviz.edits import BlockedEdges, Edit, flagged, token_flags
from attnviz.interventions import block
from attnviz.methods import explain
from attnviz.types import NoTokenMap, Tokens
from attnviz.ui.core.cache import core, edited_trace
from attnviz.ui.core.labels import plain, spoken_name
from attnviz.ui.core.state import buttons, chosen_set, select, set_tokens, several_of
from attnviz.ui.inputs.model_run import ModelRun
from attnviz.ui.shell.prose import section
from attnviz.ui.test import again, answer, maps, picks
from attnviz.ui.widgets.layer_head import ALL
from attnviz.ui.widgets.output import dark, downloads, plot
from attnviz.views.canvas import ViewStyle

ATTENDED, ROLLOUT = "attended", "rollout"
RANKINGS = {ATTENDED: "Their attention", ROLLOUT: "Rollout from them"}
WHY = (
    "What the strongest keys are: those that the queries attend to most, in the chosen layers and heads, or by rollout."
)
QUERIES, KEYS = "queries", "blocked"  # the picks in the session and in the address
SLOT = "test:attended"
CANNOT = (
    "Edges of this model cannot be blocked: its attention takes no mask of single edges. Choose another model, such as "
    "`vit` or `sentences`, in the sidebar."
)
NO_LAYER = "No layer is chosen. Choose at least one, so that there is something to block."
NO_QUERY = "No query is chosen. Click a token in the view on the left."
NO_KEY = "No key is blocked yet. Click a token, or drag a rectangle over the picture."
NO_EDGE = "A decoder hides later words anyway, so nothing would be blocked. Choose a later query or earlier keys."
ALL_KEYS = "The query {} could attend to nothing at all. Bring at least one key back by a click."
BY_LAYER = "Where in the network"


@dataclass(frozen=True)
class Edges:
    """What may not attend to what, and where."""

    queries: tuple[int, ...]
    keys: tuple[int, ...]
    layers: tuple[int, ...]
    head: int | None  # None = all heads

    @property
    def heads(self) -> list[int] | None:
        """The heads as edits take them."""
        return None if self.head is None else [self.head]

    def there(self, count: int, layer: int, head: int) -> np.ndarray:
        """Which entries [query key] of a head's map are blocked."""
        found = np.zeros((count, count), dtype=bool)
        if layer in self.layers and self.head in (None, head):
            found[np.ix_(self.queries, self.keys)] = True
        return found

    def code(self, depth: int) -> str:
        """The expression that makes the edit."""
        given = [again.listed(self.queries), again.listed(self.keys)]
        given += [] if len(self.layers) == depth else [again.listed(self.layers)]
        given += [] if self.head is None else [f"heads=[{self.head}]"]
        return f"block(model, sample, {', '.join(given)})"


def show(about: ModelRun) -> None:
    """The controls, queries and keys, the answer before and after, the effect of each layer, and one head's maps."""
    if "blocked_edges" not in about.model.spec.honours:
        st.info(CANNOT, icon=":material/info:")
        return
    test, tokens = answer.tested(about), about.sample.tokens["main"]
    layers, head, controls = where_choice(about)
    queries = chosen_set(QUERIES, len(tokens), usual_queries(about, test))
    attended = attention(about, layers, head)
    by = select("Ranked by", RANKINGS, default=usual_ranking(test), key="ranked", where=controls, width=170, help=WHY)
    ranking = None if not queries else ranks(about, queries, attended, by)
    among = reachable(about, queries)
    picked = chosen_set(KEYS, len(tokens))
    how, keys = picks.choice(controls, among, ranking, picked, key="cut", label="Block keys")
    edges = Edges(queries, keys, layers, head)
    left, middle, right = st.columns([1, 1, 1], gap="medium")
    with left:
        st.markdown(f"**Queries:** {named(tokens, queries)}")
        draw_queries(tokens, queries, attended)
    with middle:
        st.markdown(f"**Blocked keys:** {len(keys)}, {picks.HOW[how].lower()}")
        picks.draw_set("test:keys", tokens, keys, ranking, (KEYS, "cut"), "Your input with the blocked keys")
    with right:
        if why := problem(about, edges):
            st.info(why, icon=":material/info:")
            return
        found = answered(about, test, edges, among)
    effects(about, test, edges, found)


def where_choice(about: ModelRun) -> tuple[tuple[int, ...], int | None, Any]:
    """Layers and head in which edges are blocked, and the container where the choice of keys goes on."""
    spec = about.model.spec
    first = st.container(horizontal=True, vertical_alignment="bottom", gap="medium")
    numbers = {str(i + 1): str(i + 1) for i in range(spec.layers)}
    with first:
        layers = several_of("Layers", numbers, default=list(numbers), key="in_layers")
        head = buttons("Head", [ALL, *range(1, spec.heads + 1)], "in_head", at=0) - 1
    return tuple(int(layer) - 1 for layer in layers), None if head < 0 else head, first


def usual_queries(about: ModelRun, test: answer.Tested | None) -> tuple[int, ...]:
    """The token the answer is read from; where it is read from many, all that it is read from."""
    if test is not None and test.read_from:
        return test.read_from
    return (len(about.sample.tokens["main"]) - 1,)


def usual_ranking(test: answer.Tested | None) -> str:
    """Attention of the one query that is read; with many, only a rollout tells apart what they all attend to."""
    return ROLLOUT if test is not None and len(test.read_from) > 1 else ATTENDED


def ranks(
    about: ModelRun, queries: Sequence[int], attended: Float[Tensor, "query key"] | None, by: str
) -> Float[Tensor, " key"] | None:
    """One number for each key; None where attention has no maps, or none that can be multiplied."""
    if by == ATTENDED:
        return None if attended is None else attended[list(queries)].mean(0)
    try:
        with core():
            found = explain("rollout", about.model, about.sample, trace=about.trace, start=list(queries))
    except NoTokenMap:
        return None
    return found.mean(0).float().cpu()


def reachable(about: ModelRun, queries: Sequence[int]) -> list[int]:
    """The patches or words that the queries may attend to: of a decoder, none that comes later."""
    last = max(queries, default=0) if about.model.spec.causal else len(about.sample.tokens["main"])
    return [i for i in picks.candidates(about.sample.tokens["main"], None) if i <= last]


def attention(about: ModelRun, layers: Sequence[int], head: int | None) -> Float[Tensor, "query key"] | None:
    """The mean map of the chosen layers and heads; None where these have none over the tokens."""
    count, heads = len(about.sample.tokens["main"]), None if head is None else [head]
    calls = [call for call in about.trace.calls if call.layer in layers]
    try:
        found = [call.token_map(heads).detach().float().mean(-3) for call in calls]
    except NoTokenMap:
        return None
    square = [one for one in found if one.shape == (count, count)]
    return torch.stack(square).mean(0) if square else None


def named(tokens: Tokens, chosen: Sequence[int]) -> str:
    """The names of a few tokens, or how many they are."""
    if len(chosen) == len(tokens):
        return "all tokens"
    return ", ".join(spoken_name(tokens, i) for i in chosen) if len(chosen) < 4 else f"{len(chosen)} tokens"


def draw_queries(tokens: Tokens, queries: Sequence[int], attended: Float[Tensor, "query key"] | None) -> None:
    """The input with what the queries attend to, where queries are picked."""
    shown = torch.zeros(len(tokens), len(tokens)) if attended is None else attended
    negative = bool((shown < 0).any())
    title = "mean of the chosen layers and heads"
    views.send_maps(SLOT, shown.numpy()[None], titles=[title], keys=tokens, signed=negative, unit="percent")
    view: dict[str, Any] = {"maps": SLOT, "tokens": queries, "several": True, "label": "Your input with the queries"}
    view |= {"style": ViewStyle(hide_special=tokens.grid is not None)}

    def pick(now: tuple[int, ...]) -> None:
        set_tokens(QUERIES, now)

    if tokens.grid is not None:
        views.picture_view("test:queries", picture="picture", height=340, on_pick=pick, **view)
    else:
        views.text_view("test:queries", on_pick=pick, **view)


def problem(about: ModelRun, edges: Edges) -> str:
    """Why these edges cannot be blocked and what to do, as a sentence; empty where they can."""
    tokens, causal = about.sample.tokens["main"], about.model.spec.causal
    for there, sentence in ((edges.layers, NO_LAYER), (edges.queries, NO_QUERY), (edges.keys, NO_KEY)):
        if not there:
            return sentence
    open_keys = {query: range(query + 1 if causal else len(tokens)) for query in edges.queries}
    if not any({*keys} & {*edges.keys} for keys in open_keys.values()):
        return NO_EDGE
    closed = [query for query, keys in open_keys.items() if {*keys} <= {*edges.keys}]
    return ALL_KEYS.format(spoken_name(tokens, closed[0])) if closed else ""


@dataclass(frozen=True, eq=False)
class Found:
    """The answers after: with all that is blocked, with random keys, and with what is blocked in one layer alone."""

    after: Float[Tensor, " class"]
    controls: Float[Tensor, "draw class"]
    by_layer: Float[Tensor, "layer class"]


def answered(about: ModelRun, test: answer.Tested | None, edges: Edges, among: Sequence[int]) -> Found | None:
    """The answer before and after, shown; None where there is no answer."""
    if test is None:
        st.caption(answer.NO_ANSWER)
        return None
    spec, sample = about.model.spec, about.sample
    own = block(about.model, sample, edges.queries, edges.keys, edges.layers, heads=edges.heads)
    one_by_one = [[layer] for layer in range(spec.layers)]
    each = block(about.model, sample, edges.queries, edges.keys, *one_by_one, heads=edges.heads)
    sets = picks.draws(among, min(len(edges.keys), len(among)))
    found = Found(
        answer.logits_of(test, own, "Blocking")[0],
        answer.logits_of(test, random_keys(about, edges, sets), "Blocking random keys"),
        answer.logits_of(test, each, "Blocking layer by layer"),
    )
    answer.show_answer(test, found.after, found.controls)
    return found


def random_keys(about: ModelRun, edges: Edges, sets: Sequence[Sequence[int]]) -> Edit:
    """The same queries, layers and heads with other keys: one edit for each set."""
    spec, count = about.model.spec, len(about.sample.tokens["main"])
    keys = torch.stack([token_flags(count, one) for one in sets])
    heads = None if edges.heads is None else flagged("head", edges.heads, spec.heads)
    layers = flagged("layer", edges.layers, spec.layers)
    return Edit(blocked_edges=BlockedEdges(token_flags(count, edges.queries), keys, layers, heads))


def effects(about: ModelRun, test: answer.Tested | None, edges: Edges, found: Found | None) -> None:
    """The effect of each layer alone, one head's maps before and after, the downloads and the code."""
    tokens, depth = about.sample.tokens["main"], about.model.spec.layers
    if test is not None and found is not None:
        section(answer.prose(about), BY_LAYER)
        by_layer = test.change(found.by_layer).tolist()
        plot(layer_figure(by_layer), "test:layers", alt=f"Bars: {layer_words(test, by_layer)}")
        st.markdown(layer_words(test, by_layer))
    both = block(about.model, about.sample, edges.queries, edges.keys, (), edges.layers, heads=edges.heads)
    changed = edited_trace(about.name, about.sample, both)
    section(answer.prose(about), "One head, before and after")
    count = len(tokens)
    compared = maps.compare(about, changed, edges.queries[0], lambda layer, head: edges.there(count, layer, head))

    def arrays() -> dict[str, np.ndarray]:
        given = {"queries": np.array(edges.queries), "keys": np.array(edges.keys), "layers": np.array(edges.layers)}
        given["tokens"] = np.array(tokens.labels)
        if test is not None and found is not None:
            given |= {"logits_before": test.logits.numpy(), "logits_after": found.after.numpy()}
            given |= {"random": found.controls.numpy(), "by_layer": found.by_layer.numpy()}
        return given | ({} if compared is None else {"maps": compared.maps})

    rows = None if test is None or found is None else lambda: answer.answer_rows(test, found.after)
    downloads(arrays, rows, f"test-block-{about.source}", of_row="Answers as CSV")
    again.python(about, edges.code(depth), test)


def layer_figure(changes: Sequence[float]) -> Any:
    """The change of the logit when the edges are blocked in one layer alone, layer by layer."""
    return plots.bars(
        np.array(changes),
        labels=[f"Layer {i + 1}" for i in range(len(changes))],
        colours="key",
        y_title="Change of the logit",
        form="+.2f",
        shown=True,
        dark=dark(),
        height=260,
    )


def layer_words(test: answer.Tested, changes: Sequence[float]) -> str:
    """In which layer alone the edges matter most, as a sentence."""
    most = max(range(len(changes)), key=lambda i: abs(changes[i]))
    return (
        f"Blocked in one layer alone, the edges matter most in layer {most + 1}: the logit of {plain(test.name)} "
        f"changes by {answer.signed(changes[most])}."
    )
