"""A trace can be kept: pickled and brought back, it is equal, whatever network recorded it."""

from __future__ import annotations

import io
import pickle
from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass, replace
from functools import partial
from types import FunctionType
from typing import Any

import pytest
import torch
from PIL import Image

import attnviz
from attnviz.attention import OPTIONS, POSITIONS, VARIANTS
from attnviz.edits import Edit, head_flags
from attnviz.models import MODELS, ViT
from attnviz.models.vit import loss_of
from attnviz.training.images.bench import SHAPE
from attnviz.types import Trace

ENGLISH = "The cat sleeps."


def differences(one: Any, other: Any, path: str = "trace") -> Iterator[str]:
    """Where two records differ; functions count as equal only where they are the same."""
    if type(one) is not type(other):
        yield f"{path}: {type(one).__name__} and {type(other).__name__}"
    elif isinstance(one, torch.Tensor):
        if (one.dtype, one.shape) != (other.dtype, other.shape) or not torch.equal(one, other):
            yield path
    elif is_dataclass(one):
        for f in fields(one):
            yield from differences(getattr(one, f.name), getattr(other, f.name), f"{path}.{f.name}")
    elif isinstance(one, Mapping):
        if list(one) != list(other):
            yield f"{path}: {list(one)} and {list(other)}"
        for key in one:
            yield from differences(one[key], other.get(key), f"{path}[{key!r}]")
    elif isinstance(one, tuple | list):
        if len(one) != len(other):
            yield f"{path}: {len(one)} and {len(other)}"
        for number, pair in enumerate(zip(one, other, strict=False)):
            yield from differences(*pair, path=f"{path}[{number}]")
    elif isinstance(one, partial):
        yield from differences((one.func, one.args, one.keywords), (other.func, other.args, other.keywords), path)
    elif isinstance(one, Image.Image):
        if (one.mode, one.size, one.tobytes()) != (other.mode, other.size, other.tobytes()):
            yield path
    elif isinstance(one, FunctionType):
        if one is not other:
            yield path
    elif one != other:
        yield path


def brought_back(trace: Trace) -> list[Trace]:
    """The trace after a file of torch and after a pickle."""
    file = io.BytesIO()
    torch.save(trace, file)
    file.seek(0)
    return [torch.load(file, weights_only=False), pickle.loads(pickle.dumps(trace))]


def check(trace: Trace) -> None:
    """Equal in all that is held, and the maps of every call too."""
    for again in brought_back(trace):
        assert list(differences(trace, again)) == []
        for call, other in zip(trace.calls, again.calls, strict=True):
            for name, one in call.maps().items():
                assert torch.equal(one.array, other.maps()[name].array), (call.name, name)


@pytest.mark.parametrize("name", MODELS)
def test_a_trace_of_every_shipped_model_survives(name: str) -> None:
    model: Any = attnviz.load(name)
    sample = model.prepare(Image.effect_noise((70, 60), 80) if model.spec.modality == "image" else ENGLISH)
    with torch.no_grad():
        trace = model(sample)
    assert trace.sample is not None
    check(trace)


def small(**changes: Any) -> Trace:
    """A trace of a small network with one head switched off, so that there is a gate."""
    network = ViT(replace(SHAPE, size=32, layers=2, **changes))
    with torch.no_grad():
        return network(
            torch.zeros(3, 32, 32), edit=Edit(ablated_heads=head_flags(2, network.blocks[0].attention.heads, [(0, 0)]))
        )


@pytest.mark.parametrize("variant", VARIANTS)
def test_so_does_one_of_every_variant(variant: str) -> None:
    check(small(variant=variant))


@pytest.mark.parametrize("positions", POSITIONS)
def test_so_does_one_of_every_scheme_of_positions(positions: str) -> None:
    check(small(positions=positions))


@pytest.mark.parametrize(("option", "value"), [(name, value) for name, o in OPTIONS.items() for value in o.values])
def test_so_does_one_of_every_option(option: str, value: Any) -> None:
    check(small(options={option: value}))


def test_distances_in_the_values_survive_too() -> None:
    network = ViT(replace(SHAPE, size=32, layers=1))
    shaw = POSITIONS["shaw"].relative
    assert shaw is not None
    block: Any = network.blocks[0]
    block.attention.use_relative_positions(shaw(4, 32, tokens=block.attention.built_for, values=True))
    with torch.no_grad():
        check(network(torch.zeros(3, 32, 32)))


def test_a_trace_with_a_graph_is_kept_without_it() -> None:
    trace = ViT(replace(SHAPE, size=32, layers=1))(torch.zeros(1, 3, 32, 32))
    loss_of(trace, torch.tensor([0])).backward()
    check(trace)
