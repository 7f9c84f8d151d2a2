"""A trace that was computed on a graphics card is looked at in main memory.

The meta device stands for the card: its tensors hold no numbers, and torch refuses to mix them with others.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields, is_dataclass, replace
from typing import Any

import pytest
import torch

from attnviz.attention import POSITIONS, VARIANTS
from attnviz.models.vit import ViT
from attnviz.training.images.bench import SHAPE
from attnviz.types import AttentionCall, unchanged
from attnviz.ui.core.cache import moved

RELATIVE = [name for name, scheme in POSITIONS.items() if scheme.relative]


def calls_of(**changes: object) -> list[AttentionCall]:
    """The attention calls of a small network on the processor."""
    network = ViT(replace(SHAPE, size=32, layers=2, **changes))
    with torch.no_grad():
        calls = network(torch.zeros(3, 32, 32)).calls
    return [replace(call, graph=None, arrange=unchanged) for call in calls]


def brought(call: AttentionCall) -> AttentionCall:
    """The call on another device; its mask stays, as ids of groups have to be real ones."""
    return replace(moved(call, "meta"), mask=call.mask)


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_map_is_computed_where_its_call_was_brought(variant: str):
    for call in map(brought, calls_of(variant=variant)):
        for name, one in call.maps().items():
            assert one.array.device.type == "meta", name


@pytest.mark.parametrize("positions", RELATIVE)
def test_so_are_scores_that_know_distances(positions: str):
    for call in map(brought, calls_of(variant="mha", positions=positions)):
        assert call.token_map().device.type == "meta"


def test_what_is_left_behind_is_refused():
    call = calls_of(variant="window2d")[0]
    with pytest.raises(RuntimeError, match="meta"):
        replace(brought(call), biases=call.biases).token_map()


def held(value: Any) -> Iterator[torch.Tensor]:
    """All tensors a call holds, in its rule and its biases too."""
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, tuple):
        yield from (tensor for item in value for tensor in held(item))
    elif is_dataclass(value):
        yield from (tensor for f in fields(value) for tensor in held(getattr(value, f.name)))


@pytest.mark.parametrize("variant", VARIANTS)
def test_nothing_that_a_call_holds_is_left_behind(variant: str):
    for call in calls_of(variant=variant):
        tensors = list(held(moved(call, "meta")))
        assert len(tensors) == len(list(held(call))) >= 4
        assert {tensor.device.type for tensor in tensors} == {"meta"}
