"""Asks every shipped model for what it cannot do, and prints what it says, as JSON: `models/test_asked.py` runs it.

In a process of its own, because under test wrong types are refused before our own words come.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import torch
from PIL import Image

import attnviz
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

    def run(**options: Any) -> Callable[[], object]:
        return lambda: model(sample, **options)

    def ask(**options: Any) -> Callable[[], object]:
        return lambda: attnviz.explain("rollout", model, sample, **options)

    return {
        "ablated_heads layer": run(ablated_heads=[(99, 0)]),
        "ablated_heads before": run(ablated_heads=[(-1, 0)]),
        "ablated_heads head": run(ablated_heads=[(0, 99)]),
        "ablated_heads pairs": run(ablated_heads=[3]),
        "ablated_heads number": run(ablated_heads=3),
        "keep short": run(keep_tokens=torch.ones(count + 1, dtype=torch.bool)),
        "keep numbers": run(keep_tokens=torch.ones(count)),
        "keep list": run(keep_tokens=[True] * count),
        "embeddings shape": run(embeddings=torch.zeros(count + 1, 7)),
        "embeddings whole": run(embeddings=torch.zeros(count, 7, dtype=torch.long)),
        "positions": run(positions="sideways"),
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
