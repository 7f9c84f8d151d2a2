"""A model with its positions ablated or permuted, beside itself: its answer and its maps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from attnviz import plots
from attnviz.measures import embeddings as measures
from attnviz.measures.blocks import spread
from attnviz.types import BLOCK, AttentionCall, Trace
from attnviz.ui.core.labels import plain, token_name, token_names
from attnviz.ui.core.recorded import known
from attnviz.ui.inputs.model_run import ModelRun
from attnviz.ui.widgets.answers import percent
from attnviz.ui.widgets.display import kind_words
from attnviz.ui.widgets.output import dark
from attnviz.ui.widgets.whole_answer import answer_of, label_of

CHANGES = {"none": "Ablated", "shuffled": "Permuted"}  # what a model is asked for -> on screen
NAMES = {"own": "Own", **CHANGES}
MEASURED = 2_048  # queries at most that are asked how much of their weight has moved
CANNOT = "The positions of this model cannot be ablated: it accepts no others than its own."
NO_ANSWER = "This model has no output that answers for the whole input, so only its attention maps are compared."
NOT_STOCHASTIC = "Rows of these maps do not sum to 1, so it is not defined how much of the weight has moved."


def can_ablate(run: ModelRun) -> bool:
    """Whether the model accepts other positions than its own."""
    return "positions" in run.model.spec.honours


@dataclass(frozen=True, eq=False)
class Change:
    """One answer before and after the positions were changed."""

    labels: list[str]
    before: np.ndarray  # probabilities [label]
    after: np.ndarray

    @property
    def sentence(self) -> str:
        """What happened to the answer, in words."""
        first, then = int(self.before.argmax()), int(self.after.argmax())
        was = f"With its own positions the model predicts {plain(self.labels[first])} ({percent(self.before[first])})"
        if first == then:
            return f"{was}, and it still does after the change ({percent(self.after[then])})."
        return f"{was}; after the change it predicts {plain(self.labels[then])} ({percent(self.after[then])})."

    def figure(self, change: str) -> Any:
        """Both answers as bars, label by label."""
        own, changed = (f"{NAMES[name]} positions" for name in ("own", change))
        return plots.bars(
            {own: self.before, changed: self.after},
            labels=self.labels,
            colours={own: "position", changed: "muted"},
            form=".1%",
            limits=(0, 1),
            shown=True,
            horizontal=True,
            dark=dark(),
            height=70 + 44 * len(self.labels),
        )


def change_of(run: ModelRun, changed: Trace, count: int = 3) -> Change | None:
    """The likeliest labels of both answers with both probabilities; None where nothing answers for the whole input."""
    found = answer_of(run)
    if found is None:
        return None
    output, row = found
    before, after = (trace.logits[output][row].float().softmax(-1) for trace in (run.trace, changed))
    best = list(range(len(before)))
    if len(best) > count:
        best = list(dict.fromkeys([*before.topk(count).indices.tolist(), *after.topk(count).indices.tolist()]))
    index = torch.tensor(best)
    return Change([label_of(run, output, i) for i in best], before[index].numpy(), after[index].numpy())


def row_file(calls: Mapping[str, AttentionCall], head: int, token: int) -> tuple[list[str], list[list]]:
    """The weights of one query, with the model's own positions and with changed ones, for a CSV."""
    keys = next(iter(calls.values())).keys
    rows = [call.token_map([head], [token])[0, 0].tolist() for call in calls.values()]
    header = ["key", *(f"{NAMES[name].lower()} positions" for name in calls)]
    return header, [[name, *values] for name, *values in zip(token_names(keys), *rows, strict=True)]


def moved_sentence(before: AttentionCall, after: AttentionCall, head: int, token: int) -> str:
    """How much of the weight of a query has moved after the change, and what kind of maps these are, in words.

    Raises NoTokenMap.
    """
    kind = kind_words(before)
    if not (before.rule.stochastic and after.rule.stochastic):
        return f"{NOT_STOCHASTIC} {kind}"

    def moved(rows: list[int]) -> float:
        return measures.moved(*(known(call.token_map([head], rows)[0]) for call in (before, after)))

    queries = spread(0, len(before.queries), MEASURED)
    blocks = [queries[i : i + BLOCK] for i in range(0, len(queries), BLOCK)]
    own, every = moved([token]), sum(moved(rows) * len(rows) for rows in blocks) / len(queries)
    name, count = plain(token_name(before.queries, token)), len(before.queries)
    over = "all queries" if len(queries) == count else f"{len(queries)} of {count:,} queries, spread evenly"
    return f"**{percent(own)}** of the weight of {name} moves to other keys; {percent(every)} over {over}. {kind}"
