"""The maps of the panels on the Compare page: token maps of every head, native maps, rollouts, differences."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import streamlit as st
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from attnviz import views
from attnviz.measures.compare import difference
from attnviz.methods import NoRollout
from attnviz.methods.rollout import relevance
from attnviz.types import AttentionCall, MapType, NamedMap, NoTokenMap, Tokens
from attnviz.ui.compare.domain import DisplayedMaps, MapRecord, MapStyle, Panel
from attnviz.ui.core.sized_cache import SizedCache

NO_ROLLOUT = (
    "A rollout multiplies the maps of all layers, which has a meaning only where their rows sum to 1. The rows of this "
    "map do not."
)
CHAINED = "Product of the maps of {count} steps; the projections between the steps are left out."
NO_MAP = "There is no token-to-token map."
ROWS = "Rows do not sum to 1."


@dataclass(frozen=True, eq=False)
class TokenMaps:
    """The token-to-token maps of a panel."""

    maps: Float[Tensor, "layer head query key"]
    map_type: MapType
    caveat: str  # in sentences; may be empty
    stochastic: bool  # rows are non-negative and sum to 1, or are empty

    @property
    def signed(self) -> bool:
        """Whether it is drawn around zero."""
        return bool((self.maps < 0).any())


@st.cache_resource(show_spinner=False)
def map_cache() -> SizedCache[Tensor]:
    """The maps computed last: at most 64 sets, at most 200 MB."""
    return SizedCache(entries=64, size=200_000_000)


def token_maps(panel: Panel) -> TokenMaps:
    """The token map of every layer and head. Raises NoTokenMap with the reason where there is none.

    A rule whose rows do not sum to 1 says so in its caveat; where it has none, the sentence is added here.
    """
    calls = panel.calls(0)
    if panel.trace is None or not calls:
        raise NoTokenMap(panel.reason)
    maps = map_cache().get(panel.key, lambda: torch.stack([layer_map(panel.calls(a)) for a in range(panel.layers)]))
    stochastic = all(call.rule.stochastic for call in calls)
    caveats = list(dict.fromkeys(call.rule.caveat for call in calls if call.rule.caveat))
    if not stochastic and not caveats:
        caveats = [ROWS]
    if len(calls) == 1:
        return TokenMaps(maps, calls[0].rule.map_type, " ".join(caveats), stochastic)
    chain = CHAINED.format(count=len(calls))
    return TokenMaps(maps, "effective", " ".join([chain, *caveats]), stochastic)


def layer_map(calls: Sequence[AttentionCall]) -> Float[Tensor, "head query key"]:
    """The token map of one layer; the steps of a chain multiplied, the last from the left."""
    chain = calls[0].token_map().float()
    for call in calls[1:]:
        chain = call.token_map().float() @ chain
    return chain


def missing_map_reason(panel: Panel) -> str:
    """Why a panel has no token map; empty where it has one."""
    try:
        token_maps(panel)
    except NoTokenMap as error:
        return panel.reason if panel.trace is None else reason_text(error)
    return ""


def reason_text(error: NoTokenMap) -> str:
    """Why there is no map, in sentences for the visitor."""
    if isinstance(error, NoRollout):
        return NO_ROLLOUT
    return f"{NO_MAP} The reason: {str(error).rstrip('.')}."


def grid_name(tokens: Tokens) -> str:
    """The shape of the grid of tokens, by which records in the browser are named."""
    return f"{'x'.join(map(str, tokens.grid or (len(tokens),)))}+{tokens.prefix}"


def head_map(every: TokenMaps, layer: int, head: int) -> Float[Tensor, "query key"]:
    """The map of one head; of the last where there are fewer."""
    return every.maps[layer, min(head, every.maps.shape[1] - 1)]


def send_attention(style: MapStyle, heads: Sequence[tuple[Panel, int, int]]) -> dict[str, MapRecord]:
    """Give the browser one token map for each panel; those that can share a colour scale are sent together.

    Signed maps and maps whose rows do not sum to 1 have scales of their own.
    """
    groups: dict[tuple[str, str], list[tuple[Panel, int, Tensor]]] = {}
    for panel, layer, head in heads:
        if not missing_map_reason(panel):
            every = token_maps(panel)
            entries = "signed" if every.signed else "weights" if every.stochastic else "numbers"
            group = groups.setdefault((entries, grid_name(panel.tokens)), [])
            group.append((panel, layer, head_map(every, layer, head)))
    records = {}
    for (entries, grid), members in groups.items():
        name, tokens, weights = f"attention:{entries}:{grid}", members[0][0].tokens, entries == "weights"
        stacked = torch.stack([one for *_, one in members]).numpy()
        maps, rows, keys = style.arrange(stacked, tokens, tokens, stochastic=weights)
        views.send_maps(
            name,
            maps,
            titles=[panel.title for panel, *_ in members],
            keys=keys,
            queries=rows,
            signed=entries == "signed",
            map_type="weights" if weights else "effective",
            unit="percent" if weights else "number",
            masked=stack_masks([style.masked(panel.calls(layer)) for panel, layer, _ in members], maps.shape),
        )
        records |= {panel.variant: MapRecord(name, i) for i, (panel, *_) in enumerate(members)}
    return records


def stack_masks(
    masks: Sequence[Bool[np.ndarray, "query key"] | None], shape: Sequence[int]
) -> Bool[np.ndarray, "map query key"] | None:
    """The masks of several maps; None where there is none."""
    if all(mask is None for mask in masks):
        return None
    return np.stack([np.zeros(shape[1:], dtype=bool) if mask is None else mask for mask in masks])


def send_rollouts(
    style: MapStyle, panels: Sequence[Panel], start: str | int | None
) -> tuple[dict[str, MapRecord], dict[str, str]]:
    """Give the browser the rollout of each panel, and say why where there is none.

    From a start of `methods.rollout`; None is every token, so that hovering shows each.
    """
    groups: dict[str, list[tuple[Panel, Tensor]]] = {}
    reasons = {}
    for panel in panels:
        try:
            groups.setdefault(f"rollouts:{grid_name(panel.tokens)}", []).append((panel, rollout(panel, start)))
        except NoTokenMap as error:
            reasons[panel.variant] = missing_map_reason(panel) or reason_text(error)
    records = {}
    for name, members in groups.items():
        tokens = members[0][0].tokens
        stacked = torch.stack([one for _, one in members]).float().numpy()
        maps, rows, keys = style.arrange(stacked, tokens if start is None else None, tokens, stochastic=True)
        titles = [panel.title for panel, _ in members]
        views.send_maps(name, maps, map_type="relevance", titles=titles, keys=keys, queries=rows)
        records |= {panel.variant: MapRecord(name, i) for i, (panel, _) in enumerate(members)}
    return records, reasons


def rollout(panel: Panel, start: str | int | None) -> Float[Tensor, "*query key"]:
    """The relevance of every token, rows sum to 1. Raises NoTokenMap where the maps cannot be multiplied."""
    _, sample, trace = panel.contents()
    tokens = sample.tokens["main"]
    rows = relevance(trace, torch.eye(len(tokens)) if start is None else start)[tokens.stream]
    return rows / rows.sum(-1, keepdim=True)


# Native maps ---------------------------------------------------------------------------------------------------------
@dataclass(frozen=True, eq=False)
class NativeMap:
    """One native map of one head, ready to be drawn: a matrix, or one number per token."""

    title: str
    map_type: MapType
    values: Float[np.ndarray, "map *row column"]  # one map for each entry of the axis before rows, such as phases
    steps: list[str]
    axes: tuple[str, ...]
    rows: Tokens | None  # None: one number per token
    columns: Tokens
    stochastic: bool
    call: AttentionCall | None  # whose mask applies to it; None where rows are no queries or columns no keys

    @property
    def signed(self) -> bool:
        """Whether it is drawn around zero."""
        return bool((self.values < 0).any())


def native_maps(panel: Panel, layer: int, head: int) -> list[NativeMap]:
    """Every native map of one head, call by call."""
    calls = panel.calls(layer)
    maps = []
    for number, call in enumerate(calls):
        step = f"step {number + 1}, " if len(calls) > 1 else ""
        maps += [native_map(panel, call, step + name, one, head) for name, one in call.maps().items()]
    return maps


def native_map(panel: Panel, call: AttentionCall, title: str, one: NamedMap, head: int) -> NativeMap:
    """One named map with its last two axes as rows and columns; a row for all queries becomes one number per token."""
    array, axes = one.array.detach().float(), list(one.axes)
    if axes[0] == "head":
        array, axes = array[min(head, len(array) - 1)], axes[1:]
    per_query = len(axes) > 1 and axes[-2].startswith(("query", "row", "landmark"))
    flat = axes[-1].startswith("key") and not per_query  # a row that all queries share, or that belongs to a slot
    lead, axes = (axes[:-1], axes[-1:]) if flat or len(axes) == 1 else (axes[:-2], axes[-2:])
    shape = array.shape[len(lead) :]
    values = array.reshape(-1, *shape)
    steps = [f"{lead[-1]} {i + 1}" for i in range(len(values))] if lead else [title]
    columns = axis_tokens(panel, axes[-1], shape[-1], call.keys)
    rows = axis_tokens(panel, axes[0], shape[0], call.queries) if len(axes) == 2 else None
    masked_call = call if tuple(axes) == ("query", "key") else None
    return NativeMap(
        title, one.map_type, values.numpy(), steps, tuple(axes), rows, columns, one.stochastic, masked_call
    )


def axis_tokens(panel: Panel, name: str, size: int, tokens: Tokens) -> Tokens:
    """The tokens of an axis; numbered names where it counts slots, landmarks, channels or patches of a phase."""
    if name in ("query", "key", "row") and size == len(tokens):
        return tokens
    labels = tuple(f"{name} {i + 1}" for i in range(size))
    return Tokens(labels, stream=f"{panel.variant}:{name}")


def send_native(style: MapStyle, record: str, one: NativeMap) -> None:
    """Give the browser a native map."""
    values, queries, keys = style.arrange(one.values, one.rows, one.columns, stochastic=one.stochastic)
    axes = None
    if one.rows is not None:
        axes = (one.axes[0], one.axes[1])
    views.send_maps(
        record,
        values,
        titles=one.steps,
        keys=keys,
        queries=queries,
        signed=one.signed,
        map_type=one.map_type,
        unit="percent" if one.stochastic else "number",
        axes=axes,
        masked=None if one.call is None else style.masked([one.call]),
    )


# Differences ---------------------------------------------------------------------------------------------------------
def comparable(panels: Sequence[Panel]) -> list[Panel]:
    """The panels that have token maps of the grid that the first of them has."""
    mapped = [panel for panel in panels if not missing_map_reason(panel)]
    return [panel for panel in mapped if grid_name(panel.tokens) == grid_name(mapped[0].tokens)]


def send_difference(
    style: MapStyle, first: tuple[Panel, int, int], second: tuple[Panel, int, int]
) -> Float[np.ndarray, "query key"]:
    """Give the browser the first map minus the second, each as it is drawn, and return it."""
    one, other = displayed_map(style, *first), displayed_map(style, *second)
    minus = difference(torch.from_numpy(one.values), torch.from_numpy(other.values)).numpy()
    stochastic = token_maps(first[0]).stochastic and token_maps(second[0]).stochastic
    views.send_maps(
        "difference",
        minus,
        titles=[f"{first[0].title} minus {second[0].title}"],
        keys=one.keys,
        signed=True,
        map_type="difference",
        unit="percent" if stochastic else "number",
    )
    return minus[0]


def displayed_map(style: MapStyle, panel: Panel, layer: int, head: int) -> DisplayedMaps:
    """The token map of one head as it is drawn."""
    every = token_maps(panel)
    values = head_map(every, layer, head)[None].numpy()
    return style.arrange(values, panel.tokens, panel.tokens, stochastic=every.stochastic)
