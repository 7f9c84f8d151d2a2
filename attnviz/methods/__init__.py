"""Ways of explaining an answer. To add one: a function in its own file and one line in METHODS."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from attnviz.methods import raw, rollout
from attnviz.methods.base import Method, NoRollout, check_target, traced
from attnviz.types import Model, Sample, Target, Trace

METHODS: dict[str, Method] = {
    "rollout": Method("Attention rollout", rollout.explain),
    "raw attention": Method("Raw attention", raw.explain),
}


def explain(
    name: str, model: Model, sample: Sample, target: Target | None = None, *, trace: Trace | None = None, **options: Any
) -> Tensor:
    """One number per token [*batch token], by the method called `name` in METHODS.

    `target` None explains what the model predicts. `trace`: an earlier forward pass of this sample, to save one. Raises
    ValueError for an unknown name, a trace of another sample, a target that the network does not have or a readout of
    removed tokens alone, NoTokenMap where the method is not defined for this network.
    """
    if name not in METHODS:
        raise ValueError(f"no method is called {name!r}; known: {', '.join(METHODS)}")
    trace = traced(model, sample, trace)
    check_target(trace, target)
    return METHODS[name].explain(model, sample, target, trace=trace, **options)


__all__ = ["METHODS", "Method", "NoRollout", "explain"]
