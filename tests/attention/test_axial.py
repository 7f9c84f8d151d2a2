"""Axial attention against axial-attention, loops in float64, and the faults other code has."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest
import torch
from axial_attention import AxialAttention
from torch import Tensor, nn

from attnviz.attention import MultiHead
from attnviz.attention.variants.axial import Axial
from attnviz.edits import HeadAblation, flagged
from attnviz.methods.rollout import factors, relevance
from attnviz.models import ViT, ViTConfig
from attnviz.types import Mask, Tokens, UnsupportedMask
from tests.counting import Largest
from tests.variants import GRID, HEADS, WIDTH, features, randomised

CELLS = list(itertools.product(range(4), range(6)))
DIM = WIDTH // HEADS
ALL = torch.ones(24, dtype=torch.bool)
TERMS = ["", "q", "k", "v", "qk", "qkv"]


def made(tokens: Tokens = GRID, **options: object) -> Axial:
    """A module from a fixed seed."""
    return randomised(Axial(WIDTH, HEADS, tokens=tokens, **options))  # type: ignore[return-value]


def line(module: nn.Module, x: Tensor, along: int, terms: str, keep: Tensor = ALL) -> tuple[Tensor, Tensor]:
    """Map [head o p] and features of one direction, position by position (Wang et al. 2020, eq. 4; scaled).

    Where `keep` is False, a position is left out of its lines; a line without any gives zero.
    """
    query, key, value = (getattr(module, n)(x).unflatten(-1, (HEADS, DIM)) for n in ("query", "key", "value"))
    attention, mixed = torch.zeros(HEADS, 24, 24, dtype=torch.float64), torch.zeros(24, HEADS, DIM, dtype=torch.float64)
    for head, (o, here) in itertools.product(range(HEADS), enumerate(CELLS)):
        others = [p for p, there in enumerate(CELLS) if there[1 - along] == here[1 - along] and keep[p]]
        if not others:
            continue
        scores, values = [], []
        for p in others:
            offset = CELLS[p][along] - here[along] + (3, 5)[along]
            score, carried = query[o, head] @ key[p, head], value[p, head]
            if "q" in terms:
                score = score + query[o, head] @ module.tables["q"][offset]
            if "k" in terms:
                score = score + key[p, head] @ module.tables["k"][offset]
            if "v" in terms:
                carried = carried + module.tables["v"][offset]
            scores.append(score / DIM**0.5)
            values.append(carried)
        shares = torch.stack(scores).softmax(-1)
        attention[head, o, others] = shares.detach()
        mixed[o, head] = shares @ torch.stack(values)
    return attention, module.out(mixed.flatten(-2))


@pytest.mark.parametrize("terms", TERMS)
def test_columns_then_rows_position_by_position(terms: str) -> None:
    module, x = made(terms=terms), features(24)
    y, (down, across) = module(x, queries=GRID)
    first, middle = line(module.along_columns, x, 0, terms)
    second, expected = line(module, middle, 1, terms)
    torch.testing.assert_close(down.token_map(), first, atol=1e-12, rtol=0)
    torch.testing.assert_close(across.token_map(), second, atol=1e-12, rtol=0)
    torch.testing.assert_close(y, expected, atol=1e-12, rtol=0)
    assert (down.rule.exact, across.rule.exact) == (("v" not in terms),) * 2
    assert bool(down.rule.caveat) == ("v" in terms)
    assert (down.branch, down.name, across.name) == (across.branch, "attention, along columns", "attention, along rows")


@pytest.mark.parametrize("terms", ["", "qkv"])
def test_the_sum_position_by_position(terms: str) -> None:
    module, x = made(terms=terms, mode="sum"), features(24)
    y, (call,) = module(x, queries=GRID)
    down, one = line(module.along_columns, x, 0, terms)
    across, other = line(module, x, 1, terms)
    torch.testing.assert_close(y, one + other, atol=1e-12, rtol=0)
    torch.testing.assert_close(call.token_map(), torch.cat([down, across]), atol=1e-12, rtol=0)
    torch.testing.assert_close(
        call.token_map([5, 1], [3]), torch.stack([across[1], down[1]])[:, [3]], atol=1e-12, rtol=0
    )
    by_head = (call.output @ call.projection).sum(0) + module.out.bias + module.along_columns.out.bias
    torch.testing.assert_close(by_head, y, atol=1e-12, rtol=0)
    assert [n for n in call.maps()] == ["along columns", "along rows"]
    silent, (off,) = module(x, queries=GRID, ablation=HeadAblation(flagged("head", [2], HEADS)))
    assert (off.output[[2, 6]] == 0).all()
    assert not torch.allclose(silent, y)


@pytest.mark.parametrize("mode", ["sum", "chain"])
def test_axial_attention_of_lucidrains(mode: str) -> None:
    """The package sums the axes unless told not to; ours chains them unless told to sum."""
    module = made(mode=mode, bias=False).float()
    oracle = AxialAttention(WIDTH, num_dimensions=2, heads=HEADS, dim_index=-1, sum_axial_out=mode == "sum")
    with torch.no_grad():
        for ours, theirs in zip((module.along_columns, module), oracle.axial_attentions, strict=True):
            theirs.fn.to_q.weight.copy_(ours.query.weight)
            theirs.fn.to_kv.weight.copy_(torch.cat([ours.key.weight, ours.value.weight]))
            theirs.fn.to_out.weight.copy_(ours.out.weight)
            theirs.fn.to_out.bias.zero_()
    x = features(2, 24).float()
    y, _ = module(x, queries=GRID)
    torch.testing.assert_close(y, oracle(x.unflatten(1, (4, 6))).flatten(1, 2), atol=1e-5, rtol=0)


def test_a_single_column_is_full_attention() -> None:
    """On H x 1 the column map is the map of multi-head attention and the row map is 1."""
    tokens, x = Tokens.patches(7, 1), features(7)
    module, twin = made(tokens), MultiHead(WIDTH, HEADS).double()
    for name in ("query", "key", "value", "out"):
        getattr(twin, name).load_state_dict(getattr(module.along_columns, name).state_dict())
    _, (down, across) = module(x, queries=tokens)
    _, (whole,) = twin(x, queries=tokens)
    torch.testing.assert_close(down.token_map(), whole.token_map(), atol=1e-12, rtol=0)
    torch.testing.assert_close(down.output, whole.output, atol=1e-12, rtol=0)
    assert torch.equal(across.token_map(), torch.eye(7, dtype=torch.float64).expand(HEADS, 7, 7))


# Faults of other code


def test_a_score_reads_the_key_it_is_about() -> None:
    """self-attention-cv forgets a transpose: the key term of a score then reads the key of the asking token."""
    _, (down, _) = made(terms="k")(features(24), queries=GRID)
    key = down.key.detach().requires_grad_()
    call = replace(down, query=down.query.detach(), key=key)
    assert [name for name, _ in call.biases] == ["key and offset"]
    scores = call.scores(stage="biased")
    for o, p in ((0, 6), (7, 19), (12, 0)):
        (grad,) = torch.autograd.grad(scores[1, o, p], key, retain_graph=True)
        assert grad.abs().sum(-1).nonzero().tolist() == [[1, p]]
        (content,) = torch.autograd.grad(call.scores(stage="scaled")[1, o, p], key)
        assert (grad - content).abs().max() > 0.01  # the key term is there


def test_batch_neighbours_do_not_matter() -> None:
    """Batch norm over scores, as in the paper, would let the pictures of a batch change each other."""
    module = made(terms="qkv").train()
    x = features(2, 24)
    other = torch.stack([x[0], 100 * x[1]])
    assert torch.equal(module(x, queries=GRID)[0][0], module(other, queries=GRID)[0][0])


@pytest.mark.parametrize("terms", ["", "qkv"])
def test_each_step_mixes_only_its_own_axis(terms: str) -> None:
    """What changes in one patch reaches its column in the first step and its row in the second, and nothing else."""
    module, x = made(terms=terms), features(24)
    changed = x.clone()
    changed[CELLS.index((2, 3))] += 1
    _, (down, across) = module(x, queries=GRID)
    _, (again, _) = module(changed, queries=GRID)
    moved = (down.output - again.output).abs().amax((0, 2)) > 1e-12
    assert [CELLS[i] for i in moved.nonzero().flatten()] == [(r, 3) for r in range(4)]
    for call, axis in ((down, 1), (across, 0)):
        same = torch.tensor([[one[axis] == other[axis] for other in CELLS] for one in CELLS])
        assert torch.equal(call.token_map()[0] > 0, same)


# Maps, gradients, rollout


@pytest.mark.parametrize("mode", ["chain", "sum"])
def test_map_gradient_counts_the_vectors_of_values(mode: str) -> None:
    """d y / d map = d output (value + offset vector)ᵀ, against autograd through the sum written out."""
    _, calls = made(terms="v", mode=mode)(features(24), queries=GRID)
    call, halves = calls[0], HEADS
    module = made(terms="v", mode=mode)
    place = torch.tensor([r for r, _ in CELLS])
    vectors = module.along_columns.tables["v"][place[None] - place[:, None] + 3].detach()  # [o p dim]
    attention = call.token_map()[:halves].detach().requires_grad_()
    d_output = torch.randn(call.output.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    output = attention @ call.value[:halves].detach() + torch.einsum("hop,opd->hod", attention, vectors)
    torch.testing.assert_close(output, call.output[:halves].detach(), atol=1e-12, rtol=0)
    (expected,) = torch.autograd.grad((output * d_output[:halves]).sum(), attention)
    expected = expected * (attention > 0)
    found = call.map_gradient(d_output)[:halves]
    torch.testing.assert_close(found, expected, atol=1e-12, rtol=0)
    torch.testing.assert_close(call.map_gradient(d_output, [2], [9]), expected[[2]][:, [9]], atol=1e-12, rtol=0)


@pytest.mark.parametrize("terms", ["", "qkv"])
@pytest.mark.parametrize("mode", ["chain", "sum"])
def test_key_padding_of_each_line(mode: str, terms: str) -> None:
    key_padding = torch.rand(2, 24, generator=torch.Generator().manual_seed(5)) > 0.4
    key_padding[0, [i for i, (_, c) in enumerate(CELLS) if c == 2]] = False  # a column without any key
    module, x = made(terms=terms, mode=mode), features(2, 24).requires_grad_()
    y, calls = module(x, queries=GRID, mask=Mask(key_padding=key_padding))
    for call in calls:
        assert (call.token_map()[..., ~key_padding[0]][0] == 0).all()
        if call.rule.exact:
            torch.testing.assert_close(call.token_map() @ call.value, call.output, atol=1e-12, rtol=0)
    column = [i for i, (_, c) in enumerate(CELLS) if c == 2]
    assert calls[0].empty[0, 0, column].all()
    assert (calls[0].output[0, :HEADS, column] == 0).all()
    for picture, kept in enumerate(key_padding):  # as if the others had never been in their lines
        first, down = line(module.along_columns, x[picture], 0, terms, kept)
        torch.testing.assert_close(calls[0].token_map()[picture, :HEADS], first, atol=1e-12, rtol=0)
        _, across = line(module, down if mode == "chain" else x[picture], 1, terms, kept)
        expected = across if mode == "chain" else down + across
        torch.testing.assert_close(y[picture], expected, atol=1e-12, rtol=0)
    y.sum().backward()
    assert x.grad.isfinite().all()


@pytest.mark.parametrize("mode", ["chain", "sum"])
def test_rollout_is_the_dense_product(mode: str) -> None:
    """Chained: alpha I + (1 - alpha) A_rows A_columns a layer; added: the mean of both maps."""
    options = {"variant": "axial", "options": {"mode": mode}, "pooling": "mean", "cls": False}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = ViT(ViTConfig(size=24, patch=4, width=16, layers=2, heads=2, classes=5, **options)).double()
        trace = network(torch.rand(3, 16, 24, dtype=torch.float64))
    size, product = 24, torch.eye(24, dtype=torch.float64)
    for layer in range(2):
        maps = [c.token_map().mean(0) for c in trace.calls if c.layer == layer]
        assert len(maps) == (2 if mode == "chain" else 1)
        whole = maps[1] @ maps[0] if mode == "chain" else maps[0]
        product = (0.4 * torch.eye(size, dtype=torch.float64) + 0.6 * whole) @ product
    expected = trace.pooling["main"] @ product
    torch.testing.assert_close(relevance(trace, alpha=0.4)["main"], expected, atol=1e-12, rtol=0)
    torch.testing.assert_close(relevance(trace, [3, 17], alpha=0.4)["main"], product[[3, 17]], atol=1e-12, rtol=0)
    assert len(factors(trace)) == len(trace.calls)


# Costs and refusals


@pytest.mark.parametrize("options", [{}, {"terms": "qkv"}, {"mode": "sum"}])
def test_nothing_as_large_as_all_pairs_is_made(options: dict) -> None:
    tokens = Tokens.patches(40, 40)
    with Largest() as seen, torch.no_grad():
        Axial(WIDTH, HEADS, tokens=tokens, **options)(features(1600).float(), queries=tokens)
    assert seen.entries <= 1600 * (40 + 40) * HEADS * 2


def test_cost_in_numbers() -> None:
    """Width 256, 8 heads, 32 x 32 patches, no biases."""
    cost = Axial(256, 8, bias=False).cost(1024, 1024)
    assert (cost.parameters, cost.multiply_adds) == (524_288, 570_425_344)
    assert cost.map_bytes == 4 * 8 * 1024 * 64
    module = Axial(256, 8, tokens=Tokens.patches(16, 64), terms="qk")
    assert module.cost(1024, 1024).parameters == sum(p.numel() for p in module.parameters())
    assert module.cost(1024, 1024).multiply_adds == 536_870_912 + 4 * 1024 * 80 * 256


def test_what_it_cannot_read() -> None:
    module = made(terms="q")
    y, _ = module(features(6), queries=Tokens.patches(2, 3))
    assert y.isfinite().all()
    with pytest.raises(UnsupportedMask, match="4 x 6 patches; 5 x 6"):
        module(features(30), queries=Tokens.patches(5, 6))
    with pytest.raises(ValueError, match="terms are x; known: q, k, v"):
        Axial(WIDTH, HEADS, tokens=GRID, terms="qx")
    with pytest.raises(ValueError, match="mode is 'product'"):
        Axial(WIDTH, HEADS, mode="product")
    with pytest.raises(ValueError, match="built for a grid"):
        Axial(WIDTH, HEADS, terms="q")
