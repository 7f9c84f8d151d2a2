"""What each variant computes for the input of the Compare page: with parameters of its own, or with shared ones.

Trained separately: every variant's own network of the bench. Shared weights: the layers of the network trained with
multi-head attention (the donor), run through another formula. A `Panel` holds a trace, or the reason why it has none.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, cast

import streamlit as st
import torch
from torch import Tensor

from attnviz.models import DamagedModel, ImageModel, TextModel
from attnviz.models.layers import LayerConfig
from attnviz.models.text import Reader
from attnviz.models.vit import ViT, ViTConfig
from attnviz.seeding import seeded
from attnviz.types import Model, Sample, Trace, UnsupportedMask
from attnviz.ui.compare.domain import Domain, Panel
from attnviz.ui.core.bench import Bench
from attnviz.ui.core.cache import core, forward, open_model, traces

SEPARATE, SHARED = "separate", "shared"  # whose parameters a panel has
PROJECTION = re.compile(r"^(blocks\.\d+\.attention\.)(?:\w+\.)?((?:query|key|value|out)\.(?:weight|bias))$")


def panels(domain: Domain, variants: Sequence[str], mode: str, bench: Bench) -> list[Panel]:
    """Every variant with what it computes for the input, or why it does not. Raises DamagedModel, Busy."""
    if mode == SEPARATE:
        return [separate_panel(domain, variant, bench.model(variant)) for variant in variants]
    donor = donor_name(domain, bench)
    return [shared_panel(domain, variant, donor) for variant in variants]


def separate_panel(domain: Domain, variant: str, name: str | None) -> Panel:
    """A variant in the network that was trained with it."""
    if name is None:
        return Panel(variant, reason=domain.untrained(variant))
    try:
        return Panel(variant, *run_network(domain, name))
    except DamagedModel as error:
        return Panel(variant, reason=str(error))


def shared_panel(domain: Domain, variant: str, donor: str) -> Panel:
    """A variant with the parameters of a network that was trained with multi-head attention."""
    model, sample, trace = run_network(domain, donor)
    if variant == model.spec.variant:
        return Panel(variant, model, sample, trace)
    options = domain.options(variant, sample.tokens["main"].prefix)
    try:
        network, new_parameters = transfer_weights(model.digest, variant, model, options)
        key = (model.digest, sample.digest, f"shared:{variant}")
        changed = traces().get(key, lambda: with_donor_activations(network, sample, trace))
    except UnsupportedMask as error:
        reason = f"The layers of this network cannot be run through this formula. The reason: {error.reason}."
        return Panel(variant, reason=reason)
    return Panel(variant, model, sample, changed, new_parameters=new_parameters)


def donor_name(domain: Domain, bench: Bench) -> str:
    """The network whose weights are shared: multi-head attention of the bench, else a shipped model."""
    name = bench.model("mha")
    if name is not None:
        try:
            open_model(name)
            return name
        except DamagedModel:
            pass  # its own panel says so, in the other mode
    return domain.donor


def donor_trace(domain: Domain, bench: Bench) -> Trace:
    """What the network whose weights are shared computes for the input, with its own attention."""
    return run_network(domain, donor_name(domain, bench))[2]


def is_ours(model: Model) -> bool:
    """Whether formulas can be exchanged inside a model: that needs its layers, which only our own networks open."""
    return isinstance(model, ImageModel | TextModel)


def run_network(domain: Domain, name: str) -> tuple[ImageModel | TextModel, Sample, Trace]:
    """A network of the bench or the donor, the input as it reads it, and its trace. Raises DamagedModel, Busy."""
    model = open_model(name)
    if not isinstance(model, ImageModel | TextModel):
        raise TypeError(f"{name} is {type(model).__name__}, whose layers cannot be built with another formula")
    sample = domain.prepare(model)
    key = (model.digest, sample.digest, f"own:{model.spec.variant}")  # a digest is of parameters, not of a formula
    return model, sample, traces().get(key, lambda: forward(name, sample))


# Shared weights ------------------------------------------------------------------------------------------------------
@st.cache_resource(max_entries=24, show_spinner=False)
def transfer_weights(
    digest: str, name: str, _model: ImageModel | TextModel, options: Mapping[str, Any] | None = None
) -> tuple[ViT | Reader, bool]:
    """The network with another formula in every layer and all parameters that fit, and whether some did not."""
    config, network_class = replace(_model.config, variant=name, options=options or {}), type(_model.network)
    with seeded(0):
        network: ViT | Reader = cast(Any, network_class)(config)
    donor = {key: tensor.detach().cpu() for key, tensor in _model.network.state_dict().items()}
    start = network.state_dict()
    fitted = {key: fit_parameter(key, tensor, donor, config) for key, tensor in start.items()}
    network.load_state_dict({key: start[key] if tensor is None else tensor for key, tensor in fitted.items()})
    return network.eval().requires_grad_(False), any(tensor is None for tensor in fitted.values())


def fit_parameter(key: str, like: Tensor, donor: dict[str, Tensor], config: ViTConfig | LayerConfig) -> Tensor | None:
    """The donor's parameter for one place in another network; None where none fits.

    Heads that share a key or a value get the mean of the separate ones (Ainslie et al. 2023, section 2.1).
    """
    match = PROJECTION.match(key)
    tensor = donor.get(key if match is None else match[1] + match[2])
    if tensor is None or tensor.shape == like.shape:
        return tensor
    heads, dim = config.heads, config.width // config.heads
    shared = like.shape[0] // dim
    if match is None or len(tensor) != heads * dim or not shared or heads % shared or len(like) != shared * dim:
        return None
    return tensor.unflatten(0, (shared, heads // shared, dim)).mean(1).flatten(0, 1)


def with_donor_activations(network: ViT | Reader, sample: Sample, donor: Trace) -> Trace:
    """The donor's trace with its attention calls computed by another formula.

    Every layer reads what it read in the donor, so that a layer shows what the formula does and not what the layers
    before it have done; the answer is that of the whole network with the other formula in every layer.
    """
    with core(), torch.no_grad():
        calls = []
        for index, residual in enumerate(donor.residuals["main"][:-1]):
            tokens = sample.tokens["main"]
            calls += network.layer(index, residual, tokens=tokens)[1]
        answer = network(sample.inputs["main"])
    return replace(donor, calls=tuple(calls), logits=answer.logits)
