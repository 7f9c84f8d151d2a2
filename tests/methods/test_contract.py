"""What every method of METHODS must do: one finite number per token, or a refusal in words, whatever the network."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from PIL import Image

import attnviz
from attnviz.attention import VARIANTS
from attnviz.methods import METHODS
from attnviz.models import MODELS
from attnviz.types import NoTokenMap, Sample, Target, UnsupportedMask
from tests.explained import picture_model, text_model

GRID = (3, 7)
POOLINGS: dict[str, dict[str, Any]] = {
    "cls": {},
    "registers": {"registers": 4},
    "mean": {"pooling": "mean", "cls": False},
    "mean beside CLS": {"pooling": "mean", "registers": 4},
}
CASES = [("mha", pooling) for pooling in POOLINGS] + [
    (variant, "mean beside CLS" if "prefix" in VARIANTS[variant].supported_masks else "mean")
    for variant in VARIANTS
    if variant != "mha"
]
OF_INPUTS = {"input x gradient", "integrated gradients", "smoothgrad", "grad-cam tokens"}  # they read no map
BY_MAP = [name for name, method in METHODS.items() if method.needs_gradients and name not in OF_INPUTS]


def quick(name: str) -> dict[str, Any]:
    """The fewest steps a method may be given."""
    return {option.name: int(option.range[0]) for option in METHODS[name].options if option.kind == "number"}


def grid_model(variant: str, pooling: str) -> Any:
    """A model of this attention and a picture; where the attention is built for a grid, one of that grid."""
    fixed = bool(VARIANTS[variant].requirements)
    return picture_model((4, 4) if fixed else GRID, variant=variant, **POOLINGS[pooling])


def tried(name: str, model: Any, sample: Sample, target: Target | None = None) -> torch.Tensor | None:
    """The map of a method; None where it says in words that it does not apply."""
    try:
        row = attnviz.explain(name, model, sample, target, **quick(name))
    except (NoTokenMap, UnsupportedMask) as reason:
        if len(str(reason).split()) < 5:
            raise
        return None
    assert row.shape == (len(sample.tokens["main"]),), name
    assert row.isfinite().all(), name
    assert not row.requires_grad, name
    assert METHODS[name].signed or (row >= 0).all(), name
    return row


@pytest.mark.parametrize(("variant", "pooling"), CASES)
def test_every_method_gives_numbers_or_a_reason(variant: str, pooling: str) -> None:
    """Attention over channels has no token map; whoever reads none, or the gradient of one, explains all others."""
    model, sample = grid_model(variant, pooling)
    for name, method in METHODS.items():
        row = tried(name, model, sample, Target(label=1))
        if name in OF_INPUTS or (name in BY_MAP and variant != "xca"):
            assert row is not None, name
        elif name in BY_MAP:
            assert row is None, name
        if variant == "mha" and method.needs_class and row is not None:
            other = attnviz.explain(name, model, sample, Target(label=2), **quick(name))
            assert not torch.equal(row, other) or not (row.any() or other.any()), name


@pytest.mark.parametrize("variant", [name for name in VARIANTS if not VARIANTS[name].requirements])
@pytest.mark.parametrize("causal", [False, True])
def test_every_method_reads_texts(variant: str, causal: bool) -> None:
    if causal and "causal" not in VARIANTS[variant].supported_masks:
        return
    model, sample = text_model(variant=variant, causal=causal)
    for name in METHODS:
        tried(name, model, sample, Target("word", 3, 50))


@pytest.mark.parametrize("opened", MODELS)
def test_shipped_models_are_explained_or_say_why_not(opened: str) -> None:
    model: Any = attnviz.load(opened)
    sample = model.prepare(Image.linear_gradient("L") if model.spec.modality == "image" else "The cat sleeps today.")
    target = Target(row=1) if model.spec.modality == "words" else None  # every word is guessed by itself
    for name in [*BY_MAP, "input x gradient"]:
        if "embeddings" in model.spec.honours:
            assert attnviz.explain(name, model, sample, target).isfinite().all()
        else:
            with pytest.raises(UnsupportedMask, match="embeddings"):
                attnviz.explain(name, model, sample, target)
