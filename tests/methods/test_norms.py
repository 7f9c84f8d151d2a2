"""Norm-based attention against [query key feature] written out, and that this array is never made."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

import attnviz
from attnviz.methods import NoRollout, norms
from attnviz.methods.contributions import Vectors, added, residual_before
from attnviz.types import AttentionCall, Mask, Tokens, UnsupportedMask
from tests.materialised import SHAPES, Opened, given, opened, rolled, with_residual
from tests.methods.test_rollout import Fake, Sizes, random_trace

FORMS = ("weighted", "residual", "globenc")


def normed(norm, x: np.ndarray) -> np.ndarray:
    """What a layer norm does to a part of its input, but for the divisor of the row and its shift."""
    return (x - x.mean(-1, keepdims=True)) * norm.weight.numpy()


def reference(model: Opened, call: AttentionCall, form: str, item: tuple[int, ...] = ()) -> np.ndarray:
    """The lengths of the vectors [query key], from the vectors."""
    block = model.network.blocks[call.layer]
    if form == "weighted":
        return np.linalg.norm(given(model, call, item), axis=-1)
    found = with_residual(model, call, item)
    if not block.norm_first:
        found = normed(block.attention_norm, found)
    if form == "globenc":
        found = normed(block.mlp_norm, found)
    return np.linalg.norm(found, axis=-1)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("shape", [name for name in SHAPES if name != "gated by query"])
def test_lengths_are_those_of_the_vectors(shape, form):
    model = opened(**SHAPES[shape])
    factors = []
    for call in model.trace.calls:
        found = norms.lengths(model, model.trace, call, form)(list(range(len(call.queries))))
        factors.append(reference(model, call, form))
        assert np.abs(found.numpy() - factors[-1]).max() < 1e-10
        some = norms.lengths(model, model.trace, call, form)([5, 2])
        assert np.abs(some.numpy() - factors[-1][[5, 2]]).max() < 1e-10
    count = len(model.trace.calls[0].queries)
    for start, row in (("answer", model.trace.pooling["main"].numpy()), (3, np.eye(count)[3])):
        relevance = attnviz.explain("norm-based", model, model.sample, start=start, form=form)
        assert np.abs(relevance.numpy() - rolled(factors, row)).max() < 1e-10


@pytest.mark.parametrize("form", FORMS)
def test_batch_items_and_starts_are_independent(form):
    model = opened(batch=(3,), norm_first=False)
    together = attnviz.explain("norm-based", model, model.sample, form=form)
    several = attnviz.explain("norm-based", model, model.sample, form=form, start=[0, 7])
    assert several.shape == (3, 2, 16)
    for item in range(3):
        factors = [reference(model, call, form, (item,)) for call in model.trace.calls]
        assert np.abs(together[item].numpy() - rolled(factors, model.trace.pooling["main"][item].numpy())).max() < 1e-10
        for at, token in enumerate((0, 7)):
            assert np.abs(several[item, at].numpy() - rolled(factors, np.eye(16)[token])).max() < 1e-10


@pytest.mark.parametrize("shape", SHAPES)
def test_the_vectors_and_the_output_bias_are_the_output(shape):
    """sum over j of T_i(x_j) + b_O = y_i: nothing is counted twice or left out, and b_O belongs to nobody."""
    model = opened(**SHAPES[shape])
    for call in model.trace.calls:
        block, before = model.network.blocks[call.layer], residual_before(model.trace, call)
        rows = list(range(len(call.queries)))
        vectors, _ = Vectors(call, residual=before).rows(rows)
        summed = vectors.sum(-2) + block.attention.out.bias
        read = block.attention_norm(before) if block.norm_first else before
        y, _ = block.attention(read, queries=call.queries)
        assert torch.allclose(summed, before + y, atol=1e-10)
        assert torch.allclose(added(call) + block.attention.out.bias, y, atol=1e-10)
        parts = block.parts()
        after = parts.after_attention(before, vectors.sum(-2) - before)
        assert torch.allclose(after, before + y if block.norm_first else block.attention_norm(before + y), atol=1e-10)
        assert torch.allclose(parts.feed_forward(after), model.trace.residuals["main"][call.layer + 1], atol=1e-10)


def test_a_gate_of_each_query_is_part_of_its_vectors():
    model = opened(variant="separable")
    for call in model.trace.calls:
        out = model.network.blocks[call.layer].attention.out.weight
        maps, gate, out = call.token_map(), call.gate.expand_as(call.output), out.unflatten(-1, (call.heads, -1))
        expected = torch.zeros(*maps.shape[-2:], 16, dtype=torch.float64)
        for h, (i, j) in ((h, p) for h in range(call.heads) for p in np.ndindex(*maps.shape[-2:])):
            expected[i, j] += out[:, h] @ (maps[h, i, j] * gate[h, i] * call.value[h, j])
        assert Vectors(call).by_query
        assert torch.allclose(Vectors(call).rows(list(range(len(maps[0]))))[0], expected, atol=1e-12)
        found = norms.lengths(model, model.trace, call, "weighted")([0, 4, 2])
        assert torch.allclose(found, expected[[0, 4, 2]].norm(dim=-1), atol=1e-12)


def test_masked_tokens_get_exactly_nothing():
    """A reference multiplies norms by exp(mask): right for minus infinity only, a 0/1 mask gives factors of 1 and e."""
    keep = torch.ones(16, dtype=torch.bool)
    keep[[3, 8]] = False
    for form in FORMS:
        model = opened(keep_tokens=keep)
        found = attnviz.explain("norm-based", model, model.sample, form=form)
        assert (found[~keep] == 0).all()
        assert (found[keep] > 0).all()
        assert float(found.sum()) == pytest.approx(1)
    causal = random_trace(mask=Mask(causal=True))
    model = Fake(causal)
    later = attnviz.explain("norm-based", model, model.sample, start=6)
    assert (later[7:] == 0).all()
    assert (later[:7] > 0).all()


def test_an_ablated_head_hands_nothing_over():
    model = opened(ablated_heads=torch.tensor([[0, 1, 0, 0], [1, 0, 1, 0]]).bool())
    plain = opened()
    for call in model.trace.calls:
        found = norms.lengths(model, model.trace, call, "weighted")(list(range(16)))
        assert np.abs(found.numpy() - reference(model, call, "weighted")).max() < 1e-10
    first = norms.lengths(plain, plain.trace, plain.trace.calls[0], "weighted")([0])
    assert not torch.allclose(first, norms.lengths(model, model.trace, model.trace.calls[0], "weighted")([0]))


def test_a_query_without_keys_keeps_what_it_has():
    closed = torch.ones(1, 17, 17, dtype=torch.bool)
    closed[:, 4] = False
    model = Fake(random_trace(mask=Mask(keep=closed)))
    found = attnviz.explain("norm-based", model, model.sample, start=4, form="weighted")
    assert found.tolist() == np.eye(17)[4].tolist()


def test_no_identity_is_added_a_second_time():
    """GlobEnc and Kobayashi 2021 hold the residual already; half of an identity more would be another map."""
    model = opened()
    found = attnviz.explain("norm-based", model, model.sample, form="residual").numpy()
    factors = [reference(model, call, "residual") for call in model.trace.calls]
    more = [0.5 * np.eye(16) + 0.5 * f / f.sum(-1, keepdims=True) for f in factors]
    assert np.abs(found - rolled(more, np.eye(16)[0])).max() > 1e-2
    assert np.abs(found - rolled(factors[::-1], np.eye(16)[0])).max() > 1e-4  # nor are layers multiplied in reverse


@pytest.mark.parametrize("form", FORMS)
def test_no_array_of_vectors_is_ever_made(form):
    trace = random_trace(1, (20, 25), heads=3)  # 501 tokens of 16 features
    model = Fake(trace)
    with Sizes() as seen:
        attnviz.explain("norm-based", model, model.sample, trace=trace, form=form)
    assert max(math.prod(shape) for shape in seen.shapes) <= 3 * 128 * 501
    assert not any(shape[-2:] == (501, 501) for shape in seen.shapes)


def test_what_cannot_be_followed_is_refused_in_words():
    trace = random_trace()
    call = trace.calls[0]
    over = Tokens(tuple(map(str, range(17))), stream="source")
    wrong = {
        "another sequence": [replace(call, keys=over)],
        "chained": [call, replace(call, branch=0)],
        "not its map": [replace(call, rule=replace(call.rule, exact=False))],
        "not its map times": [replace(call, projection=None)],
        "features": [replace(call, projection=torch.ones(2, 8, 5, dtype=torch.float64))],
    }
    for words, calls in wrong.items():
        model = Fake(replace(trace, calls=tuple(calls)))
        with pytest.raises(NoRollout, match=words):
            attnviz.explain("norm-based", model, model.sample, start=0)
    model = Fake(trace)
    with pytest.raises(ValueError, match="form"):
        attnviz.explain("norm-based", model, model.sample, form="sum")


def test_a_translator_says_why_not():
    model = attnviz.load("translator")
    sample = model.prepare("The dog sleeps.")
    for name in ("norm-based", "alti", "value zeroing", "attention flow"):
        with pytest.raises(NoRollout, match="another sequence"):
            attnviz.explain(name, model, sample)
    with pytest.raises(UnsupportedMask):
        model.layer_parts(0)
