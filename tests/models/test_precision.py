"""Networks in other number formats: double precision by default, half precision, and explaining under autocast."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest
import torch
from PIL import Image

import attnviz
from attnviz.methods import METHODS
from attnviz.methods.rollout import relevance
from attnviz.models import MODELS
from attnviz.types import NoTokenMap, Target, UnsupportedMask

ENGLISH = "The cat sleeps."


def asked(model: Any) -> Any:
    """A sample for this model."""
    return model.prepare(Image.linear_gradient("L").resize((70, 60)) if model.spec.modality == "image" else ENGLISH)


@pytest.fixture
def double() -> Iterator[None]:
    """float64 as the type torch makes tensors of."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def answers(model: Any) -> dict[str, torch.Tensor]:
    """The logits, of the first token where there is one for each."""
    with torch.no_grad():
        return {head: logits[..., 0, :] for head, logits in model(asked(model)).logits.items()}


def check(model: Any, plain: dict[str, torch.Tensor], most: float) -> None:
    """The answers are those of single precision, and every method gives shares of one."""
    for head, logits in answers(model).items():
        assert (logits.float() - plain[head]).abs().max() < most * plain[head].abs().max(), head
    sample = asked(model)
    for row in relevance(trace := model(sample)).values():
        assert row.dtype in (torch.float32, torch.float64)
    assert sum(float(row.sum()) for row in relevance(trace).values()) == pytest.approx(1, abs=1e-5)
    assert float(attnviz.explain("raw attention", model, sample).sum()) == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("name", MODELS)
def test_a_shipped_model_in_half_precision(name: str) -> None:
    model: Any = attnviz.load(name)
    plain = answers(model)
    if not hasattr(model, "network"):
        pytest.skip("the protocol names no network that could be put into half precision")
    model.network.half()
    check(model, plain, 0.02)


@pytest.mark.parametrize("name", MODELS)
def test_a_shipped_model_where_double_precision_is_the_default(name: str, double: None) -> None:
    torch.set_default_dtype(torch.float32)
    plain = answers(attnviz.load(name))
    torch.set_default_dtype(torch.float64)
    check(attnviz.load(name), plain, 1e-4)


@pytest.mark.parametrize("name", MODELS)
def test_explaining_under_autocast_rounds_nothing(name: str) -> None:
    model: Any = attnviz.load(name)
    sample = asked(model)
    trace = model(sample)
    repeats = {"integrated gradients", "smoothgrad"}  # they run the network many times, as `differentiable` does once
    target = Target(row=0) if model.spec.modality == "words" else None  # every word is guessed by itself
    expected = {}
    for method in METHODS.keys() - repeats:
        with suppress(UnsupportedMask, NoTokenMap):  # not every method applies to every model
            expected[method] = attnviz.explain(method, model, sample, target, trace=trace)
    assert {"rollout", "raw attention"} <= expected.keys()
    stream, readout = next(iter(trace.pooling.items()))
    last = [call for call in trace.calls if call.queries.stream == stream][-1]
    pulled = last.propagate(readout)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        for method, row in expected.items():
            found = attnviz.explain(method, model, sample, target, trace=trace)
            torch.testing.assert_close(found, row, atol=1e-7, rtol=0)
        torch.testing.assert_close(last.propagate(readout), pulled, atol=1e-7, rtol=0)
        rows = relevance(model(sample))
    assert sum(float(row.sum()) for row in rows.values()) == pytest.approx(1, abs=1e-5)
    assert last.propagate(readout.half()).dtype == torch.float32
