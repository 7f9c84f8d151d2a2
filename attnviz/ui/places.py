"""What the Positions page shows, worked out for one visit: position tables, and life without them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from attnviz.attention import POSITIONS
from attnviz.measures import embeddings as measures
from attnviz.types import Tokens, Trace
from attnviz.ui.output import class_name
from attnviz.ui.patches import known
from attnviz.ui.visit import Visit

SIMILARITIES = tuple(measures.SIMILARITIES)
CHANGES = {"Own": "own", "Removed": "none", "Shuffled": "shuffled"}  # on screen -> what the model is asked for


def table_of(visit: Visit) -> np.ndarray:
    """The model's own position table [token feature]."""
    return known(visit.trace.position["main"])


def similarity(table: np.ndarray, how: str) -> np.ndarray:
    """How alike every two rows of a table are [token token], by a name in SIMILARITIES."""
    return measures.SIMILARITIES[how](table)


@dataclass(frozen=True, eq=False)
class Table:
    """A position table made to order."""

    rows: np.ndarray  # [token feature]
    names: list[str]  # of the tokens
    wavelengths: np.ndarray | None  # [wave]; None where there are no waves
    closest: float | None  # smallest distance of two rows

    def by_offset(self, most: int) -> np.ndarray:
        """Mean dot product of two rows that are 0, 1, 2 ... `most` apart."""
        return measures.by_offset(self.rows, most)


def table_for(visit: Visit, scheme: str, *, side: int, count: int, dim: int, base: float) -> Table:
    """The table of a scheme: for side x side patches where it needs a grid, else for `count` tokens in a row.

    The learned scheme has no formula: it is the model's own table, stretched to the grid.
    """
    entry = POSITIONS[scheme]
    if entry.learned:
        prefix = len(visit.model.config.prefix)
        rows = known(visit.model.network.position(side, side))[prefix:]
    elif entry.grid:
        rows = entry.table(Tokens.patches(side, side), dim, base).numpy()
    else:
        rows = entry.table(Tokens(tuple(map(str, range(count)))), dim, base).numpy()
    grid = entry.learned or entry.grid
    names = [f"{i // side + 1}, {i % side + 1}" if grid else str(i) for i in range(len(rows))]
    waves = {"sine": dim // 2, "sine2d": dim // 4}.get(scheme)
    return Table(
        np.ascontiguousarray(rows, dtype=np.float64),
        names,
        None if waves is None else measures.wavelengths(waves, base),
        measures.smallest_distance(rows) if len(rows) > 1 else None,
    )


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
        was = f"With its own positions the model says {self.classes[first]} ({self.before[first]:.1%})"
        if first == then:
            return f"{was}, and it still does ({self.after[then]:.1%})."
        return f"{was}; now it says {self.classes[then]} ({self.after[then]:.1%})."


def change_of(visit: Visit, changed: Trace, count: int = 3) -> Change:
    """The likeliest classes of both answers with both probabilities."""
    before, after = (t.logits["class"][0].float().softmax(-1) for t in (visit.trace, changed))
    best = dict.fromkeys([*before.topk(count).indices.tolist(), *after.topk(count).indices.tolist()])
    classes = [class_name(visit, i) for i in best]
    index = torch.tensor(list(best))
    return Change(classes, before[index].numpy(), after[index].numpy())


def weights_of(trace: Trace, layer: int) -> np.ndarray:
    """The weights of all heads of a layer [head query key]."""
    call = next(call for call in trace.calls if call.layer == layer)
    return known(call.weights())


def moved(before: np.ndarray, after: np.ndarray) -> float:
    """The share of weight that lies on other keys after the change, averaged over queries."""
    return measures.moved(before, after)
