"""The maps of the panels on the Compare page: token maps of every head, native maps, rollouts, differences."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import streamlit as st
import torch
from jaxtyping import Float
from torch import Tensor

from attnviz import views
from attnviz.measures.compare import difference
from attnviz.methods import NoRollout
from attnviz.methods.rollout import relevance
from attnviz.types import AttentionCall, NamedMap, NoTokenMap, Tokens
from attnviz.ui.compare_panels import Panel, visit_of
from attnviz.ui.output import share_picture
from attnviz.ui.shelf import Shelf

KINDS = {  # what is said of a kind of map
    "weights": "weights: the layer mixes values by them",
    "scores": "scores, before they become weights",
    "effective": "effective map: worked out, the layer never makes it",
    "slots": "weights over learned slots instead of tokens",
    "landmarks": "weights from and to landmarks",
    "context scores": "context scores: one row for all queries",
    "channel": "channels, not tokens",
}
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


@dataclass(frozen=True, eq=False)
class Slot:
    """Where maps lie in the browser, and which of them belongs to a panel."""

    name: str
    index: int
    picture: str


@st.cache_resource(show_spinner=False)
def kept() -> Shelf[Tensor]:
    """The maps made last: at most 64 sets, at most 200 MB."""
    return Shelf(entries=64, size=200_000_000)


def effective(panel: Panel) -> Effective:
    """The token map of every layer and head. Raises NoTokenMap with the reason where there is none."""
    calls = panel.calls(0)
    if panel.trace is None or not calls:
        raise NoTokenMap(panel.reason)
    maps = kept().get(panel.key, lambda: torch.stack([layer_map(panel.calls(a)) for a in range(panel.layers)]))
    caveats = dict.fromkeys(call.rule.caveat for call in calls if call.rule.caveat)
    if len(calls) == 1:
        return Effective(maps, calls[0].rule.kind, " ".join(caveats), calls[0].rule.stochastic)
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


def share_pictures(found: Sequence[Panel]) -> None:
    """Give the browser the picture, once for each grid of patches."""
    for name, panel in {picture_slot(panel): panel for panel in found if panel.trace is not None}.items():
        share_picture(visit_of(panel), name)


def picture_slot(panel: Panel) -> str:
    """The slot of the picture cut into this panel's patches."""
    return f"picture:{grid_name(panel)}"


def grid_name(panel: Panel) -> str:
    """What tells one cut of the picture from another."""
    tokens = tokens_of(panel)
    return f"{'x'.join(map(str, tokens.grid or (len(tokens),)))}+{tokens.prefix}"


def tokens_of(panel: Panel) -> Tokens:
    """The patches of a panel. Raises NoTokenMap where it shows nothing."""
    if panel.sample is None:
        raise NoTokenMap(panel.reason)
    return panel.sample.tokens["main"]


def send_looks(cells: Sequence[tuple[Panel, int, int]]) -> dict[str, Slot]:
    """Give the browser one token map for each panel; those that can share a range of colours travel together.

    Signed maps and maps whose rows are no shares of one have ranges of their own.
    """
    groups: dict[str, list[tuple[Panel, Tensor]]] = {}
    for panel, layer, head in cells:
        if not no_map(panel):
            found = effective(panel)
            what = "signed" if found.signed else "shares" if found.stochastic else "numbers"
            one = found.maps[layer, min(head, found.maps.shape[1] - 1)]
            groups.setdefault(f"looks:{what}:{grid_name(panel)}", []).append((panel, one))
    slots = {}
    for name, members in groups.items():
        _, what, _ = name.split(":")
        views.send_maps(name, torch.stack([one for _, one in members]).numpy(), titles=[p.title for p, _ in members],
                        keys=tokens_of(members[0][0]), signed=what == "signed",
                        kind="weights" if what == "shares" else "effective",
                        unit="percent" if what == "shares" else "number")  # fmt: skip
        slots |= {p.variant: Slot(name, i, picture_slot(p)) for i, (p, _) in enumerate(members)}
    return slots


def send_rollouts(found: Sequence[Panel], start: str | int | None) -> tuple[dict[str, Slot], dict[str, str]]:
    """Give the browser the rollout of each panel, and say why where there is none.

    From a start of `methods.rollout`; None is every patch, so that hovering shows each.
    """
    groups: dict[str, list[tuple[Panel, Tensor]]] = {}
    reasons = {}
    for panel in found:
        if panel.trace is None:
            reasons[panel.variant] = panel.reason
            continue
        try:
            tokens = tokens_of(panel)
            rows = relevance(panel.trace, torch.eye(len(tokens)) if start is None else start)[tokens.stream]
            rows = rows / rows.sum(-1, keepdim=True)
            groups.setdefault(f"rollouts:{grid_name(panel)}", []).append((panel, rows))
        except NoTokenMap as error:
            reasons[panel.variant] = no_map(panel) or reason_of(error)
    slots = {}
    for name, members in groups.items():
        views.send_maps(name, torch.stack([one for _, one in members]).float().numpy(), kind="relevance",
                        titles=[p.title for p, _ in members], keys=tokens_of(members[0][0]))  # fmt: skip
        slots |= {p.variant: Slot(name, i, picture_slot(p)) for i, (p, _) in enumerate(members)}
    return slots, reasons


# Native maps ---------------------------------------------------------------------------------------------------------
@dataclass(frozen=True, eq=False)
class Native:
    """One native map of one head, ready to be drawn: a matrix, or one number per patch."""

    title: str
    kind: str
    values: Float[np.ndarray, "map *row column"]  # one map for each step of what stands before rows, such as phases
    steps: list[str]
    axes: tuple[str, ...]
    rows: Tokens | None  # None: one number per patch
    columns: Tokens
    stochastic: bool

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
    """One named map with its last two axes as rows and columns; a row for all queries becomes one number per patch."""
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
    return Native(title, one.kind, values.numpy(), steps, tuple(axes), rows, columns, one.stochastic)


def axis_tokens(panel: Panel, name: str, size: int, tokens: Tokens) -> Tokens:
    """The tokens of an axis; numbered names where it counts slots, landmarks, channels or patches of a phase."""
    if name in ("query", "key", "row") and size == len(tokens):
        return tokens
    labels = tuple(f"{name} {i + 1}" for i in range(size))
    return Tokens(labels, stream=f"{panel.variant}:{name}")


def send_native(slot: str, one: Native) -> None:
    """Give the browser a native map."""
    axes = None
    if one.rows is not None:
        rows = "query: who looks" if one.axes[0] == "query" else one.axes[0]
        axes = (rows, "key: who is looked at" if one.axes[1] == "key" else one.axes[1])
    views.send_maps(slot, one.values, titles=one.steps, keys=one.columns, queries=one.rows, signed=one.signed,
                    kind=one.kind, unit="percent" if one.stochastic else "number", axes=axes)  # fmt: skip


# Differences ---------------------------------------------------------------------------------------------------------
def comparable(found: Sequence[Panel]) -> list[Panel]:
    """The panels that have token maps of the grid that the first of them has."""
    mapped = [panel for panel in found if not no_map(panel)]
    return [panel for panel in mapped if grid_name(panel) == grid_name(mapped[0])]


def send_difference(first: tuple[Panel, int, int], second: tuple[Panel, int, int]) -> Float[np.ndarray, "query key"]:
    """Give the browser the first map minus the second, and return it."""
    maps = [effective(p).maps[layer, min(head, effective(p).maps.shape[1] - 1)] for p, layer, head in (first, second)]
    minus = difference(maps[0][None], maps[1][None]).numpy()
    shares = effective(first[0]).stochastic and effective(second[0]).stochastic
    views.send_maps("difference", minus, titles=[f"{first[0].title} minus {second[0].title}"],
                    keys=tokens_of(first[0]), signed=True, kind="difference",
                    unit="percent" if shares else "number")  # fmt: skip
    return minus[0]
