"""Attribution methods. To add one: a function in its own file and one line in METHODS, with the options it has."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor

from attnviz.methods import (
    alti,
    controls,
    flow,
    generic_attention,
    grad_cam,
    gradient_rollout,
    input_gradients,
    legrad,
    norms,
    perturbation,
    raw,
    rollout,
    value_zeroing,
)
from attnviz.methods.base import Method, NoRollout, Option, differentiable, traced
from attnviz.targets import check_target
from attnviz.types import Model, Sample, Target, Trace

by_gradient = partial(Method, needs_class=True, needs_gradients=True)
by_change = partial(Method, needs_class=True, signed=True, slow=True)
METHODS: dict[str, Method] = {
    "rollout": Method("Attention rollout", rollout.explain, rollout.OPTIONS, takes_start=True),
    "raw attention": Method("Raw attention", raw.explain, raw.OPTIONS, takes_start=True),
    "attention flow": Method("Attention flow", flow.explain, flow.OPTIONS, takes_start=True, slow=True),
    "norm-based": Method("Norm-based attention", norms.explain, norms.OPTIONS, takes_start=True),
    "alti": Method("ALTI", alti.explain, takes_start=True, slow=True),
    "value zeroing": Method("Value zeroing", value_zeroing.explain, takes_start=True, slow=True),
    "gradient rollout": by_gradient("Gradient rollout", gradient_rollout.explain, gradient_rollout.OPTIONS),
    "generic attention": by_gradient("Generic attention", generic_attention.explain, generic_attention.OPTIONS),
    "grad-cam tokens": by_gradient("Grad-CAM on tokens", grad_cam.explain_tokens, grad_cam.TOKEN_OPTIONS),
    "grad-cam attention": by_gradient("Grad-CAM on attention", grad_cam.explain_attention, grad_cam.ATTENTION_OPTIONS),
    "legrad": by_gradient("LeGrad", legrad.explain, legrad.OPTIONS),
    "input x gradient": by_gradient(
        "Input times gradient", input_gradients.explain_times_input, input_gradients.TIMES_INPUT, signed=True
    ),
    "integrated gradients": by_gradient(
        "Integrated gradients", input_gradients.explain_integrated, input_gradients.INTEGRATED, signed=True, slow=True
    ),
    "smoothgrad": by_gradient(
        "SmoothGrad", input_gradients.explain_smoothgrad, input_gradients.SMOOTHGRAD, signed=True, slow=True
    ),
    "deletion": by_change("Deletion", perturbation.explain_deletion),
    "occlusion": by_change("Occlusion", perturbation.explain_occlusion, perturbation.OCCLUSION),
    "activation patching": by_change("Activation patching", perturbation.explain_patching, perturbation.PATCHING),
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
    if method.needs_gradients:
        trace = differentiable(model, sample, trace)
    with torch.set_grad_enabled(method.needs_gradients):
        return method.explain(model, sample, target, trace=trace, **options).detach()


__all__ = ["CONTROLS", "METHODS", "Method", "NoRollout", "Option", "explain"]
