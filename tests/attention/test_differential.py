"""Differential attention: a double loop from the paper, Hugging Face's DiffLlama, its factor, maps of either sign."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from attnviz.attention import MultiHead
from attnviz.attention.positions.schemes import Alibi
from attnviz.attention.variants.differential import Difference, Differential
from attnviz.types import Mask, NoTokenMap, Tokens, UnsupportedMask
from tests.variants import HEADS, WIDTH, features, plain, randomised

EAGER: dict[str, Any] = {"attn_implementation": "eager"}  # explicit weights, for comparison
DIM, COUNT = WIDTH // HEADS, 9
HALF = DIM // 2


def made(**options: object) -> Differential:
    """The variant with large random parameters."""
    return randomised(Differential(WIDTH, HEADS, **options))  # type: ignore[arg-type, return-value]


def softmax_by_hand(scores: list[float]) -> list[float]:
    """exp, divided by the sum."""
    total = sum(math.exp(score) for score in scores)
    return [math.exp(score) / total for score in scores]


def by_hand(network: Differential, x: Tensor, initial: float, causal: bool) -> tuple[Tensor, Tensor]:
    """Eq. 1 to 3, one row at a time: features [token feature] and weights [head query key]."""
    n = len(x)
    query, key, value = (x @ part.weight.T + part.bias for part in (network.query, network.key, network.value))
    (q1, k1), (q2, k2) = network.vectors
    factor = math.exp(float(q1 @ k1)) - math.exp(float(q2 @ k2)) + initial
    weights, heads = torch.zeros(HEADS, n, n, dtype=torch.float64), torch.zeros(n, WIDTH, dtype=torch.float64)
    for head in range(HEADS):
        start = head * DIM
        for i in range(n):
            keys = range(i + 1) if causal else range(n)
            maps = []
            for half in (slice(start, start + HALF), slice(start + HALF, start + DIM)):
                maps.append(softmax_by_hand([float(query[i, half] @ key[j, half]) / math.sqrt(HALF) for j in keys]))
            for j, one, other in zip(keys, *maps, strict=True):
                weights[head, i, j] = one - factor * other
            mixed = weights[head, i] @ value[:, start : start + DIM]
            normed = mixed / math.sqrt(float(mixed.square().mean()) + 1e-5) * network.norm.weight
            heads[i, start : start + DIM] = (1 - initial) * normed
    return heads @ network.out.weight.T + network.out.bias, weights


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("initial", [0.2, 0.5])
def test_the_formula_of_the_paper(causal: bool, initial: float) -> None:
    network, x = made(initial=initial), features(COUNT)
    with torch.no_grad():
        expected, weights = by_hand(network, x, initial, causal)
    y, (call,) = network(x, queries=plain(COUNT), mask=Mask(causal=True) if causal else None)
    torch.testing.assert_close(y, expected, atol=1e-9, rtol=0)
    torch.testing.assert_close(call.token_map(), weights, atol=1e-9, rtol=0)


def test_hugging_faces_diffllama() -> None:
    """Its heads h and h + 4 are the two maps of our head h; it has no factors of the norm, and here no rotation."""
    from transformers import DiffLlamaConfig
    from transformers.models.diffllama.modeling_diffllama import DiffLlamaAttention

    layer, pairs = 2, 2 * HEADS
    config = DiffLlamaConfig(
        hidden_size=WIDTH,
        num_attention_heads=pairs,
        num_key_value_heads=pairs,
        head_dim=HALF,
        rms_norm_eps=1e-5,
        **EAGER,
    )
    twin = DiffLlamaAttention(config, layer).double().eval()
    network = made(bias=False, **Differential.options_for_layer(layer, plain(COUNT), {}))
    assert network.initial == twin.lambda_init
    with torch.no_grad():
        network.norm.weight.fill_(1)
        for theirs, ours in ((twin.q_proj, network.query), (twin.k_proj, network.key), (twin.v_proj, network.value)):
            halves = ours.weight.unflatten(0, (HEADS, 2, HALF)).transpose(0, 1)
            theirs.weight.copy_(halves.flatten(0, 2))
        twin.o_proj.weight.copy_(network.out.weight)
        names = (("lambda_q1", "lambda_k1"), ("lambda_q2", "lambda_k2"))
        for exponent, sides in enumerate(names):
            for side, name in enumerate(sides):
                getattr(twin, name).copy_(network.vectors[exponent, side])
        x, still = features(2, COUNT), torch.ones(2, COUNT, HALF, dtype=torch.float64)
        closed = torch.full((COUNT, COUNT), float("-inf"), dtype=torch.float64).triu(1)
        # their rotation with angles of zero
        expected, _ = twin(x, position_embeddings=(still, 0 * still), attention_mask=closed)
    y, _ = network(x, queries=plain(COUNT), mask=Mask(causal=True))
    torch.testing.assert_close(y, expected, atol=1e-5, rtol=0)  # their factor is computed in float32


def test_rows_sum_to_one_less_the_factor_and_entries_have_either_sign() -> None:
    network = made()
    with torch.no_grad():
        network.vectors.zero_()  # exp(0) - exp(0): the factor is what it starts at
    _, (call,) = network(features(COUNT), queries=plain(COUNT))
    whole = call.token_map()
    torch.testing.assert_close(whole.sum(-1), torch.full((HEADS, COUNT), 0.8, dtype=torch.float64))
    assert (whole < 0).any()
    assert (whole > 0).any()
    assert not call.rule.stochastic
    found = call.maps()
    torch.testing.assert_close(found["difference"].array, found["first map"].array - 0.2 * found["second map"].array)
    assert [one.stochastic for one in found.values()] == [True, True, False]


@pytest.mark.parametrize(("layer", "expected"), [(0, 0.2), (1, 0.3555090), (3, 0.5560582), (27, 0.7998175)])
def test_the_factor_grows_with_depth(layer: int, expected: float) -> None:
    """0.8 - 0.6 exp(-0.3 l), and a choice of one's own is kept."""
    options = Differential.options_for_layer(layer, plain(COUNT), {})
    assert options["initial"] == pytest.approx(expected, abs=1e-6)
    assert Differential.options_for_layer(layer, plain(COUNT), {"initial": 0.1})["initial"] == 0.1


def test_equal_halves_leave_a_softmax_map() -> None:
    """Where both maps are equal, the difference is (1 - factor) times one of them, and the norm takes that away."""
    network = made()
    with torch.no_grad():
        for part in (network.query, network.key):
            weight = part.weight.unflatten(0, (HEADS, 2, HALF))
            weight[:, 1] = weight[:, 0]
            part.bias.unflatten(0, (HEADS, 2, HALF))[:, 1] = part.bias.unflatten(0, (HEADS, 2, HALF))[:, 0]
    _, (call,) = network(features(COUNT), queries=plain(COUNT))
    first = call.maps()["first map"].array
    torch.testing.assert_close(call.token_map(), (1 - network.strength) * first)


def test_each_head_is_normalised_by_itself() -> None:
    network, x = made(initial=0.4), features(COUNT)
    with torch.no_grad():
        network.norm.weight.fill_(1)
    _, (call,) = network(x, queries=plain(COUNT))
    size = call.output.square().mean(-1).sqrt()
    torch.testing.assert_close(size, torch.full((HEADS, COUNT), 0.6, dtype=torch.float64), atol=1e-3, rtol=0)
    with torch.no_grad():
        network.value.weight[:DIM] *= 7
        network.value.bias[:DIM] *= 7
    _, (louder,) = network(x, queries=plain(COUNT))
    torch.testing.assert_close(louder.output, call.output, atol=1e-3, rtol=0)


def test_the_gradient_through_the_norm_is_that_of_finite_differences() -> None:
    network = made()

    def answer(x: Tensor) -> Tensor:
        return network(x, queries=plain(5), mask=Mask(causal=True))[0].square().sum()

    assert torch.autograd.gradcheck(answer, features(5).requires_grad_(), atol=1e-4)


def test_it_has_the_parameters_of_multi_head_attention() -> None:
    ours, theirs = Differential(WIDTH, HEADS), MultiHead(WIDTH, HEADS)
    assert ours.cost(9, 9).parameters - theirs.cost(9, 9).parameters == 4 * HALF + DIM
    assert ours.cost(9, 9).state_bytes == theirs.cost(9, 9).state_bytes
    assert ours.cost(9, 9).map_bytes == 2 * theirs.cost(9, 9).map_bytes
    assert 0.08 < float(Differential(512, 1).vectors.detach().std()) < 0.12


def test_what_it_does_not_support() -> None:
    with pytest.raises(ValueError, match="heads of 3 channels"):
        Differential(12, 4)
    with pytest.raises(ValueError, match="factor of 1"):
        Differential(WIDTH, HEADS, initial=1.0)
    with pytest.raises(UnsupportedMask, match="two maps"):
        made().use_relative_positions(Alibi(HEADS, DIM))
    _, (call,) = made()(features(COUNT), queries=plain(COUNT))
    with pytest.raises(NoTokenMap, match="two scores"):
        call.scores()
    _, (odd,) = MultiHead(9, 3)(torch.zeros(4, 9), queries=Tokens(("a", "b", "c", "d")))
    with pytest.raises(UnsupportedMask, match="3 channels have no two halves"):
        odd.with_rule(Difference())
