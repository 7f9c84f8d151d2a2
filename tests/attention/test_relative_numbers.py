"""Positions told by distance in numbers: by hand, in closed form, against Hugging Face and x-transformers."""

from __future__ import annotations

import math
import warnings
from dataclasses import replace
from inspect import signature
from itertools import product
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from attnviz.attention import MultiHead, Softmax
from attnviz.attention.positions.schemes import Alibi, Relative, Rotary, Shaw, T5Buckets, alibi_slopes, t5_bucket
from attnviz.attention.variants.multihead import GroupedQuery
from attnviz.types import AttentionCall, Mask, Tokens

WIDTH, HEADS, DIM, COUNT = 32, 4, 8, 10
GRID = Tokens.patches(3, 4, ("CLS",))


def row(count: int) -> Tokens:
    """Tokens in one row."""
    return Tokens(tuple(map(str, range(count))))


def noise(*shape: int, seed: int = 0) -> Tensor:
    """Standard normal numbers, the same for the same seed."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def filled(relative: Relative, made: type[MultiHead] = MultiHead, **options: Any) -> MultiHead:
    """A variant with a scheme, every parameter random and large."""
    network = made(WIDTH, HEADS, **options)
    network.use_relative_positions(relative)
    network.double()
    for seed, parameter in enumerate(network.parameters()):
        parameter.data = noise(*parameter.shape, seed=seed) * 0.3
    return network


def with_scheme(relative: Relative, **fields: Tensor) -> AttentionCall:
    """A call made by hand through a scheme."""
    tokens = row(fields["query"].shape[-2])
    start = {**fields, "rule": MultiHead(WIDTH, HEADS).rule, "scale": DIM**-0.5}
    changed = relative.double()(start, tokens, tokens)
    return AttentionCall(name="by hand", layer=0, queries=tokens, keys=tokens, **changed)


def random_call(relative: Relative, count: int = COUNT) -> AttentionCall:
    """Random query, key and value through a scheme."""
    names = ("query", "key", "value")
    return with_scheme(relative, **{n: noise(HEADS, count, DIM, seed=s) for s, n in enumerate(names)})


@pytest.mark.parametrize(
    ("scheme", "silent"),
    [(Alibi(HEADS, DIM, strength=0), None), (Shaw(HEADS, DIM, values=True), "zero"), (T5Buckets(HEADS, DIM), "zero")],
)
def test_a_scheme_at_zero_is_no_scheme(scheme: Relative, silent: str | None) -> None:
    for parameter in scheme.parameters():
        nn.init.zeros_(parameter)
    call = random_call(scheme)
    plain = (call.query @ call.key.transpose(-1, -2) * DIM**-0.5).softmax(-1)
    torch.testing.assert_close(call.token_map(), plain)
    torch.testing.assert_close(call.rule.mix(call), plain @ call.value)


def test_rotary_scores_depend_on_the_distance_alone() -> None:
    """One query and one key at every place: every diagonal has one score, and lengths stay."""
    one = {n: noise(HEADS, 1, DIM, seed=s).expand(-1, 20, -1) for s, n in enumerate(("query", "key", "value"))}
    call = with_scheme(Rotary(HEADS, DIM), **one)
    scores = call.scores(stage="raw")
    for offset in range(-19, 20):
        diagonal = scores.diagonal(offset, -2, -1)
        torch.testing.assert_close(diagonal, diagonal[:, :1].expand_as(diagonal), atol=1e-12, rtol=0)
    torch.testing.assert_close(call.query.norm(dim=-1), one["query"].norm(dim=-1))
    torch.testing.assert_close(call.query[:, 0], one["query"][:, 0])


def test_rotary_on_a_grid_turns_half_by_row_and_half_by_column() -> None:
    """Scores depend on the difference in rows and columns; patches of one row differ in the second half only."""
    relative, tokens = Rotary(1, DIM, tokens=Tokens.patches(4, 6)), Tokens.patches(4, 6)
    key, query = noise(1, 1, DIM).expand(1, 24, DIM), noise(1, 1, DIM, seed=1).expand(1, 24, DIM)
    fields = relative({"query": query, "key": key}, tokens, tokens)
    turned = fields["key"][0].unflatten(0, (4, 6))
    assert (turned[:, :, :4] == turned[:, :1, :4]).all()
    assert (turned[:, :, 4:] == turned[:1, :, 4:]).all()
    scores = (fields["query"] @ fields["key"].transpose(-1, -2))[0].unflatten(0, (4, 6)).unflatten(-1, (4, 6))
    torch.testing.assert_close(scores[0, 1, 2, 3], scores[1, 3, 3, 5])
    torch.testing.assert_close(scores[0, 0, 0, 1], scores[3, 4, 3, 5])
    assert (scores[0, 0, 0, 1] - scores[0, 0, 1, 0]).abs() > 1e-3
    angles = [10_000 ** (-i / 2) for i in range(2)]  # two waves an axis
    first, second = key[0, 0, :2], key[0, 0, 2:4]
    by_hand = [first[i] * math.cos(3 * a) - second[i] * math.sin(3 * a) for i, a in enumerate(angles)]
    torch.testing.assert_close(turned[3, 0, :2], torch.stack(by_hand))
    assert torch.equal(Rotary(1, 7).rotate(noise(1, 5, 7), torch.arange(5.0)[:, None])[..., 6], noise(1, 5, 7)[..., 6])
    with pytest.raises(ValueError, match="need 4 channels a head, got 3"):
        Rotary(1, 3, tokens=tokens)


def test_hugging_face_rotary_with_grouped_heads_and_norms() -> None:
    """Qwen3's attention: grouped queries, norms of queries and keys, half-split rotary, causal."""
    from transformers import Qwen3Config
    from transformers.models.qwen3.modeling_qwen3 import Qwen3Attention, Qwen3RotaryEmbedding

    network = filled(Rotary(HEADS, DIM), GroupedQuery, groups=2, qk_norm=True, bias=False)
    config = Qwen3Config(
        hidden_size=WIDTH,
        num_attention_heads=HEADS,
        num_key_value_heads=2,
        head_dim=DIM,
        attention_bias=False,
        rope_parameters={"rope_type": "default", "rope_theta": 1e4},
        attn_implementation="eager",
    )
    twin = Qwen3Attention(config, 0).double().eval()
    parts = {
        "q_proj": network.query,
        "k_proj": network.key,
        "v_proj": network.value,
        "o_proj": network.out,
        "q_norm": network.norms[0],
        "k_norm": network.norms[1],
    }
    for name, part in parts.items():
        getattr(twin, name).weight.data.copy_(part.weight)  # type: ignore[arg-type]
    x = noise(2, COUNT, WIDTH)
    angles = Qwen3RotaryEmbedding(config)(x, torch.arange(COUNT)[None])
    closed = torch.full((COUNT, COUNT), -1e30, dtype=torch.float64).triu(1)[None, None]
    expected, weights = twin(x, angles, closed)
    y, (call,) = network(x, queries=row(COUNT), mask=Mask(causal=True))
    torch.testing.assert_close(y, expected, atol=1e-5, rtol=0)
    torch.testing.assert_close(call.token_map(), weights.double(), atol=1e-5, rtol=0)


def test_interleaved_rotary_is_a_permutation_of_channels() -> None:
    """Layouts that turn channels 2i and 2i + 1 give our scores where query and key are permuted alike."""
    to_halves = torch.cat([torch.arange(0, DIM, 2), torch.arange(1, DIM, 2)])
    query, key = noise(1, COUNT, DIM), noise(1, COUNT, DIM, seed=1)
    angles = torch.arange(COUNT)[:, None] * 1e4 ** (-torch.arange(0, DIM, 2, dtype=torch.float64) / DIM)

    def interleaved(x: Tensor) -> Tensor:
        pairs = torch.view_as_complex(x.unflatten(-1, (-1, 2)).contiguous())
        return torch.view_as_real(pairs * torch.polar(torch.ones_like(angles), angles)).flatten(-2)

    relative = Rotary(1, DIM)
    fields = relative({"query": query[..., to_halves], "key": key[..., to_halves]}, row(COUNT), row(COUNT))
    ours = fields["query"] @ fields["key"].transpose(-1, -2)
    torch.testing.assert_close(ours, interleaved(query) @ interleaved(key).transpose(-1, -2))


def test_alibi_slopes() -> None:
    assert alibi_slopes(8).tolist() == [2.0**-t for t in range(1, 9)]
    assert alibi_slopes(6).tolist() == pytest.approx([1 / 4, 1 / 16, 1 / 64, 1 / 256, 1 / 2, 1 / 8])
    assert alibi_slopes(1).tolist() == [2.0**-8]


@pytest.mark.parametrize("heads", [1, 4, 6, 8, 12])
def test_alibi_of_x_transformers(heads: int) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # their import calls torch.jit
        from x_transformers.x_transformers import AlibiPositionalBias
    assert alibi_slopes(heads).tolist() == pytest.approx(AlibiPositionalBias(heads).slopes.flatten().tolist())
    fields = Alibi(heads, DIM)({"key": noise(heads, COUNT, DIM)}, row(COUNT), row(COUNT))
    call = replace(random_call(Alibi(HEADS, DIM)), biases=fields["biases"])
    ours = call.biases[0][1](call, list(range(heads)), list(range(COUNT)))
    torch.testing.assert_close(ours, AlibiPositionalBias(heads)(COUNT, COUNT))


def test_alibi_on_a_grid_is_euclidean() -> None:
    x = {name: torch.zeros(8, 13, DIM) for name in ("query", "key", "value")}
    fields = Alibi(8, DIM, tokens=GRID)({**x, "rule": Softmax()}, GRID, GRID)
    call = AttentionCall(name="by hand", layer=0, queries=GRID, keys=GRID, **fields)
    table = call.scores(stage="biased")[0]
    assert (table[0] == 0).all()
    assert (table[:, 0] == 0).all()
    assert table[1, 1 + 2 * 4 + 3].item() == pytest.approx(-0.5 * math.hypot(2, 3))
    assert table[4, 5].item() == pytest.approx(-0.5 * math.hypot(1, 3)), "a row ends far from where the next one starts"


T5_TABLE = {-128: 15, -64: 14, -16: 10, -8: 8, -7: 7, 0: 0, 1: 17, 7: 23, 8: 24, 16: 26, 64: 30, 128: 31}
T5_CAUSAL = {-15: 15, -16: 16, -32: 21, -64: 26, -200: 31, 1: 0, 99: 0}


@pytest.mark.parametrize(("causal", "table"), [(False, T5_TABLE), (True, T5_CAUSAL)])
def test_t5_buckets(causal: bool, table: dict[int, int]) -> None:
    from transformers.models.t5.modeling_t5 import T5Attention

    assert t5_bucket(torch.tensor(list(table)), causal=causal).tolist() == list(table.values())
    offsets = torch.arange(-300, 300)
    theirs = T5Attention._relative_position_bucket(offsets, bidirectional=not causal)
    assert torch.equal(t5_bucket(offsets, causal=causal), theirs)


def test_t5_attention() -> None:
    """T5 does not divide its scores, so its queries are ours divided by the root of the head dimension."""
    from transformers import T5Config
    from transformers.models.t5.modeling_t5 import T5Attention

    network = filled(T5Buckets(HEADS, DIM), bias=False)
    config = T5Config(d_model=WIDTH, d_kv=DIM, num_heads=HEADS, is_decoder=False, attn_implementation="eager")
    twin = T5Attention(config, has_relative_attention_bias=True).double().eval()
    parts = {"q": network.query, "k": network.key, "v": network.value, "o": network.out}
    for name, part in parts.items():
        getattr(twin, name).weight.data.copy_(part.weight * (DIM**-0.5 if name == "q" else 1))
    twin.relative_attention_bias.weight.data.copy_(network.relative.table.T)  # type: ignore[union-attr]
    x = noise(2, 40, WIDTH)
    torch.testing.assert_close(network(x, queries=row(40))[0], twin(x)[0], atol=1e-6, rtol=0)


def test_shaw_of_hugging_face() -> None:
    from transformers import Wav2Vec2BertConfig
    from transformers.models.wav2vec2_bert.modeling_wav2vec2_bert import Wav2Vec2BertSelfAttention

    network = filled(Shaw(HEADS, DIM, clip=4))
    config = Wav2Vec2BertConfig(
        hidden_size=WIDTH,
        num_attention_heads=HEADS,
        position_embeddings_type="relative_key",
        left_max_position_embeddings=4,
        right_max_position_embeddings=4,
        attn_implementation="eager",
    )
    twin = Wav2Vec2BertSelfAttention(config).double().eval()
    parts = {"linear_q": network.query, "linear_k": network.key, "linear_v": network.value, "linear_out": network.out}
    for name, part in parts.items():
        getattr(twin, name).load_state_dict(part.state_dict())
    twin.distance_embedding.weight.data.copy_(network.relative.key_table)  # type: ignore[union-attr]
    x = noise(2, 12, WIDTH)
    torch.testing.assert_close(network(x, queries=row(12))[0], twin(x)[0])


@pytest.mark.parametrize(
    ("kind", "chosen"),
    [
        (Rotary, {"base": 1e4}),
        (Alibi, {"strength": 1.0}),
        (Shaw, {"clip": 16, "values": False}),
        (T5Buckets, {"buckets": 32, "longest": 128, "causal": False}),
    ],
)
def test_what_nobody_chose(kind: type[Relative], chosen: dict[str, float]) -> None:
    """The numbers of the papers."""
    parameters = signature(kind.__init__).parameters.values()
    assert {p.name: p.default for p in parameters if p.default is not p.empty and p.name != "tokens"} == chosen
    offsets = torch.arange(-300, 300)
    assert torch.equal(t5_bucket(offsets), t5_bucket(offsets, 32, 128, causal=False))


def test_tables_of_distances_start_small() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        shaw, buckets = Shaw(HEADS, 64, clip=500, values=True), T5Buckets(64, DIM, buckets=500)
    assert shaw.key_table.shape == shaw.value_table.shape == (1001, 64)  # type: ignore[union-attr]
    assert buckets.table.shape == (64, 500)
    for table in (shaw.key_table, shaw.value_table, buckets.table):
        assert table.std().item() == pytest.approx(0.02, rel=0.03)  # type: ignore[union-attr]


@pytest.mark.parametrize("causal", [False, True])
def test_shaw_by_double_loop(causal: bool) -> None:
    """Keys and values with their vectors written out; the gradient of the map is autograd's."""
    relative = Shaw(HEADS, DIM, clip=2, values=True)
    call = random_call(relative)
    call = replace(call, mask=Mask(causal=True) if causal else None)
    keys, values = relative.key_table.detach(), relative.value_table.detach()  # type: ignore[union-attr]
    index = (torch.arange(COUNT)[None] - torch.arange(COUNT)[:, None]).clamp(-2, 2) + 2
    scores = torch.zeros(HEADS, COUNT, COUNT, dtype=torch.float64)
    for h, i, j in product(range(HEADS), range(COUNT), range(COUNT)):
        scores[h, i, j] = call.query[h, i] @ (call.key[h, j] + keys[index[i, j]]) / math.sqrt(DIM)
    if causal:
        scores = scores.masked_fill(torch.ones(COUNT, COUNT).triu(1).bool(), -torch.inf)
    torch.testing.assert_close(call.token_map(), scores.softmax(-1))
    weights = call.token_map().detach().requires_grad_()
    output = (weights[..., None] * (call.value[:, None] + values[index])).sum(-2)
    torch.testing.assert_close(call.rule.mix(call), output)
    (expected,) = torch.autograd.grad((output * noise(*output.shape, seed=7)).sum(), weights)
    expected = expected.tril() if causal else expected
    torch.testing.assert_close(call.map_gradient(noise(*output.shape, seed=7)), expected)
    gate = noise(HEADS, 1, 1, seed=8)
    torch.testing.assert_close(replace(call, gate=gate).rule.mix(replace(call, gate=gate)), gate * output.detach())
    torch.testing.assert_close(replace(call, gate=gate).map_gradient(noise(*output.shape, seed=7)), gate * expected)
