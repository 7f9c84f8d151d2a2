"""What the page Explain shows: the maps of the chosen method, raw attention beside them, and numbers about both."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import streamlit as st
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from attnviz.measures.faithfulness import completeness_error
from attnviz.methods import CONTROLS, METHODS, explain, raw
from attnviz.methods.base import Start, differentiable
from attnviz.methods.discard import FUSION, FUSIONS
from attnviz.methods.flow import is_bound
from attnviz.methods.input_gradients import integrate, reduced
from attnviz.methods.rollout import Open, expanded, factors, held, layers, weighed
from attnviz.types import NoTokenMap, Target, Tokens, Trace, UnsupportedMask
from attnviz.ui.core.budget import TooLarge
from attnviz.ui.core.cache import core
from attnviz.ui.core.labels import token_name
from attnviz.ui.core.sized_cache import SizedCache
from attnviz.ui.explain import large
from attnviz.ui.explain.choice import FLOW, INTEGRATED, RAW, ROLLOUT, TOKEN, Choice, answered_by, stretched
from attnviz.ui.explain.large import Count, check_size, too_many, walking
from attnviz.ui.inputs.model_run import ModelRun
from attnviz.ui.widgets.answers import best, percent

SENT = 1_500_000  # entries of all tokens' maps that go to the browser, so that hovering needs no server
PER_MAP = "Every map has a scale of its own, from zero to its most; the numbers in its legend say how much that is."
FROM_LEAST = (
    "Every map has a colour scale of its own, from its least relevance to its most, so that weak differences are seen; "
    "the numbers in its legend say how weak."
)
ON_ONE_SCALE = "All maps on this page share one colour scale, from zero on, each map divided by its sum first."
DIVERGING = "The method is signed: its colour scale is centred at zero, and blue is below."
SIGNED_SHARED = "Signed maps share another one, centred at zero, each divided by the sum of its absolute values."
NO_CLASS = "is class-agnostic: it would be the same for any other answer."
BOUND = "Of so many tokens the bound of the flow is shown, min(1, column sum of the first layer), not the flow itself."
COMPLETENESS = (
    "Completeness: the numbers add up to {:.4g}, features summed; from the baseline to this input the score changes by "
    "{:.4g}. Error: {:.2g}, {:.2g} % of that change."
)
NO_ANSWER = "This model has no answer of its own. Its tokens are pooled, and relevance starts at what is pooled."
NO_RAW = "Raw attention is not defined here: rows of these maps do not sum to 1."
NAMES_NO_CLASS = "it names no class, and this method explains one"


@dataclass(frozen=True, eq=False)
class Result:
    """The maps of a method from one start, one for each layer it may be given, and raw attention of the last layer.

    Rows sum to 1, but those of a signed method.
    """

    steps: Float[np.ndarray, "layer token"]
    raw: Float[np.ndarray, " token"] | None  # None where the rows of this attention do not sum to 1
    every: Float[np.ndarray, "map token token"] | None = None  # the same maps for every token as the start, where asked
    signed: bool = False
    why: str = ""  # why the method does not apply; then there are no steps


def answer_words(visit: ModelRun) -> str:
    """What the model says, and where its answer is read from."""
    token = answered_by(visit)
    read = visit.model.spec.answer_from or "the mean of all patches"
    read = read if token is None else token_name(visit.sample.tokens["main"], token)
    if "class" not in visit.model.outputs:
        return f"{NO_ANSWER} That is {read}."
    name, probability = best(visit.model, visit.trace, 1)[0]
    return f"The model says **{name}** ({100 * probability:.1f} %). It reads this answer from {read}."


def work_out(visit: ModelRun, choice: Choice) -> Result:
    """The maps of the chosen start; those of every token too where one token is the start and they are few.

    Raises NoTokenMap or UnsupportedMask where the method does not apply and nothing else is asked for.
    """
    size = len(visit.sample.tokens["main"])
    start, depth = choice.start_token, choice.depth
    many = choice.how.takes_start and not choice.how.slow and (depth + 1) * size * size <= SENT
    all_tokens = choice.start == TOKEN and many
    if choice.method in (ROLLOUT, RAW) and too_many(visit):
        return walked(visit, choice)
    try:
        steps = maps_of(visit, choice, torch.eye(size) if all_tokens else start)
    except (NoTokenMap, UnsupportedMask, TooLarge) as error:
        if not choice.compared:
            raise
        none = np.zeros((0, size), dtype=np.float32)
        return Result(none, raw_of(visit, choice, start), None, choice.how.signed, str(error).rstrip("."))
    last = raw_of(visit, choice, torch.eye(size) if all_tokens else start)
    if not all_tokens:
        return Result(steps, last, None, choice.how.signed)
    every = None if last is None or choice.how.signed else np.concatenate([steps, last[None]])
    chosen = None if last is None else last[choice.token]
    return Result(steps[:, choice.token], chosen, every, choice.how.signed)


def walked(visit: ModelRun, choice: Choice) -> Result:
    """The same where maps are too many to be kept: the result is kept instead, and a bar says how far it is."""
    weights = choice.method == ROLLOUT and large.every_weight(visit, choice.options)  # one walk gives every alpha
    free = {"first"} if choice.method == ROLLOUT else {"layer"}  # one walk gives the maps of every layer
    free |= {"alpha"} if weights else set()
    given = sorted((name, value) for name, value in choice.options.items() if name not in free)
    key = visit.model.digest, visit.sample.digest, choice.method, repr((choice.start_token, given, choice.target))
    kept, last = large.walks_kept().get(key, lambda: walk(visit, choice, weights))
    steps = kept.numpy()
    if weights:
        found = [weighed(step[: i + 2], choice.options["alpha"]) for i, step in enumerate(kept)]
        steps = shares(torch.stack(found[::-1]).numpy())
    return Result(steps, None if last is None else last.numpy(), None, choice.how.signed)


def walk(visit: ModelRun, choice: Choice, weights: bool) -> tuple[Tensor, Tensor | None]:
    """The maps of a method a block of rows at a time, or their parts for every residual weight; and raw attention."""
    discard = choice.options.get("discard", 0.0) > 0 and not choice.options.get("by_row", False)
    with large.progress(visit, choice.method == ROLLOUT and discard) as count:
        last = raw_of(visit, choice, choice.start_token, count)
        last = None if last is None else torch.from_numpy(last)
        if not weights:
            return torch.from_numpy(maps_of(visit, choice, choice.start_token, count)), last
        with core():
            found = expanded(visit.trace, choice.start_token, opened=opened(visit, choice, count)[0])
    return torch.stack([F.pad(step, (0, 0, 0, choice.depth + 1 - len(step))) for step in found]).float(), last


def maps_of(
    visit: ModelRun, choice: Choice, start: Start, count: Count | None = None
) -> Float[np.ndarray, "map *start token"]:
    """The method's map for every layer it may be given, or its one map; divided by its sum if not signed."""
    if choice.method == ROLLOUT:  # one walk gives the maps from every layer on
        return rollouts(visit, choice, start, count)
    if choice.method == RAW and too_many(visit):
        return raw_layers(visit, choice, start, count)
    option, graph = choice.how.layer_option, graph_of(visit)
    chosen = [{}] if option is None else [{option.name: layer} for layer in range(choice.depth)]
    found = [kept_map(visit, choice, start, layer, graph)[0].float().cpu().numpy() for layer in chosen]
    return np.stack(found) if choice.how.signed else shares(np.stack(found))


def graph_of(visit: ModelRun) -> Callable[[], Trace]:
    """One forward pass with a graph for all maps that need one, made when the first of them asks."""
    return cache(lambda: differentiable(visit.model, visit.sample, visit.trace))


def kept_map(
    visit: ModelRun, choice: Choice, start: Start, layer: dict[str, int], graph: Callable[[], Trace]
) -> tuple[Tensor, ...]:
    """The map of a method, made once for an input and its choices; of integrated gradients also their sum's error.

    `layer` is the layer that the method is given. Raises NoTokenMap, UnsupportedMask, TooLarge.
    """
    if choice.how.needs_class and choice.target is None:
        raise NoTokenMap(NAMES_NO_CLASS)
    if choice.method != RAW:
        check_size(choice.how, len(visit.sample.tokens["main"]))
    options, target = {**choice.options, **layer}, choice.target if choice.how.needs_class else None
    if choice.how.takes_start:
        options["start"] = start

    def made() -> tuple[Tensor, ...]:
        with core():
            if not choice.how.slow:
                return computed(visit, choice.method, target, graph, options)
            bar = st.progress(0.0, f"{choice.how.title} is computed")
            try:
                return computed(visit, choice.method, target, graph, options | {"progress": bar.progress})
            finally:
                bar.empty()

    if isinstance(start, Tensor):  # of every token: vector products alone
        return made()
    key = visit.model.digest, visit.sample.digest, choice.method, str(target), str(sorted(options.items()))
    return explained().get(key, made)


def computed(
    visit: ModelRun, method: str, target: Target | None, graph: Callable[[], Trace], options: dict[str, Any]
) -> tuple[Tensor, ...]:
    """The map; of integrated gradients also how far their sum is from the change of the score, and that change."""
    if method == INTEGRATED:
        given = {name: value for name, value in options.items() if name != "per_token"}
        found = integrate(visit.model, visit.sample, target, trace=graph(), **given)
        return reduced(found.features, options["per_token"]), found.error, found.change
    trace = graph() if (METHODS | CONTROLS)[method].needs_gradients else visit.trace
    return (explain(method, visit.model, visit.sample, target, trace=trace, **options),)


def remarks(visit: ModelRun, choice: Choice, shared: bool) -> str:
    """What has to be known of the map: whether its sum is what it should be, its colour scale, its caveats."""
    return " ".join(filter(None, [completeness(visit, choice), caveats(visit, choice, shared)]))


def completeness(visit: ModelRun, choice: Choice) -> str:
    """How nearly integrated gradients add up to what they should, in a sentence; empty for any other method."""
    if choice.method != INTEGRATED:
        return ""
    _, error, change = kept_map(visit, choice, choice.start_token, {}, graph_of(visit))
    share = 100 * float(completeness_error((error + change)[..., None], change))
    return COMPLETENESS.format(float(error + change), float(change), float(error), share)


def rollouts(
    visit: ModelRun, choice: Choice, start: Start, count: Count | None = None
) -> Float[np.ndarray, "layer *start token"]:
    """Rollouts from each layer on, first layer first, each divided by its sum."""
    given = {name: value for name, value in choice.options.items() if name != "first"}
    with core():
        thinned, _ = opened(visit, choice, count)
        steps = layers(visit.trace, start, opened=thinned, **given)[::-1]
    stream = visit.sample.tokens["main"].stream
    return shares(torch.stack([step.rows[stream] for step in steps]).float().numpy())


def raw_of(
    visit: ModelRun, choice: Choice, start: Start, count: Count | None = None
) -> Float[np.ndarray, "*start token"] | None:
    """Raw attention of the last layer, divided by its sum; None where it is undefined and other maps are shown."""
    fusion = choice.options.get("fusion", "mean")
    fusion = fusion if fusion in FUSIONS else "mean"
    try:
        with core():
            _, whole = opened(visit, choice, count)
            return shares(raw.attention(visit.trace, start, fusion=fusion, opened=whole).float().numpy())
    except NoTokenMap:
        if choice.method in (ROLLOUT, RAW) and not choice.compared:
            raise
        return None


def raw_layers(
    visit: ModelRun, choice: Choice, start: Start, count: Count | None
) -> Float[np.ndarray, "layer *start token"]:
    """Raw attention of every layer, a block of rows at a time, divided by its sum."""
    given = {name: value for name, value in choice.options.items() if name != "layer"}
    with core():
        _, whole = opened(visit, choice, count)
        found = [raw.attention(visit.trace, start, layer=i, opened=whole, **given) for i in range(choice.depth)]
    return shares(torch.stack(found).float().numpy())


def shares(maps: Float[np.ndarray, "*row token"]) -> Float[np.ndarray, "*row token"]:
    """Maps divided by their sums; one without any relevance stays zero."""
    sums = maps.sum(-1, keepdims=True)
    return maps / np.where(sums == 0, 1, sums)


def opened(visit: ModelRun, choice: Choice, count: Count | None = None) -> tuple[Open, Open]:
    """Fused maps with and without discard, kept for this input: a slider then costs vector products only.

    Where they are too many they are computed a block at a time, and each block is counted.
    """
    fusion = choice.options.get("fusion", "mean")
    discard, by_row = choice.options.get("discard", 0.0), choice.options.get("by_row", False)
    fusion = fusion if fusion in FUSIONS else "mean"
    if too_many(visit):
        thinned = walking(fusion, discard if choice.method == ROLLOUT else 0.0, by_row, count)
        return thinned, walking(fusion, 0.0, False, count)

    def kept(discard: float, by_row: bool) -> Open:
        options = fusion, discard, by_row
        key = visit.model.digest, visit.sample.digest, *map(str, options)
        return held(visit.trace, maps_kept().get(key, lambda: factors(visit.trace, *options)))

    whole = kept(0.0, False)
    return (kept(discard, by_row and discard > 0) if choice.method == ROLLOUT else whole), whole


@st.cache_resource(show_spinner=False)
def maps_kept() -> SizedCache[tuple[Tensor, ...]]:
    """The fused maps made last: at most 64 sets, at most 100 MB."""
    return SizedCache(entries=64, size=100_000_000)


@st.cache_resource(show_spinner=False)
def explained() -> SizedCache[tuple[Tensor, ...]]:
    """The maps of methods made last, one number for each token: at most 512, at most 20 MB."""
    return SizedCache(entries=512, size=20_000_000)


def titles(choice: Choice) -> list[str]:
    """What each of the method's maps is called."""
    option = choice.how.layer_option
    if option is None:
        return [choice.how.title]
    return [f"{option.title} {i + 1}" for i in range(choice.depth)]


def small(labels: dict[str, str]) -> str:
    """The labels of a map in one quiet line; the heading above it names method and start."""
    return quiet(in_line(labels))


def quiet(words: str) -> str:
    """Words in small grey letters."""
    return f":small[:gray[{words}]]"


def in_line(labels: dict[str, str]) -> str:
    """The labels of a map but method and start, one after the other."""
    return " · ".join(f"{name} {value}" for name, value in labels.items() if name not in ("method", "start"))


def raw_labels(choice: Choice, tokens: Tokens) -> dict[str, str]:
    """The labels of the map beside the method's."""
    fusion = choice.options.get("fusion", "mean")
    said = {"method": "Raw attention", "head fusion": FUSION.choices.get(fusion, "Mean").lower()}
    return said | {"layer": f"{choice.depth} alone", "start": choice.name(tokens), "class": "not used"}


def prefix_words(tokens: Tokens, choice: Choice, result: Result) -> str:
    """How much of each map lies on CLS and other prefix tokens."""
    if not tokens.prefix:
        return "These tokens have no CLS and no registers: all relevance lies on patches."
    first, *others = tokens.labels[: tokens.prefix]
    many = f"{first} and {len(others)} other prefix tokens"
    named = many if len(others) > 1 else " and ".join((first, *others))
    return on_special(named, np.arange(len(tokens)) < tokens.prefix, choice, result)


def on_special(named: str, special: np.ndarray, choice: Choice, result: Result) -> str:
    """How much of each map lies on some tokens, in words."""
    there = float(result.steps[choice.at][special].sum())
    amount = f"{there:.3g}" if result.signed else percent(there)
    beside = "" if result.raw is None else f", **{percent(float(result.raw[special].sum()))}** of raw attention"
    return f"On {named}: **{amount}** of {choice.how.title.lower()}{beside}."


def caveats(visit: ModelRun, choice: Choice, shared: bool) -> str:
    """What has to be known to compare the maps: their colour scale, and what the attention variant adds to it."""
    own = dict.fromkeys(call.rule.caveat for call in visit.trace.calls if call.rule.caveat)
    own_scale = FROM_LEAST if stretched() else PER_MAP
    scale = ON_ONE_SCALE if shared else own_scale
    if choice.how.signed:
        scale = " ".join([DIVERGING, *([SIGNED_SHARED] if shared else [])])
    elif shared and any((METHODS | CONTROLS)[name].signed for name in choice.compared):
        scale = f"{scale} {SIGNED_SHARED}"
    agnostic = [] if choice.how.needs_class else [f"{choice.how.title} {NO_CLASS}"]
    bound = [BOUND] if choice.method == FLOW and is_bound(visit.trace) else []
    return " ".join([scale, *agnostic, *bound, *own])


def top_patches(tokens: Tokens, choice: Choice, result: Result) -> None:
    """The patches with most relevance, with exact numbers and their raw attention."""
    row, last = result.steps[choice.at], result.raw
    prefix, names = tokens.prefix, [token_name(tokens, i) for i in range(len(tokens))]
    top_table("Patch", names[prefix:], choice, row[prefix:], None if last is None else last[prefix:])


def top_table(heading: str, names: list[str], choice: Choice, row: np.ndarray, last: np.ndarray | None) -> None:
    """The six names with most relevance, or farthest from zero, with exact numbers and their raw attention."""
    signed = choice.how.signed
    chosen = np.argsort(-np.abs(row), kind="stable")[:6]
    share, number = (st.column_config.NumberColumn(format=form) for form in ("%.2f %%", "%.3g"))
    title = choice.title
    data: dict[str, Any] = {heading: [names[int(i)] for i in chosen], title: (1 if signed else 100) * row[chosen]}
    if last is not None and choice.method != RAW:
        data["Raw attention"] = 100 * last[chosen]
    st.dataframe(data, hide_index=True, column_config={title: number if signed else share, "Raw attention": share})
