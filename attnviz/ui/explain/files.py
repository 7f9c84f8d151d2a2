"""What the page Explain gives to take away: every number on it, with the labels that give it a meaning."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from attnviz.ui.core.labels import token_name
from attnviz.ui.explain.choice import Choice
from attnviz.ui.explain.compared import Tile
from attnviz.ui.explain.steps import Result
from attnviz.ui.inputs.model_run import ModelRun


def arrays(
    visit: ModelRun, choice: Choice, result: Result, name: str, tiles: Sequence[Tile] = ()
) -> dict[str, np.ndarray]:
    """Every number on the page with its labels, for an NPZ; `name` is where relevance starts."""
    tokens = visit.sample.tokens["main"]
    found = {} if result.why else {named(choice.method): result.steps[choice.at], "by_layer": result.steps}
    if result.raw is not None:
        found["raw_attention_last_layer"] = result.raw
    found |= {named(one.name): one.row for one in tiles if one.row is not None}
    return found | labelled(visit, {**choice.labels(tokens), "start": name})


def labelled(visit: ModelRun, labels: Mapping[str, str]) -> dict[str, np.ndarray]:
    """What every NPZ of the page says beside its numbers: model, input, these labels, and the tokens."""
    words = {"model": visit.name, "input": visit.source, **labels}
    labels_of_tokens = np.array(visit.sample.tokens["main"].labels)
    return {"labels": np.array([f"{k}: {v}" for k, v in words.items()]), "tokens": labels_of_tokens}


def file_name(choice: Choice, source: str) -> str:
    """What the files are called, without their ending: by page, method and input."""
    return f"explain-{choice.method.replace(' ', '-')}-{source}"


def named(method: str) -> str:
    """The name of a method as one of an array."""
    return method.replace(" ", "_")


def rows(
    visit: ModelRun, choice: Choice, result: Result, name: str, tiles: Sequence[Tile] = ()
) -> tuple[list[str], list[list]]:
    """Relevance of every token with its labels, for a CSV; `name` is where relevance starts."""
    tokens = visit.sample.tokens["main"]
    labels = {"model": visit.name, **choice.labels(tokens), "start": name}
    found = {} if result.why else {choice.method: result.steps[choice.at]}
    if result.raw is not None:
        found["raw attention of the last layer"] = result.raw
    found |= {one.name: one.row for one in tiles if one.row is not None}
    columns = ["token", *found, *labels]
    numbers = np.stack(list(found.values()), -1) if found else np.zeros((len(tokens), 0))
    return columns, [[token_name(tokens, i), *row, *labels.values()] for i, row in enumerate(numbers)]
