"""Input times gradient, integrated gradients and SmoothGrad: against captum, by completeness, and by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from captum.attr import InputXGradient, IntegratedGradients, LayerGradCam, Saliency
from torch import Tensor, nn
from torchcam.methods import LeGrad

import attnviz
from attnviz.methods.input_gradients import baseline_of, draw_noise, integrate
from attnviz.types import Edit, Target, UnsupportedMask
from tests.explained import picture_model, text_model
from tests.foreign import foreign_models

SHAPES = {"cls": {}, "registers": {"registers": 4}, "mean": {"pooling": "mean", "cls": False}}
CLOSE = {"atol": 1e-10, "rtol": 1e-8}


@pytest.fixture(params=SHAPES)
def pair(request):
    """A model and a picture of 3 x 7 patches."""
    return picture_model((3, 7), **SHAPES[request.param])


def forward(model, sample):
    """The class logits [copy class] of embeddings [copy token feature], as captum wants them."""
    return lambda embeddings: model(sample, edit=Edit(embeddings=embeddings)).logits["class"][..., 0, :]


def content_of(model, sample) -> Tensor:
    """The token embeddings with one batch axis."""
    return model(sample).token_embeddings["main"][None].clone()


def test_input_times_gradient_is_captums(pair):
    model, sample = pair
    found = InputXGradient(forward(model, sample)).attribute(content_of(model, sample).requires_grad_(), target=3)[0]
    target = Target(label=3)
    row = attnviz.explain("input x gradient", model, sample, target)
    torch.testing.assert_close(row, found.sum(-1).detach(), **CLOSE)
    row = attnviz.explain("input x gradient", model, sample, target, per_token="norm")
    torch.testing.assert_close(row, found.norm(dim=-1).detach(), **CLOSE)


@pytest.mark.parametrize("baseline", ["zero", "mean"])
def test_integrated_gradients_are_captums(pair, baseline):
    model, sample = pair
    content, prefix = content_of(model, sample), sample.tokens["main"].prefix
    absent = content.clone()
    absent[:, prefix:] = 0 if baseline == "zero" else content[:, prefix:].mean(1, keepdim=True)
    method = IntegratedGradients(forward(model, sample))
    found = method.attribute(content, absent, target=3, n_steps=24, method="gausslegendre")[0]
    row = attnviz.explain("integrated gradients", model, sample, Target(label=3), steps=24, baseline=baseline)
    torch.testing.assert_close(row, found.sum(-1), atol=1e-8, rtol=1e-6)  # captum has its steps in float32
    assert not row[:prefix].any()
    mean = torch.zeros_like(content)
    for point, weight in zip(*np.polynomial.legendre.leggauss(24), strict=True):  # on -1 to 1, weights sum to 2
        there = (absent + (1 + point) / 2 * (content - absent)).requires_grad_()
        (slope,) = torch.autograd.grad(forward(model, sample)(there)[0, 3], there)
        mean += weight / 2 * slope
    torch.testing.assert_close(row, (mean * (content - absent)).sum(-1)[0], **CLOSE)


def test_integrated_gradients_add_up_to_the_change_of_the_score(pair):
    model, sample = pair
    target = Target(label=3, against=1)
    found = integrate(model, sample, target, steps=50)
    whole = forward(model, sample)
    content = content_of(model, sample)
    absent = content * (torch.arange(content.shape[1]) < sample.tokens["main"].prefix)[:, None]
    scores = [whole(each)[0, 3] - whole(each)[0, 1] for each in (content, absent)]
    torch.testing.assert_close(found.change, scores[0] - scores[1], **CLOSE)
    assert float(found.error.abs()) < 0.01 * float(found.change.abs())
    coarse = integrate(model, sample, target, steps=1)
    assert float(coarse.error.abs()) > float(found.error.abs())
    torch.testing.assert_close(found.error, found.features.sum() - found.change, **CLOSE)


def test_smoothgrad_is_the_mean_of_captums_gradients_under_the_same_noise(pair):
    model, sample = pair
    trace, content = model(sample), content_of(model, sample)[0]
    noise = draw_noise(trace, content, 0.2, 9, 4)
    prefix = sample.tokens["main"].prefix
    assert not noise[:, :prefix].any()
    assert float(noise[:, prefix:].std()) == pytest.approx(0.2 * float(content.max() - content.min()), rel=0.05)
    noisy = (content + noise).requires_grad_()
    mean = Saliency(forward(model, sample)).attribute(noisy, target=3, abs=False).mean(0)
    options = {"noise": 0.2, "samples": 9, "seed": 4}
    row = attnviz.explain("smoothgrad", model, sample, Target(label=3), **options)
    torch.testing.assert_close(row, mean.norm(dim=-1), **CLOSE)
    row = attnviz.explain("smoothgrad", model, sample, Target(label=3), per_token="sum", **options)
    torch.testing.assert_close(row, mean.sum(-1), **CLOSE)
    other = attnviz.explain("smoothgrad", model, sample, Target(label=3), **options | {"seed": 5})
    assert not torch.allclose(row, other)


def test_without_noise_smoothgrad_is_the_gradient():
    model, sample = picture_model((3, 7))
    content = content_of(model, sample).requires_grad_()
    gradient = Saliency(forward(model, sample)).attribute(content, target=2, abs=False)[0]
    row = attnviz.explain("smoothgrad", model, sample, Target(label=2), noise=0.0, samples=4)
    torch.testing.assert_close(row, gradient.norm(dim=-1), **CLOSE)


def test_the_class_of_the_unchanged_input_is_explained():
    """On the way from the baseline the network says something else, which is not what was asked."""
    model, sample = picture_model((3, 7), seed=1)
    predicted = int(model(sample).logits["class"].argmax())
    for name in ("integrated gradients", "smoothgrad"):
        row = attnviz.explain(name, model, sample)
        assert torch.equal(row, attnviz.explain(name, model, sample, Target(label=predicted)))


def test_unknown_options_are_refused():
    model, sample = picture_model()
    for name, options in (
        ("input x gradient", {"per_token": "max"}),
        ("integrated gradients", {"baseline": "black"}),
        ("integrated gradients", {"steps": 0}),
        ("smoothgrad", {"noise": -0.1}),
        ("smoothgrad", {"samples": 0}),
    ):
        with pytest.raises(ValueError, match=r"known|expected"):
            attnviz.explain(name, model, sample, **options)


def test_a_model_without_embeddings_or_without_an_answer_says_so():
    for foreign in foreign_models().values():
        sample = foreign.model.prepare(foreign.raw)
        for name in ("input x gradient", "integrated gradients", "smoothgrad", "legrad"):
            if "embeddings" in foreign.model.spec.honours:
                assert attnviz.explain(name, foreign.model, sample).isfinite().all()
                continue
            with pytest.raises(UnsupportedMask, match="embeddings"):
                attnviz.explain(name, foreign.model, sample)


def test_the_baseline_keeps_special_tokens_of_a_text():
    model, sample = text_model(outputs={"sentiment": 2})
    trace = model(sample)
    content = trace.token_embeddings["main"]
    special = torch.tensor([word < 0 for word in sample.tokens["main"].words])
    assert special.tolist() == [True, *[False] * (len(special) - 2), True]
    for name in ("zero", "mean"):
        absent = baseline_of(trace, content, name)
        assert torch.equal(absent[special], content[special])
        assert (absent[~special] == absent[1]).all()


# Packages that are right


class Transposed(nn.Module):
    """A network from embeddings to logits whose tokens pass a layer as [copy feature token], as convolutions give."""

    def __init__(self, model, sample, layer: int):
        super().__init__()
        self.model, self.sample, self.layer, self.here = model, sample, layer, nn.Identity()

    def forward(self, embeddings: Tensor) -> Tensor:
        """Logits [copy class]; the tokens that enter the layer pass `here` without the prefix."""
        tokens = self.sample.tokens["main"]
        x = self.model(self.sample, edit=Edit(embeddings=embeddings)).residuals["main"][0]
        for index in range(self.model.config.layers):
            if index == self.layer:
                patches = self.here(x[:, tokens.prefix :].mT).mT
                x = torch.cat([x[:, : tokens.prefix], patches], 1)
            x, _ = self.model.network.layer(index, x, tokens=tokens)
        return self.model.network.logits_from(x, self.model.network.pooling_weights(tokens, x))


def stretched(row: Tensor) -> Tensor:
    """From 0 to 1."""
    return (row - row.min()) / (row.max() - row.min())


@pytest.mark.parametrize("layer", [0, 1, 2])
def test_grad_cam_on_tokens_is_captums(pair, layer):
    model, sample = pair
    prefix = sample.tokens["main"].prefix
    through = Transposed(model, sample, layer)
    compared = 0
    for label in range(5):
        method = LayerGradCam(through, through.here)
        found = method.attribute(content_of(model, sample), target=label, relu_attributions=True)[0, 0]
        row = attnviz.explain("grad-cam tokens", model, sample, Target(label=label), layer=layer)[prefix:]
        assert bool(found.any()) == bool(row.any())
        if found.any():
            torch.testing.assert_close(stretched(row), stretched(found.detach()), atol=1e-10, rtol=0)
            compared += 1
    assert compared


class Encoder(nn.Module):
    """A block of torch's own attention, as torchcam's LeGrad wants it."""

    def __init__(self, block):
        super().__init__()
        self.self_attention = as_torch(block.attention)
        self.norms, self.mlp = (block.attention_norm, block.mlp_norm), block.mlp

    def forward(self, x: Tensor) -> Tensor:
        """[copy token feature]."""
        normed = self.norms[0](x)
        x = x + self.self_attention(normed, normed, normed, need_weights=False)[0]
        return x + self.mlp(self.norms[1](x))


def as_torch(attention) -> nn.MultiheadAttention:
    """The same attention in torch's own module."""
    made = nn.MultiheadAttention(attention.width, attention.heads, batch_first=True).double()
    parts = (attention.query, attention.key, attention.value)
    with torch.no_grad():
        made.in_proj_weight.copy_(torch.cat([part.weight for part in parts]))
        made.in_proj_bias.copy_(torch.cat([part.bias for part in parts]))
        made.out_proj.load_state_dict(attention.out.state_dict())
    return made.eval()


def test_legrad_is_torchcams(pair):
    model, sample = pair
    network, prefix = model.network, sample.tokens["main"].prefix
    pooled = slice(0, 1) if network.config.pooling == "cls" else slice(prefix, None)

    def answer(x: Tensor) -> Tensor:
        return network.classify(network.norm(x)[:, pooled].mean(1))

    encoder = nn.Sequential(*(Encoder(block) for block in network.blocks)).eval()
    method = LeGrad(encoder, list(encoder), score_projection=answer, prefix_tokens=prefix, grid_shape=(3, 7))
    with method:
        final = encoder(model(sample).residuals["main"][0][None])
        torch.testing.assert_close(answer(final)[0], model(sample).logits["class"][0], **CLOSE)
        found = method(3, answer(final), normalized=False)[0].flatten()
    row = attnviz.explain("legrad", model, sample, Target(label=3))[prefix:]
    torch.testing.assert_close(row, found, **CLOSE)


@pytest.mark.parametrize(("name", "count"), [("integrated gradients", "steps"), ("smoothgrad", "samples")])
def test_progress_rises_to_the_whole(name: str, count: str):
    model, sample = picture_model()
    told: list[float] = []
    attnviz.explain(name, model, sample, progress=told.append, **{count: 20})
    assert told == [0.4, 0.8, 1.0]
