"""What the Positions page shows, worked out for one visit: position tables, and life without them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from attnviz import plots, views
from attnviz.attention import POSITIONS
from attnviz.measures import embeddings as measures
from attnviz.types import AttentionCall, Tokens, Trace
from attnviz.ui.core.labels import head_name, plain, token_name, token_names
from attnviz.ui.core.recorded import grid_of, known
from attnviz.ui.inputs.image_run import ImageRun
from attnviz.ui.widgets.answers import class_name
from attnviz.ui.widgets.display import kind_words, masked_of, unit_of
from attnviz.ui.widgets.output import dark

SIMILARITIES = tuple(measures.SIMILARITIES)
TABLELESS = ("Told by distance", "Told nothing")  # sections of the page about models without a table
CHANGES = {"Removed": "none", "Shuffled": "shuffled"}  # on screen -> what the model is asked for


def origin(visit: ImageRun) -> str:
    """Where what the model knows of places comes from, by the section of the page that says it."""
    name = visit.model.spec.positions
    scheme = POSITIONS[name]
    if scheme.relative or name == "none":
        return TABLELESS[0 if scheme.relative else 1]
    return "What the model has learned" if scheme.learned else "A fixed table"


def table_of(visit: ImageRun) -> np.ndarray:
    """The model's own position table [token feature]."""
    return known(visit.trace.position_embeddings["main"])


def table_file(tokens: Tokens, table: np.ndarray) -> tuple[list[str], list[list[str | float]]]:
    """The table for a file: one row per token."""
    header = ["token", *(f"feature {k + 1}" for k in range(table.shape[1]))]
    return header, [[token_name(tokens, i), *map(float, row)] for i, row in enumerate(table)]


def cell_of(tokens: Tokens, token: int) -> tuple[int, int] | None:
    """Row and column of a patch; None for prefix tokens."""
    return divmod(token - tokens.prefix, grid_of(tokens)[1]) if token >= tokens.prefix else None


def patch_at(tokens: Tokens, row: int, column: int) -> int:
    """The token of a patch."""
    return tokens.prefix + row * grid_of(tokens)[1] + column


def row_ticks(tokens: Tokens, most: int = 8) -> dict[int, str]:
    """Where the rows of the grid start in a list of tokens, at most so many of them."""
    step = -(-grid_of(tokens)[0] // most)
    return {patch_at(tokens, row, 0): f"row {row + 1}" for row in range(0, grid_of(tokens)[0], step)}


def table_figure(tokens: Tokens, table: np.ndarray) -> Any:
    """The table as a heat map, ticked where the rows of the grid start."""
    names = token_names(tokens)
    return plots.heatmap(
        table, rows=names, row_ticks=row_ticks(tokens), x_title="Feature", signed=True, dark=dark(), height=600
    )


def send_alike(tokens: Tokens, alike: np.ndarray, how: str) -> list[str]:
    """Send one map per patch to the views, one slot per row of the grid, and return the slots."""
    rows, columns = grid_of(tokens)
    slots = [f"alike {how} {row}" for row in range(rows)]
    for row, slot in enumerate(slots):
        own = [patch_at(tokens, row, column) for column in range(columns)]
        views.send_maps(
            slot,
            alike[own],
            titles=[token_name(tokens, i) for i in own],
            keys=tokens,
            signed=True,
            map_type=how,
            unit="number",
        )
    return slots


def similarity(table: np.ndarray, how: str) -> np.ndarray:
    """How alike every two rows of a table are [token token], by a name in SIMILARITIES."""
    return measures.SIMILARITIES[how](table)


def percent(share: float) -> str:
    """A share as on screen: "12.4 %"."""
    return f"{100 * share:.1f} %"


@dataclass(frozen=True, eq=False)
class Change:
    """One answer before and after the positions were changed."""

    classes: list[str]
    before: np.ndarray  # probabilities [class]
    after: np.ndarray

    @property
    def sentence(self) -> str:
        """What happened to the answer, in words."""
        first, then = int(self.before.argmax()), int(self.after.argmax())
        was = f"With its own positions the model says {self.classes[first]} ({percent(float(self.before[first]))})"
        if first == then:
            return f"{was}, and it still does ({percent(float(self.after[then]))})."
        return f"{was}; now it says {self.classes[then]} ({percent(float(self.after[then]))})."

    def figure(self, name: str) -> Any:
        """Both answers as bars, class by class."""
        series = {"Own positions": self.before, f"{name} positions": self.after}
        colours = {"Own positions": "position", f"{name} positions": "muted"}
        return plots.bars(
            series,
            labels=self.classes,
            colours=colours,
            form=".1%",
            limits=(0, 1),
            shown=True,
            horizontal=True,
            dark=dark(),
            height=70 + 44 * len(self.classes),
        )


def change_of(visit: ImageRun, changed: Trace, count: int = 3) -> Change:
    """The likeliest classes of both answers with both probabilities."""
    before, after = (t.logits["class"][0].float().softmax(-1) for t in (visit.trace, changed))
    best = dict.fromkeys([*before.topk(count).indices.tolist(), *after.topk(count).indices.tolist()])
    classes = [class_name(visit.model, i) for i in best]
    index = torch.tensor(list(best))
    return Change(classes, before[index].numpy(), after[index].numpy())


def send_weights(calls: Mapping[str, AttentionCall]) -> dict[str, list[str]]:
    """Give the browser the maps of one layer with each kind of positions; their titles. Raises NoTokenMap.

    Where one has entries below zero, all are drawn on the scale around zero.
    """
    maps = {name: known(call.token_map()) for name, call in calls.items()}
    signed, titles = any(bool((one < 0).any()) for one in maps.values()), dict[str, list[str]]()
    for name, call in calls.items():
        titles[name] = [f"{name} positions, {head_name(head).lower()}" for head in range(call.heads)]
        views.send_maps(
            f"weights {name}",
            maps[name],
            titles=titles[name],
            keys=call.keys,
            signed=signed,
            map_type=call.rule.map_type,
            unit=unit_of(call),
            masked=masked_of(call),
        )
    return titles


def row_file(calls: Mapping[str, AttentionCall], head: int, token: int) -> tuple[list[str], list[list]]:
    """What the chosen patch gives to every key, with the model's own positions and with changed ones, for a CSV."""
    keys = next(iter(calls.values())).keys
    rows = [call.token_map([head], [token])[0, 0].tolist() for call in calls.values()]
    return ["key", *calls], [[name, *values] for name, *values in zip(token_names(keys), *rows, strict=True)]


def moved_sentence(before: AttentionCall, after: AttentionCall, head: int, token: int) -> str:
    """How much of the weight of a token lies elsewhere after the change, and what kind of maps these are, in words.

    Raises NoTokenMap.
    """
    kind = kind_words(before)
    if not (before.rule.stochastic and after.rule.stochastic):
        return f"Rows of these maps are no shares of one, so it cannot be said how much of the weight has moved. {kind}"
    one, other = (known(call.token_map([head])[0]) for call in (before, after))
    own, every = measures.moved(one[token], other[token]), measures.moved(one, other)
    rest = f"now lies on other keys; {percent(every)} over all queries"
    return f"**{percent(own)}** of the weight of {plain(token_name(before.queries, token))} {rest}. {kind}"
