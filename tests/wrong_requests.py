"""Asks every shipped model for what it cannot do, and prints what it says, as JSON: `models/test_asked.py` runs it.

In a process of its own, because under test wrong types are refused before our own words come.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import torch
from PIL import Image
from torch import Tensor

import attnviz
from attnviz.edits import BlockedEdges, Edit, PatchedResiduals
from attnviz.types import Target

torch.set_num_threads(1)
TEXTS = ("The cat sleeps.", "He saw a good dog in the house.")


def said(request: Callable[[], object]) -> tuple[str, str]:
    """The name of the error and its message."""
    try:
        request()
    except Exception as error:
        return type(error).__name__, str(error)
    return "", "nothing was refused"


def flags(*shape: int) -> Tensor:
    """True everywhere."""
    return torch.ones(*shape, dtype=torch.bool)


def samples(model: Any) -> list[Any]:
    """Two samples of a model."""
    if model.spec.modality == "image":
        return [model.prepare(Image.linear_gradient("L").rotate(turn)) for turn in (0, 90)]
    return [model.prepare(text) for text in TEXTS]


def requests(model: Any, stranger: Any) -> dict[str, Callable[[], object]]:
    """What this model cannot do, by what is wrong with it; `stranger` is a sample of another kind of model."""
    sample, other = samples(model)
    trace = model(other)
    count = len(next(iter(sample.tokens.values())))

    layers, heads = model.spec.layers, model.spec.heads
    residuals = torch.zeros(layers + 1, count, model.spec.width)

    def run(edit: Edit) -> Callable[[], object]:
        return lambda: model(sample, edit=edit)

    def ask(**options: Any) -> Callable[[], object]:
        return lambda: attnviz.explain("rollout", model, sample, **options)

    return {
        "ablated_heads layers": run(Edit(ablated_heads=torch.ones(99, heads, dtype=torch.bool))),
        "ablated_heads heads": run(Edit(ablated_heads=torch.ones(layers, 99, dtype=torch.bool))),
        "ablated_heads numbers": run(Edit(ablated_heads=torch.ones(layers, heads))),
        "ablated_heads pairs": run(Edit(ablated_heads=[(0, 0)])),  # type: ignore[arg-type]
        "keep short": run(Edit(keep_tokens=torch.ones(count + 1, dtype=torch.bool))),
        "keep numbers": run(Edit(keep_tokens=torch.ones(count))),
        "keep list": run(Edit(keep_tokens=[True] * count)),  # type: ignore[arg-type]
        "embeddings shape": run(Edit(embeddings=torch.zeros(count + 1, 7))),
        "embeddings whole": run(Edit(embeddings=torch.zeros(count, 7, dtype=torch.long))),
        "positions": run(Edit(positions="sideways")),  # type: ignore[arg-type]
        "blocked_edges short": run(Edit(blocked_edges=BlockedEdges(flags(count), flags(count + 1)))),
        "blocked_edges numbers": run(Edit(blocked_edges=BlockedEdges(flags(count), torch.ones(count)))),
        "blocked_edges layers": run(Edit(blocked_edges=BlockedEdges(flags(count), flags(count), flags(99)))),
        "residuals shape": run(Edit(residuals=PatchedResiduals(torch.zeros(2, count, 7), flags(layers + 1, count)))),
        "residuals where": run(Edit(residuals=PatchedResiduals(residuals, flags(layers, count)))),
        "edit": run(3),  # type: ignore[arg-type]
        "edit batches": run(
            Edit(keep_tokens=flags(2, count), blocked_edges=BlockedEdges(flags(3, count), flags(count)))
        ),
        "sample raw": lambda: model("The cat sleeps."),
        "sample stranger": lambda: model(stranger),
        "explain raw": lambda: attnviz.explain("rollout", model, "The cat sleeps."),  # type: ignore[arg-type]
        "explain trace": ask(trace=trace),
        "explain raw trace": lambda: attnviz.explain("raw attention", model, sample, trace=trace),
        "target number": ask(target=3),
        "target output": ask(target=Target("colour")),
        "target row": ask(target=Target(row=10**6)),
        "target row before": ask(target=Target(row=-1)),
        "target label": ask(target=Target(label=10**9)),
        "target word": ask(target=Target(label="dog")),  # type: ignore[arg-type]
    }


def main() -> None:
    """One line for each model."""
    strangers = {name: samples(attnviz.load(name))[0] for name in ("vit", "stories", "translator")}
    for name in attnviz.MODELS:
        model: Any = attnviz.load(name)
        stranger = {"image": "stories", "translation": "stories"}.get(model.spec.modality, "translator")
        answers = {what: said(request) for what, request in requests(model, strangers[stranger]).items()}
        if model.spec.modality == "words":
            answers["prepare"] = said(lambda model=model: model.prepare("xyzzyq"))
        print(json.dumps([name, answers]))


if __name__ == "__main__":
    main()
