"""Class-agnostic methods, over every attention variant and pooling: relevance that sums to 1, or a sentence."""

from __future__ import annotations

import inspect

import pytest
import torch

import attnviz
from attnviz.attention import VARIANTS
from attnviz.methods import METHODS
from attnviz.models import ViT, ViTConfig
from attnviz.models.image import Classifier, Preparation
from attnviz.models.nets import BottleneckConfig, BottleneckNet
from attnviz.types import Model, NoTokenMap, Sample, UnsupportedMask
from tests.foreign import foreign_models

AGNOSTIC = [name for name, method in METHODS.items() if not method.needs_class and not method.signed]
VECTORS = ("norm-based", "alti", "value zeroing")
SAMPLE = Sample("0", {"main": torch.rand(3, 16, 16, generator=torch.Generator().manual_seed(0))}, {})
NOT_EXACT = {"xca": "not its map", "axial": "chained"}  # what vectors cannot be followed through
NOT_STOCHASTIC = {"linformer", "nystrom", "differential", "sinkwindow"}


def classifier(network: ViT | BottleneckNet) -> Classifier:
    """A network with what surrounds it."""
    return Classifier("x", network, Preparation(16, (0.5,) * 3, (0.5,) * 3), "abc", "abc", title="X")


def checked(name: str, model: Model, sample: Sample, count: int, **options) -> str:
    """The sentence of a refusal, or nothing: then every number is a share, and all sum to one."""
    try:
        found = attnviz.explain(name, model, sample, **options)
    except (NoTokenMap, UnsupportedMask) as error:
        return str(error)
    assert found.shape == (count,)
    assert found.isfinite().all()
    assert (found >= 0).all()
    assert float(found.sum()) == pytest.approx(1, abs=1e-4)
    return ""


@pytest.mark.parametrize("pooling", ["cls", "mean"])
@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("name", AGNOSTIC)
def test_every_method_over_every_variant(name, variant, pooling):
    plain = pooling == "mean"
    torch.manual_seed(0)
    try:
        network = ViT(
            ViTConfig(size=16, width=16, layers=2, heads=4, classes=3, pooling=pooling, cls=not plain, variant=variant)
        )
        model = classifier(network)
        count = len(model(SAMPLE).calls[0].queries)
    except UnsupportedMask:
        pytest.skip(f"{variant} reads no CLS")
    for start in ("answer", "mean", 5):
        said = checked(name, model, SAMPLE, count, start=start)
        if name in VECTORS:
            assert bool(said) == (variant in NOT_EXACT), said
            assert not said or NOT_EXACT[variant] in said or variant == "xca"
        elif name == "attention flow":
            assert bool(said) == (variant in NOT_STOCHASTIC | {"xca"}), said


@pytest.mark.parametrize("name", AGNOSTIC)
def test_every_method_over_networks_of_convolutions(name):
    """Their attention stands inside a bottleneck: weights can be chained, vectors of the residual cannot."""
    config = BottleneckConfig(size=16, channels=3, width=16, inner=16, heads=4, classes=3)
    torch.manual_seed(0)
    said = checked(name, classifier(BottleneckNet(config)), SAMPLE, 256)
    assert bool(said) == (name in VECTORS), said


@pytest.mark.parametrize("name", AGNOSTIC)
@pytest.mark.parametrize("foreign", list(foreign_models()))
def test_every_method_over_models_that_are_none_of_ours(name, foreign):
    model, raw = foreign_models()[foreign].model, foreign_models()[foreign].raw
    sample = model.prepare(raw)
    for start in ("answer", "mean", 1):
        assert checked(name, model, sample, len(sample.tokens["main"]), start=start) == ""


@pytest.mark.parametrize("name", AGNOSTIC)
def test_every_method_of_shipped_texts(name):
    for shipped in ("sentences", "stories", "one-block"):
        model = attnviz.load(shipped)
        sample = model.prepare("The old dog sleeps near the house.")
        for start in ("answer", "mean", 2):
            assert checked(name, model, sample, len(sample.tokens["main"]), start=start) == ""


def test_slow_methods_tell_their_progress():
    for name, method in METHODS.items():
        assert method.slow == ("progress" in inspect.signature(method.explain).parameters), name
