"""What cannot be done is refused in words, by every shipped model and by explain: what was expected, and what came."""

from __future__ import annotations

import json
import subprocess
import sys
from functools import partial
from typing import Any

import pytest
import torch
from PIL import Image

import attnviz
from attnviz.attention import VARIANTS
from attnviz.attention.positions.schemes import Rotary, Shaw, T5Buckets, t5_bucket
from attnviz.edits import Edit, head_flags, token_flags
from attnviz.methods import METHODS
from attnviz.models import MODELS, ViT
from attnviz.models.mobilevit import MOBILEVITS, MobileViT
from attnviz.models.nets import NETS, BottleneckNet
from attnviz.models.requests import fitted
from attnviz.models.vit import ViTConfig
from attnviz.paths import ROOT
from attnviz.types import Target

NAMED = {
    "ablated_heads": "ablated_heads",
    "keep": "keep",
    "embeddings": "embeddings",
    "positions": "positions",
    "blocked_edges": "blocked_edges",
    "residuals": "residuals",
    "edit": "edit",
    "sample": "expected",
    "explain": "sample",
    "target": "target",
    "prepare": "expected",
}


@pytest.fixture(scope="module")
def answers() -> dict[str, dict[str, tuple[str, str]]]:
    """What every model said to every wrong request."""
    command = [sys.executable, "-m", "tests.wrong_requests"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return dict(map(json.loads, done.stdout.splitlines()))


@pytest.mark.parametrize("name", MODELS)
def test_a_wrong_request_is_refused_in_a_sentence(name: str, answers: dict[str, Any]) -> None:
    assert len(answers[name]) >= 28
    for what, (error, message) in answers[name].items():
        assert error in ("ValueError", "TypeError", "UnsupportedMask"), (what, error, message)
        assert NAMED[what.split()[0]] in message.lower(), (what, message)
        assert "\n" not in message
        assert len(message) < 250


def test_the_right_layer_and_head_are_named() -> None:
    found = head_flags(3, 4, [(2, 1), (0, 3), (2, 0)])
    assert found.nonzero().tolist() == [[0, 3], [2, 0], [2, 1]]
    assert not head_flags(2, 2, ()).any()
    for wrong, message in (([(3, 0)], "layer 3; .* layers 0 to 2"), ([(0, 4)], "head 4; .* heads 0 to 3")):
        with pytest.raises(ValueError, match=message):
            head_flags(3, 4, wrong)
    with pytest.raises(TypeError, match="pairs"):
        head_flags(3, 4, [3])  # type: ignore[list-item]
    assert token_flags(4, [0, 2]).tolist() == [True, False, True, False]
    with pytest.raises(ValueError, match="token -1 is named; there are tokens 0 to 3"):
        token_flags(4, [-1])


def test_every_kind_of_network_refuses_a_layer_it_does_not_have() -> None:
    small = ViTConfig(size=8, patch=4, width=16, layers=1, heads=2, classes=3)
    networks = [(ViT(small), 8, 3, 1), *((BottleneckNet(config), 8, 1, 2) for config in NETS.values())]
    networks.append((MobileViT(MOBILEVITS["xxs"]).eval(), 256, 3, 9))
    for network, size, channels, layers in networks:
        off = torch.ones(layers + 1, 2, dtype=torch.bool)
        with pytest.raises(ValueError, match=f"ablated_heads is .*; expected {layers} layers, head"):
            network(torch.zeros(channels, size, size), edit=Edit(ablated_heads=off))


def test_an_edit_has_to_fit() -> None:
    like = torch.zeros(4, 6, dtype=torch.float64)
    fit = partial(fitted, tokens=4, layers=2, like=like)
    assert not fit(None).requests
    keep = torch.tensor([True, False, True, True])
    assert torch.equal(fit(Edit(keep_tokens=keep)).keep_tokens, keep)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="expected 5 tokens"):
        fitted(Edit(keep_tokens=keep), tokens=5, layers=2, like=like)
    with pytest.raises(TypeError, match="bool"):
        fit(Edit(keep_tokens=keep.float()))
    assert fit(Edit(embeddings=torch.ones(2, 4, 6))).embeddings.dtype == torch.float64  # type: ignore[union-attr]
    for wrong in (torch.ones(4, 5), torch.ones(3, 6), torch.ones(6)):
        with pytest.raises(ValueError, match="4 tokens, 6 features"):
            fit(Edit(embeddings=wrong))
    with pytest.raises(ValueError, match="no ablated_heads"):
        fit(Edit(head_means=torch.ones(2, 3, 2)))


def test_no_variant_has_no_heads() -> None:
    for kind in VARIANTS.values():
        if kind.title != VARIANTS["separable"].title:
            with pytest.raises(ValueError, match="0 heads"):
                kind(8, 0)


def test_schemes_of_positions_refuse_what_leaves_them_nothing() -> None:
    offsets = torch.arange(-40, 41)
    for buckets, longest, causal in ((32, 8, False), (32, 5, False), (32, 16, True), (3, 128, False), (1, 128, True)):
        with pytest.raises(ValueError, match="expected"):
            t5_bucket(offsets, buckets, longest, causal=causal)
        with pytest.raises(ValueError, match="expected"):
            T5Buckets(2, 8, buckets=buckets, longest=longest, causal=causal)
    for buckets, longest, causal in ((32, 9, False), (32, 17, True), (4, 2, False), (2, 2, True)):
        found = t5_bucket(offsets, buckets, longest, causal=causal)
        assert found.min() >= 0
        assert found.max() < buckets
        after = found[41:].diff()
        assert (after >= 0).all()  # wider and wider steps, never back
    with pytest.raises(ValueError, match="clipped to -1"):
        Shaw(2, 8, clip=-1)
    with pytest.raises(ValueError, match="base of rotary"):
        Rotary(2, 8, base=0)
    assert Shaw(2, 8, clip=0).key_table.shape == (1, 8)


def test_a_trace_of_the_same_input_is_taken() -> None:
    """Also a translator's, which holds what it wrote beside the sample, and one that names no sample."""
    model = attnviz.load("translator")
    sample = model.prepare("The cat sleeps.")
    trace = model(sample)
    expected = attnviz.explain("rollout", model, sample)
    assert torch.equal(attnviz.explain("rollout", model, sample, trace=trace), expected)
    assert torch.equal(attnviz.explain("rollout", model, trace.sample, trace=trace), expected)  # type: ignore[arg-type]
    bare = model.network(*(trace.sample.inputs[stream] for stream in ("source", "target")))  # type: ignore[union-attr]
    assert torch.allclose(attnviz.explain("rollout", model, sample, trace=bare), expected)
    with pytest.raises(ValueError, match="another sample"):
        attnviz.explain("rollout", model, model.prepare("The dog sleeps."), trace=trace)


def test_a_target_that_there_is_is_taken() -> None:
    model = attnviz.load("sentences")
    sample = model.prepare("The cat sleeps.")
    for target in (Target("word", 2, 7999), Target("sentiment", 0, 1), Target("tag", 1), Target()):
        assert float(attnviz.explain("rollout", model, sample, target).sum()) == pytest.approx(1, abs=1e-5)
    with pytest.raises(ValueError, match="row 1"):
        attnviz.explain("rollout", model, sample, Target("sentiment", 1))
    with pytest.raises(ValueError, match="labels 0 to 1"):
        attnviz.explain("rollout", model, sample, Target("sentiment", 0, 2))


@pytest.mark.parametrize("method", METHODS)
def test_an_answer_read_from_a_removed_token_has_nothing_to_explain(method: str) -> None:
    model = attnviz.load("vit")
    sample = model.prepare(Image.linear_gradient("L"))
    keep = torch.ones(len(sample.tokens["main"]), dtype=torch.bool)
    keep[5] = False
    trace = model(sample, edit=Edit(keep_tokens=keep))
    found, chained = attnviz.explain(method, model, sample, trace=trace), METHODS[method].takes_start
    assert float(found.abs().sum()) > 0
    assert float(found[5]) == 0
    assert not chained or float(found.sum()) == pytest.approx(1, abs=1e-5)
    keep[0] = False  # CLS, which the answer is read from
    blind = model(sample, edit=Edit(keep_tokens=torch.stack([keep, keep | True])))
    assert blind.pooling["main"].sum(-1).tolist() == [0, 1]
    torch.testing.assert_close(blind.logits["class"][0, 0], model.network.classify.bias)
    with pytest.raises(ValueError, match="removed"):
        attnviz.explain(method, model, sample, trace=blind)
    if not chained:
        return
    assert float(attnviz.explain(method, model, sample, trace=blind, start=7)[0].sum()) == pytest.approx(1, abs=1e-5)
