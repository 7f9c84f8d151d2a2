"""The parts of a score against products written out from a network's matrices."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

import attnviz
from attnviz.measures.score_parts import GROUPS, SOURCES, score_parts, variance_shares
from attnviz.types import NoTokenMap, UnsupportedMask
from tests.foreign import foreign_models
from tests.materialised import opened


def reference(model, head: int, item: tuple[int, ...] = ()) -> np.ndarray:
    """[query_source key_source query key], from weights, the norm at its fixed divisor."""
    block, trace = model.network.blocks[0], model.trace
    norm, attention, call = block.attention_norm, block.attention, trace.calls[0]
    content, position = (x["main"][item].numpy() for x in (trace.token_embeddings, trace.position_embeddings))
    read = {"content": content, "position": position, "bias": np.zeros_like(content)}
    if block.norm_first:
        sigma = np.sqrt((content + position).var(-1, keepdims=True) + norm.eps)
        for name in ("content", "position"):
            read[name] = (read[name] - read[name].mean(-1, keepdims=True)) / sigma * norm.weight.numpy()
        read["bias"] = np.broadcast_to(norm.bias.numpy(), content.shape)
    dim, kv = attention.dim, call.kv_heads_of([head])[0]
    made = {}
    for kind, linear, at in (("query", attention.query, head), ("key", attention.key, kv)):
        weight, bias = (t[at * dim : (at + 1) * dim].numpy() for t in (linear.weight, linear.bias))
        made[kind] = [read[name] @ weight.T + (bias if name == "bias" else 0) for name in SOURCES]
    return np.array([[q @ k.T / dim**0.5 for k in made["key"]] for q in made["query"]])


@pytest.mark.parametrize("shape", [{}, {"norm_first": False}, {"registers": 4}, {"variant": "gqa"}, {"batch": (2,)}])
def test_parts_are_products_and_sum_to_the_score(shape):
    model = opened(**shape)
    for head in range(4):
        found = score_parts(model, model.trace, 0, head)
        score = model.trace.calls[0].scores([head], stage="scaled")[..., 0, :, :]
        assert torch.allclose(found.parts.sum((0, 1)), score, atol=1e-12)
        for item in np.ndindex(*shape.get("batch", ())):
            expected = reference(model, head, item)
            assert np.abs(found.parts[(slice(None), slice(None), *item)].numpy() - expected).max() < 1e-12
        some = score_parts(model, model.trace, 0, head, [4, 1])
        assert torch.allclose(some.parts, found.parts[..., [4, 1], :], atol=1e-14)
        assert torch.equal(found.of("content", "position"), found.parts[0, 1])
        assert found.of("position", "position").abs().max() > 1e-3


def test_a_part_hears_its_source_alone():
    """Another position table leaves products of contents as they are, but for the divisor."""
    model = opened(norm_first=False)
    before = score_parts(model, model.trace, 0, 1)
    model.network.positions.mul_(-1)
    pixels = torch.rand(3, 12, 20, generator=torch.Generator().manual_seed(9), dtype=torch.float64)
    one = model.network(pixels)
    model.network.positions.mul_(-1)
    other = model.network(pixels)
    found, turned = score_parts(model, other, 0, 1), score_parts(model, one, 0, 1)
    assert torch.allclose(found.of("content", "content"), turned.of("content", "content"), atol=1e-12)
    assert torch.allclose(found.of("content", "position"), -turned.of("content", "position"), atol=1e-12)
    assert torch.allclose(found.of("position", "position"), turned.of("position", "position"), atol=1e-12)
    assert torch.allclose(found.of("position", "position"), before.of("position", "position"), atol=1e-12)


def test_groups_take_every_part_once():
    model = opened()
    found = score_parts(model, model.trace, 0, 2)
    grouped = found.grouped()
    assert sorted(pair for pairs in GROUPS.values() for pair in pairs) == sorted(
        (a, b) for a in SOURCES for b in SOURCES
    )
    assert torch.allclose(grouped.sum(0), found.score, atol=1e-12)
    mixed = found.of("content", "position") + found.of("position", "content")
    assert torch.equal(grouped[list(GROUPS).index("mixed")], mixed)


def test_shares_of_the_variance_by_numpy():
    parts = torch.randn(4, 2, 9, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    shares = variance_shares(parts)
    for row in range(2):
        total = parts[:, row].sum(0).numpy()
        for part in range(4):
            expected = np.cov(parts[part, row].numpy(), total)[0, 1] / np.var(total, ddof=1)
            assert float(shares[part, row]) == pytest.approx(expected, abs=1e-12)
    assert torch.allclose(shares.sum(0), torch.ones(2, dtype=torch.float64))


def test_shares_on_paper():
    """A part that is alike for all keys has none, one against the others a negative one; keys may be left out."""
    parts = torch.tensor([[2.0, -2.0, 7.0], [-1.0, 1.0, 0.0], [5.0, 5.0, 5.0]])
    keys = torch.tensor([True, True, False])
    assert variance_shares(parts, keys).tolist() == pytest.approx([2, -1, 0])
    moved = parts + torch.tensor([[10.0], [-4.0], [1.0]])
    assert torch.allclose(variance_shares(moved), variance_shares(parts))
    assert variance_shares(torch.ones(2, 3)).isnan().all()


@pytest.mark.parametrize("name", ["vit", "sentences", "one-block"])
def test_shipped_networks(name):
    model = attnviz.load(name)
    sample = model.prepare(Image.linear_gradient("L") if name == "vit" else "The old dog sleeps near the house.")
    trace = model(sample)
    found = score_parts(model, trace, 0, 1)
    assert torch.allclose(found.parts.sum((0, 1)), found.score, atol=1e-3)


def test_what_has_no_exact_parts_says_why():
    model = opened()
    with pytest.raises(NoTokenMap, match="first layer"):
        score_parts(model, model.trace, 1, 0)
    with pytest.raises(NoTokenMap, match="not added"):
        score_parts(model, replace(model.trace, position_embeddings={"main": None}), 0, 0)
    for positions in ("none", "rotary", "alibi"):
        elsewhere = opened(positions=positions)
        with pytest.raises(NoTokenMap, match="not added"):
            score_parts(elsewhere, elsewhere.trace, 0, 0)
    for variant, options, words in (
        ("mha", {"qk_norm": True}, "normalised"),
        ("cosine", {}, "normalised"),
        ("additive", {}, "no products"),
        ("xca", {}, "channels"),
        ("linformer", {}, "no products"),
    ):
        wrong = opened(variant=variant, options=options, size=20)
        with pytest.raises(NoTokenMap, match=words):
            score_parts(wrong, wrong.trace, 0, 0)
    pictures = foreign_models()["foreign-pictures"]
    trace = pictures.model(pictures.model.prepare(pictures.raw))
    with pytest.raises(NoTokenMap, match="not added"):
        score_parts(pictures.model, trace, 0, 0)
    translator = attnviz.load("translator")
    with pytest.raises(UnsupportedMask):
        score_parts(translator, translator(translator.prepare("A dog.")), 0, 0, stream="source")
