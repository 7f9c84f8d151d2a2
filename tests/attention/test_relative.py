"""Positions told by distance: what every scheme must do with every variant, while decoding, on grids, in a network."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from attnviz.attention import POSITIONS, VARIANTS, MultiHead
from attnviz.attention.positions.schemes import Alibi, Shaw
from attnviz.attention.rules.normalisers import mix_heads
from attnviz.attention.variants.cosine import Cosine
from attnviz.attention.variants.differential import Differential
from attnviz.attention.variants.latent import MultiHeadLatent
from attnviz.attention.variants.multihead import GroupedQuery, MultiQuery
from attnviz.edits import Edit, HeadAblation, flagged
from attnviz.models.vit import ViT, ViTConfig
from attnviz.types import Mask, Tokens, UnsupportedMask

WIDTH, HEADS, DIM, COUNT = 32, 4, 8, 10
GRID = Tokens.patches(3, 4, ("CLS",))
SCHEMES = {name: scheme.relative for name, scheme in POSITIONS.items() if scheme.relative is not None}
MADE = {**SCHEMES, "shaw values": lambda *a, **k: Shaw(*a, values=True, clip=3, **k)}
FAMILY = {"mha": MultiHead, "mqa": MultiQuery, "gqa": GroupedQuery, "cosine": Cosine}


def row(count: int) -> Tokens:
    """Tokens in one row."""
    return Tokens(tuple(map(str, range(count))))


def noise(*shape: int, seed: int = 0) -> Tensor:
    """Standard normal numbers, the same for the same seed."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def made(scheme: str, kind: str = "mha", tokens: Tokens | None = None, **options: Any) -> MultiHead:
    """A variant with a scheme, every parameter random and large."""
    network = FAMILY[kind](WIDTH, HEADS, tokens=tokens, **options)
    network.use_relative_positions(MADE[scheme](HEADS, DIM, tokens=tokens))
    network.double()
    for seed, parameter in enumerate(network.parameters()):
        parameter.data = noise(*parameter.shape, seed=seed) * 0.3
    return network


@pytest.mark.parametrize("kind", FAMILY)
@pytest.mark.parametrize("scheme", MADE)
@pytest.mark.parametrize("new", [1, 3])
def test_decoding_is_the_causal_forward(scheme: str, kind: str, new: int) -> None:
    """A new token stands behind the cached ones, not at place 0."""
    network, x, old = made(scheme, kind), noise(COUNT, WIDTH), COUNT - new
    whole, (call,) = network(x, queries=row(COUNT), mask=Mask(causal=True))
    y, _, past = network.decode(x[:old], queries=row(old), keys=row(old))
    torch.testing.assert_close(y, whole[:old], atol=1e-12, rtol=0)
    y, (last,), _ = network.decode(x[old:], past, queries=row(new), keys=row(COUNT))
    torch.testing.assert_close(y, whole[old:], atol=1e-12, rtol=0)
    torch.testing.assert_close(last.token_map(), call.token_map()[:, old:], atol=1e-12, rtol=0)


@pytest.mark.parametrize("kind", FAMILY)
@pytest.mark.parametrize("scheme", MADE)
@pytest.mark.parametrize("tokens", [GRID, row(13)], ids=["grid", "row"])
@pytest.mark.parametrize("mask", [None, Mask(causal=True), Mask(key_padding=torch.arange(13) % 3 != 1)])
def test_maps_batches_and_gradients(scheme: str, kind: str, tokens: Tokens, mask: Mask | None) -> None:
    network, x = made(scheme, kind, tokens), noise(2, 13, WIDTH)
    y, (call,) = network(x, queries=tokens, mask=mask)
    torch.testing.assert_close(y[1], network(x[1], queries=tokens, mask=mask)[0], atol=1e-12, rtol=0)
    whole, value = call.token_map(), call.value[..., call.kv_heads_of(range(HEADS)), :, :]
    torch.testing.assert_close(whole.sum(-1), torch.ones_like(whole.sum(-1)))
    torch.testing.assert_close(call.token_map([2, 0], [7, 1]), whole[:, [2, 0]][:, :, [7, 1]], atol=1e-12, rtol=0)
    explicit = whole @ value
    assert call.rule.exact == torch.allclose(explicit, call.output) == (scheme != "shaw values")
    assert bool(call.rule.caveat) == (scheme == "shaw values")
    y.square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in network.relative.parameters())  # type: ignore[union-attr]
    assert network.cost(13, 13).parameters == sum(p.numel() for p in network.parameters())


@pytest.mark.parametrize("scheme", SCHEMES)
def test_order_counts_and_a_prefix_has_no_place(scheme: str) -> None:
    """Shuffled patches change the answer, unless places are taken away; CLS sees every patch at no distance."""
    network, x = made(scheme, tokens=GRID), noise(13, WIDTH)
    order = torch.tensor([0, 5, 12, 1, 9, 3, 8, 2, 11, 4, 10, 7, 6])

    def answer(x: Tensor, positions: str = "own") -> Tensor:
        return network(x, queries=GRID, positions=positions)[0]

    torch.testing.assert_close(answer(x[order], "none"), answer(x, "none")[order])
    assert (answer(x[order]) - answer(x)[order]).abs().max() > 1e-3
    assert (answer(x, "shuffled") - answer(x)).abs().max() > 1e-3
    torch.testing.assert_close(answer(x, "shuffled"), answer(x, "shuffled"))
    if scheme != "rotary":  # whose prefix queries meet turned keys
        torch.testing.assert_close(answer(x)[0], answer(x, "none")[0])
    with pytest.raises(ValueError, match="known: own, none, shuffled"):
        answer(x, "mine")


@pytest.mark.parametrize("scheme", [name for name in MADE if name != "rotary"])
def test_pairs_of_a_prefix_are_left_as_they_are(scheme: str) -> None:
    """CLS as query and as key: nothing is added to its scores, and no vector of a distance to what it gives or gets."""
    network = made(scheme, tokens=GRID)
    _, (call,) = network(noise(13, WIDTH), queries=GRID)
    added = call.scores(stage="biased") - call.scores(stage="scaled")
    assert not added[:, 0].any()
    assert not added[:, :, 0].any()
    assert (added[:, 1:, 1:].abs().amax((-1, -2)) > 1e-3).all()
    torch.testing.assert_close(call.output[:, 0], (call.token_map() @ call.value)[:, 0])
    if scheme == "shaw values":
        none = torch.zeros(13, dtype=torch.bool)
        none[0] = True  # who sees CLS alone gets its value as it is
        _, (alone,) = network(noise(13, WIDTH), queries=GRID, mask=Mask(key_padding=none))
        torch.testing.assert_close(alone.output, alone.value[:, :1].expand_as(alone.output))


def test_with_normalisers_and_silenced_heads() -> None:
    """Sinks, talking heads and other normalisers see the same biases; a silenced head keeps no vectors of distances."""
    for scheme in MADE:
        network = made(scheme, normaliser="entmax15", talking="both", sink="score")
        y, (call,) = network(
            noise(COUNT, WIDTH), queries=row(COUNT), ablation=HeadAblation(flagged("head", [1], HEADS))
        )
        assert (call.output[1] == 0).all()
        assert (call.output[0] != 0).any()
        assert y.isfinite().all()
        assert call.rule.exact == (scheme != "shaw values")
        assert "sink" in call.rule.caveat
        before = made(scheme, normaliser="softmax", talking="before")
        _, (call,) = before(noise(COUNT, WIDTH), queries=row(COUNT), mask=Mask(causal=True))
        added = sum((bias(call, [3, 1], [7, 2]) for _, bias in call.biases), torch.zeros((), dtype=torch.float64))
        talked = mix_heads(before.normalisation.before[[3, 1]], call.scores(rows=[7, 2], stage="scaled"))
        found = call.scores([3, 1], [7, 2], "biased") - talked
        torch.testing.assert_close(found, added.expand_as(found), atol=1e-12, rtol=0)
        assert (found != 0).any() == (scheme != "rotary")  # which turns queries and keys


OTHER_REASONS = {MultiHeadLatent: "rotated by position already", Differential: "belong to two maps"}


def test_what_has_no_distance_is_refused() -> None:
    network = made("rotary", tokens=GRID)
    with pytest.raises(UnsupportedMask, match="relative positions do not apply"):
        network(noise(13, WIDTH), noise(13, WIDTH), queries=GRID)
    with pytest.raises(UnsupportedMask, match="no grid"):
        network(noise(13, WIDTH), queries=Tokens(GRID.labels, None, 1))
    for variant in VARIANTS.values():
        if not variant.supports_relative_positions:
            with pytest.raises(UnsupportedMask) as raised:
                variant(24, 4, tokens=Tokens.patches(4, 6)).use_relative_positions(Alibi(4, 6))
            assert OTHER_REASONS.get(variant, "no products of query and key") in raised.value.reason


@pytest.mark.parametrize("scheme", SCHEMES)
def test_in_a_vision_transformer(scheme: str) -> None:
    """Every layer has its own; switching positions off or shuffling them reaches it; dropped patches are refused."""
    config = ViTConfig(size=16, patch=4, width=32, layers=2, heads=4, classes=5, positions=scheme, channels=1)
    network = ViT(config).double().eval()
    for seed, parameter in enumerate(network.parameters()):
        parameter.data = noise(*parameter.shape, seed=seed) * 0.4
    pixels = noise(1, 16, 16)
    assert (network.positions == 0).all()
    assert network.blocks[0].attention.relative is not network.blocks[1].attention.relative
    own, none, shuffled = (
        network(pixels, edit=Edit(positions=how)).logits["class"] for how in ("own", "none", "shuffled")
    )
    plain = ViT(replace(config, positions="none")).double()
    plain.load_state_dict(network.state_dict(), strict=False)
    torch.testing.assert_close(none, plain(pixels).logits["class"])
    assert (own - none).abs().max() > 1e-4
    assert (own - shuffled).abs().max() > 1e-4
    assert network(noise(1, 8, 24)).calls[0].queries.grid == (2, 6)
    with pytest.raises(UnsupportedMask, match="no grid"):
        network(pixels, visible=torch.arange(5))
