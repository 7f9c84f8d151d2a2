"""Attention rollout against a dense float64 reference, by hand, and against the faults other code has."""

from __future__ import annotations

import inspect
import itertools
import math
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils._python_dispatch import TorchDispatchMode

import attnviz
from attnviz.attention import Softmax
from attnviz.measures.rollout import residual_norms
from attnviz.methods import METHODS, Method, NoRollout, raw
from attnviz.methods.base import one_row, outside
from attnviz.methods.discard import droppable, thin
from attnviz.methods.rollout import expanded, factors, held, layers, relevance, weighed
from attnviz.models import ViT, ViTConfig
from attnviz.types import (
    AttentionCall,
    LayerParts,
    Mask,
    ModelSpec,
    Norm,
    NoTokenMap,
    Sample,
    Target,
    Tokens,
    Trace,
    UnsupportedMask,
)
from tests.explained import picture_model

torch.manual_seed(0)
SHAPES = [(0, (3, 7)), (1, (4, 4)), (5, (3, 7))]  # prefix, grid


@dataclass(frozen=True)
class Stored(Softmax):
    """A rule that gives back a map it was handed [*batch head query key]."""

    array: torch.Tensor | None = None

    def token_map(self, call, heads, rows):
        return self.array[..., heads, :, :][..., rows, :]


def stored_call(array, tokens, layer, keys=None, **fields) -> AttentionCall:
    """A call with a given map and no query or key worth looking at."""
    array = torch.as_tensor(array, dtype=torch.float64)
    array = array if array.ndim > 2 else array[None]
    keys = keys or tokens
    nothing = [torch.zeros(*array.shape[:-2], len(t), 1, dtype=torch.float64) for t in (tokens, keys, keys)]
    return AttentionCall(f"layer {layer + 1}", layer, Stored(array=array), *nothing, tokens, keys, **fields)


def trace_of(calls, pooling, stream="main") -> Trace:
    """A trace that records calls only."""
    pooling = pooling if isinstance(pooling, torch.Tensor) else torch.as_tensor(pooling, dtype=torch.float64)
    return Trace(None, {}, {}, tuple(calls), {}, {stream: pooling}, {"class": torch.zeros(1, 2)})


def random_trace(prefix=1, grid=(4, 4), depth=3, heads=2, batch=(), mask=None, seed=0) -> Trace:
    """Softmax attention over random queries and keys, float64; the pooling is spread over all tokens."""
    generator = torch.Generator().manual_seed(seed)
    names = ("CLS", *(f"REG {i}" for i in range(1, prefix)))[:prefix]
    tokens = Tokens.patches(*grid, names)

    def draw(*shape):
        return torch.randn(*batch, *shape, generator=generator, dtype=torch.float64)

    calls = [
        AttentionCall(
            f"layer {i + 1}", i, Softmax(), *(draw(heads, len(tokens), 8) for _ in range(3)), tokens, tokens, mask=mask
        )
        for i in range(depth)
    ]
    pooling = draw(len(tokens)).softmax(-1)
    projection = torch.randn(heads, 8, 16, generator=generator, dtype=torch.float64)
    calls = [replace(call, projection=projection, output=call.rule.mix(call)) for call in calls]
    residuals = {"main": tuple(draw(len(tokens), 16) for _ in range(depth + 1))}
    return replace(trace_of(calls, pooling), residuals=residuals)


def reference_fused(maps, prefix, fusion, discard, by_row, diagonal=True):
    """[head query key] -> [query key] by the formula, loops and a sort; written without a look at the code."""
    fused = {"mean": np.mean, "max": np.max, "min": np.min}[fusion](maps, axis=0)
    free = [
        (i, j)
        for i, j in np.ndindex(*fused.shape)
        if i >= prefix and j >= prefix and not (diagonal and i == j) and fused[i, j] > 0
    ]
    out = fused.copy()
    for group in [[p for p in free if p[0] == i] for i in range(len(fused))] if by_row else [free]:
        ordered = sorted(fused[p] for p in group)
        count = math.floor(discard * len(ordered) + 1e-9)
        for p in group:
            if count and fused[p] < ordered[count]:
                out[p] = 0
    return out


def reference(trace, alpha=0.5, fusion="mean", discard=0.0, by_row=False, first=0, last=None) -> np.ndarray:
    """The full rollout matrix F_last ... F_first as a dense product."""
    size = len(trace.calls[0].queries)
    product = np.eye(size)
    for call in trace.calls:
        if first <= call.layer <= (len(trace.calls) - 1 if last is None else last):
            fused = reference_fused(call.token_map().numpy(), call.queries.prefix, fusion, discard, by_row)
            factor = alpha * np.eye(size) + (1 - alpha) * fused
            product = factor / factor.sum(-1, keepdims=True) @ product
    return product


OPTIONS = [
    {"fusion": f, "alpha": a, "discard": d, "by_row": b, "first": s, "last": e}
    for f, a, (d, b), (s, e) in itertools.product(
        ("mean", "max", "min"),
        (0.5, 0.0, 0.8, 1.0),
        ((0.0, False), (0.35, False), (0.9, False), (0.35, True), (0.9, True)),
        ((0, None), (1, None), (0, 1), (1, 1)),
    )
]


@pytest.mark.parametrize(("prefix", "grid"), SHAPES)
def test_row_equals_row_of_the_dense_product(prefix, grid):
    trace = random_trace(prefix, grid)
    size = len(trace.calls[0].queries)
    for options in OPTIONS:
        full = reference(trace, **options)
        row = relevance(trace, **options)["main"]
        assert row.shape == (size,)
        assert np.abs(row.numpy() - trace.pooling["main"].numpy() @ full).max() < 1e-12, options
        rows = relevance(trace, [0, 5, size - 1], **options)["main"]
        assert np.abs(rows.numpy() - full[[0, 5, size - 1]]).max() < 1e-12, options


def test_every_start_is_the_row_it_says():
    trace = random_trace(5, (3, 7))
    full = reference(trace)
    assert np.allclose(relevance(trace, "cls")["main"], full[0], atol=1e-12)
    assert np.allclose(relevance(trace, "mean")["main"], full[5:].mean(0), atol=1e-12)
    assert np.allclose(relevance(trace, 11)["main"], full[11], atol=1e-12)
    given = torch.rand(2, 26, dtype=torch.float64)
    assert np.allclose(relevance(trace, given)["main"], given.numpy() @ full, atol=1e-12)
    assert np.allclose(relevance(trace, given[0])["main"], given[0].numpy() @ full, atol=1e-12)


def test_starts_the_tokens_do_not_have_are_refused():
    trace = random_trace(0, (3, 7))
    for start in ("cls", "middle", 21, -1, torch.ones(20)):
        with pytest.raises(ValueError, match=r"CLS|start"):
            relevance(trace, start)
    for options in ({"fusion": "sum"}, {"alpha": 1.1}, {"discard": 1.0}, {"first": 3}, {"first": 2, "last": 1}):
        with pytest.raises(ValueError, match=r"fusion|residual weight|discard|layers"):
            relevance(trace, **options)


def test_a_target_of_a_sequence_starts_at_its_own_token():
    trace = replace(random_trace(), logits={"next": torch.zeros(17, 9)})
    row = relevance(trace, target=Target("next", 4, 2))["main"]
    assert torch.equal(row, relevance(trace, 4)["main"])
    assert torch.equal(
        relevance(random_trace(), target=Target("class", 0, 1))["main"], relevance(random_trace())["main"]
    )


# Cases by hand


TWO = Tokens(("a", "b"))
FIRST, SECOND = [[0.6, 0.4], [0.2, 0.8]], [[0.5, 0.5], [0.1, 0.9]]


def two_layers(*maps) -> torch.Tensor:
    """The rollout matrix of layers with the given maps, first layer first."""
    calls = [stored_call(m, TWO, i) for i, m in enumerate(maps)]
    return relevance(trace_of(calls, [1.0, 0.0]), [0, 1])["main"]


def test_two_layers_by_hand():
    assert torch.allclose(
        two_layers(FIRST, SECOND), torch.tensor([[0.625, 0.375], [0.135, 0.865]], dtype=torch.float64)
    )
    calls = [stored_call(m, TWO, i) for i, m in enumerate((FIRST, SECOND))]
    without = relevance(trace_of(calls, [1.0, 0.0]), [0, 1], alpha=0.0)["main"]
    assert torch.allclose(without, torch.tensor([[0.4, 0.6], [0.24, 0.76]], dtype=torch.float64))


def test_reversed_product_is_another_matrix():
    """pnpxai multiplies first layer times last; the numbers of that mistake are known and must not come out."""
    backwards = torch.tensor([[0.61, 0.39], [0.12, 0.88]], dtype=torch.float64)
    assert torch.allclose(two_layers(SECOND, FIRST), backwards)
    assert (two_layers(FIRST, SECOND) - backwards).abs().max() > 0.014
    trace = random_trace(depth=4, seed=3)
    turned = replace(trace, calls=tuple(replace(c, layer=3 - c.layer) for c in reversed(trace.calls)))
    assert (relevance(trace, "cls")["main"] - relevance(turned, "cls")["main"]).abs().max() > 1e-3


def test_rows_are_normalised_not_columns():
    """vit-explain divides by a.sum(-1) without keepdim: every column by the sum of the row of its number."""
    a = [[0.7, 0.2, 0.1], [0.1, 0.8, 0.1], [0.6, 0.3, 0.1]]
    b = [[0.2, 0.5, 0.3], [0.3, 0.3, 0.4], [0.1, 0.1, 0.8]]
    trace = trace_of([stored_call([a, b], Tokens(("a", "b", "c")), 0)], [1.0, 0.0, 0.0])
    found = relevance(trace, [0, 1, 2], fusion="max")["main"].numpy()
    by_hand = [[0.68, 0.2, 0.12], [0.12, 0.72, 0.16], [2 / 9, 1 / 9, 2 / 3]]
    assert np.allclose(found, by_hand, atol=1e-12)
    mixed = 0.5 * (np.maximum(a, b) + np.eye(3))
    wrong = mixed / mixed.sum(-1)
    assert np.allclose([wrong[0, 2], wrong[1, 2], wrong[2, 0], wrong[2, 1]], [0.1111, 0.1481, 0.24, 0.12], atol=1e-4)
    assert np.abs(found - wrong).max() > 0.008


# Discard


def test_discard_leaves_prefix_and_diagonal_and_each_rows_share():
    for (prefix, grid), by_row in itertools.product(SHAPES, (False, True)):
        call = random_trace(prefix, grid, seed=2).calls[0]
        size = len(call.queries)
        before = call.token_map().mean(0)
        (after,) = factors(trace_of([call], torch.ones(size) / size), "mean", 0.6, by_row)
        gone = (after == 0) & (before > 0)
        assert torch.equal(after[~gone], before[~gone])
        assert not gone[:prefix].any()
        assert not gone[:, :prefix].any()
        assert not gone.diagonal().any()
        patches = size - prefix
        if by_row:
            assert (gone[prefix:].sum(-1) == math.floor(0.6 * (patches - 1) + 1e-9)).all()
        else:
            assert gone.sum() == math.floor(0.6 * patches * (patches - 1) + 1e-9)


def test_ties_stay_together():
    entries = torch.tensor([0.1, 0.2, 0.2, 0.2, 0.3])
    every = torch.ones(5, dtype=torch.bool)
    assert thin(entries, every, 0.2).tolist() == pytest.approx([0, 0.2, 0.2, 0.2, 0.3])
    assert thin(entries, every, 0.6).tolist() == pytest.approx([0, 0.2, 0.2, 0.2, 0.3])  # all three ties stay
    assert thin(entries, every, 0.8).tolist() == pytest.approx([0, 0, 0, 0, 0.3])
    assert thin(torch.full((5,), 0.2), every, 0.99).tolist() == pytest.approx([0.2] * 5)
    assert thin(entries, every & (entries < 0.25), 0.5).tolist() == pytest.approx([0, 0.2, 0.2, 0.2, 0.3])
    assert thin(entries, ~every, 0.9).tolist() == entries.tolist()


def test_shares_are_of_what_may_go_and_counted_in_whole_entries():
    """Zeros of a mask are none of the entries; 0.29 of a hundred is 29, though .29 * 100 is 28.999..."""
    row = torch.tensor([0.0, 0.0, 0.2, 0.3, 0.5], dtype=torch.float64)
    hundred = torch.arange(1.0, 101, dtype=torch.float64) / 100
    for batch in (row[None], row.expand(2, -1)):  # one row is selected from, several are sorted
        found = thin(batch, torch.ones(5, dtype=torch.bool), 0.5)
        assert found.tolist() == [[0, 0, 0, 0.3, 0.5]] * len(batch)
    for batch in (hundred[None], hundred.expand(2, -1)):
        for share in range(100):
            gone = (thin(batch, torch.ones(100, dtype=torch.bool), share / 100) == 0).sum(-1)
            assert gone.tolist() == [share] * len(batch)


def test_uniform_attention_is_not_thinned():
    """Nothing is smaller than anything else, so no place in the picture may be favoured."""
    tokens = Tokens.patches(3, 7, ("CLS",))
    uniform = torch.full((1, 22, 22), 1 / 22, dtype=torch.float64)
    trace = trace_of([stored_call(uniform, tokens, i) for i in range(3)], torch.ones(22) / 22)
    assert torch.equal(relevance(trace, discard=0.9)["main"], relevance(trace)["main"])


def test_batch_items_are_independent():
    trace = random_trace(batch=(3,), seed=5)
    for options in ({}, {"fusion": "max"}, {"discard": 0.7}, {"discard": 0.7, "by_row": True, "fusion": "min"}):
        together = relevance(trace, **options)["main"]
        several = relevance(trace, [0, 3], **options)["main"]
        assert together.shape == (3, 17)
        assert several.shape == (3, 2, 17)
        for item in range(3):
            calls = [replace(c, query=c.query[item], key=c.key[item], value=c.value[item]) for c in trace.calls]
            alone = trace_of(calls, trace.pooling["main"][item])
            assert torch.allclose(together[item], relevance(alone, **options)["main"], atol=1e-14)
            assert torch.allclose(several[item], relevance(alone, [0, 3], **options)["main"], atol=1e-14)


# Masks, streams, chains


def test_masked_tokens_get_nothing_and_empty_rows_keep_what_they_have():
    keep = torch.ones(17, dtype=torch.bool)
    keep[[3, 8]] = False
    row = relevance(random_trace(mask=Mask(key_padding=keep)), 0)["main"]
    assert row[3] == 0
    assert row[8] == 0
    assert row.sum() == pytest.approx(1, abs=1e-12)
    closed = torch.ones(1, 17, 17, dtype=torch.bool)
    closed[:, 4] = False
    trace = random_trace(mask=Mask(keep=closed))
    for options in ({}, {"alpha": 0.0}, {"fusion": "min"}, {"fusion": "max", "discard": 0.5}):
        row = relevance(trace, 4, **options)["main"]
        assert row[4] == pytest.approx(1, abs=1e-12)
        assert row.sum() == pytest.approx(1, abs=1e-12)
        assert relevance(trace, 2, **options)["main"].isfinite().all()
    causal = relevance(random_trace(mask=Mask(causal=True)), 6)["main"]
    assert (causal[7:] == 0).all()
    assert (causal[:7] > 0).all()


def test_relevance_crosses_from_one_stream_to_another():
    """A decoder of one layer over an encoder of one layer, against dense products written out."""
    source, target = Tokens(("un", "chien", "noir"), stream="source"), Tokens(("a", "dog"), stream="target")
    maps = [torch.rand(2, q, k, dtype=torch.float64).softmax(-1) for q, k in ((3, 3), (2, 2), (2, 3))]
    calls = [
        stored_call(maps[0], source, 0),
        stored_call(maps[1], target, 0),
        stored_call(maps[2], target, 0, keys=source, branch=1),
    ]
    rows = relevance(trace_of(calls, [0.0, 1.0], "target"), alpha=0.3)
    encode, itself, cross = (m.mean(0) for m in maps)
    start = torch.tensor([0.0, 1.0], dtype=torch.float64)
    kept = 0.3 * start
    assert torch.allclose(rows["target"], 0.3 * kept + 0.7 * kept @ itself)
    arrived = 0.7 * start @ cross
    assert torch.allclose(rows["source"], 0.3 * arrived + 0.7 * arrived @ encode)
    assert sum(float(r.sum()) for r in rows.values()) == pytest.approx(1, abs=1e-12)
    model = Fake(trace_of(calls, [0.0, 1.0], "target"))
    assert torch.equal(attnviz.explain("rollout", model, model.sample, alpha=0.3), rows["source"])
    looked = attnviz.explain("raw attention", model, model.sample)
    assert torch.allclose(looked, cross[1])


def test_a_stream_never_reached_is_left_alone():
    """A grid change between stages ends the rollout: the later grid's row comes back."""
    early, late = Tokens(("a", "b", "c", "d"), stream="stage 1"), Tokens(("e", "f"), stream="stage 2")
    map_ = torch.rand(1, 2, 2, dtype=torch.float64).softmax(-1)
    calls = [stored_call(torch.rand(1, 4, 4).softmax(-1), early, 0), stored_call(map_, late, 1)]
    rows = relevance(trace_of(calls, [0.5, 0.5], "stage 2"))
    assert set(rows) == {"stage 2"}
    assert torch.allclose(
        rows["stage 2"], torch.tensor([0.5, 0.5], dtype=torch.float64) @ (0.5 * map_[0] + 0.5 * torch.eye(2))
    )
    with pytest.raises(NoRollout):
        relevance(trace_of(calls, [0.5, 0.5], "stage 2"), last=0)


@pytest.mark.parametrize("fusion", ["mean", "max", "min"])
def test_calls_of_one_branch_are_chained_before_the_residual(fusion):
    """Axial attention: along rows, then along columns, then one sum with the input."""
    tokens = Tokens(tuple("abcde"))
    maps = [torch.rand(2, 5, 5, dtype=torch.float64).softmax(-1) for _ in range(2)]
    trace = trace_of([stored_call(m, tokens, 0) for m in maps], torch.rand(5, dtype=torch.float64))
    reduce = {"mean": np.mean, "max": np.max, "min": np.min}[fusion]
    along, across = (reduce(m.numpy(), 0) for m in maps)
    factor = 0.4 * np.eye(5) + 0.6 * across @ along
    factor /= factor.sum(-1, keepdims=True)
    assert np.allclose(
        relevance(trace, fusion=fusion, alpha=0.4)["main"], trace.pooling["main"].numpy() @ factor, atol=1e-12
    )


def test_a_branch_without_residual_keeps_nothing():
    call = stored_call(FIRST, TWO, 0, residual=False)
    assert torch.allclose(relevance(trace_of([call], [1.0, 0.0]))["main"], torch.tensor(FIRST[0], dtype=torch.float64))


# Refusals and promises


def test_maps_that_cannot_be_multiplied_are_refused_with_a_sentence():
    call = stored_call(FIRST, TWO, 0)
    signed = replace(call, rule=replace(call.rule, stochastic=False))
    for run in (relevance, factors, raw.attention):
        with pytest.raises(NoRollout, match=r"layer 1: .* not defined"):
            run(trace_of([signed], [1.0, 0.0]))

    class Nothing(Stored):
        def token_map(self, call, heads, rows):
            raise NoTokenMap("attends over channels")

    with pytest.raises(NoTokenMap, match="channels"):
        relevance(trace_of([replace(call, rule=Nothing())], [1.0, 0.0]))


def test_two_calls_equal_one_and_nothing_is_left_behind():
    network = ViT(ViTConfig(size=24, patch=4, width=16, layers=3, heads=2, classes=5))
    trace = network(torch.rand(3, 24, 24))  # made with gradients on purpose
    tensors = [t for c in trace.calls for t in (c.query, c.key, c.value, c.output)] + [*trace.pooling.values()]
    before = [t.detach().clone() for t in tensors]
    for options in OPTIONS[::7]:
        once, twice = relevance(trace, **options)["main"], relevance(trace, **options)["main"]
        assert torch.equal(once, twice)
        assert not once.requires_grad
    assert all(torch.equal(a, b) for a, b in zip(before, tensors, strict=True))
    assert not any(m._forward_hooks or m._backward_hooks for m in network.modules())


def test_layers_are_rollouts_that_start_later_and_cost_nothing_more():
    trace = random_trace(depth=4)
    steps = layers(trace, fusion="max", discard=0.4)
    assert [s.layer for s in steps] == [3, 2, 1, 0]
    for step in steps:
        alone = relevance(trace, fusion="max", discard=0.4, first=step.layer)["main"]
        assert torch.equal(step.rows["main"], alone)


def test_factors_give_the_same_rows():
    trace = random_trace(5, (3, 7))
    for fusion, discard, by_row in (("mean", 0.0, False), ("max", 0.5, False), ("min", 0.5, True)):
        opened = held(trace, factors(trace, fusion, discard, by_row))
        for alpha in (0.2, 0.7):
            expected = relevance(trace, "mean", alpha=alpha, fusion=fusion, discard=discard, by_row=by_row)["main"]
            assert torch.allclose(relevance(trace, "mean", alpha=alpha, opened=opened)["main"], expected, atol=1e-14)


def test_raw_attention_is_one_layers_row():
    trace = random_trace()
    last = trace.calls[-1].token_map()
    assert torch.allclose(raw.attention(trace, "cls"), last.mean(0)[0])
    assert torch.allclose(raw.attention(trace, [2, 5], layer=1), trace.calls[1].token_map().mean(0)[[2, 5]])
    peaks = last.amax(0)[3]
    assert torch.allclose(raw.attention(trace, 3, fusion="max"), peaks / peaks.sum())
    with pytest.raises(ValueError, match="layers 3 to 3 asked"):
        raw.attention(trace, layer=3)


def test_raw_attention_of_a_token_with_nothing_to_attend_to_stays():
    none = torch.zeros(17, dtype=torch.bool)
    trace = random_trace(mask=Mask(key_padding=none))
    assert torch.equal(raw.attention(trace), trace.pooling["main"])
    one = torch.ones(1, 17, 17, dtype=torch.bool)
    one[:, 4] = False
    trace = random_trace(mask=Mask(keep=one))
    expected = trace.pooling["main"] @ trace.calls[-1].token_map().mean(0)
    expected[4] += trace.pooling["main"][4]
    assert torch.allclose(raw.attention(trace), expected)


DEFAULTS = {
    "rollout": {
        "start": "answer",
        "fusion": "mean",
        "alpha": 0.5,
        "discard": 0.0,
        "by_row": False,
        "first": 0,
        "last": None,
    },
    "raw attention": {"start": "answer", "fusion": "mean", "layer": 2},
}


@pytest.mark.parametrize("name", DEFAULTS)
def test_a_method_without_options_has_the_usual_ones(name):
    """The numbers without options are those of every default written out, and each option is heard."""
    model = Fake(random_trace(1, (3, 7)))
    usual = attnviz.explain(name, model, model.sample)
    assert torch.equal(usual, attnviz.explain(name, model, model.sample, **DEFAULTS[name]))
    other = {"start": 3, "fusion": "max", "alpha": 0.4, "discard": 0.5, "first": 1, "last": 1, "layer": 1}
    for option in DEFAULTS[name].keys() & other.keys():
        found = attnviz.explain(name, model, model.sample, **{option: other[option]})
        assert not torch.allclose(usual, found), option
    if name == "rollout":
        expected = model.trace.pooling["main"].numpy() @ reference(model.trace, 0.5)
        assert np.allclose(usual, expected, atol=1e-12)


class Sizes(TorchDispatchMode):
    """Notes the shape of every tensor that any operation creates."""

    def __init__(self):
        super().__init__()
        self.shapes: set[tuple[int, ...]] = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        for made in result if isinstance(result, tuple | list) else (result,):
            if isinstance(made, torch.Tensor):
                self.shapes.add(tuple(made.shape))
        return result


@pytest.mark.parametrize("fusion", ["mean", "max", "min"])
def test_no_square_map_is_ever_made_without_discard(fusion):
    trace = random_trace(1, (20, 25), heads=3)  # 501 tokens
    with Sizes() as seen:
        relevance(trace, fusion=fusion)
        relevance(trace, fusion=fusion, discard=0.9, by_row=True)
        raw.attention(trace, fusion=fusion)
    assert max(math.prod(shape) for shape in seen.shapes) <= 3 * 128 * 501
    assert not any(shape[-2:] == (501, 501) for shape in seen.shapes)


@pytest.mark.parametrize("alpha", [0.0, 0.3, 0.5, 1.0])
def test_one_walk_gives_the_rollout_of_every_residual_weight(alpha):
    trace = random_trace(2, (3, 5), depth=4, batch=(2,))
    found = [weighed(step, alpha) for step in expanded(trace, "mean")]
    wanted = [step.rows["main"] for step in layers(trace, "mean", alpha=alpha)]
    assert len(found) == len(wanted) == 4
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-12)


def test_one_walk_for_every_weight_makes_no_square_map():
    trace = random_trace(1, (20, 25), heads=3)
    with Sizes() as seen:
        expanded(trace)
    assert max(math.prod(shape) for shape in seen.shapes) <= 3 * 128 * 501


def test_masked_and_chained_maps_are_not_rolled_out_for_every_weight_at_once():
    keep = torch.ones(17, dtype=torch.bool)
    keep[3] = False
    masked = random_trace(mask=Mask(key_padding=keep))
    chained = random_trace()
    chained = replace(chained, calls=tuple(replace(call, layer=call.layer // 2) for call in chained.calls))
    for trace in (masked, chained):
        with pytest.raises(NoRollout):
            expanded(trace)


def test_half_precision_rows_still_sum_to_one():
    trace = random_trace()
    half = [replace(c, query=c.query.bfloat16(), key=c.key.bfloat16()) for c in trace.calls]
    row = relevance(trace_of(half, trace.pooling["main"].bfloat16()))["main"]
    assert row.dtype == torch.float32
    assert float(row.sum()) == pytest.approx(float(trace.pooling["main"].bfloat16().float().sum()), abs=1e-3)


# The table


class Fake:
    """A model whose forward pass is a hand-made trace."""

    name, title, digest, record, device = "fake", "Fake", "0", "", torch.device("cpu")
    facts, outputs, superclasses = {}, {"class": ("a", "b")}, ()
    tokenizer = input_embeddings = patch_projection = None
    spec = ModelSpec("image", 3, 2, 16)
    to = prepare = logits_from = layer = staticmethod(lambda *given, **options: None)

    def layer_parts(self, index):
        """Pre-norm, without a bias or an MLP."""
        norm = Norm(torch.ones(16, dtype=torch.float64))
        return LayerParts(True, norm, norm, None, lambda x, tokens: (x, x), lambda x: x)

    def __init__(self, trace):
        self.trace, self.runs = trace, 0
        self.sample = Sample("0", {}, {"main": trace.calls[0].queries})

    def __call__(self, sample, **options):
        self.runs += 1
        return self.trace


AGNOSTIC = [name for name, method in METHODS.items() if not method.needs_class]  # the others run the model again


@pytest.mark.parametrize("name", AGNOSTIC)
def test_every_method_gives_one_number_per_token(name):
    trace = random_trace(5, (3, 7))
    model = Fake(trace)
    sample = model.sample
    relevances = attnviz.explain(name, model, sample)
    assert relevances.shape == (26,)
    assert relevances.isfinite().all()
    assert model.runs == 1
    assert torch.equal(attnviz.explain(name, model, sample, trace=trace), relevances)
    assert model.runs == 1
    assert METHODS[name].signed or (relevances >= 0).all()
    assert METHODS[name].help
    assert METHODS[name].title
    if METHODS[name].takes_start:
        assert float(attnviz.explain(name, model, sample, start="mean").sum()) == pytest.approx(1, abs=1e-9)


def made_up():
    """A model of a made-up trace, and its sample."""
    model = Fake(random_trace(1, (3, 7)))
    return model, model.sample


@pytest.mark.parametrize("name", list(METHODS))
def test_declared_options_are_the_keywords_of_the_method(name):
    """Names and defaults are those of `explain`, and every value that is declared is taken."""
    method = METHODS[name]
    model, sample = picture_model((3, 7)) if method.needs_class else made_up()
    keywords = inspect.signature(method.explain).parameters
    assert method.takes_start == ("start" in keywords)
    for option in method.options:
        assert keywords[option.name].default == option.default, option.name
        numbers = (int(option.range[0]), int(option.range[1]))
        values = {"choice": option.choices, "share": option.range, "number": numbers, "toggle": (False, True)}
        values["layer"] = (0, 2)
        assert option.kind != "choice" or option.default in option.choices
        for value in values[option.kind]:
            assert attnviz.explain(name, model, sample, **{option.name: value}).shape == (22,)
    assert len({option.name for option in method.options}) == len(method.options)


def test_a_method_that_needs_gradients_gets_a_trace_that_has_them(monkeypatch):
    def grad(model, sample, target=None, *, trace=None, **options):
        """Weights times their gradients, over the last layer."""
        y = trace.logits["class"].max()
        return trace.calls[-1].gradient(y).square().sum((-3, -1))

    monkeypatch.setitem(METHODS, "grad", Method("Gradient", grad, needs_gradients=True))
    model = attnviz.load("vit-digits")
    sample = model.prepare(Image.linear_gradient("L"))
    with torch.no_grad():
        given = model(sample)  # as pages keep it: without a graph
        found = attnviz.explain("grad", model, sample, trace=given)
    assert found.shape == (len(sample.tokens["main"]),)
    assert float(found.sum()) > 0
    blind = Fake(random_trace())
    with pytest.raises(UnsupportedMask, match="no embeddings"):
        attnviz.explain("grad", blind, blind.sample)


def test_an_unknown_method_names_the_known_ones():
    model = Fake(random_trace())
    with pytest.raises(ValueError, match="rollout, raw attention"):
        attnviz.explain("grad-cam", model, model.sample)


def test_rollout_of_a_shipped_model():
    model = attnviz.load("vit-digits")
    sample = model.prepare(Image.linear_gradient("L"))
    row = attnviz.explain("rollout", model, sample)
    assert row.shape == (len(sample.tokens["main"]),)
    assert float(row.sum()) == pytest.approx(1, abs=1e-5)


# How long the vectors of the residual path are


@pytest.mark.parametrize("shape", [{"registers": 1}, {"variant": "axial", "cls": False, "pooling": "mean"}])
def test_residual_norms_against_the_network(shape):
    """Axial attention chains two calls in one branch: only the second writes into the residual."""
    network = ViT(ViTConfig(size=24, patch=4, width=16, layers=3, heads=2, classes=5, **shape)).eval()
    with torch.no_grad():
        for block in network.blocks:
            block.attention.out.bias.normal_()
        trace = network(torch.rand(3, 24, 24))
        kept, added = residual_norms(trace)
        for i, block in enumerate(network.blocks):
            x = trace.residuals["main"][i]
            y, _ = block.attention(block.attention_norm(x), queries=trace.calls[0].queries)
            assert torch.allclose(added[i], (y - block.attention.out.bias).norm(dim=-1).mean(), atol=1e-5)
            assert torch.allclose(kept[i], x.norm(dim=-1).mean())
        assert len(kept) == len(added) == 3
    with pytest.raises(ValueError, match="no projection"):
        residual_norms(replace(trace, calls=tuple(replace(c, projection=None) for c in trace.calls)))


def test_special_tokens_of_a_text_are_no_words():
    tokens = Tokens(("CLS", "cat", "s", "SEP"), words=(-1, 0, 0, -1))
    assert outside(tokens).tolist() == [True, False, False, True]
    assert one_row(tokens, "mean", torch.zeros(1)).tolist() == [0, 0.5, 0.5, 0]
    alone = Tokens(("BOS",), words=(-1,))
    assert one_row(alone, "mean", torch.zeros(1)).tolist() == [1]
    call = AttentionCall("layer 1", 0, Softmax(), *torch.randn(3, 1, 4, 8), queries=tokens, keys=tokens)
    assert droppable(call, [0, 1, 2, 3]).nonzero().tolist() == [[1, 2], [2, 1]]


def test_residual_norms_of_a_stage_whose_layers_count_on():
    """Layers three and four are the first two of their stage; lengths are means over tokens."""
    generator = torch.Generator().manual_seed(0)
    tokens = Tokens.patches(1, 3, stream="stage 2")

    def draw(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    calls, projection = [], torch.randn(2, 5, 7, generator=generator, dtype=torch.float64)
    for layer in (3, 4):
        query, key, value, output = draw(2, 3, 4), draw(2, 3, 4), draw(2, 3, 5), draw(2, 3, 5)
        calls.append(
            AttentionCall(
                "x", layer, Softmax(), query, key, value, tokens, tokens, output=output, projection=projection
            )
        )
    residuals = tuple(draw(3, 7) for _ in range(3))
    trace = replace(trace_of(calls, torch.ones(3), "stage 2"), residuals={"stage 2": residuals})
    before, added = residual_norms(trace, "stage 2")
    assert before.shape == added.shape == (2,)
    for at, call in enumerate(calls):
        wide = call.output[0] @ projection[0] + call.output[1] @ projection[1]
        assert torch.allclose(before[at], residuals[at].square().sum(-1).sqrt().mean(-1))
        assert torch.allclose(added[at], wide.square().sum(-1).sqrt().mean(-1))
