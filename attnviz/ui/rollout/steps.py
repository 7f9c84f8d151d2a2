"""What the Rollout page is made of: its choices, rollout and raw attention of the target, and numbers about them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import streamlit as st
import torch
from jaxtyping import Float
from torch import Tensor

from attnviz import views
from attnviz.measures.rollout import residual_norms
from attnviz.methods import raw
from attnviz.methods.base import Start
from attnviz.methods.rollout import Open, factors, held, layers
from attnviz.plots import bars
from attnviz.types import Tokens
from attnviz.ui.core.cache import core
from attnviz.ui.core.labels import layer_name, token_name, worded
from attnviz.ui.core.recorded import middle
from attnviz.ui.core.sized_cache import SizedCache
from attnviz.ui.core.state import chosen_token, go, keep_inside, one_of
from attnviz.ui.inputs.model_run import ModelRun
from attnviz.ui.widgets.answers import best
from attnviz.ui.widgets.output import dark, plot

Drawn = TypeVar("Drawn")
ANSWER, CLS, MEAN, PATCH = "Answer", "CLS", "Mean of patches", "One patch"
FUSED = {"Mean": "mean", "Maximum": "max", "Minimum": "min"}
HELD = 8_000_000  # entries of all layers' fused maps that are kept in memory; above, rows are recomputed
SENT = 1_500_000  # entries of all tokens' rollouts that go to the browser, so that hovering needs no server
SLOT = "rollout"  # the maps in the browser: the rollout from each layer on, then raw attention
OWN, COMMON = "Each map's own", "One for all"
RANGES = {
    OWN: "Every map has its own range of colours, from its least relevance to its most, so that weak differences "
    "are seen; the numbers in its legend say how weak.",
    COMMON: "All maps on this page are on one range of colours, from zero on, each map divided by its sum first.",
}
NO_CLASS = "Rollout and raw attention know no classes: they would be the same for any other answer."

HELP = {
    "target": "Where relevance starts: at what the answer is read from, at every patch alike, or at one patch. A click "
    "on the picture picks a patch; a second click lets go.",
    "fusion": "How the heads of a layer become one map. Maximum keeps what any head sees, minimum only what all see.",
    "alpha": "How much of a token stays with itself in every layer, because the residual connection carries it past "
    "the attention. Half is the usual guess.",
    "discard": "Drop this share of each layer's smallest weights, never those of CLS or its like nor of a token on "
    "itself, and divide the rest so that rows sum to one.",
    "rows": "Take the share from every row by itself instead of from the layer as a whole.",
    "range": "Rollout spreads relevance over the whole picture. On its own range a map shows where it is more, where "
    "less; on one for all, maps can be compared with each other and with zero.",
    "from": "The first layer that is rolled out. A later start shows only what the upper layers did.",
}


@dataclass(frozen=True)
class Choice:
    """What is rolled out, and how."""

    target: str
    token: int  # the picked one, used where the target is one patch
    fusion: str = "mean"
    alpha: float = 0.5
    discard: float = 0.0
    by_row: bool = False
    first: int = 0
    depth: int = 1  # layers of the network

    @property
    def start(self) -> Start:
        """Where relevance starts, in the words of the methods."""
        return {ANSWER: "readout", CLS: "cls", MEAN: "mean"}.get(self.target, self.token)

    def name(self, tokens: Tokens) -> str:
        """The target in words."""
        fixed = {ANSWER: "the answer", CLS: "CLS", MEAN: worded("all patches", tokens)}
        return fixed.get(self.target) or token_name(tokens, self.token)

    @property
    def span(self) -> str:
        """The layers rolled out, in words."""
        first = self.first + 1
        return f"layers {first} to {self.depth}" if first < self.depth else f"layer {first} alone"

    def labels(self, tokens: Tokens) -> dict[str, str]:
        """What has to stand beside a rollout for it to mean anything."""
        where = "each row" if self.by_row else "each layer"
        return {
            "method": "attention rollout",
            "heads": self.fusion,
            "residual weight": f"{self.alpha:.2f}",
            "discard": f"smallest {100 * self.discard:.0f} % of {where}" if self.discard else "none",
            "layers": self.span.split(" ", 1)[1],
            "target": self.name(tokens),
            "class": "not used",
        }


def choose(visit: ModelRun, look: Callable[[], Drawn]) -> tuple[Choice, Drawn, bool]:
    """The controls above the picture, and whether all maps share one range; every one of them is in the URL.

    `look` draws the options of display among them.
    """
    tokens, depth = visit.sample.tokens["main"], visit.model.spec.layers
    options = targets(visit)
    keep_inside("target", options)
    keep_inside("from", range(1, depth + 1))
    top = st.container(horizontal=True, vertical_alignment="bottom", gap="medium")
    target = one_of(
        "Relevance starts at",
        options,
        default=ANSWER,
        key="target",
        where=top,
        help=worded(HELP["target"], tokens),
        format_func=lambda name: worded(name, tokens),
    )
    fusion = one_of("Heads of a layer", list(FUSED), default="Mean", key="fusion", where=top, help=HELP["fusion"])
    with top:
        drawn = look()
    weight, share, first = st.columns(3, gap="medium")
    alpha = weight.slider(
        "Residual weight", 0, 100, 50, 5, format="%d %%", key="alpha", bind="query-params", help=HELP["alpha"]
    )
    discard = share.slider(
        "Discard the smallest", 0, 95, 0, 5, format="%d %%", key="discard", bind="query-params", help=HELP["discard"]
    )
    by_row = share.toggle("Row by row", key="rows", bind="query-params", help=HELP["rows"])
    start = first.slider("From layer", 1, depth, 1, key="from", bind="query-params", help=HELP["from"])
    weight.caption(measured_words(visit))
    common = (
        one_of(
            "Range of colours", list(RANGES), default=OWN, key="range", where=first, help=worded(HELP["range"], tokens)
        )
        == COMMON
    )
    token = chosen_token("token", len(tokens), middle(tokens))
    return Choice(target, token, FUSED[fusion], alpha / 100, discard / 100, by_row, start - 1, depth), drawn, common


def targets(visit: ModelRun) -> list[str]:
    """Where relevance may start; CLS by name only where the answer is not read from it alone."""
    tokens = visit.sample.tokens["main"]
    named = [CLS] if "CLS" in tokens.labels[: tokens.prefix] and answered_by(visit) != 0 else []
    return [ANSWER, *named, MEAN, PATCH]


def answered_by(visit: ModelRun) -> int | None:
    """The one token the answer is read from; None where it is read from several."""
    readout = visit.trace.pooling["main"]
    return int(readout.argmax()) if float(readout.max()) == 1 else None


def pick(visit: ModelRun, chosen: Sequence[int]) -> None:
    """A click on a patch makes it the target; letting go, or a click on what the answer is read from, the answer."""
    if not chosen or chosen[-1] == answered_by(visit):
        go(target=ANSWER)
    elif chosen[-1] == 0 and CLS in targets(visit):
        go(target=CLS)
    else:
        go(target=PATCH, token=(int(chosen[-1]),))


def answer_words(visit: ModelRun) -> str:
    """What the model says, and where its answer is read from."""
    (name, probability), token = best(visit.model, visit.trace, 1)[0], answered_by(visit)
    read = "the mean of all patches" if token is None else token_name(visit.sample.tokens["main"], token)
    return f"The model says **{name}** ({100 * probability:.1f} %). It reads this answer from {read}."


@dataclass(frozen=True, eq=False)
class Result:
    """Rollouts of one target from each layer on, first layer first, and its raw attention; every row sums to one."""

    steps: Float[np.ndarray, "layer token"]
    raw: Float[np.ndarray, " token"]
    every: Float[np.ndarray, "map token token"] | None  # the same maps for every token as the target, where asked


def work_out(visit: ModelRun, choice: Choice) -> Result:
    """The maps of the target; those of every token too where one patch is the target and they are few."""
    size = len(visit.sample.tokens["main"])
    all_tokens = choice.target == PATCH and (choice.depth + 1) * size * size <= SENT
    with core():
        maps = maps_of(visit, choice, torch.eye(size) if all_tokens else choice.start)
    if not all_tokens:
        return Result(maps[:-1], maps[-1], None)
    return Result(maps[:-1, choice.token], maps[-1, choice.token], maps)


def maps_of(visit: ModelRun, choice: Choice, start: Start) -> Float[np.ndarray, "map *target token"]:
    """Rollouts from each layer on, then raw attention of the last layer, each divided by its sum."""
    stream, trace = visit.sample.tokens["main"].stream, visit.trace
    thinned, whole = opened(visit, choice)
    steps = layers(
        trace,
        start,
        alpha=choice.alpha,
        fusion=choice.fusion,
        discard=choice.discard,
        by_row=choice.by_row,
        opened=thinned,
    )[::-1]
    last = raw.attention(trace, start, fusion=choice.fusion, opened=whole)
    maps = torch.stack([*(step.rows[stream] for step in steps), last]).float().numpy()
    return maps / maps.sum(-1, keepdims=True)


def opened(visit: ModelRun, choice: Choice) -> tuple[Open | None, Open | None]:
    """Fused maps kept for this picture, with and without discard: a slider then costs vector products only."""
    if sum(len(c.queries) * len(c.keys) for c in visit.trace.calls) > HELD:
        return None, None

    def kept(discard: float, by_row: bool) -> Open:
        options = choice.fusion, discard, by_row
        key = visit.model.digest, visit.sample.digest, *map(str, options)
        return held(visit.trace, maps_kept().get(key, lambda: factors(visit.trace, *options)))

    return kept(choice.discard, choice.by_row and choice.discard > 0), kept(0.0, False)


@st.cache_resource(show_spinner=False)
def maps_kept() -> SizedCache[tuple[Tensor, ...]]:
    """The fused maps made last: at most 64 sets, at most 100 MB."""
    return SizedCache(entries=64, size=100_000_000)


def send(visit: ModelRun, choice: Choice, result: Result) -> None:
    """Give the browser the maps of the target, or those of every token so that hovering shows each."""
    titles = [f"From {layer_name(i).lower()}" for i in range(choice.depth)]
    shown = np.concatenate([result.steps, result.raw[None]]) if result.every is None else result.every
    views.send_maps(
        SLOT, shown, titles=[*titles, "Raw attention"], keys=visit.sample.tokens["main"], map_type="relevance"
    )


def small(labels: dict[str, str]) -> str:
    """The labels of a map in one quiet line; the heading above it names method and target."""
    return f":small[:gray[{in_line(labels)}]]"


def in_line(labels: dict[str, str]) -> str:
    """The labels of a map but method and target, one after the other."""
    return " · ".join(f"{name} {value}" for name, value in labels.items() if name not in ("method", "target"))


def raw_labels(choice: Choice, tokens: Tokens) -> dict[str, str]:
    """The labels of the map beside the rollout."""
    labels = choice.labels(tokens)
    return {
        "method": "raw attention",
        "heads": choice.fusion,
        "layers": f"{choice.depth} alone",
        "target": labels["target"],
        "class": "not used",
    }


def prefix_words(tokens: Tokens, choice: Choice, result: Result) -> str:
    """How much of each map lies on CLS and registers."""
    if not tokens.prefix:
        return "These tokens have no CLS and no registers: all relevance lies on patches."
    named = tokens.labels[0] if tokens.prefix == 1 else f"{tokens.labels[0]} and {tokens.prefix - 1} registers"
    shares = [100 * row[: tokens.prefix].sum() for row in (result.steps[choice.first], result.raw)]
    return f"On {named}: **{shares[0]:.1f} %** of the rollout, **{shares[1]:.1f} %** of raw attention."


def caveats(visit: ModelRun, common: bool) -> str:
    """What has to be known to compare the maps: their range of colours, and what the kind of attention adds to it."""
    own = dict.fromkeys(call.rule.caveat for call in visit.trace.calls if call.rule.caveat)
    return " ".join([RANGES[COMMON if common else OWN], NO_CLASS, *own])


def top_patches(tokens: Tokens, choice: Choice, result: Result, count: int = 6) -> None:
    """The patches with most relevance, with exact numbers and their raw attention."""
    row = result.steps[choice.first]
    best = tokens.prefix + np.argsort(-row[tokens.prefix :], kind="stable")[:count]
    share = st.column_config.NumberColumn(format="%.2f %%")
    data = {"Patch": [token_name(tokens, int(i)) for i in best], "Rollout": 100 * row[best]}
    data |= {"Raw attention": 100 * result.raw[best]}
    st.dataframe(data, hide_index=True, column_config={"Rollout": share, "Raw attention": share})


def measured(visit: ModelRun) -> tuple[Float[np.ndarray, " layer"], Float[np.ndarray, " layer"]]:
    """Mean lengths of what enters each layer and of what its attention adds."""
    kept, added = residual_norms(visit.trace)
    return kept.numpy(), added.numpy()


def measured_words(visit: ModelRun) -> str:
    """What the residual path really carries, as a range over the layers."""
    kept, added = measured(visit)
    share = 100 * kept / (kept + added)
    return f"Measured here: {share.min():.0f} to {share.max():.0f} %"


def residual_chart(visit: ModelRun, choice: Choice) -> None:
    """The measured share of the residual path in every layer, with the ratio of lengths written out."""
    kept, added = measured(visit)
    names = [layer_name(i) for i in range(len(kept))]
    figure = bars(
        kept / (kept + added),
        labels=names,
        colours="value",
        form=".0%",
        shown=True,
        limits=(0, 1.12),
        y_title="Residual share",
        dark=dark(),
        height=230,
    )
    figure.add_hline(y=choice.alpha, line={"color": "#888", "width": 1.5, "dash": "dot"})
    plot(figure, "residual", alt="Share of the residual in each layer, by length, with the chosen weight as a line")
    words = [f"{name.lower()}: {a / b:.1f} to 1" for name, a, b in zip(names, kept, added, strict=True)]
    st.caption(f"‖x‖ to ‖attention(x)‖, means over tokens: {', '.join(words)}. Dotted: the weight chosen above.")


def arrays(visit: ModelRun, choice: Choice, result: Result, name: str) -> dict[str, np.ndarray]:
    """Every number on the page with its labels, for an NPZ; `name` is that of the target."""
    tokens = visit.sample.tokens["main"]
    found = {"rollout": result.steps[choice.first], "by_first_layer": result.steps, "raw_attention": result.raw}
    words = {"model": visit.name, "input": visit.source, **choice.labels(tokens), "target": name}
    return found | {"labels": np.array([f"{k}: {v}" for k, v in words.items()]), "tokens": np.array(tokens.labels)}


def rows(visit: ModelRun, choice: Choice, result: Result, name: str) -> tuple[list[str], list[list]]:
    """Relevance of every token with its labels, for a CSV; `name` is that of the target."""
    tokens = visit.sample.tokens["main"]
    labels = {"model": visit.name, **choice.labels(tokens), "target": name}
    row = result.steps[choice.first]
    table = [[token_name(tokens, i), row[i], result.raw[i], *labels.values()] for i in range(len(tokens))]
    return ["token", "rollout", "raw attention", *labels], table
