"""ALTI against [query key feature] written out, a few rows at a time."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

import attnviz
from attnviz.methods import alti, contributions
from attnviz.types import AttentionCall, Mask
from tests.materialised import SHAPES, Opened, opened, rolled, with_residual
from tests.methods.test_rollout import Fake, Sizes, random_trace


def reference(model: Opened, call: AttentionCall, item: tuple[int, ...] = ()) -> np.ndarray:
    """max(0, |y_i| - |y_i - T_i(x_j)|) in sums of absolute values [query key]; y_i holds all biases, T_i none."""
    block = model.network.blocks[call.layer]
    vectors = with_residual(model, call, item)
    whole = vectors.sum(1) + block.attention.out.bias.numpy()
    if not block.norm_first:
        norm, centred = block.attention_norm, whole - whole.mean(-1, keepdims=True)
        sigma = np.sqrt((centred**2).mean(-1, keepdims=True) + norm.eps)
        vectors = (vectors - vectors.mean(-1, keepdims=True)) * norm.weight.numpy() / sigma[:, None]
        whole = centred * norm.weight.numpy() / sigma + norm.bias.numpy()
    return np.maximum(0, np.abs(whole).sum(-1)[:, None] - np.abs(whole[:, None] - vectors).sum(-1))


@pytest.mark.parametrize("shape", [name for name in SHAPES if name != "gated by query"])
def test_contributions_are_those_of_the_vectors(shape):
    model = opened(**SHAPES[shape])
    factors, count = [], len(model.trace.calls[0].queries)
    for call in model.trace.calls:
        factors.append(reference(model, call))
        found = alti.contributions(model, model.trace, call)(list(range(count)))
        assert np.abs(found.numpy() - factors[-1]).max() < 1e-10
    for start, row in (("answer", model.trace.pooling["main"].numpy()), (3, np.eye(count)[3])):
        relevance = attnviz.explain("alti", model, model.sample, start=start)
        assert np.abs(relevance.numpy() - rolled(factors, row)).max() < 1e-10


def test_batch_items_are_independent():
    model = opened(batch=(3,), norm_first=False)
    together = attnviz.explain("alti", model, model.sample, start=[0, 7])
    for item in range(3):
        factors = [reference(model, call, (item,)) for call in model.trace.calls]
        for at, token in enumerate((0, 7)):
            assert np.abs(together[item, at].numpy() - rolled(factors, np.eye(16)[token])).max() < 1e-10


def test_masked_tokens_get_exactly_nothing():
    keep = torch.ones(16, dtype=torch.bool)
    keep[[3, 8]] = False
    for norm_first in (True, False):
        model = opened(keep_tokens=keep, norm_first=norm_first)
        found = attnviz.explain("alti", model, model.sample)
        assert (found[~keep] == 0).all()
        assert float(found.sum()) == pytest.approx(1)
    half = Fake(random_trace(mask=Mask(causal=True)))
    assert (attnviz.explain("alti", half, half.sample, start=6)[7:] == 0).all()


def test_rows_are_worked_on_a_few_at_a_time(monkeypatch):
    """Pieces of any size give the same numbers, and no more than a piece is held."""
    trace = random_trace(1, (20, 25), depth=2, heads=3)  # 501 tokens of 16 features
    model = Fake(trace)
    whole = attnviz.explain("alti", model, model.sample, trace=trace)
    monkeypatch.setattr(contributions, "PIECE", 10 * 501 * 16)
    with Sizes() as seen:
        pieces = attnviz.explain("alti", model, model.sample, trace=trace)
    assert torch.allclose(whole, pieces, atol=1e-14)
    assert max(math.prod(shape) for shape in seen.shapes) <= 3 * 128 * 501


def test_progress_rises_to_one():
    model, told = opened(), []
    attnviz.explain("alti", model, model.sample, progress=told.append)
    assert told == sorted(told)
    assert told[-1] == 1
