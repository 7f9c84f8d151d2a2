"""What each variant computes for the input of the Compare page: with parameters of its own, or with borrowed ones.

Own weights: every variant's own network of the bench. Same weights: the layers of the network trained with multi-head
attention, run through another formula. Either way a `Panel` holds a trace, or the reason why there is none.
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
from attnviz.types import Sample, Trace, UnsupportedMask
from attnviz.ui.compare.domain import Domain, Panel
from attnviz.ui.core.bench import Bench
from attnviz.ui.core.cache import core, forward, open_model, traces

OWN, SAME = "Own weights", "Same weights"
PROJECTION = re.compile(r"^(blocks\.\d+\.attention\.)(?:\w+\.)?((?:query|key|value|out)\.(?:weight|bias))$")


def panels(ground: Domain, variants: Sequence[str], mode: str, found: Bench) -> list[Panel]:
    """Every variant with what it computes for the input, or why it does not. Raises DamagedModel, Busy."""
    if mode == OWN:
        return [own_panel(ground, variant, found.model(variant)) for variant in variants]
    lent = reference(ground, found)
    return [same_panel(ground, variant, lent) for variant in variants]


def own_panel(ground: Domain, variant: str, name: str | None) -> Panel:
    """A variant in the network that was trained with it."""
    if name is None:
        return Panel(variant, reason=ground.untrained(variant))
    try:
        return Panel(variant, *looked_at(ground, name))
    except DamagedModel as error:
        return Panel(variant, reason=str(error))


def same_panel(ground: Domain, variant: str, lent: str) -> Panel:
    """A variant with the parameters of a network that was trained with multi-head attention."""
    model, sample, trace = looked_at(ground, lent)
    if variant == model.config.variant:
        return Panel(variant, model, sample, trace)
    options = ground.options(variant, sample.tokens["main"].prefix)
    try:
        network, fresh = transfer_weights(model.digest, variant, model, options)
        key = (model.digest, sample.digest, f"same:{variant}")
        found = traces().get(key, lambda: with_donor_activations(network, sample, trace))
    except UnsupportedMask as error:
        return Panel(
            variant, reason=f"The layers of this network cannot be run through this formula. The reason: {error.reason}."
        )
    return Panel(variant, model, sample, found, fresh=fresh)


def reference(ground: Domain, found: Bench) -> str:
    """The network whose layers are lent: multi-head attention of the bench, else a shipped model."""
    name = found.model("mha")
    if name is not None:
        try:
            open_model(name)
            return name
        except DamagedModel:
            pass  # its own panel says so, in the other mode
    return ground.donor


def donor_trace(ground: Domain, found: Bench) -> Trace:
    """What the network whose layers are lent computes for the input, with its own attention."""
    return looked_at(ground, reference(ground, found))[2]


def looked_at(ground: Domain, name: str) -> tuple[ImageModel | TextModel, Sample, Trace]:
    """A network, the input as it reads it, and what it computes. Raises DamagedModel, Busy."""
    model = open_model(name)
    if not isinstance(model, ImageModel | TextModel):
        raise UnsupportedMask(model.title, "is no network of this project, so its layers cannot be built anew")
    sample = ground.prepare(model)
    key = (model.digest, sample.digest, f"own:{model.config.variant}")  # a digest is of parameters, not of a formula
    return model, sample, traces().get(key, lambda: forward(name, sample))


# Same weights --------------------------------------------------------------------------------------------------------
@st.cache_resource(max_entries=24, show_spinner=False)
def transfer_weights(
    digest: str, name: str, _model: ImageModel | TextModel, options: Mapping[str, Any] | None = None
) -> tuple[ViT | Reader, bool]:
    """The network with another formula in every layer and all parameters that fit, and whether some did not."""
    config, kind = replace(_model.config, variant=name, options=options or {}), cast(Any, type(_model.network))
    with seeded(0):
        network: ViT | Reader = kind(config)
    given = {key: tensor.detach().cpu() for key, tensor in _model.network.state_dict().items()}
    own = network.state_dict()
    taken = {key: fitted(key, tensor, given, config) for key, tensor in own.items()}
    network.load_state_dict({key: own[key] if tensor is None else tensor for key, tensor in taken.items()})
    return network.eval().requires_grad_(False), any(tensor is None for tensor in taken.values())


def fitted(key: str, like: Tensor, given: dict[str, Tensor], config: ViTConfig | LayerConfig) -> Tensor | None:
    """The lent parameter for a place in another network; None where none fits.

    Heads that share a key or a value get the mean of those they had apart (Ainslie et al. 2023, section 2.1).
    """
    match = PROJECTION.match(key)
    tensor = given.get(key if match is None else match[1] + match[2])
    if tensor is None or tensor.shape == like.shape:
        return tensor
    heads, dim = config.heads, config.width // config.heads
    shared = like.shape[0] // dim
    if match is None or len(tensor) != heads * dim or not shared or heads % shared or len(like) != shared * dim:
        return None
    return tensor.unflatten(0, (shared, heads // shared, dim)).mean(1).flatten(0, 1)


def with_donor_activations(network: ViT | Reader, sample: Sample, lent: Trace) -> Trace:
    """The donor's trace with its attention calls made by another formula.

    Every layer reads what it read in the donor, so that a layer shows what the formula does and not what the layers
    before it have done; the answer is that of the whole network with the other formula in every layer.
    """
    with core(), torch.no_grad():
        calls = []
        for index, residual in enumerate(lent.residuals["main"][:-1]):
            tokens = sample.tokens["main"]
            calls += network.layer(index, residual, tokens=tokens)[1]
        answer = network(sample.inputs["main"])
    return replace(lent, calls=tuple(calls), logits=answer.logits)
