"""What can be asked of a recorded call: silenced heads, another formula, scale per head, biases, bad requests."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from torch import Tensor

from attnviz.attention import VARIANTS, Softmax
from attnviz.attention.positions.schemes import Shaw
from attnviz.edits import HeadAblation, flagged
from attnviz.types import AttentionCall, Mask, Tokens, UnsupportedMask
from tests.counting import largest
from tests.variants import HEADS, WIDTH, token_map, variant

COUNT = 8
TOKENS = Tokens.patches(2, 4)


def noise(*shape: int, seed: int = 0) -> Tensor:
    """Standard normal numbers, the same for the same seed."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def call_of(**fields: Any) -> AttentionCall:
    """A softmax call made by hand from random query, key and value."""
    query, key, value = (noise(HEADS, COUNT, 6, seed=s) for s in (1, 2, 3))
    made = {"query": query, "key": key, "value": value, "queries": TOKENS, "keys": TOKENS} | fields
    call = AttentionCall(name="by hand", layer=0, rule=Softmax(), **made)
    return replace(call, output=call.rule.mix(call))


@dataclass(frozen=True)
class Even(Softmax):
    """Another formula: every key gets the same weight."""

    def scores(self, call: AttentionCall, heads: list[int], rows: list[int], stage: str) -> Tensor:  # type: ignore[override]
        return super().scores(call, heads, rows, "raw") * 0

    def mix(self, call: AttentionCall) -> Tensor:
        return call.token_map() @ call.value


@pytest.mark.parametrize("name", VARIANTS)
def test_heads_add_up_to_the_output(name: str) -> None:
    """sum over heads of A_h V_h W_O^h, plus the bias of W_O."""
    network = variant(name, tokens=TOKENS)
    y, (*_, call) = network(noise(COUNT, WIDTH), queries=TOKENS)
    assert call.projection is not None
    by_head = call.output @ call.projection
    torch.testing.assert_close(by_head.sum(0) + network.out.bias, y)


@pytest.mark.parametrize("name", VARIANTS)
def test_a_silenced_head_adds_nothing(name: str) -> None:
    network, x = variant(name, tokens=TOKENS), noise(COUNT, WIDTH)
    y, calls = network(x, queries=TOKENS)
    count = network.heads
    silent, heard = ([1, 3], [0, 2]) if count == HEADS else ([0], [])
    quiet, off_calls = network(x, queries=TOKENS, ablation=HeadAblation(flagged("head", silent, count)))
    for call, off in zip(calls, off_calls, strict=True):
        assert (off.output[silent] == 0).all()
        if len(calls) == 1:
            assert torch.equal(off.output[heard], call.output[heard])
            torch.testing.assert_close(quiet, y - (call.output @ call.projection)[silent].sum(0))
        if off.rule.exact:
            assert (off.map_gradient(noise(*off.output.shape))[silent] == 0).all()
    with pytest.raises(ValueError, match=rf"{count + 1} heads; .* has {count}"):
        network(x, queries=TOKENS, ablation=HeadAblation(torch.ones(count + 1, dtype=torch.bool)))


@pytest.mark.parametrize("name", VARIANTS)
def test_cost_counts_the_parameters(name: str) -> None:
    network = variant(name, tokens=TOKENS)
    assert network.cost(COUNT, COUNT).parameters == sum(p.numel() for p in network.parameters())


@pytest.mark.parametrize("name", VARIANTS)
def test_features_and_tokens_must_count_the_same(name: str) -> None:
    network = variant(name, tokens=TOKENS)
    with pytest.raises(ValueError, match="7 query vectors but 8 query tokens"):
        network(noise(7, WIDTH), queries=TOKENS)
    if "cross" in network.supported_masks:
        with pytest.raises(ValueError, match="5 key vectors but 8 key tokens"):
            network(noise(COUNT, WIDTH), noise(5, WIDTH), queries=TOKENS)


@pytest.mark.parametrize("name", VARIANTS)
def test_a_pass_leaves_the_global_random_state_alone(name: str) -> None:
    network = variant(name, tokens=TOKENS)
    before = torch.get_rng_state()
    first, _ = network(noise(COUNT, WIDTH), queries=TOKENS)
    second, _ = network(noise(COUNT, WIDTH), queries=TOKENS)
    assert torch.equal(first, second)
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize("name", VARIANTS)
def test_half_precision_rows_sum_to_one(name: str) -> None:
    network = variant(name, tokens=TOKENS).bfloat16()
    _, calls = network(noise(COUNT, WIDTH).bfloat16(), queries=TOKENS)
    for call in calls:
        if call.rule.stochastic:
            assert (call.token_map().sum(-1) - 1).abs().max() < 1e-3
        if (whole := token_map(call)) is not None:
            assert whole.dtype == torch.float32


RULES: dict[str, tuple[str, dict[str, Any]]] = {name: (name, {}) for name in VARIANTS} | {
    "axial, q k v": ("axial", {"terms": "qkv"}),
    "axial, added": ("axial", {"terms": "qkv", "mode": "sum"}),
    "concat": ("additive", {"score": "concat"}),
    "entmax": ("mha", {"normaliser": "entmax15"}),
    "talking": ("gqa", {"talking": "both"}),
    "sink": ("mha", {"sink": "key"}),
    "distances": ("mha", {}),
}
FUSED = {"mha", "mqa", "gqa", "mla", "cosine", "gated", "differential", "window", "window2d", "axial", "botnet2d"}
FUSED |= {"mobilevit2d", "distances"}


@pytest.mark.parametrize("name", RULES)
def test_autocast_does_not_round_weights(name: str) -> None:
    """Whatever autocast makes of other products: maps are those of float32, and so is mixing without fused kernel."""
    kind, options = RULES[name]
    torch.manual_seed(0)
    network = VARIANTS[kind](WIDTH, HEADS, tokens=TOKENS, **options)
    if name == "distances":
        network.use_relative_positions(Shaw(HEADS, network.dim, tokens=TOKENS, values=True))
    with torch.autocast("cpu", torch.bfloat16):
        _, calls = network(noise(COUNT, WIDTH).float(), queries=TOKENS)
        maps = [token_map(call) for call in calls]
        again = [None if name in FUSED else call.rule.mix(call) for call in calls]
    assert [call.value.dtype for call in calls] == [torch.bfloat16] * len(calls)
    for call, found, mixed in zip(calls, maps, again, strict=True):
        if found is not None:
            assert found.dtype == torch.float32
            assert torch.equal(found, call.token_map())
        if call.rule.stochastic:
            torch.testing.assert_close(found.sum(-1), torch.ones(call.heads, COUNT), atol=1e-5, rtol=0)
        if mixed is not None:
            assert torch.equal(mixed, call.rule.mix(call))
            assert torch.equal(mixed, call.output)


def test_autocast_does_not_round_vectors_of_distances() -> None:
    network = VARIANTS["mha"](WIDTH, HEADS, tokens=TOKENS)
    network.use_relative_positions(Shaw(HEADS, network.dim, tokens=TOKENS, values=True))
    with torch.autocast("cpu", torch.bfloat16):
        _, (call,) = network(noise(COUNT, WIDTH).float(), queries=TOKENS)
        found = call.rule.mix_distances(call)  # type: ignore[attr-defined]
    assert torch.equal(found, call.rule.mix_distances(call))  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", VARIANTS)
def test_one_picture_with_a_batch_of_masks(name: str) -> None:
    if "key_padding" not in VARIANTS[name].supported_masks:
        return
    network, x = variant(name, tokens=TOKENS), noise(COUNT, WIDTH)
    keep = torch.tensor([[True, False] * 4, [True] * 8, [False] * 8])
    y, _ = network(x, queries=TOKENS, mask=Mask(key_padding=keep))
    for choice, kept in enumerate(keep):
        alone, _ = network(x, queries=TOKENS, mask=Mask(key_padding=kept))
        torch.testing.assert_close(y[choice], alone, atol=1e-12, rtol=0)


@pytest.mark.parametrize("name", [name for name, kind in VARIANTS.items() if "causal" in kind.supported_masks])
def test_decoding_refuses_what_the_forward_pass_refuses(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    network, asked = variant(name, tokens=TOKENS), list[Any]()
    monkeypatch.setattr(network, "check", lambda *given: asked.append(given))
    network.decode(noise(COUNT, WIDTH), queries=TOKENS, keys=TOKENS)
    ((mask, cross, queries, _),) = asked
    assert (mask, cross, queries) == (Mask(causal=True), False, TOKENS)
    if "prefix" not in network.supported_masks:
        monkeypatch.undo()
        whole = Tokens.patches(2, 4, ["CLS"])
        with pytest.raises(UnsupportedMask, match="CLS"):
            network.decode(noise(COUNT + 1, WIDTH), queries=whole, keys=whole)


def test_a_call_without_a_mask_has_no_empty_row() -> None:
    assert call_of().empty.tolist() == [[False] * COUNT]
    none = Mask(keep=torch.arange(COUNT).ne(3)[None, :, None].expand(1, COUNT, COUNT))
    assert call_of(mask=none).empty.tolist() == [[row == 3 for row in range(COUNT)]]
    by_head = torch.ones(HEADS, COUNT, COUNT, dtype=torch.bool)
    by_head[1, 5:] = False
    assert call_of(mask=Mask(keep=by_head)).empty.nonzero().tolist() == [[1, 5], [1, 6], [1, 7]]


def test_a_call_nobody_said_more_of_is_plain() -> None:
    call = call_of()
    assert (call.scale, call.mask, call.biases, call.gate, call.branch, call.residual) == (1, None, (), None, 0, True)
    torch.testing.assert_close(call.scores(), call.query @ call.key.transpose(-1, -2))
    assert [len(block) for block in call.blocks(3)] == [3, 3, 2]
    assert [row for block in call.blocks(3) for row in block] == list(range(COUNT))
    assert list(call.blocks()) == [list(range(COUNT))]


def test_pull_is_a_row_times_the_mean_map() -> None:
    call, row = call_of(mask=Mask(causal=True)), torch.arange(1.0, COUNT + 1, dtype=torch.float64)
    torch.testing.assert_close(call.propagate(row), row @ call.token_map().mean(0))


def test_under_another_rule() -> None:
    call = call_of()
    torch.testing.assert_close(call.with_rule(Softmax()).output, call.output)
    even = call.with_rule(Even())
    torch.testing.assert_close(even.output, call.value.mean(-2, keepdim=True).expand_as(call.output))
    assert even.query is call.query


def test_the_four_stages_of_a_score() -> None:
    def nearer(call: AttentionCall, heads: list[int], rows: list[int]) -> Tensor:
        return torch.ones(len(heads), len(rows), COUNT, dtype=torch.float64) * torch.arange(COUNT)

    call = call_of(scale=0.5, biases=(("near", nearer),), mask=Mask(causal=True))
    raw = call.query @ call.key.transpose(-1, -2)
    biased = 0.5 * raw + torch.arange(COUNT)
    stages = {"raw": raw, "scaled": 0.5 * raw, "biased": biased}
    for stage, expected in stages.items():
        torch.testing.assert_close(call.scores(stage=stage), expected)
    seen = torch.ones(COUNT, COUNT).tril().bool()
    torch.testing.assert_close(call.scores(), biased.masked_fill(~seen, float("-inf")))
    torch.testing.assert_close(call.token_map(), biased.masked_fill(~seen, float("-inf")).softmax(-1))
    torch.testing.assert_close(call.output, call.token_map() @ call.value)


def test_biases_add_up_without_a_mask() -> None:
    table = noise(HEADS, COUNT, COUNT)

    def learned(call: AttentionCall, heads: list[int], rows: list[int]) -> Tensor:
        return table[heads][:, rows]

    call = call_of(biases=(("once", learned), ("twice", learned)))
    expected = (call.query @ call.key.transpose(-1, -2) + 2 * table).softmax(-1)
    torch.testing.assert_close(call.token_map(), expected)
    torch.testing.assert_close(call.output, expected @ call.value)


@pytest.mark.parametrize(("n_q", "n_k"), [(6, 9), (9, 6), (6, 6), (8, 6)])
def test_causal_attention_of_two_lengths(n_q: int, n_k: int) -> None:
    """As many queries or keys as features, or neither: the last query sees all, each one before it one less."""
    query, key, value = noise(HEADS, n_q, 6, seed=1), noise(HEADS, n_k, 6, seed=2), noise(HEADS, n_k, 6, seed=3)
    queries, keys = (Tokens(tuple(map(str, range(n)))) for n in (n_q, n_k))
    call = call_of(query=query, key=key, value=value, queries=queries, keys=keys, mask=Mask(causal=True))
    for i in range(n_q):
        seen = max(0, i + 1 + n_k - n_q)
        expected = (query[:, i, None] @ key[:, :seen].transpose(-1, -2)).softmax(-1) @ value[:, :seen]
        torch.testing.assert_close(call.output[:, i], expected[:, 0] if seen else torch.zeros(HEADS, 6).double())


def test_a_scale_for_each_head() -> None:
    scale = torch.tensor([0.1, 1.0, 2.0, 10.0], dtype=torch.float64)
    call = call_of(scale=scale)
    expected = (call.query @ call.key.transpose(-1, -2) * scale[:, None, None]).softmax(-1)
    torch.testing.assert_close(call.token_map(), expected)
    torch.testing.assert_close(call.token_map([2], [0]), expected[[2]][:, [0]])
    torch.testing.assert_close(call.output, expected @ call.value)


def test_a_gate_multiplies_the_output() -> None:
    gate = noise(HEADS, COUNT, 6, seed=7)
    call = call_of(gate=gate)
    torch.testing.assert_close(call.output, gate * (call.token_map() @ call.value))
    torch.testing.assert_close(call.map_gradient(gate), (gate * gate) @ call.value.transpose(-1, -2))


def test_an_arranged_output_takes_its_gradient_from_the_graph() -> None:
    """The network used a transposed tensor; what is recorded is arrange(graph), and so is its gradient."""
    graph = noise(COUNT, HEADS, 6).requires_grad_()
    call = replace(call_of(), output=graph.transpose(0, 1), graph=graph, arrange=lambda tensor: tensor.transpose(0, 1))
    weights = noise(COUNT, HEADS, 6, seed=5)
    torch.testing.assert_close(call.gradient((graph * weights).sum()), weights.transpose(0, 1))


@pytest.mark.parametrize(("heads", "rows"), [([4], None), ([-1], None), (None, [8])])
def test_a_head_or_row_that_is_not_there(heads: list[int] | None, rows: list[int] | None) -> None:
    with pytest.raises(IndexError, match="by hand, which has"):
        call_of().weights(heads, rows)


def test_a_call_without_output_has_no_gradient() -> None:
    with pytest.raises(ValueError, match="recorded no output"):
        replace(call_of(), output=None).gradient(torch.zeros(()))


def test_maps_say_what_they_are() -> None:
    (name, found), *_ = call_of().maps().items()
    assert (name, found.axes, found.map_type, found.stochastic) == (
        "weights",
        ("head", "query", "key"),
        "weights",
        True,
    )
    assert found.array.shape == (HEADS, COUNT, COUNT)


def test_blocks_of_long_rows_have_fewer_of_them(monkeypatch):
    tokens = Tokens(tuple(map(str, range(300))))
    generator = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(3, 300, 4, generator=generator) for _ in range(3))
    call = AttentionCall("layer 1", 0, Softmax(), q, k, v, tokens, tokens, 0.5)
    row = torch.rand(300, generator=generator)
    whole = row @ call.token_map().mean(0)
    assert [len(rows) for rows in call.blocks()] == [128, 128, 44]
    monkeypatch.setattr("attnviz.types.CELLS", 3 * 300 * 7)
    assert [i for rows in call.blocks() for i in rows] == list(range(300))
    assert {len(rows) for rows in call.blocks()} == {7, 300 % 7}
    assert largest(lambda: call.propagate(row)) <= 3 * 300 * 7
    torch.testing.assert_close(call.propagate(row), whole)
    monkeypatch.setattr("attnviz.types.CELLS", 1)
    assert {len(rows) for rows in call.blocks()} == {1}


def test_maps_computed_in_place_leave_the_call_as_it_was():
    tokens = Tokens(tuple(map(str, range(9))))
    generator = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(2, 9, 4, generator=generator, dtype=torch.float64) for _ in range(3))
    call = AttentionCall(
        "layer 1", 0, Softmax(), q, k, v, tokens, tokens, torch.tensor([0.5, 2.0], dtype=torch.float64)
    )
    before = q.clone(), k.clone(), call.scores(stage="raw")
    expected = ((q @ k.mT) * torch.tensor([0.5, 2.0])[:, None, None]).softmax(-1)
    torch.testing.assert_close(call.token_map(), expected)
    torch.testing.assert_close(call.token_map([1, 0], [8, 2, 3]), expected[[1, 0]][:, [8, 2, 3]])
    for kept, now in zip(before, (call.query, call.key, call.scores(stage="raw")), strict=True):
        assert torch.equal(kept, now)
