"""Additive attention against its formula written out in loops; Luong's forms; memory and decoding."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor

from attnviz.attention.variants.additive import SCORES, Additive, AdditiveAttention
from attnviz.attention.variants.multihead import MultiHead
from attnviz.types import AttentionCall, Mask, Tokens
from tests.counting import largest

WIDTH, HEADS, COUNT, DIM = 12, 3, 7, 4


def plain(count: int) -> Tokens:
    """Tokens in a line."""
    return Tokens(tuple(str(i) for i in range(count)))


def noise(*shape: int, seed: int = 0) -> Tensor:
    """Standard normal numbers."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def made(score: str = "additive", **options: Any) -> AdditiveAttention:
    """A module from a fixed seed, with parameters large enough for tanh to saturate."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        module = AdditiveAttention(WIDTH, HEADS, score=score, **options).double()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.mul_(2)
    return module


def score_by_hand(module: AdditiveAttention, query: Tensor, key: Tensor) -> Tensor:
    """One score of one pair, as the papers write it."""
    if module.score == "additive":
        hidden = module.from_query.weight @ query + module.from_key.weight @ key
        return module.vector @ torch.tanh(hidden)
    if module.score == "concat":
        return module.vector @ torch.tanh(module.from_both.weight @ torch.cat([query, key]))
    if module.score == "general":  # Luong's h_tᵀ W h_s; a Linear multiplies from the other side
        return query @ module.between.weight.T @ key
    return query @ key


def by_hand(module: AdditiveAttention, x: Tensor, context: Tensor, mask: Mask | None = None) -> Tensor:
    """The layer in loops over heads, queries and keys."""
    heads = []
    for head in range(HEADS):
        own = slice(head * DIM, (head + 1) * DIM)
        query, key, value = module.query(x)[:, own], module.key(context)[:, own], module.value(context)[:, own]
        rows = []
        for i in range(len(x)):
            total, mixed = torch.zeros((), dtype=torch.float64), torch.zeros(DIM, dtype=torch.float64)
            for j in range(len(context)):
                if mask is None or mask.rows([head], [i], len(x), len(context))[0, 0, j]:
                    share = score_by_hand(module, query[i], key[j]).exp()
                    total, mixed = total + share, mixed + share * value[j]
            rows.append(mixed / total if total > 0 else mixed)
        heads.append(torch.stack(rows))
    return module.out(torch.cat(heads, -1))


@pytest.mark.parametrize("score", SCORES)
@pytest.mark.parametrize("mask", [None, Mask(causal=True), Mask(band=1)])
def test_double_loop(score: str, mask: Mask | None) -> None:
    module, x = made(score, hidden=5), noise(COUNT, WIDTH)
    y, _ = module(x, queries=plain(COUNT), mask=mask)
    torch.testing.assert_close(y, by_hand(module, x, x, mask), atol=1e-12, rtol=0)


@pytest.mark.parametrize("score", SCORES)
def test_double_loop_across_two_streams(score: str) -> None:
    """The classic use: a sentence being written looks at one being read."""
    module, x, context = made(score), noise(3, WIDTH), noise(5, WIDTH, seed=1)
    y, (call,) = module(x, context, queries=plain(3), keys=plain(5))
    torch.testing.assert_close(y, by_hand(module, x, context), atol=1e-12, rtol=0)
    assert call.token_map().shape == (HEADS, 3, 5)


@pytest.mark.parametrize("tile", [1, 5 * COUNT * HEADS * 2, 10**9])
def test_the_size_of_a_tile_changes_nothing(tile: int, monkeypatch: pytest.MonkeyPatch) -> None:
    module, x = made(hidden=5), noise(2, COUNT, WIDTH)
    expected, _ = module(x, queries=plain(COUNT))
    monkeypatch.setattr("attnviz.attention.variants.additive.TILE", tile)
    y, (call,) = module(x, queries=plain(COUNT))
    torch.testing.assert_close(y, expected, atol=1e-12, rtol=0)
    torch.testing.assert_close(call.token_map() @ call.value, call.output, atol=1e-12, rtol=0)


def test_concat_is_additive_with_its_matrix_cut_in_two() -> None:
    concat, additive, x = made("concat"), made(), noise(COUNT, WIDTH)
    shared = {name: value for name, value in concat.state_dict().items() if not name.startswith("from")}
    query, key = concat.from_both.weight.split(DIM, -1)
    additive.load_state_dict(shared | {"from_query.weight": query, "from_key.weight": key})
    torch.testing.assert_close(additive(x, queries=plain(COUNT))[0], concat(x, queries=plain(COUNT))[0])


def test_general_with_the_identity_is_dot_and_dot_is_unscaled_multihead() -> None:
    dot, general, x = made("dot"), made("general"), noise(COUNT, WIDTH)
    general.load_state_dict(dot.state_dict() | {"between.weight": torch.eye(DIM)})
    y, _ = dot(x, queries=plain(COUNT))
    torch.testing.assert_close(general(x, queries=plain(COUNT))[0], y)
    multihead = MultiHead(WIDTH, HEADS).double()
    state = dot.state_dict()
    multihead.load_state_dict(state | {f"query.{k}": state[f"query.{k}"] * DIM**0.5 for k in ("weight", "bias")})
    torch.testing.assert_close(multihead(x, queries=plain(COUNT))[0], y)


def test_the_stages_of_a_score() -> None:
    module = made()
    _, (call,) = module(noise(COUNT, WIDTH), queries=plain(COUNT), mask=Mask(causal=True))
    expected = score_by_hand(module, call.query[2, 5], call.key[2, 3])
    for stage in ("raw", "scaled", "biased", "masked"):
        torch.testing.assert_close(call.scores([2], [5], stage)[0, 0, 3], expected)
    assert call.scores([2], [3])[0, 0, 5] == float("-inf")
    assert call.scores([2], [3], "biased")[0, 0, 5].isfinite()
    assert call.scores().abs()[call.scores().isfinite()].max() <= module.vector.abs().sum()  # tanh is bounded


def test_the_same_query_key_and_value_under_the_network() -> None:
    """A dot product layer's vectors can be put through the network: "same weights" mode."""
    module, x = made(), noise(COUNT, WIDTH)
    _, (dot,) = made("dot")(x, queries=plain(COUNT))
    changed = dot.with_rule(module.network())
    assert isinstance(changed.rule, Additive)
    torch.testing.assert_close(changed.scores([1], [2])[0, 0, 4], score_by_hand(module, dot.query[1, 2], dot.key[1, 4]))
    torch.testing.assert_close(changed.output, changed.token_map() @ changed.value)


@pytest.mark.parametrize("score", SCORES)
def test_gradients_of_all_parameters(score: str) -> None:
    """The hidden layer, computed once more for the gradient, gives what the loops give."""
    module, x = made(score, hidden=5), noise(COUNT, WIDTH)
    names, parameters = zip(*module.named_parameters(), strict=True)
    found = torch.autograd.grad(module(x, queries=plain(COUNT))[0].square().sum(), parameters)
    expected = torch.autograd.grad(by_hand(module, x, x).square().sum(), parameters)
    for name, one, other in zip(names, found, expected, strict=True):
        torch.testing.assert_close(one, other, atol=1e-11, rtol=1e-9, msg=name)


def test_gradient_of_the_map() -> None:
    _, (call,) = made()(noise(COUNT, WIDTH), queries=plain(COUNT), mask=Mask(causal=True))
    d_output = noise(*call.output.shape, seed=4)
    expected = (d_output @ call.value.transpose(-1, -2)).tril()
    torch.testing.assert_close(call.map_gradient(d_output), expected)


@pytest.mark.parametrize("score", SCORES)
def test_decoding_in_steps(score: str) -> None:
    module, x = made(score), noise(COUNT, WIDTH)
    whole, _ = module(x, queries=plain(COUNT), mask=Mask(causal=True))
    past, rows = None, []
    for i in range(COUNT):
        y, _, past = module.decode(x[i : i + 1], past, queries=plain(1), keys=plain(i + 1))
        rows.append(y)
    torch.testing.assert_close(torch.cat(rows), whole, atol=1e-12, rtol=0)


def test_memory_is_a_tile_and_not_the_square_of_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forward and backward: 400 tokens have 480,000 weights and a hidden layer of 2,400,000 numbers."""
    monkeypatch.setattr("attnviz.attention.variants.additive.TILE", 2**17)
    module, x = made(hidden=5), noise(400, WIDTH)
    assert largest(lambda: module(x, queries=plain(400))[0].sum().backward()) <= 2**17


def test_a_copy_of_the_module_has_parameters_of_its_own() -> None:
    for score in SCORES:
        module, x = made(score), noise(COUNT, WIDTH)
        twin = copy.deepcopy(module)
        with torch.no_grad():
            for parameter in module.parameters():
                parameter.zero_()
        assert twin(x, queries=plain(COUNT))[0].abs().sum() > 0
        assert module(x, queries=plain(COUNT))[0].abs().sum() == 0


@pytest.mark.parametrize(("score", "extra"), [("additive", 45), ("concat", 45), ("general", 16), ("dot", 0)])
def test_parameters_beyond_multihead(score: str, extra: int) -> None:
    """Width 12, 3 heads of 4, a network 5 wide: 2 x 4 x 5 + 5 numbers, whatever the number of heads."""
    module = made(score, hidden=5)
    assert module.cost(COUNT, COUNT).parameters == 4 * 12 * 13 + extra == sum(p.numel() for p in module.parameters())


def test_a_score_that_is_not_there() -> None:
    with pytest.raises(ValueError, match="score is 'cosine'; known: additive, dot, general, concat"):
        AdditiveAttention(WIDTH, HEADS, score="cosine")


def test_a_recorded_call_has_the_types_of_a_call() -> None:
    _, (call,) = made()(noise(COUNT, WIDTH), queries=plain(COUNT))
    assert isinstance(call, AttentionCall)
    assert call.rule.map_type == "weights"
    assert call.rule.exact
    assert call.rule.stochastic


@pytest.mark.parametrize("score", SCORES)
@pytest.mark.parametrize("bias", [False, True])
def test_cost_of_two_lengths(score: str, bias: bool) -> None:
    """The four projections, what the score needs of each token and of each pair, and the product with the values."""
    n_q, n_k, hidden = 3, 7, 5
    cost = AdditiveAttention(WIDTH, HEADS, score=score, hidden=hidden, bias=bias).cost(n_q, n_k)
    pairs, network = n_q * n_k, (n_q + n_k) * HEADS * DIM * hidden + n_q * n_k * HEADS * hidden
    scores = {"dot": pairs * WIDTH, "general": n_q * HEADS * DIM * DIM + pairs * WIDTH}.get(score, network)
    learned = {"dot": 0, "general": DIM * DIM}.get(score, 2 * DIM * hidden + hidden)
    assert cost.parameters == 4 * WIDTH**2 + 4 * WIDTH * bias + learned
    assert cost.multiply_adds == 2 * (n_q + n_k) * WIDTH**2 + scores + pairs * WIDTH
    assert cost.map_bytes == 4 * HEADS * pairs
    assert cost.state_bytes == 4 * 2 * n_k * WIDTH


def test_a_score_starts_within_the_root_of_the_network() -> None:
    """v is drawn evenly from -1 to 1 over the root of how wide the network is, so that scores stay small."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        vector = AdditiveAttention(WIDTH, HEADS, hidden=4096).vector.detach() * 64
    assert vector.abs().max() <= 1
    assert vector.min() < -0.99
    assert vector.max() > 0.99
    assert vector.std().item() == pytest.approx(3**-0.5, rel=0.03)
    assert AdditiveAttention(WIDTH, HEADS).hidden == DIM
