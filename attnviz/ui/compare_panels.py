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

from attnviz.chance import seeded
from attnviz.models import DamagedModel, ImageModel, TextModel
from attnviz.models.layers import LayerConfig
from attnviz.models.text import Reader
from attnviz.models.vit import ViT, ViTConfig
from attnviz.types import Sample, Trace, UnsupportedMask
from attnviz.ui.bench import Bench
from attnviz.ui.cache import core, on_processor, open_any, traces
from attnviz.ui.compare_ground import Ground, Panel

OWN, SAME = "Own weights", "Same weights"
PROJECTION = re.compile(r"^(blocks\.\d+\.attention\.)(?:\w+\.)?((?:query|key|value|out)\.(?:weight|bias))$")


def panels(ground: Ground, variants: Sequence[str], mode: str, found: Bench) -> list[Panel]:
    """Every variant with what it computes for the input, or why it does not. Raises DamagedModel, Busy."""
    if mode == OWN:
        return [own_panel(ground, name, found.model(name)) for name in variants]
    model = reference(ground, found)
    return [same_panel(ground, name, model) for name in variants]


def own_panel(ground: Ground, variant: str, name: str | None) -> Panel:
    """A variant in the network that was trained with it."""
    if name is None:
        return Panel(variant, reason=ground.untrained(variant))
    try:
        model = open_any(name)
    except DamagedModel as error:
        return Panel(variant, reason=str(error))
    return Panel(variant, model, *looked_at(ground, model))


def same_panel(ground: Ground, name: str, model: ImageModel | TextModel) -> Panel:
    """A variant with the parameters of a network that was trained with multi-head attention."""
    sample, trace = looked_at(ground, model)
    if name == model.config.variant:
        return Panel(name, model, sample, trace)
    try:
        network, fresh = transplanted(model.digest, name, model, ground.options(name, sample.tokens["main"].prefix))
        key = (model.digest, sample.digest, f"same:{name}")
        lent = traces().get(key, lambda: borrowed(network, sample, trace))
    except UnsupportedMask as error:
        return Panel(name, reason=f"The layers of this network cannot be run through this formula: it {error.reason}.")
    return Panel(name, model, sample, lent, fresh=fresh)


def reference(ground: Ground, found: Bench) -> ImageModel | TextModel:
    """The network whose layers are lent: multi-head attention of the bench, else a shipped model."""
    name = found.model("mha")
    if name is not None:
        try:
            return open_any(name)
        except DamagedModel:
            pass  # its own panel says so, in the other mode
    return open_any(ground.lender)


def lender(ground: Ground, found: Bench) -> Trace:
    """What the network whose layers are lent computes for the input, with its own attention."""
    return looked_at(ground, reference(ground, found))[1]


def looked_at(ground: Ground, model: ImageModel | TextModel) -> tuple[Sample, Trace]:
    """The input as a network reads it, and what it computes. Raises Busy."""
    sample = ground.prepare(model)
    key = (model.digest, sample.digest, f"own:{model.config.variant}")  # a digest is of parameters, not of a formula
    return sample, traces().get(key, lambda: traced(model, sample))


def traced(model: ImageModel | TextModel, sample: Sample) -> Trace:
    """One forward pass without gradients."""
    with core(), torch.no_grad():
        return on_processor(model(sample))


# Same weights --------------------------------------------------------------------------------------------------------
@st.cache_resource(max_entries=24, show_spinner=False)
def transplanted(
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


def borrowed(network: ViT | Reader, sample: Sample, lent: Trace) -> Trace:
    """The lender's trace with its attention calls made by another formula.

    Every layer reads what it read in the lender, so that a layer shows what the formula does and not what the layers
    before it have done; the answer is that of the whole network with the other formula in every layer.
    """
    with core(), torch.no_grad():
        calls = []
        for index, residual in enumerate(lent.residuals["main"][:-1]):
            tokens = sample.tokens["main"]
            calls += network.layer(index, residual, tokens=tokens)[1]
        answer = network(sample.inputs["main"])
    return replace(lent, calls=tuple(calls), logits=answer.logits)
