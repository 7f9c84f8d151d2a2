"""Attribution methods. To add one: a function in its own file and one line in METHODS, with the options it has."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from attnviz.methods import alti, flow, norms, raw, rollout, value_zeroing
from attnviz.methods.base import Method, NoRollout, Option, check_target, differentiable, traced
from attnviz.types import Model, Sample, Target, Trace

METHODS: dict[str, Method] = {
    "rollout": Method("Attention rollout", rollout.explain, rollout.OPTIONS, takes_start=True),
    "raw attention": Method("Raw attention", raw.explain, raw.OPTIONS, takes_start=True),
    "attention flow": Method("Attention flow", flow.explain, flow.OPTIONS, takes_start=True, slow=True),
    "norm-based": Method("Norm-based attention", norms.explain, norms.OPTIONS, takes_start=True),
    "alti": Method("ALTI", alti.explain, takes_start=True, slow=True),
    "value zeroing": Method("Value zeroing", value_zeroing.explain, takes_start=True, slow=True),
}


def explain(
    name: str, model: Model, sample: Sample, target: Target | None = None, *, trace: Trace | None = None, **options: Any
) -> Tensor:
    """One number per token [*batch token], by the method called `name` in METHODS.

    `target` None explains what the model predicts. `trace`: an earlier forward pass of this sample, to save one. Raises
    ValueError for an unknown name, a trace of another sample, a target that the network does not have or an answer read
    from removed tokens alone, NoTokenMap where the method is not defined for this network, UnsupportedMask where it
    needs gradients and the network has none.
    """
    if name not in METHODS:
        raise ValueError(f"no method is called {name!r}; known: {', '.join(METHODS)}")
    trace = traced(model, sample, trace)
    check_target(trace, target)
    method = METHODS[name]
    if method.needs_gradients and not any(one.requires_grad for one in trace.logits.values()):
        trace = differentiable(model, sample)
    with torch.set_grad_enabled(method.needs_gradients):
        return method.explain(model, sample, target, trace=trace, **options).detach()


__all__ = ["METHODS", "Method", "NoRollout", "Option", "explain"]
