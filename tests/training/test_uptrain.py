"""Uptraining: what fits is copied, shared heads are means, the rest is new; what cannot start so is refused."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from attnviz.attention import VARIANTS
from attnviz.models import ViT
from attnviz.training.images.bench import SHAPE
from attnviz.training.images.uptrain import mean_of_heads, uptrain_from


@pytest.fixture(scope="module")
def base() -> ViT:
    """A multi-head network whose parameters are all other numbers than those a new one starts from."""
    with torch.random.fork_rng():
        torch.manual_seed(5)
        network = ViT(SHAPE)
        for parameter in network.parameters():
            torch.nn.init.normal_(parameter)
    return network.requires_grad_(False)


@pytest.mark.parametrize("name", VARIANTS)
def test_every_variant_takes_over_what_fits(name: str, base: ViT) -> None:
    config = replace(SHAPE, variant=name)
    start, donor = uptrain_from(base.state_dict(), config), base.state_dict()
    network = ViT(config)
    network.load_state_dict(start.tensors)
    learned = dict(network.named_parameters())
    assert sorted([*start.copied, *start.pooled, *start.new]) == sorted(learned)
    for parameter in learned:
        fits = parameter in donor and donor[parameter].shape == learned[parameter].shape
        assert (parameter in start.copied) == fits
        assert not fits or torch.equal(learned[parameter], donor[parameter])
    assert {"embed.weight", "classify.weight", "blocks.3.mlp.2.weight"} <= set(start.copied)
    assert all("attention." in parameter for parameter in start.new)


def test_multi_head_takes_over_everything(base: ViT) -> None:
    start = uptrain_from(base.state_dict(), SHAPE)
    assert (start.pooled, start.new) == ((), ())
    assert all(torch.equal(start.tensors[name], tensor) for name, tensor in base.state_dict().items())


@pytest.mark.parametrize(("name", "shared"), [("mqa", 1), ("gqa", 2)])
def test_shared_heads_are_means_of_the_heads_that_read_them(name: str, shared: int, base: ViT) -> None:
    """Row r of shared head g is the mean over its query heads h of row r of head h; in float64, head by head."""
    start, donor = uptrain_from(base.state_dict(), replace(SHAPE, variant=name)), base.state_dict()
    assert len(start.pooled) == 4 * 4
    for parameter in start.pooled:
        rows = donor[parameter].double().reshape(4, 32, -1)  # [head row feature]
        for group in range(shared):
            readers = [head for head in range(4) if head * shared // 4 == group]
            expected = sum(rows[head] for head in readers) / len(readers)
            found = start.tensors[parameter].double().reshape(shared, 32, -1)[group]
            assert torch.allclose(found, expected, atol=1e-6)


def test_equal_heads_are_shared_without_loss(base: ViT) -> None:
    """Where all heads have the same keys and values, multi-query attention answers what multi-head attention did."""
    tensors = dict(base.state_dict())
    for name in [n for n in tensors if ".key." in n or ".value." in n]:
        tensors[name] = tensors[name].reshape(4, 32, -1)[:1].expand(4, -1, -1).reshape(tensors[name].shape)
    networks = [ViT(SHAPE), ViT(replace(SHAPE, variant="mqa"))]
    networks[0].load_state_dict(tensors)
    networks[1].load_state_dict(uptrain_from(tensors, networks[1].config).tensors)
    pixels = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        first, second = (network.double()(pixels.double()).logits["class"] for network in networks)
    assert torch.allclose(first, second, atol=1e-9)


def test_what_is_new_follows_the_seed(base: ViT) -> None:
    config = replace(SHAPE, variant="additive")
    first, again, other = (uptrain_from(base.state_dict(), config, seed) for seed in (0, 0, 1))
    name = "blocks.0.attention.from_query.weight"
    assert name in first.new
    assert torch.equal(first.tensors[name], again.tensors[name])
    assert not torch.equal(first.tensors[name], other.tensors[name])


def test_a_network_that_takes_nothing_over_is_refused(base: ViT) -> None:
    with pytest.raises(ValueError, match="no parameter of mha fits"):
        uptrain_from({}, SHAPE)
    apart = {f"other.{name}": tensor for name, tensor in base.state_dict().items()}
    with pytest.raises(ValueError, match="no parameter of xca fits"):
        uptrain_from(apart, replace(SHAPE, variant="xca"))


def test_heads_that_do_not_divide_are_refused() -> None:
    for rows, heads, shared in ((12, 4, 3), (10, 4, 2)):
        with pytest.raises(ValueError, match="not shared evenly"):
            mean_of_heads(torch.zeros(rows, 2), heads, shared)
