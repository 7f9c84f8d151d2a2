"""What each variant computes for the picture on the Compare page: with parameters of its own, or with borrowed ones.

Own weights: every variant's own network of the bench. Same weights: the layers of the network trained with multi-head
attention, run through another formula. Either way a `Panel` holds a trace, or the reason why there is none.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

import streamlit as st
import torch
from torch import Tensor

from attnviz.attention import VARIANTS, Variant
from attnviz.models import IMAGES, DamagedModel, ImageModel
from attnviz.models.vit import ViT, ViTConfig
from attnviz.training.live import seeded
from attnviz.types import AttentionCall, Sample, Trace, UnsupportedMask
from attnviz.ui.bench import Bench, Row
from attnviz.ui.cache import core, on_processor, open_model, traces
from attnviz.ui.samples import open_sample
from attnviz.ui.uploads import Picture
from attnviz.ui.visit import Visit, own_pictures, prepared

OWN, SAME = "Own weights", "Same weights"
TRAIN = "`make train NAME=bench` trains what is missing."
PROJECTION = re.compile(r"^(blocks\.\d+\.attention\.)(?:\w+\.)?((?:query|key|value|out)\.(?:weight|bias))$")


@dataclass(frozen=True, eq=False)
class Panel:
    """One variant at this picture."""

    variant: str  # in VARIANTS
    model: ImageModel | None = None  # names the classes; in same-weights mode the network whose parameters are used
    sample: Sample | None = None
    trace: Trace | None = None
    reason: str = ""  # why there is no trace
    fresh: bool = False  # it has parameters that it could not take over

    @property
    def kind(self) -> type[Variant]:
        """The class of the variant."""
        return VARIANTS[self.variant]

    @property
    def title(self) -> str:
        """What it is called on screen."""
        return self.kind.title

    @property
    def key(self) -> tuple[str, ...]:
        """What its maps are cached under. Raises ValueError where it shows nothing."""
        if self.model is None or self.sample is None:
            raise ValueError(f"{self.title} shows nothing: {self.reason}")
        return self.model.digest, self.sample.digest, self.model.config.variant, self.variant

    @property
    def layers(self) -> int:
        """How many layers it shows; one where it shows nothing."""
        return 1 if self.trace is None else 1 + max(call.layer for call in self.trace.calls)

    @property
    def heads(self) -> int:
        """How many heads its layers have; one where it shows nothing."""
        return 1 if self.trace is None else max(call.heads for call in self.trace.calls)

    def calls(self, layer: int) -> list[AttentionCall]:
        """The calls of one layer, in order: axial attention has two, which are chained."""
        return [] if self.trace is None else [call for call in self.trace.calls if call.layer == layer]


# The picture and the networks ----------------------------------------------------------------------------------------
def picture() -> tuple[Picture, str]:
    """The visitor's picture, and where it comes from. The model chosen in the sidebar is not asked for it."""
    source = st.session_state["sample"]
    return own_pictures().get(source) or open_sample(st.session_state["model"], source), source


def visit_of(panel: Panel) -> Visit:
    """A panel as what the rest of the app calls a visit. Raises ValueError where it shows nothing."""
    if panel.model is None or panel.sample is None or panel.trace is None:
        raise ValueError(f"{panel.title} shows nothing: {panel.reason}")
    shown, source = picture()
    return Visit(model=panel.model, name=panel.model.name, picture=shown.image, sample=panel.sample, trace=panel.trace,
                 source=source)  # fmt: skip


def panels(variants: Sequence[str], mode: str, found: Bench) -> list[Panel]:
    """Every variant with what it computes for the picture, or why it does not. Raises DamagedModel, Busy."""
    shown, _ = picture()
    if mode == OWN:
        return [own_panel(name, found.row(name), shown) for name in variants]
    model = reference(found)
    return [same_panel(name, model, shown) for name in variants]


def own_panel(name: str, row: Row | None, shown: Picture) -> Panel:
    """A variant in the network that was trained with it."""
    if row is None:
        return Panel(name, reason=f"No network with this variant has been trained yet. {TRAIN}")
    try:
        model = open_model(f"bench/{row['name']}")
    except DamagedModel as error:
        return Panel(name, reason=str(error))
    return Panel(name, model, *looked_at(model, shown))


def same_panel(name: str, model: ImageModel, shown: Picture) -> Panel:
    """A variant with the parameters of a network that was trained with multi-head attention."""
    sample, trace = looked_at(model, shown)
    if name == model.config.variant:
        return Panel(name, model, sample, trace)
    try:
        network, fresh = transplanted(model.digest, name, model)
        key = (model.digest, sample.digest, f"same:{name}")
        lent = traces().get(key, lambda: borrowed(network, sample, trace))
    except UnsupportedMask as error:
        return Panel(name, reason=f"The layers of this network cannot be run through this formula: it {error.reason}.")
    return Panel(name, model, sample, lent, fresh=fresh)


def reference(found: Bench) -> ImageModel:
    """The network whose layers are lent: multi-head attention of the bench, else the first model of the app."""
    row = found.row("mha")
    if row is not None:
        try:
            return open_model(f"bench/{row['name']}")
        except DamagedModel:
            pass  # its own panel says so, in the other mode
    return open_model(next(iter(IMAGES)))


def lender(found: Bench) -> Trace:
    """What the network whose layers are lent computes for the picture, with its own attention."""
    return looked_at(reference(found), picture()[0])[1]


def looked_at(model: ImageModel, shown: Picture) -> tuple[Sample, Trace]:
    """The picture as a network reads it, and what it computes. Raises Busy."""
    sample = prepared(model.digest, shown.digest, model, shown.image)
    key = (model.digest, sample.digest, f"own:{model.config.variant}")  # a digest is of parameters, not of a formula
    return sample, traces().get(key, lambda: traced(model, sample))


def traced(model: ImageModel, sample: Sample) -> Trace:
    """One forward pass without gradients."""
    with core(), torch.no_grad():
        return on_processor(model(sample))


# Same weights --------------------------------------------------------------------------------------------------------
@st.cache_resource(max_entries=24, show_spinner=False)
def transplanted(digest: str, name: str, _model: ImageModel) -> tuple[ViT, bool]:
    """The network with another formula in every layer and all parameters that fit, and whether some did not."""
    config = replace(_model.config, variant=name, options={})
    with seeded(0):
        network = ViT(config)
    given = {key: tensor.detach().cpu() for key, tensor in _model.network.state_dict().items()}
    own = network.state_dict()
    taken = {key: fitted(key, tensor, given, config) for key, tensor in own.items()}
    network.load_state_dict({key: own[key] if tensor is None else tensor for key, tensor in taken.items()})
    return network.eval().requires_grad_(False), any(tensor is None for tensor in taken.values())


def fitted(key: str, like: Tensor, given: dict[str, Tensor], config: ViTConfig) -> Tensor | None:
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


def borrowed(network: ViT, sample: Sample, lent: Trace) -> Trace:
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
