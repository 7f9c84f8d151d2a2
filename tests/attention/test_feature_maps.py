"""Linear attention and Performer: closed forms, performer-pytorch, recurrence, error against softmax, memory."""

from __future__ import annotations

import math
import warnings
from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from attnviz.attention import Softmax
from attnviz.attention.rules.feature_maps import EluFeatures, RandomFeatures, orthogonal_directions, softmax_error
from attnviz.attention.variants.linear import LinearAttention, Performer
from attnviz.types import AttentionCall, Mask, Rule, Tokens, UnsupportedMask
from tests.counting import largest, multiply_adds
from tests.variants import features, plain, variant

with warnings.catch_warnings():  # it imports distutils and an old name of autocast
    warnings.simplefilter("ignore")
    from performer_pytorch import performer_pytorch as reference

HEADS, COUNT, DIM = 2, 9, 8
RULES = [EluFeatures(), RandomFeatures(orthogonal_directions(32, DIM, torch.Generator().manual_seed(5)), 5)]
NAMED = pytest.mark.parametrize("rule", RULES, ids=["linear", "performer"])


def noise(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    """Standard normal numbers, the same for the same seed."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def call_of(rule: Rule, n_q: int = COUNT, n_k: int = COUNT, size: float = 1.0, **fields: Any) -> AttentionCall:
    """A call made by hand from random query, key and value."""
    dtype = fields.pop("dtype", torch.float64)
    query, key, value = (noise(HEADS, n, DIM, seed=s, dtype=dtype) for n, s in ((n_q, 1), (n_k, 2), (n_k, 3)))
    made = {"query": size * query, "key": size * key, "value": value, "queries": plain(n_q), "keys": plain(n_k)}
    call = AttentionCall(name="by hand", layer=0, rule=rule, scale=DIM**-0.5, **(made | fields))
    return replace(call, output=call.rule.mix(call))


@pytest.mark.parametrize("causal", [False, True])
def test_linear_by_double_loop(causal: bool) -> None:
    """y_i = sum_j phi(q_i) . phi(k_j) v_j / sum_j phi(q_i) . phi(k_j), phi = elu + 1."""
    call = call_of(EluFeatures(), mask=Mask(causal=True) if causal else None)
    for head in range(HEADS):
        query, key = F.elu(call.query[head]) + 1, F.elu(call.key[head]) + 1
        for i in range(COUNT):
            seen = range(i + 1) if causal else range(COUNT)
            products = {j: query[i] @ key[j] for j in seen}
            total = sum(products.values())
            expected = sum(products[j] * call.value[head, j] for j in seen) / total
            torch.testing.assert_close(call.output[head, i], expected, atol=1e-14, rtol=0)
            weights = torch.stack([products[j] / total if j in products else torch.zeros(()) for j in range(COUNT)])
            torch.testing.assert_close(call.token_map([head], [i])[0, 0], weights.double(), atol=1e-14, rtol=0)


def test_performer_by_double_loop() -> None:
    """phi(x) = exp(w x - |x|² / 2) / √m with x = q d^(-1/4), written out without any stabiliser."""
    rule = RULES[1]
    call = call_of(rule)

    def phi(vector: Tensor) -> Tensor:
        x = vector * DIM**-0.25
        return (rule.directions @ x - x @ x / 2).exp() / math.sqrt(len(rule.directions))

    for head in range(HEADS):
        for i in range(COUNT):
            products = torch.stack([phi(call.query[head, i]) @ phi(call.key[head, j]) for j in range(COUNT)])
            weights = products / products.sum()
            torch.testing.assert_close(call.token_map([head], [i])[0, 0], weights, atol=1e-14, rtol=0)
            torch.testing.assert_close(call.output[head, i], weights @ call.value[head], atol=1e-13, rtol=0)


def test_performer_features_of_performer_pytorch() -> None:
    """Its features, without the constant it adds to each, up to factors that cancel; its output; its causal output."""
    rule, call = RULES[1], call_of(RULES[1], dtype=torch.float32)
    options = {"projection_matrix": rule.directions.float(), "eps": 0}
    query = reference.softmax_kernel(call.query[None], is_query=True, **options)
    key = reference.softmax_kernel(call.key[None], is_query=False, **options)
    products = query @ key.transpose(-1, -2)
    expected = (products / products.sum(-1, keepdim=True))[0]
    torch.testing.assert_close(call.token_map(), expected, atol=1e-5, rtol=0)
    theirs = reference.linear_attention(query, key, call.value[None])[0]
    torch.testing.assert_close(call.output, theirs, atol=1e-5, rtol=0)
    causal = call_of(rule, dtype=torch.float32, mask=Mask(causal=True))
    theirs = reference.causal_linear_attention_noncuda(query, key, call.value[None], eps=0, chunk_size=4)[0]
    torch.testing.assert_close(causal.output, theirs, atol=1e-5, rtol=0)


def test_directions_are_orthogonal_and_as_long_as_normal_ones() -> None:
    directions = orthogonal_directions(4096, 16, torch.Generator().manual_seed(0))
    units = F.normalize(directions[:16])
    torch.testing.assert_close(units @ units.T, torch.eye(16, dtype=torch.float64))
    assert directions.square().sum(-1).mean().item() == pytest.approx(16, rel=0.02)
    assert directions.mean(0).abs().max() < 0.06
    assert orthogonal_directions(5, 16, torch.Generator()).shape == (5, 16)


def test_performer_comes_near_softmax_as_features_grow() -> None:
    """Queries and keys as wide as at the start of training; the spread of exp(q k) makes unit variance far worse."""
    errors = []
    for count in (64, 1024, 4096):
        drawn = [orthogonal_directions(count, DIM, torch.Generator().manual_seed(seed)) for seed in range(3)]
        calls = [call_of(RandomFeatures(directions), 64, 64, 3**-0.5) for directions in drawn]
        errors.append(torch.stack([call.rule.error(call).output for call in calls]).mean().item())
    assert errors[0] > 2 * errors[1] > 2 * 1.4 * errors[2]
    assert errors[2] < 0.08 < 0.2 < errors[0]


def test_error_against_softmax_by_hand() -> None:
    call = call_of(RULES[1], mask=Mask(key_padding=torch.arange(COUNT) < 6))
    exact = call.with_rule(Softmax())
    error = softmax_error(call)
    for ours, found, wanted in (
        (error.map, call.token_map(), exact.token_map()),
        (error.output, call.output, exact.output),
    ):
        torch.testing.assert_close(ours, torch.linalg.matrix_norm(found - wanted) / torch.linalg.matrix_norm(wanted))
    torch.testing.assert_close(softmax_error(exact).map, torch.zeros(HEADS, dtype=torch.float64))
    assert "32 random features (seed 5)" in call.rule.caveat


@NAMED
@pytest.mark.parametrize("size", [0.0, 1.0, 30.0, 1e4])
@pytest.mark.parametrize("causal", [False, True])
def test_scores_of_any_size_give_rows_that_sum_to_one(rule: Rule, size: float, causal: bool) -> None:
    mask = Mask(causal=True) if causal else None
    call = call_of(rule, 200, 200, size, dtype=torch.float32, mask=mask)
    torch.testing.assert_close(call.token_map().sum(-1), torch.ones(HEADS, 200))
    assert (call.token_map() >= 0).all()
    torch.testing.assert_close(call.output, call.token_map() @ call.value, atol=1e-4, rtol=0)
    query = call.query.clone().requires_grad_()
    key = call.key.clone().requires_grad_()
    replace(call, query=query, key=key).rule.mix(replace(call, query=query, key=key)).square().sum().backward()
    assert query.grad is not None
    assert query.grad.isfinite().all()
    assert key.grad is not None
    assert key.grad.isfinite().all()


@pytest.mark.parametrize("size", [1.0, 12.0, 40.0])
def test_features_far_apart_are_weighed_as_they_are(size: float) -> None:
    """Keys so long that all their features are tiny: the same in logarithms, where nothing is rounded off."""
    rule = RULES[1]
    call = call_of(rule, size=1.0)
    call = replace(call, key=size * call.key)
    query, key = (vectors * DIM**-0.25 for vectors in (call.query, call.key))
    by_feature = (query @ rule.directions.T)[:, :, None] + (key @ rule.directions.T)[:, None]
    logs = by_feature.logsumexp(-1) - key.square().sum(-1)[:, None] / 2
    torch.testing.assert_close(call.token_map(), logs.softmax(-1), atol=1e-12, rtol=0)


@NAMED
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_masked_key_gets_nothing_at_all(rule: Rule, dtype: torch.dtype) -> None:
    keep = torch.arange(COUNT) % 3 > 0
    call = call_of(rule, mask=Mask(key_padding=keep), dtype=dtype)
    assert (call.token_map()[..., ~keep] == 0).all()
    assert (call.token_map()[..., keep] > 0).all()
    empty = call_of(rule, mask=Mask(key_padding=torch.zeros(COUNT, dtype=torch.bool)), dtype=dtype)
    assert not empty.token_map().any()
    assert not empty.output.any()


@NAMED
@pytest.mark.parametrize("value", [-1.0, 0.0, -1e3])
def test_gradients_are_finite_where_a_feature_map_bends(rule: Rule, value: float) -> None:
    query, key = (torch.full((HEADS, COUNT, DIM), value, dtype=torch.float64).requires_grad_() for _ in range(2))
    call = call_of(rule, query=query, key=key)
    for gradient in torch.autograd.grad(call.output.square().sum(), (query, key)):
        assert gradient.isfinite().all()


@NAMED
def test_parallel_is_recurrent(rule: Rule) -> None:
    """Token by token through the state, 150 tokens: two chunks and a part of the parallel form."""
    call, state, outputs = call_of(rule, 150, 150, mask=Mask(causal=True)), None, []
    for i in range(150):
        one = {name: getattr(call, name)[:, i : i + 1] for name in ("query", "key", "value")}
        output, state = rule.advance(replace(call, queries=plain(1), keys=plain(1), mask=None, **one), state)
        outputs.append(output)
    torch.testing.assert_close(torch.cat(outputs, -2), call.output, atol=4e-14, rtol=0)
    torch.testing.assert_close(call.token_map() @ call.value, call.output, atol=4e-14, rtol=0)


@pytest.mark.parametrize("name", ["linear", "performer"])
def test_decoding_reads_the_state_alone(name: str) -> None:
    """The state does not grow, is as large as cost says, and the keys beside it are for the pictures only."""
    network, x = variant(name, tokens=plain(40)), features(40)
    whole, _ = network(x, queries=plain(40), mask=Mask(causal=True))
    past, sizes = None, set()
    for i in range(40):
        y, (call,), past = network.decode(x[i : i + 1], past, queries=plain(1), keys=plain(i + 1))
        torch.testing.assert_close(y[0], whole[i], atol=1e-13, rtol=0)
        assert call.token_map().shape == (4, 1, i + 1)
        sizes.add(4 * sum(part.numel() for part in past.state if part.numel() > 1))
        past = past._replace(keys_values=past.keys_values * 0)
    assert sizes == {network.cost(40, 40).state_bytes}


@pytest.mark.parametrize("name", ["linear", "performer"])
def test_decoding_keeps_keys_and_values_in_order(name: str) -> None:
    """In steps of five, two and one tokens: each map is the last rows of the whole one."""
    network, x = variant(name, tokens=plain(8)), features(8)
    _, (whole,) = network(x, queries=plain(8), mask=Mask(causal=True))
    past = None
    for start, stop in ((0, 5), (5, 7), (7, 8)):
        tokens = plain(8).labels
        queries, keys = Tokens(tokens[start:stop]), Tokens(tokens[:stop])
        _, (call,), past = network.decode(x[start:stop], past, queries=queries, keys=keys)
        torch.testing.assert_close(call.key, whole.key[:, :stop])
        torch.testing.assert_close(call.value, whole.value[:, :stop])
        expected = whole.token_map()[:, start:stop, :stop]
        torch.testing.assert_close(call.token_map(), expected, atol=1e-10 if name == "linear" else 1e-6, rtol=0)
        torch.testing.assert_close(call.token_map() @ call.value, call.output, atol=1e-6, rtol=0)


@pytest.mark.parametrize("name", ["linear", "performer"])
def test_tokens_without_positions_are_a_bag(name: str) -> None:
    network, x = variant(name, tokens=plain(COUNT)), features(COUNT)
    order = torch.randperm(COUNT, generator=torch.Generator().manual_seed(2))
    (y, (call,)), (shuffled, (other,)) = (network(each, queries=plain(COUNT)) for each in (x, x[order]))
    torch.testing.assert_close(shuffled, y[order], atol=1e-13, rtol=0)
    torch.testing.assert_close(other.token_map(), call.token_map()[:, order][:, :, order], atol=1e-13, rtol=0)


@NAMED
@pytest.mark.parametrize("causal", [False, True])
def test_memory_grows_with_the_tokens(rule: Rule, causal: bool) -> None:
    """4,096 tokens: nothing as large as a tenth of one head's n x n, forward or backward."""
    call = call_of(rule, 4096, 4096, dtype=torch.float32, mask=Mask(causal=True) if causal else None)
    key = call.key.clone().requires_grad_()
    assert largest(lambda: rule.mix(replace(call, key=key)).sum().backward()) < 4096**2 / 10


@NAMED
def test_same_weights_mode_refuses_what_features_cannot_hold(rule: Rule) -> None:
    call = call_of(Softmax())
    assert call.with_rule(rule).output.shape == call.output.shape
    with pytest.raises(UnsupportedMask, match="the mask band"):
        replace(call, mask=Mask(band=2)).with_rule(rule)
    with pytest.raises(UnsupportedMask, match="support near"):
        replace(call, biases=(("near", lambda call, heads, rows: torch.zeros(())),)).with_rule(rule)


def test_the_draw_is_kept_and_its_seed_recorded() -> None:
    first, again, other = (Performer(24, 4, seed=seed) for seed in (7, 7, 8))
    assert torch.equal(first.directions, again.directions)
    assert not torch.equal(first.directions, other.directions)
    other.load_state_dict({name: tensor.half() for name, tensor in first.state_dict().items()})
    assert int(other.seed) == 7
    torch.testing.assert_close(other.directions, first.directions, atol=1e-2, rtol=0)
    assert "seed 7" in other.current().caveat
    with pytest.raises(ValueError, match="from 0 to 2047, got 2048"):
        Performer(24, 4, seed=2048)
    with pytest.raises(ValueError, match="at least one random feature, got 0"):
        Performer(24, 4, features=0)


def test_cost_in_numbers() -> None:
    """Width 256, 8 heads, 1,024 tokens, no biases: linear 285.2 million multiply-adds; Performer 4 n m d."""
    linear, performer = LinearAttention(256, 8, bias=False), Performer(256, 8, bias=False, features=64)
    products = 4 * 1024 * 256**2
    assert linear.cost(1024, 1024).multiply_adds == products + 2 * 1024 * 256 * 32 == 285_212_672
    assert linear.cost(1024, 1024).parameters == performer.cost(1024, 1024).parameters == 262_144
    assert linear.cost(4096, 4096).state_bytes == linear.cost(16, 16).state_bytes == 4 * 8 * (32 * 32 + 32)
    assert performer.cost(1024, 1024).multiply_adds == products + 4 * 1024 * 64 * 256
    assert performer.cost(1024, 1024).state_bytes == 4 * 8 * 64 * (32 + 1 + 1)


@pytest.mark.parametrize("name", ["linear", "performer"])
def test_cost_is_what_a_counter_counts(name: str) -> None:
    """But for the sums of weights, one more column of the values, which the formula leaves out."""
    network, x = variant(name), features(COUNT)
    size = 64 if name == "performer" else network.dim
    sums = 2 * COUNT * network.heads * size
    counted = multiply_adds(lambda: network(x, queries=plain(COUNT)))
    assert network.cost(COUNT, COUNT).multiply_adds == counted - sums
