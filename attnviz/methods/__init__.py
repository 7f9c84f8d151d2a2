"""Attribution methods. To add one: a function in its own file and one line in METHODS, with the options it has."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from attnviz.methods import controls, raw, rollout
from attnviz.methods.base import Method, NoRollout, Option, check_target, differentiable, traced
from attnviz.types import Model, Sample, Target, Trace

METHODS: dict[str, Method] = {
    "rollout": Method("Attention rollout", rollout.explain, rollout.OPTIONS, takes_start=True),
    "raw attention": Method("Raw attention", raw.explain, raw.OPTIONS, takes_start=True),
}
CONTROLS: dict[str, Method] = {  # know nothing of the network: shown beside scores, offered as no explanation
    "random": Method("Random", controls.random, control=True),
    "centre": Method("Middle of the input", controls.centre, control=True),
    "edges": Method("Edges of the picture", controls.edges, control=True),
}


def explain(
    name: str, model: Model, sample: Sample, target: Target | None = None, *, trace: Trace | None = None, **options: Any
) -> Tensor:
    """One number per token [*batch token], by the method called `name` in METHODS or CONTROLS.

    `target` None explains what the model predicts. `trace`: an earlier forward pass of this sample, to save one. Raises
    ValueError for an unknown name, a trace of another sample, a target that the network does not have or an answer read
    from removed tokens alone, NoTokenMap where the method is not defined for this network, UnsupportedMask where it
    needs gradients and the network has none.
    """
    known = METHODS | CONTROLS
    if name not in known:
        raise ValueError(f"no method is called {name!r}; known: {', '.join(known)}")
    trace = traced(model, sample, trace)
    check_target(trace, target)
    method = known[name]
    if method.needs_gradients and not any(one.requires_grad for one in trace.logits.values()):
        trace = differentiable(model, sample)
    with torch.set_grad_enabled(method.needs_gradients):
        return method.explain(model, sample, target, trace=trace, **options).detach()


__all__ = ["CONTROLS", "METHODS", "Method", "NoRollout", "Option", "explain"]
