"""Nyströmformer: parity with nystrom-attention, identity with multi-head attention, landmarks, masks, memory."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from nystrom_attention import NystromAttention as Reference
from torch import Tensor

from attnviz.attention import Softmax
from attnviz.attention.variants.nystrom import Nystrom, NystromAttention, newton_inverse, segment_means
from attnviz.types import AttentionCall, Mask, Rule, Tokens, UnsupportedMask
from tests.counting import largest, multiply_adds
from tests.variants import HEADS, WIDTH, features, plain, variant

COUNT = 12


def made(heads: int = HEADS, spread: float = 0.3, **options: Any) -> NystromAttention:
    """A module from a fixed seed, with parameters large enough for differences to show."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = NystromAttention(WIDTH, heads, **({"landmarks": 4} | options))
        for parameter in network.parameters():
            torch.nn.init.normal_(parameter, std=spread)
    return network.double()


def random_call(heads: int, count: int, dim: int, rule: Rule) -> AttentionCall:
    """A call of normal queries, keys and values."""
    query, key, value = (
        torch.randn(heads, count, dim, generator=torch.Generator().manual_seed(s), dtype=torch.float64)
        for s in (1, 2, 3)
    )
    return AttentionCall("by hand", 0, rule, query, key, value, plain(count), plain(count), scale=dim**-0.5)


def twin_of(network: NystromAttention) -> Reference:
    """The package's module with our parameters, without its convolution over the values."""
    twin = Reference(
        WIDTH,
        dim_head=network.dim,
        heads=network.heads,
        num_landmarks=network.landmarks,
        pinv_iterations=network.steps,
        residual=False,
    ).double()
    with torch.no_grad():
        twin.to_qkv.weight.copy_(torch.cat([p.weight for p in (network.query, network.key, network.value)]))
        twin.to_out[0].weight.copy_(network.out.weight)
        twin.to_out[0].bias.copy_(network.out.bias)
        for projection in (network.query, network.key, network.value):
            projection.bias.zero_()
    return twin


@pytest.mark.parametrize("masked", [False, True])
def test_nystrom_attention_package(masked: bool) -> None:
    """One head and one example: its Newton iteration starts from a maximum over the whole batch, ours from each matrix.

    Landmarks divide the tokens, since it fills up in front. A masked query looks evenly there, so only kept rows count.
    """
    network, x = made(heads=1), features(1, COUNT)
    keep = torch.arange(COUNT) < (COUNT - 2 if masked else COUNT)
    with torch.no_grad():  # making the twin sets our biases to its zero
        expected, attention = twin_of(network)(x, mask=keep[None] if masked else None, return_attn=True)
        y, (call,) = network(x, queries=plain(COUNT), mask=Mask(key_padding=keep) if masked else None)
    torch.testing.assert_close(y[:, keep], expected[:, keep], atol=1e-6, rtol=0)
    torch.testing.assert_close(call.token_map()[:, :, keep], attention[:, :, keep], atol=1e-6, rtol=0)


def test_nystrom_attention_package_with_heads_and_a_batch() -> None:
    """Once the iteration has converged it does not matter where it started."""
    network, x = made(steps=40), features(3, COUNT)
    with torch.no_grad():
        twin = twin_of(network)
        y, _ = network(x, queries=plain(COUNT))
        torch.testing.assert_close(y, twin(x), atol=1e-6, rtol=0)


@pytest.mark.parametrize(("steps", "most", "half"), [(6, 0.1, 0.1), (12, 1e-3, 1e-5), (18, 1e-5, 1e-5)])
def test_a_landmark_for_every_token_is_softmax_attention(steps: int, most: float, half: float) -> None:
    """How soon depends on the smallest singular value: of normal queries and keys half the heads are there after 12."""
    exact = random_call(20, 16, 32, Softmax())
    error = exact.with_rule(Nystrom(16, steps)).rule.error(exact.with_rule(Nystrom(16, steps)))
    for found in error:
        assert found.max() < most
        assert found.median() < half
    more_than_tokens = exact.with_rule(Nystrom(99, steps)).output
    torch.testing.assert_close(more_than_tokens, exact.with_rule(Nystrom(16, steps)).output)


def test_queries_near_their_own_keys_are_softmax_attention_after_twelve_steps() -> None:
    """Every token of the bag looks at itself most, so that no singular value is small."""
    call = random_call(20, 16, 32, Nystrom(16, 12))
    call = replace(call, query=2 * call.key, key=2 * call.key)
    assert call.rule.error(call).output.max() < 1e-5


def test_fewer_landmarks_say_how_far_off_they_are() -> None:
    """Of random queries and keys the estimate can be worse than nothing; the error tells."""
    for landmarks in (8, 16):
        call = random_call(1, 32, 8, Nystrom(landmarks, 60))
        exact = call.with_rule(Softmax())
        expected = (call.token_map() - exact.token_map()).norm() / exact.token_map().norm()
        torch.testing.assert_close(call.rule.error(call).map[0], expected)
        assert call.rule.error(call).output[0] > 0.5


def test_newton_inverse_is_the_pseudo_inverse() -> None:
    matrix = torch.rand(3, 5, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64).softmax(-1)
    matrix = matrix + torch.eye(5)
    torch.testing.assert_close(newton_inverse(matrix, 20), torch.linalg.pinv(matrix))
    matrix[1, 2], matrix[1, :, 2] = 0, 0  # a landmark without tokens
    torch.testing.assert_close(newton_inverse(matrix, 20), torch.linalg.pinv(matrix))
    assert (newton_inverse(matrix * 0, 6) == 0).all()


def test_segments_differ_by_one_token_at_most() -> None:
    """Ten tokens in four segments: 0-2, 3-4, 5-7, 8-9; masked tokens are in no mean."""
    x = torch.arange(10.0)[None, :, None]
    means, present = segment_means(x, 4, None)
    assert means.flatten().tolist() == [1.0, 3.5, 6.0, 8.5]
    assert present is None
    keep = torch.tensor([True, False, True, False, False, True, True, True, False, True])
    means, present = segment_means(x, 4, keep)
    assert means.flatten().tolist() == [1.0, 0.0, 6.0, 9.0]
    assert present is not None
    assert present.tolist() == [True, False, True, True]


def test_a_segment_without_tokens_is_as_if_it_were_not_there() -> None:
    """Masking a whole segment away equals leaving its tokens out."""
    network, x = made(landmarks=4, spread=0.5), features(COUNT)
    keep = torch.arange(COUNT) // 3 != 1
    y, (call,) = network(x, queries=plain(COUNT), mask=Mask(key_padding=keep))
    fewer, _ = made(landmarks=3, spread=0.5)(x[keep], queries=plain(9))
    torch.testing.assert_close(y[keep], fewer, atol=1e-10, rtol=0)
    assert (call.token_map()[..., ~keep] == 0).all()
    for found in call.maps().values():
        assert found.array.isfinite().all()


def test_the_product_is_not_quite_stochastic_and_says_so() -> None:
    call = random_call(HEADS, 64, 32, Nystrom(16))
    assert 1e-4 < (call.token_map().sum(-1) - 1).abs().max() < 0.02
    assert (call.token_map() < 0).any()
    assert (call.rule.map_type, call.rule.stochastic, call.rule.exact) == ("effective", False, True)
    assert call.rule.axes == ("head", "query", "key")
    assert "CLS" in call.rule.caveat
    found = call.maps()
    assert {name: (m.map_type, m.stochastic) for name, m in found.items()} == {
        "query to landmarks": ("landmarks", True),
        "inverse between landmarks": ("landmarks", False),
        "landmarks to keys": ("landmarks", True),
    }
    assert [m.axes for m in found.values()] == [
        ("head", "query", "landmark"),
        ("head", "landmark", "landmark"),
        ("head", "landmark", "key"),
    ]
    first, middle, last = (m.array for m in found.values())
    torch.testing.assert_close(first @ middle @ last, call.token_map())
    assert call.weights(rows=[2]).shape == call.scores(rows=[2]).shape == (HEADS, 1, 16)


def test_cls_is_averaged_into_the_first_landmark() -> None:
    """Moving CLS moves the first landmark's row and no other's."""
    tokens, x = Tokens.patches(2, 4, ["CLS"]), features(9)
    network = made(landmarks=3)
    moved = x.clone()
    moved[0] += 3

    def landmark_keys(x: Tensor) -> Tensor:
        _, (call,) = network(x, queries=tokens)
        return segment_means(call.key, 3, None)[0]

    changed = (landmark_keys(moved) - landmark_keys(x)).abs().amax((0, 2)) > 1e-9
    assert changed.tolist() == [True, False, False]


def test_memory_grows_with_the_tokens() -> None:
    network, x = variant("nystrom", torch.float32), features(4096, dtype=torch.float32)
    assert largest(lambda: network(x, queries=plain(4096))[0].sum().backward()) <= 4096 * HEADS * 16


def test_what_it_cannot_do_is_refused() -> None:
    with pytest.raises(ValueError, match="0 landmarks and 6 steps"):
        made(landmarks=0)
    call = random_call(HEADS, COUNT, 6, Softmax())
    with pytest.raises(UnsupportedMask, match="the mask causal"):
        replace(call, mask=Mask(causal=True)).with_rule(Nystrom(4))
    with pytest.raises(UnsupportedMask, match="from the same tokens"):
        replace(call, keys=Tokens(call.keys.labels, stream="source")).with_rule(Nystrom(4))


def test_cost_in_numbers() -> None:
    """Width 256, 8 heads, 1,024 tokens, 64 landmarks, no biases: 4 n d² + 4 n m d + 2 m² d + 24 h m³."""
    cost = NystromAttention(256, 8, landmarks=64, bias=False).cost(1024, 1024)
    assert cost.parameters == 262_144
    assert cost.multiply_adds == 4 * 1024 * 256**2 + 4 * 1024 * 64 * 256 + 2 * 64**2 * 256 + 24 * 8 * 64**3
    assert cost.map_bytes == 4 * 8 * (2 * 1024 * 64 + 64**2)
    assert cost.state_bytes == 0
    network, x = made(), features(COUNT)
    inside = 4 * COUNT * 4 * WIDTH  # scores and mixing of the outer factors, in the fused kernel
    counted = multiply_adds(lambda: network(x, queries=plain(COUNT)))
    assert network.cost(COUNT, COUNT).multiply_adds == counted + inside
