"""One token through one layer: held against the formula in float64, and against what the forward pass recorded."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor

import attnviz
from attnviz.measures.interventions import lens
from attnviz.measures.token_path import NoPath, TokenPath, answers_along, follow_token
from attnviz.types import Model, Trace, UnsupportedMask
from attnviz.ui.inputs.samples import open_sample
from tests.foreign import foreign_models
from tests.test_interventions import picture_model

SENTENCE = "The animal didn't cross the street because it was too tired."
SHIPPED = ("vit", "sentences", "stories")
VARIANTS = ("linear", "linformer", "xca", "window2d", "gqa", "separable", "mobilevit2d", "botnet2d", "additive")
NO_SCORES = {"linear", "xca"}
NO_PRODUCTS = {*NO_SCORES, "additive", "linformer"}
CLOSE = {"rtol": 0, "atol": 1e-5}


@cache
def run(name: str) -> tuple[Model, Trace]:
    """A model and what it recorded: of ours, or of the foreign ones."""
    if name in foreign_models():
        one = foreign_models()[name]
        return one.model, one.model(one.model.prepare(one.raw))
    model = attnviz.load(name)
    raw: Any = open_sample(name, "cat").image if model.spec.modality == "image" else SENTENCE
    return model, model(model.prepare(raw))


def path_of(name: str, layer: int = 1, head: int = 1, token: int = 4) -> TokenPath:
    model, trace = run(name)
    call = trace.calls[layer]
    return follow_token(model, trace, call, min(head, call.heads - 1), token)


def total(path: TokenPath) -> Tensor:
    """The sum of what is shown, in float64: the residual after a pre-norm layer."""
    assert path.mlp is not None
    parts = [path.residual, *path.by_head, path.mlp, *([] if path.bias is None else [path.bias])]
    return torch.stack([one.double() for one in parts]).sum(0)


@pytest.mark.parametrize("name", [*SHIPPED, *foreign_models()])
def test_the_pieces_add_up_to_the_recorded_residual(name: str) -> None:
    model, trace = run(name)
    recorded = trace.residuals["main"]
    for layer in range(model.spec.layers):
        for token in (0, 4, len(recorded[0]) - 1):
            path = path_of(name, layer, 0, token)
            scale = max(1.0, float(recorded[layer + 1][token].abs().max()))
            torch.testing.assert_close(path.residual, recorded[layer][token], rtol=0, atol=0)
            torch.testing.assert_close(total(path) / scale, recorded[layer + 1][token].double() / scale, **CLOSE)
            torch.testing.assert_close(path.after / scale, recorded[layer + 1][token] / scale, **CLOSE)


@pytest.mark.parametrize("name", [*SHIPPED, *foreign_models()])
def test_attention_is_recomputed_from_what_is_shown(name: str) -> None:
    _, trace = run(name)
    call = trace.calls[1]
    path = path_of(name)
    assert path.scores is not None
    assert path.weights is not None
    assert path.products is not None
    assert call.output is not None
    assert call.projection is not None
    query, key, value = path.query.double(), path.key.double(), path.value.double()
    products = key @ query
    torch.testing.assert_close(path.products.double(), products, rtol=1e-5, atol=1e-4)
    scores = products * float(torch.as_tensor(call.scale).flatten()[0])
    allowed = path.scores.isfinite()
    if not call.biases:
        torch.testing.assert_close(path.scores.double()[allowed], scores[allowed], rtol=1e-5, atol=1e-4)
    shares = path.scores.double().exp() / path.scores.double().exp().sum()
    torch.testing.assert_close(path.weights.double(), shares, **CLOSE)
    assert path.softmax
    mixed = (shares[:, None] * value).sum(0) * (1 if path.gate is None else path.gate.double())
    torch.testing.assert_close(path.mixed.double(), mixed, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(path.mixed, call.output[1, 4])
    projected = path.mixed.double() @ call.projection[1].double()
    torch.testing.assert_close(path.by_head[1].double(), projected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", [*SHIPPED, *foreign_models()])
def test_norms_are_those_of_the_formula(name: str) -> None:
    model, _ = run(name)
    path, parts = path_of(name), model.layer_parts(1)
    for norm, x, normed in (
        (parts.attention_norm, path.residual, path.normed),
        (parts.mlp_norm, path.after_attention, path.mlp_normed),
    ):
        assert normed is not None
        x = x.double()
        centred = x - x.mean() if norm.centred else x
        expected = norm.weight.double() * centred / (centred.square().mean() + norm.eps).sqrt()
        expected = expected if norm.bias is None else expected + norm.bias.double()
        torch.testing.assert_close(normed.double(), expected, rtol=1e-4, atol=1e-4)


def test_a_decoder_sees_no_later_token() -> None:
    path = path_of("stories", token=3)
    assert path.scores is not None
    assert path.weights is not None
    assert path.scores[4:].isinf().all()
    assert path.weights[4:].eq(0).all()


@pytest.mark.parametrize("name", SHIPPED)
@pytest.mark.parametrize("token", [0, 4])
def test_answers_are_those_of_the_lens(name: str, token: int) -> None:
    model, trace = run(name)
    found, expected = answers_along(model, trace, token), lens(model, trace, best=3)
    assert found is not None
    assert found.output == expected.output
    torch.testing.assert_close(found.probabilities[:, 0], expected.probabilities[:, token], rtol=1e-4, atol=1e-6)
    assert found.labels[-1, 0, 0] == expected.labels[-1, token, 0]


def test_without_an_output_there_is_no_answer() -> None:
    model, trace = run("foreign-encoder")
    assert answers_along(model, trace, 1) is None


@pytest.mark.parametrize("name", [f"bench/{variant}" for variant in VARIANTS])
def test_other_variants_add_up_or_are_refused(name: str) -> None:
    model, trace = run(name)
    path = path_of(name)
    torch.testing.assert_close(total(path), trace.residuals["main"][2][4].double(), rtol=1e-4, atol=1e-4)
    if path.weights is not None:
        gate = 1 if path.gate is None else path.gate
        torch.testing.assert_close(path.weights @ path.value * gate, path.mixed, rtol=1e-3, atol=1e-4)
    assert (path.scores is None) == (model.spec.variant in NO_SCORES) or model.spec.variant == "linformer"
    assert (path.products is None) == (model.spec.variant in NO_PRODUCTS)


@pytest.mark.parametrize("name", ["bench/axial", "translator"])
def test_a_layer_of_another_make_is_refused(name: str) -> None:
    with pytest.raises((NoPath, UnsupportedMask)):
        path_of(name)


def test_a_trace_that_does_not_fit_is_refused() -> None:
    model, trace = run("foreign-decoder")
    first, second, *rest = trace.residuals["main"]
    wrong = replace(trace, residuals={"main": (first, second + 0.1, *rest)})
    with pytest.raises(NoPath):
        follow_token(model, wrong, wrong.calls[0], 0, 1)
    with pytest.raises(NoPath):
        follow_token(model, replace(trace, residuals={}), trace.calls[0], 0, 1)


@pytest.mark.parametrize("norm_first", [True, False])
def test_both_orders_of_norm_are_followed_in_double_precision(norm_first: bool) -> None:
    model = picture_model(norm_first=norm_first)
    trace = model(model.prepare(Image.radial_gradient("L").convert("RGB")))
    path = follow_token(model, trace, trace.calls[0], 0, 3)
    norm = model.layer_parts(0).attention_norm
    summed = path.residual + path.by_head.sum(0) + (0 if path.bias is None else path.bias)
    expected = summed if norm_first else norm(summed)
    torch.testing.assert_close(path.after_attention, expected, rtol=0, atol=1e-10)
    torch.testing.assert_close(path.after, trace.residuals["main"][1][3], rtol=0, atol=1e-10)
    assert (path.normed is None) == (path.mlp is None) == (not norm_first)
