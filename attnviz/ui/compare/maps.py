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
from attnviz.types import AttentionCall, NamedMap, NoTokenMap, Tokens
from attnviz.ui.compare.domain import MapStyle, Panel, Shown, Slot
from attnviz.ui.core.sized_cache import SizedCache

NO_ROLLOUT = (
    "A rollout multiplies the rows of all layers, which has a meaning only where they are shares of one. The rows of "
    "this map are not."
)
CHAINED = "Product of the maps of {count} steps, one after the other; what stands between the steps is left out."


@dataclass(frozen=True, eq=False)
class Effective:
    """The token-to-token maps of a panel."""

    maps: Float[Tensor, "layer head query key"]
    kind: str
    caveat: str
    stochastic: bool  # rows are shares of one

    @property
    def signed(self) -> bool:
        """Whether it is drawn around zero."""
        return bool((self.maps < 0).any())


@st.cache_resource(show_spinner=False)
def kept() -> SizedCache[Tensor]:
    """The maps made last: at most 64 sets, at most 200 MB."""
    return SizedCache(entries=64, size=200_000_000)


def effective(panel: Panel) -> Effective:
    """The token map of every layer and head. Raises NoTokenMap with the reason where there is none."""
    calls = panel.calls(0)
    if panel.trace is None or not calls:
        raise NoTokenMap(panel.reason)
    maps = kept().get(panel.key, lambda: torch.stack([layer_map(panel.calls(a)) for a in range(panel.layers)]))
    caveats = dict.fromkeys(call.rule.caveat for call in calls if call.rule.caveat)
    if len(calls) == 1:
        return Effective(maps, calls[0].rule.map_type, " ".join(caveats), calls[0].rule.stochastic)
    said = " ".join([CHAINED.format(count=len(calls)), *caveats])
    return Effective(maps, "effective", said, all(call.rule.stochastic for call in calls))


def layer_map(calls: Sequence[AttentionCall]) -> Float[Tensor, "head query key"]:
    """The token map of one layer; the steps of a chain multiplied, the last from the left."""
    chain = calls[0].token_map().float()
    for call in calls[1:]:
        chain = call.token_map().float() @ chain
    return chain


def no_map(panel: Panel) -> str:
    """Why a panel has no token map; empty where it has one."""
    try:
        effective(panel)
    except NoTokenMap as error:
        return panel.reason if panel.trace is None else reason_of(error)
    return ""


def reason_of(error: NoTokenMap) -> str:
    """Why there is no map, as a sentence for the visitor."""
    if isinstance(error, NoRollout):
        return NO_ROLLOUT
    return f"This attention {str(error).rstrip('.')}."


def grid_name(tokens: Tokens) -> str:
    """What tells one cut of the input from another."""
    return f"{'x'.join(map(str, tokens.grid or (len(tokens),)))}+{tokens.prefix}"


def one_of(found: Effective, layer: int, head: int) -> Float[Tensor, "query key"]:
    """The map of one head; of the last where there are fewer."""
    return found.maps[layer, min(head, found.maps.shape[1] - 1)]


def send_looks(look: MapStyle, cells: Sequence[tuple[Panel, int, int]]) -> dict[str, Slot]:
    """Give the browser one token map for each panel; those that can share a range of colours travel together.

    Signed maps and maps whose rows are no shares of one have ranges of their own.
    """
    groups: dict[str, list[tuple[Panel, int, Tensor]]] = {}
    for panel, layer, head in cells:
        if not no_map(panel):
            found = effective(panel)
            what = "signed" if found.signed else "shares" if found.stochastic else "numbers"
            groups.setdefault(f"looks:{what}:{grid_name(panel.tokens)}", []).append(
                (panel, layer, one_of(found, layer, head))
            )
    slots = {}
    for name, members in groups.items():
        what, tokens = name.split(":")[1], members[0][0].tokens
        every = torch.stack([one for *_, one in members]).numpy()
        maps, rows, keys = look.shown(every, tokens, tokens, shares=what == "shares")
        views.send_maps(
            name,
            maps,
            titles=[panel.title for panel, *_ in members],
            keys=keys,
            queries=rows,
            signed=what == "signed",
            map_type="weights" if what == "shares" else "effective",
            unit="percent" if what == "shares" else "number",
            masked=together([look.masked(panel.calls(layer)) for panel, layer, _ in members], maps.shape),
        )
        slots |= {panel.variant: Slot(name, i) for i, (panel, *_) in enumerate(members)}
    return slots


def together(
    masks: Sequence[Bool[np.ndarray, "query key"] | None], shape: Sequence[int]
) -> Bool[np.ndarray, "map query key"] | None:
    """The masks of several maps; None where there is none."""
    if all(mask is None for mask in masks):
        return None
    return np.stack([np.zeros(shape[1:], dtype=bool) if mask is None else mask for mask in masks])


def send_rollouts(
    look: MapStyle, found: Sequence[Panel], start: str | int | None
) -> tuple[dict[str, Slot], dict[str, str]]:
    """Give the browser the rollout of each panel, and say why where there is none.

    From a start of `methods.rollout`; None is every token, so that hovering shows each.
    """
    groups: dict[str, list[tuple[Panel, Tensor]]] = {}
    reasons = {}
    for panel in found:
        if panel.trace is None:
            reasons[panel.variant] = panel.reason
            continue
        try:
            tokens = panel.tokens
            rows = relevance(panel.trace, torch.eye(len(tokens)) if start is None else start)[tokens.stream]
            rows = rows / rows.sum(-1, keepdim=True)
            groups.setdefault(f"rollouts:{grid_name(tokens)}", []).append((panel, rows))
        except NoTokenMap as error:
            reasons[panel.variant] = no_map(panel) or reason_of(error)
    slots = {}
    for name, members in groups.items():
        tokens = members[0][0].tokens
        every = torch.stack([one for _, one in members]).float().numpy()
        maps, rows, keys = look.shown(every, tokens if start is None else None, tokens, shares=True)
        views.send_maps(name, maps, map_type="relevance", titles=[p.title for p, _ in members], keys=keys, queries=rows)
        slots |= {p.variant: Slot(name, i) for i, (p, _) in enumerate(members)}
    return slots, reasons


# Native maps ---------------------------------------------------------------------------------------------------------
@dataclass(frozen=True, eq=False)
class Native:
    """One native map of one head, ready to be drawn: a matrix, or one number per token."""

    title: str
    kind: str
    values: Float[np.ndarray, "map *row column"]  # one map for each step of what stands before rows, such as phases
    steps: list[str]
    axes: tuple[str, ...]
    rows: Tokens | None  # None: one number per token
    columns: Tokens
    stochastic: bool
    call: AttentionCall | None  # whose mask holds for it; none where rows are no queries or columns no keys

    @property
    def signed(self) -> bool:
        """Whether it is drawn around zero."""
        return bool((self.values < 0).any())


def natives(panel: Panel, layer: int, head: int) -> list[Native]:
    """Every native map of one head, call by call."""
    calls = panel.calls(layer)
    found = []
    for number, call in enumerate(calls):
        step = f"step {number + 1}, " if len(calls) > 1 else ""
        found += [native(panel, call, step + name, one, head) for name, one in call.maps().items()]
    return found


def native(panel: Panel, call: AttentionCall, title: str, one: NamedMap, head: int) -> Native:
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
    masks = call if tuple(axes) == ("query", "key") else None
    return Native(title, one.map_type, values.numpy(), steps, tuple(axes), rows, columns, one.stochastic, masks)


def axis_tokens(panel: Panel, name: str, size: int, tokens: Tokens) -> Tokens:
    """The tokens of an axis; numbered names where it counts slots, landmarks, channels or patches of a phase."""
    if name in ("query", "key", "row") and size == len(tokens):
        return tokens
    labels = tuple(f"{name} {i + 1}" for i in range(size))
    return Tokens(labels, stream=f"{panel.variant}:{name}")


def send_native(look: MapStyle, slot: str, one: Native) -> None:
    """Give the browser a native map."""
    values, across, keys = look.shown(one.values, one.rows, one.columns, shares=one.stochastic)
    axes = None
    if one.rows is not None:
        rows = "query: who looks" if one.axes[0] == "query" else one.axes[0]
        axes = (rows, "key: who is looked at" if one.axes[1] == "key" else one.axes[1])
    views.send_maps(
        slot,
        values,
        titles=one.steps,
        keys=keys,
        queries=across,
        signed=one.signed,
        map_type=one.kind,
        unit="percent" if one.stochastic else "number",
        axes=axes,
        masked=None if one.call is None else look.masked([one.call]),
    )


# Differences ---------------------------------------------------------------------------------------------------------
def comparable(found: Sequence[Panel]) -> list[Panel]:
    """The panels that have token maps of the grid that the first of them has."""
    mapped = [panel for panel in found if not no_map(panel)]
    return [panel for panel in mapped if grid_name(panel.tokens) == grid_name(mapped[0].tokens)]


def send_difference(
    look: MapStyle, first: tuple[Panel, int, int], second: tuple[Panel, int, int]
) -> Float[np.ndarray, "query key"]:
    """Give the browser the first map minus the second, each as it is drawn, and return it."""
    one, other = drawn_map(look, *first), drawn_map(look, *second)
    minus = difference(torch.from_numpy(one.values), torch.from_numpy(other.values)).numpy()
    shares = effective(first[0]).stochastic and effective(second[0]).stochastic
    views.send_maps(
        "difference",
        minus,
        titles=[f"{first[0].title} minus {second[0].title}"],
        keys=one.keys,
        signed=True,
        map_type="difference",
        unit="percent" if shares else "number",
    )
    return minus[0]


def drawn_map(look: MapStyle, panel: Panel, layer: int, head: int) -> Shown:
    """The token map of one head as it is drawn."""
    found = effective(panel)
    return look.shown(one_of(found, layer, head)[None].numpy(), panel.tokens, panel.tokens, shares=found.stochastic)
