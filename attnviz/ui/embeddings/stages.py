"""A token's vectors from its embedding to the last layer, for pictures and for texts."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from attnviz import views
from attnviz.measures import embeddings as measures
from attnviz.ui.core.budget import MAP_CELLS
from attnviz.ui.core.labels import layer_name
from attnviz.ui.core.recorded import known
from attnviz.ui.core.state import slide
from attnviz.ui.inputs.model_run import ModelRun

PATCH, TOKEN = "Patch embedding", "Token embedding"
POSITION, INPUT = "Position embedding", "Input to layer 1"
ADDED, SUM = f"+ {POSITION}", f"= {INPUT}"  # what their panels are called, below that of the embedding
STEP_COLOURS = {POSITION: "position", ADDED: "position"}  # roles of the theme


def adds_positions(run: ModelRun) -> bool:
    """Whether the model adds a vector of the position to its tokens."""
    table = run.trace.position_embeddings.get("main")
    return table is not None and bool(table.any())


def steps_of(run: ModelRun, token: int, name: str) -> dict[str, Float[np.ndarray, " feature"]]:
    """A token's embedding, by this name, the vector of its position and their sum, as far as the model has them."""
    embeddings, first = run.trace.token_embeddings.get("main"), run.trace.residuals["main"][0]
    if not adds_positions(run):
        return {INPUT: known(first)[token]} if embeddings is None else {name: known(embeddings)[token]}
    steps = {} if embeddings is None else {name: known(embeddings)[token]}
    return {**steps, POSITION: known(run.trace.position_embeddings["main"])[token], INPUT: known(first)[token]}


def as_sum(steps: dict[str, Float[np.ndarray, " feature"]]) -> dict[str, Float[np.ndarray, " feature"]]:
    """The steps by the titles of their panels: embedding, + position embedding, = input to layer 1.

    Steps that are no whole sum keep their names.
    """
    titles = {POSITION: ADDED, INPUT: SUM} if len(steps) == 3 else {}
    return {titles.get(name, name): values for name, values in steps.items()}


def stages(run: ModelRun) -> dict[str, str]:
    """The stages at which a token's vector can be looked at: {identifier: name on screen}."""
    found = {}
    if run.trace.token_embeddings.get("main") is not None:
        found["embedding"] = PATCH if run.sample.tokens["main"].grid else TOKEN
    found["input"] = "With position embedding" if adds_positions(run) else INPUT
    layers = range(len(run.trace.residuals["main"]) - 1)
    return {**found, **{f"layer-{i + 1}": f"After {layer_name(i).lower()}" for i in layers}}


def stage_choice(run: ModelRun) -> str:
    """A slider over the stages, the first one to begin with."""
    named = stages(run)
    return slide("Vectors", named, default=next(iter(named)), key="stage")


def vectors_at(run: ModelRun, stage: str) -> Float[np.ndarray, "token feature"]:
    """Every token's vector at a stage."""
    embeddings, residuals = run.trace.token_embeddings.get("main"), run.trace.residuals["main"]
    if stage == "embedding":
        return known(embeddings)
    return known(residuals[0 if stage == "input" else int(stage.removeprefix("layer-"))])


def cosines(run: ModelRun, stage: str, token: int | None = None) -> Float[np.ndarray, "row token"]:
    """Cosine of every two tokens' vectors at a stage; of one `token` with all [1 token] where there are many."""
    vectors = vectors_at(run, stage)
    if token is None or len(vectors) ** 2 <= MAP_CELLS:
        return measures.cosine(vectors)
    return measures.cosine_with(vectors, token)[None]


def send_cosines(run: ModelRun, stage: str, token: int | None = None) -> None:
    """Give the browser the cosines of a stage, as the record "cosines"."""
    found = cosines(run, stage, token)
    views.send_maps(
        "cosines",
        found[None] if len(found) > 1 else found,
        titles=[f"{stages(run)[stage]}, cosine"],
        keys=run.sample.tokens["main"],
        signed=True,
        map_type="cosine",
        unit="number",
    )


def signed(number: float) -> str:
    """A number with its sign, as on screen."""
    return f"{number:+.3f}".replace("-", "−")


def first_numbers(steps: dict[str, np.ndarray], count: int = 8) -> dict[str, list[str]]:
    """The first numbers of every step, by column, for a table on screen."""
    cells = {str(k + 1): [signed(float(v[k])) if k < len(v) else "" for v in steps.values()] for k in range(count)}
    return {"First numbers": list(steps), **cells}


def all_numbers(steps: dict[str, np.ndarray]) -> tuple[list[str], list[list[str | float]]]:
    """All numbers of every step, for a file."""
    longest = max(map(len, steps.values()))
    rows = [[k + 1, *(float(v[k]) if k < len(v) else "" for v in steps.values())] for k in range(longest)]
    return ["number", *(name.lower() for name in steps)], rows
