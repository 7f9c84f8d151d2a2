"""Multi-head latent attention: a double loop from the paper, Hugging Face's DeepSeek-V2, its cache, its positions."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from attnviz.attention.positions.schemes import Alibi
from attnviz.attention.variants.latent import MultiHeadLatent
from attnviz.edits import Edit
from attnviz.models.vit import ViT, ViTConfig
from attnviz.types import Mask, Tokens, UnsupportedMask
from tests.variants import HEADS, WIDTH, features, plain, randomised

EAGER: dict[str, Any] = {"attn_implementation": "eager"}  # explicit weights, for comparison
DIM, RANK, ROTATED, COUNT = WIDTH // HEADS, 5, 4, 9


def made(tokens: Tokens | None = None, **options: object) -> MultiHeadLatent:
    """The variant with large random parameters."""
    return randomised(MultiHeadLatent(WIDTH, HEADS, tokens=tokens, rank=RANK, rotated=ROTATED, **options))  # type: ignore[arg-type, return-value]


def turned(x: Tensor, angles: list[float]) -> Tensor:
    """Channels i and i + half as the two coordinates of a plane, turned by an angle each."""
    half, y = len(x) // 2, x.clone()
    for i, angle in enumerate(angles):
        y[i] = x[i] * math.cos(angle) - x[i + half] * math.sin(angle)
        y[i + half] = x[i + half] * math.cos(angle) + x[i] * math.sin(angle)
    return y


def by_hand(network: MultiHeadLatent, x: Tensor, allowed: Tensor) -> tuple[Tensor, Tensor]:
    """Eq. 9 to 11 and 14 to 19, one number at a time: features [token feature] and weights [head query key]."""
    n, base = len(x), 1e4
    latent = [network.down.weight @ x[t] + network.down.bias for t in range(n)]
    latent = [c / (c.square().mean() + 1e-6).sqrt() * network.norm.weight for c in latent]
    weights, heads = torch.zeros(HEADS, n, n, dtype=torch.float64), torch.zeros(n, WIDTH, dtype=torch.float64)
    angles = [[t * base ** (-2 * i / ROTATED) for i in range(ROTATED // 2)] for t in range(n)]
    key_turned = [turned(network.rotated_key.weight @ x[t] + network.rotated_key.bias, angles[t]) for t in range(n)]
    for head in range(HEADS):
        of_head = slice(head * DIM, (head + 1) * DIM)
        of_turn = slice(head * ROTATED, (head + 1) * ROTATED)
        for t in range(n):
            query = network.query.weight[of_head] @ x[t] + network.query.bias[of_head]
            query_turned = turned(
                network.rotated_query.weight[of_turn] @ x[t] + network.rotated_query.bias[of_turn], angles[t]
            )
            scores = torch.full((n,), float("-inf"), dtype=torch.float64)
            for j in range(n):
                if allowed[t, j]:
                    key = network.up_key.weight[of_head] @ latent[j] + network.up_key.bias[of_head]
                    scores[j] = (query @ key + query_turned @ key_turned[j]) / math.sqrt(DIM + ROTATED)
            weights[head, t] = scores.exp() / scores.exp().sum()
            for j in range(n):
                value = network.up_value.weight[of_head] @ latent[j] + network.up_value.bias[of_head]
                heads[t, of_head] += weights[head, t, j] * value
    return heads @ network.out.weight.T + network.out.bias, weights


@pytest.mark.parametrize("causal", [False, True])
def test_the_formula_of_the_paper(causal: bool) -> None:
    network, x = made(), features(COUNT)
    allowed = torch.ones(COUNT, COUNT).tril().bool() if causal else torch.ones(COUNT, COUNT).bool()
    with torch.no_grad():
        expected, weights = by_hand(network, x, allowed)
    y, (call,) = network(x, queries=plain(COUNT), mask=Mask(causal=True) if causal else None)
    torch.testing.assert_close(y, expected, atol=1e-9, rtol=0)
    torch.testing.assert_close(call.token_map(), weights, atol=1e-9, rtol=0)


def test_hugging_faces_deepseek() -> None:
    """Its rotated pairs are neighbours where ours lie half of the channels apart; it rotates in float32."""
    from transformers import DeepseekV2Config
    from transformers.models.deepseek_v2.modeling_deepseek_v2 import DeepseekV2Attention, DeepseekV2RotaryEmbedding

    sizes = {"kv_lora_rank": RANK, "q_lora_rank": None, "qk_nope_head_dim": DIM, "qk_rope_head_dim": ROTATED}
    config = DeepseekV2Config(
        hidden_size=WIDTH,
        num_attention_heads=HEADS,
        num_key_value_heads=HEADS,
        v_head_dim=DIM,
        **EAGER,
        **sizes,  # type: ignore[arg-type]
    )
    twin, network = DeepseekV2Attention(config, 0).double().eval(), made(bias=False)
    assert twin.q_proj is not None
    pairs = torch.arange(ROTATED).unflatten(0, (2, -1)).T.flatten()  # ours [0 2 | 1 3] -> theirs [0 1 2 3]
    with torch.no_grad():
        content = network.query.weight.unflatten(0, (HEADS, DIM))
        rotated = network.rotated_query.weight.unflatten(0, (HEADS, ROTATED))[:, pairs]
        twin.q_proj.weight.copy_(torch.cat([content, rotated], 1).flatten(0, 1))
        twin.kv_a_proj_with_mqa.weight.copy_(torch.cat([network.down.weight, network.rotated_key.weight[pairs]]))
        twin.kv_a_layernorm.weight.copy_(network.norm.weight)
        up = [part.weight.unflatten(0, (HEADS, DIM)) for part in (network.up_key, network.up_value)]
        twin.kv_b_proj.weight.copy_(torch.cat(up, 1).flatten(0, 1))
        twin.o_proj.weight.copy_(network.out.weight)
        x = features(2, COUNT)
        angles = DeepseekV2RotaryEmbedding(config)(x, torch.arange(COUNT)[None])
        closed = torch.full((COUNT, COUNT), float("-inf"), dtype=torch.float64).triu(1)
        expected, weights = twin(x, attention_mask=closed, position_embeddings=angles)
    y, (call,) = network(x, queries=plain(COUNT), mask=Mask(causal=True))
    torch.testing.assert_close(y, expected, atol=1e-5, rtol=0)
    torch.testing.assert_close(call.token_map(), weights, atol=1e-5, rtol=0)


def test_the_cache_is_the_latents_and_the_key_to_be_rotated() -> None:
    network, x = made(), features(COUNT)
    _, (call,), past = network.decode(x, queries=plain(COUNT), keys=plain(COUNT))
    assert [tuple(part.shape) for part in past] == [(COUNT, RANK), (COUNT, ROTATED)]
    assert network.cost(COUNT, COUNT).state_bytes == 4 * sum(part.numel() for part in past)
    torch.testing.assert_close(network.up_value(past[0]).unflatten(-1, (HEADS, -1)).transpose(0, 1), call.value)
    one, _, _ = network.decode(features(1, seed=4), past, queries=plain(1), keys=plain(COUNT + 1))
    changed = (past[0] + 1, past[1])
    other, _, _ = network.decode(features(1, seed=4), changed, queries=plain(1), keys=plain(COUNT + 1))
    assert (one - other).abs().max() > 1e-3


def test_the_cache_of_the_paper() -> None:
    """Table 1 there: 4.5 d_h numbers for each token, with 128 heads of 128 channels, 512 of latent and 64 rotated."""
    with torch.device("meta"):
        network = MultiHeadLatent(128 * 128, 128)
    assert (network.rank, network.rotated) == (512, 64)
    assert network.cost(1, 1).state_bytes == 4 * 4.5 * 128


@pytest.mark.parametrize(("heads", "rank", "rotated"), [(1, 64, 64), (4, 64, 16), (8, 64, 8), (16, 32, 4), (32, 16, 4)])
def test_sizes_nobody_chose(heads: int, rank: int, rotated: int) -> None:
    network = MultiHeadLatent(128, heads)
    assert (network.rank, network.rotated) == (rank, rotated)


def test_keys_and_values_have_the_rank_of_the_latent() -> None:
    _, (call,) = made(bias=False)(features(COUNT), queries=plain(COUNT))
    content = [tensor[..., :DIM].transpose(0, 1).flatten(1) for tensor in (call.key, call.value)]
    assert torch.linalg.matrix_rank(torch.cat(content, -1)) == RANK
    assert torch.linalg.matrix_rank(call.query[..., :DIM].transpose(0, 1).flatten(1)) == COUNT


def test_one_rotated_key_serves_all_heads() -> None:
    _, (call,) = made()(features(COUNT), queries=plain(COUNT))
    rotated = call.key[..., DIM:]
    assert torch.equal(rotated, rotated[:1].expand_as(rotated))
    assert (call.key[1:, :, :DIM] - call.key[:1, :, :DIM]).abs().max() > 1e-3
    assert (call.query[1:, :, DIM:] - call.query[:1, :, DIM:]).abs().max() > 1e-3


def test_positions_act_on_the_rotated_channels_alone() -> None:
    network, x = made(), features(COUNT)
    x[:] = x[0]  # with equal tokens, only positions can tell them apart
    _, (call,) = network(x, queries=plain(COUNT))
    scores = call.scores()
    torch.testing.assert_close(scores[:, 1:, 1:], scores[:, :-1, :-1])  # by distance
    assert (scores[:, 0, 1:] - scores[:, 0, :1]).abs().max() > 1e-2
    _, (without,) = network(x, queries=plain(COUNT), positions="none")
    torch.testing.assert_close(without.scores(), without.scores()[:, :1, :1].expand_as(scores))
    torch.testing.assert_close(call.query[..., :DIM], without.query[..., :DIM])
    _, (shuffled,) = network(x, queries=plain(COUNT), positions="shuffled")
    assert (shuffled.scores() - scores).abs().max() > 1e-2


def test_on_a_grid_half_of_the_channels_rotate_by_row_and_half_by_column() -> None:
    grid = Tokens.patches(3, 4, ("CLS",))
    network, x = made(grid), features(len(grid))
    _, (call,) = network(x, queries=grid)
    key = network.rotated_key(x)
    for token in range(len(grid)):
        row, column = (0, 0) if token == 0 else divmod(token - 1, 4)
        expected = torch.cat([turned(key[token, :2], [row]), turned(key[token, 2:], [column])])
        torch.testing.assert_close(call.key[0, token, DIM:], expected, atol=1e-9, rtol=0)
    with pytest.raises(UnsupportedMask, match="no grid"):
        network(features(13), queries=plain(13))


def test_a_network_without_positions_has_none_here_either() -> None:
    """Else an edit that takes positions away would leave those of every layer."""
    config = ViTConfig(size=16, patch=4, width=32, layers=1, heads=4, classes=5, variant="mla", channels=1)
    network, pixels = ViT(config).eval(), torch.full((1, 16, 16), 0.5)
    for parameter in network.blocks.parameters():
        torch.nn.init.normal_(parameter, std=0.3, generator=torch.Generator().manual_seed(0))
    own, none = (network(pixels, edit=Edit(positions=how)).calls[0].scores() for how in ("own", "none"))
    patches = none[:, 1:, 1:]
    torch.testing.assert_close(patches, patches[:, :1, :1].expand_as(patches))
    assert (own[:, 1:, 1:] - patches).abs().max() > 1e-3


@pytest.mark.parametrize(("options", "message"), [({"rank": 0}, "latent of 0"), ({"rank": 25}, "latent of 25 numbers")])
def test_sizes_that_make_no_sense(options: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MultiHeadLatent(WIDTH, HEADS, **options)  # type: ignore[arg-type]


def test_what_it_does_not_support() -> None:
    with pytest.raises(ValueError, match="4 channels a head"):
        MultiHeadLatent(WIDTH, HEADS, tokens=Tokens.patches(3, 4), rotated=2)
    network = made()
    with pytest.raises(UnsupportedMask, match="same tokens"):
        network(features(3), features(5), queries=plain(3), keys=plain(5))
    with pytest.raises(UnsupportedMask, match="rotated by position already"):
        network.use_relative_positions(Alibi(HEADS, DIM))
