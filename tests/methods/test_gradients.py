"""Gradient rollout, generic attention, Grad-CAM and LeGrad against dense float64 references written from formulas."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

import attnviz
from attnviz.interventions import ablate
from attnviz.methods import METHODS, grad_cam
from attnviz.methods.generic_attention import Factors, relevance
from attnviz.methods.rollout import branches
from attnviz.models.text import Translator
from attnviz.targets import asked, score_of
from attnviz.types import Edit, NoTokenMap, Sample, Target, Trace, UnsupportedMask
from tests.explained import Dense, attend, dense_picture, dense_text, picture_model, pooled_by, text_model, translator
from tests.methods.test_rollout import FIRST, SECOND, TWO, Fake, stored_call

SHAPES = {  # every way to pool, with prefix 0, 1 and 5
    "cls": ({}, (4, 4)),
    "cls and registers, 3 x 7": ({"registers": 4}, (3, 7)),
    "mean": ({"pooling": "mean", "cls": False}, (3, 7)),
    "mean beside CLS": ({"pooling": "mean", "registers": 4}, (3, 7)),
    "one layer": ({"layers": 1}, (3, 7)),
}
NEEDING = [name for name, method in METHODS.items() if method.needs_gradients]
EXACT = {"atol": 1e-10, "rtol": 1e-10}


@pytest.fixture(params=SHAPES)
def pair(request):
    """A model and a picture."""
    shape, grid = SHAPES[request.param]
    return picture_model(grid, **shape)


def start_of(model, sample) -> Tensor:
    """What the answer is read from [token], written out."""
    return pooled_by(model.network, torch.ones(len(sample.tokens["main"]), dtype=torch.bool))


# Dense references: every [n n] matrix whole, gradients by autograd with respect to each map


def rollout_reference(found: Dense, y: Tensor, start: Tensor, prefix: int, discard=0.0, by_row=False, order=None):
    """start @ the product of (F + I) / 2 with rows divided by their sums, last layer left."""
    gradients = found.gradients(y)
    gradients = gradients if order is None else [gradients[i] for i in order]
    size = len(start)
    product = torch.eye(size, dtype=torch.float64)
    for weights, slope in zip(found.maps, gradients, strict=True):
        fused = torch.from_numpy(thinned((weights * slope).mean(0).relu().detach().numpy(), prefix, discard, by_row))
        factor = (fused + torch.eye(size)) / 2
        product = factor / factor.sum(-1, keepdim=True) @ product
    return start @ product


def thinned(fused: np.ndarray, prefix: int, discard: float, by_row: bool) -> np.ndarray:
    """Without the smallest share of the entries between different patches, by loops and a sort."""
    free = [(i, j) for i, j in np.ndindex(*fused.shape) if min(i, j) >= prefix and i != j and fused[i, j] > 0]
    out = fused.copy()
    for group in [[p for p in free if p[0] == i] for i in range(len(fused))] if by_row else [free]:
        ordered = sorted(fused[p] for p in group)
        for p in group:
            if fused[p] < ordered[math.floor(discard * len(ordered) + 1e-9)]:
                out[p] = 0
    return out


def generic_reference(found: Dense, y: Tensor, start: Tensor, first: int = 0) -> Tensor:
    """start @ (R - I) after R <- R + F R in every layer, F = mean over heads of relu(A * dA)."""
    eye = torch.eye(len(start), dtype=torch.float64)
    relevance = eye
    for layer, (weights, slope) in enumerate(zip(found.maps, found.gradients(y), strict=True)):
        if layer >= first:
            relevance = relevance + (weights * slope).relu().mean(0) @ relevance
    return start @ (relevance - eye)


def test_gradient_rollout_is_the_row_of_the_dense_product(pair):
    model, sample = pair
    found, start, prefix = dense_picture(model, sample), start_of(model, sample), sample.tokens["main"].prefix
    for label in (2, 4):
        for options in ({}, {"discard": 0.4}, {"discard": 0.7, "by_row": True}):
            expected = rollout_reference(found, found.logits[0, label], start, prefix, **options)
            row = attnviz.explain("gradient rollout", model, sample, Target(label=label), **options)
            torch.testing.assert_close(row, expected, **EXACT)


def test_generic_attention_is_the_row_of_the_dense_sum(pair):
    model, sample = pair
    found, start = dense_picture(model, sample), start_of(model, sample)
    for label in (2, 4):
        for first in range(len(found.maps)):
            expected = generic_reference(found, found.logits[0, label], start, first)
            row = attnviz.explain("generic attention", model, sample, Target(label=label), first=first)
            torch.testing.assert_close(row, expected, **EXACT)
    likeliest = int(found.logits[0].argmax())
    expected = generic_reference(found, found.logits[0, likeliest], start)
    torch.testing.assert_close(attnviz.explain("generic attention", model, sample), expected, **EXACT)


def test_two_classes_are_explained_by_the_difference_of_their_scores(pair):
    model, sample = pair
    found, start = dense_picture(model, sample), start_of(model, sample)
    y = found.logits[0, 1] - found.logits[0, 3]
    target = Target(label=1, against=3)
    torch.testing.assert_close(
        attnviz.explain("generic attention", model, sample, target), generic_reference(found, y, start), **EXACT
    )
    one, other = (attnviz.explain("input x gradient", model, sample, Target(label=i)) for i in (1, 3))
    torch.testing.assert_close(attnviz.explain("input x gradient", model, sample, target), one - other, **EXACT)
    trace = model(sample)
    torch.testing.assert_close(score_of(trace, target), y.detach(), **EXACT)


def test_grad_cam_is_by_its_formula(pair):
    model, sample = pair
    found, prefix, start = dense_picture(model, sample), sample.tokens["main"].prefix, start_of(model, sample)
    somewhere = False
    for layer, label in itertools.product(range(len(found.maps)), range(5)):
        y, target = found.logits[0, label], Target(label=label)
        tokens = found.residuals[layer]
        (slope,) = torch.autograd.grad(y, tokens, retain_graph=True)
        expected = (slope[prefix:].mean(0) * tokens).sum(-1).relu()
        expected[:prefix] = 0
        row = attnviz.explain("grad-cam tokens", model, sample, target, layer=layer)
        torch.testing.assert_close(row, expected.detach(), **EXACT)
        weights, slopes = (start @ each for each in (found.maps[layer], found.gradients(y)[layer]))  # [head key]
        expected = (slopes[:, prefix:].mean(-1)[:, None] * weights).mean(0).relu()
        row = attnviz.explain("grad-cam attention", model, sample, target, layer=layer)
        torch.testing.assert_close(row, expected.detach(), **EXACT)
        somewhere |= bool(row.any())
    assert somewhere  # a map that is negative everywhere is zero
    assert torch.equal(row, attnviz.explain("grad-cam attention", model, sample, target))  # the last one by default


def test_grad_cam_after_the_last_attention_is_refused_where_one_token_is_read(pair):
    model, sample = pair
    if model.config.pooling == "cls":
        with pytest.raises(NoTokenMap, match="CLS alone"):
            grad_cam.explain_tokens(model, sample, after=True)
    else:
        assert grad_cam.explain_tokens(model, sample, after=True).any()
    if model.config.layers > 1:
        earlier = grad_cam.explain_tokens(model, sample, layer=0, after=True)
        assert torch.equal(earlier, grad_cam.explain_tokens(model, sample, layer=1))


def legrad_reference(model, sample, label: int, first: int = 0, keep: Tensor | None = None) -> Tensor:
    """The mean over layers, heads and queries of the positive gradients of every layer's own score."""
    found, network = dense_picture(model, sample, keep), model.network
    share = pooled_by(network, torch.ones(len(sample.tokens["main"]), dtype=torch.bool) if keep is None else keep)
    maps = []
    for layer in range(first, len(found.maps)):
        score = network.classify(share @ network.norm(found.residuals[layer + 1]))[label]
        (slope,) = torch.autograd.grad(score, found.maps[layer], retain_graph=True)
        maps.append(slope.relu().mean((0, 1)))
    return torch.stack(maps).mean(0)


def test_legrad_is_by_its_formula(pair):
    model, sample = pair
    for first in range(model.config.layers):
        row = attnviz.explain("legrad", model, sample, Target(label=3), first=first)
        torch.testing.assert_close(row, legrad_reference(model, sample, 3, first), **EXACT)


# By hand


def test_one_layer_by_hand():
    """One layer of one head: the score's gradient by the weight on token j is (readout) times value j, on paper.

    y = w . (x_0 + sum_j A_0j V x_j), so dy / dA_0j = w . V x_j =: g_j, and every method is a line of arithmetic.
    """
    model, sample = picture_model((1, 2), layers=1, heads=1, seed=4)
    network = model.network
    with torch.no_grad():
        block = network.blocks[0]
        block.mlp[-1].weight.zero_()
        block.mlp[-1].bias.zero_()
        network.norm = nn.Identity()
    trace = model(sample)
    normed = block.attention_norm(trace.residuals["main"][0])
    weights = trace.calls[0].token_map()[0, 0]  # of CLS, over CLS and two patches
    g = block.attention.value(normed) @ block.attention.out.weight.T @ network.classify.weight[3]
    product = [max(0.0, float(a * b)) for a, b in zip(weights, g, strict=True)]
    target = Target(label=3)
    generic = attnviz.explain("generic attention", model, sample, target)
    assert generic.tolist() == pytest.approx(product, abs=1e-12)
    total = 1 + sum(product)
    rolled = [(product[0] + 1) / total, product[1] / total, product[2] / total]
    assert attnviz.explain("gradient rollout", model, sample, target).tolist() == pytest.approx(rolled, abs=1e-12)
    legrad = [max(0.0, float(each)) / 3 for each in g]  # a mean over three queries, of which two have no gradient
    assert attnviz.explain("legrad", model, sample, target).tolist() == pytest.approx(legrad, abs=1e-12)
    head = (float(g[1]) + float(g[2])) / 2
    cam = [max(0.0, head * float(a)) for a in weights]
    assert attnviz.explain("grad-cam attention", model, sample, target).tolist() == pytest.approx(cam, abs=1e-12)


def test_two_layers_by_hand():
    """The factors I + A of section 4: [[2.5 1.5] [0.54 3.46]] for generic attention without a gradient's help."""
    calls = [stored_call(array, TWO, layer) for layer, array in enumerate((FIRST, SECOND))]

    class Ungraded(Factors):
        def blocks(self, call, rows):
            return call.token_map(rows=rows).mean(-3)

    rows = relevance(branches(calls), {"main": torch.eye(2, dtype=torch.float64)}, Ungraded({}))["main"] + torch.eye(2)
    assert torch.allclose(rows, torch.tensor([[2.5, 1.5], [0.54, 3.46]], dtype=torch.float64))


def test_relu_stands_after_the_mean_of_gradient_rollout_and_before_it_in_generic_attention():
    model, sample = picture_model((3, 7))
    found, start = dense_picture(model, sample), start_of(model, sample)
    y = found.logits[0, 2]
    gradients = found.gradients(y)
    after = [(a * g).mean(0).relu() for a, g in zip(found.maps, gradients, strict=True)]
    before = [(a * g).relu().mean(0) for a, g in zip(found.maps, gradients, strict=True)]
    assert all((a - b).abs().max() > 1e-6 for a, b in zip(after, before, strict=True))
    swapped = start
    for fused in reversed(after):
        swapped = swapped + swapped @ fused
    row = attnviz.explain("generic attention", model, sample, Target(label=2))
    assert (row - (swapped - start)).abs().max() > 1e-6


def test_gradients_in_backward_order_are_another_map():
    """vit-explain pairs layer l with the gradient of layer L + 1 - l and never resets them between calls."""
    model, sample = picture_model((3, 7), seed=2)
    found, start, target = dense_picture(model, sample), start_of(model, sample), Target(label=2)
    right = rollout_reference(found, found.logits[0, 2], start, 1)
    wrong = rollout_reference(found, found.logits[0, 2], start, 1, order=[2, 1, 0])
    row = attnviz.explain("gradient rollout", model, sample, target)
    torch.testing.assert_close(row, right, **EXACT)
    assert (row - wrong).abs().max() > 1e-5


# Decoders, encoders, encoder-decoders


@pytest.mark.parametrize("causal", [True, False])
def test_a_word_of_a_text_is_explained_from_its_own_token(causal):
    model, sample = text_model(causal=causal)
    found, count = dense_text(model, sample), len(sample.tokens["main"])
    for token in (2, count - 1):
        target, start = Target("word", token, 77), torch.eye(count, dtype=torch.float64)[token]
        y = found.logits[token, 77]
        row = attnviz.explain("generic attention", model, sample, target)
        torch.testing.assert_close(row, generic_reference(found, y, start), **EXACT)
        if causal:
            assert not row[token + 1 :].any()
            assert row[: token + 1].all()
        row = attnviz.explain("gradient rollout", model, sample, target)
        torch.testing.assert_close(row, rollout_reference(found, y, start, 0), **EXACT)
        for name in NEEDING:
            assert attnviz.explain(name, model, sample, target).isfinite().all(), name
    if causal:  # without a row, the answer is read from the last token
        expected = attnviz.explain("generic attention", model, sample, Target("word", count - 1))
        assert torch.equal(attnviz.explain("generic attention", model, sample), expected)


def dense_translation(network, source: Tensor, target: Tensor) -> tuple[dict[str, list[Tensor]], Tensor]:
    """The maps of encoder, decoder and cross-attention in the graph, and the logits [target word]."""
    maps: dict[str, list[Tensor]] = {"source": [], "target": [], "cross": []}
    pieces = network.pieces
    x = pieces.token_embeddings(source) + pieces.position_embeddings(len(source))
    y = pieces.token_embeddings(target) + pieces.position_embeddings(len(target))
    for block in network.encoder:
        normed = block.attention_norm(x)
        x = x + attend(block.attention, normed, normed, torch.ones(len(x), len(x), dtype=torch.bool), maps["source"])
        x = x + block.mlp(block.mlp_norm(x))
    memory = network.encoder_norm(x)
    for block in network.decoder:
        normed = block.attention_norm(y)
        y = y + attend(block.attention, normed, normed, torch.ones(len(y), len(y)).tril().bool(), maps["target"])
        everything = torch.ones(len(y), len(x), dtype=torch.bool)
        y = y + attend(block.cross, block.cross_norm(y), memory, everything, maps["cross"])
        y = y + block.mlp(block.mlp_norm(y))
    return maps, pieces.unembed(network.norm(y))


def normalised(relevance: Tensor) -> Tensor:
    """R - I divided by its row sums, a row of zeros left alone, plus I (Chefer et al. 2021, eq. 8 and 9)."""
    eye = torch.eye(len(relevance), dtype=torch.float64)
    rest = relevance - eye
    sums = rest.sum(-1, keepdim=True)
    return torch.where(sums > 0, rest / sums.masked_fill(sums == 0, 1), 0) + eye


@pytest.mark.parametrize(("layers", "first"), [(1, 0), (3, 0), (3, 1)])
def test_an_encoder_decoder_is_explained_by_the_rule_of_cross_attention(layers, first):
    """Every matrix of the rule written out: R_tt, R_ss and R_ts, updated layer by layer."""
    network, source, target = translator(layers=layers), torch.tensor([3, 9, 4, 21, 2]), torch.tensor([1, 7, 8, 11])
    trace = network(source, target)
    assert trace.logits["word"].requires_grad
    maps, logits = dense_translation(network, source, target)
    torch.testing.assert_close(trace.logits["word"], logits, **EXACT)
    for row, label in ((3, 5), (1, 6), (0, 2)):
        factors = {
            name: [
                (a * g).relu().mean(0)
                for a, g in zip(found, torch.autograd.grad(logits[row, label], found, retain_graph=True), strict=True)
            ]
            for name, found in maps.items()
        }
        encoder, decoder = (torch.eye(n, dtype=torch.float64) for n in (5, 4))
        between = torch.zeros(4, 5, dtype=torch.float64)
        for own in factors["source"][first:]:
            encoder = encoder + own @ encoder
        for own, cross in zip(factors["target"][first:], factors["cross"][first:], strict=True):
            decoder, between = decoder + own @ decoder, between + own @ between
            between = between + normalised(decoder).T @ cross @ normalised(encoder)
        asked_for = Target("word", row, label)
        model, sample = Opened(trace, network), trace_sample(trace)
        found = METHODS["generic attention"].explain(model, sample, asked_for, trace=trace, first=first)
        torch.testing.assert_close(found, between[row], **EXACT)
        own = METHODS["generic attention"].explain(model, sample, asked_for, trace=trace, first=first, stream="target")
        torch.testing.assert_close(own, decoder[row] - torch.eye(4)[row], **EXACT)


class Opened(Fake):
    """A model that only hands out one trace, and reads a residual as the network does."""

    def __init__(self, trace: Trace, network: Translator):
        super().__init__(trace)
        self.network = network

    def logits_from(self, residual, *, output=None, pooling=None):
        return self.network.logits_from(residual)


def trace_sample(trace: Trace):
    """A sample for a trace that names none."""
    return Sample("0", {}, {call.keys.stream: call.keys for call in trace.calls})


def test_every_method_that_takes_a_graph_explains_a_translation():
    network = translator()
    trace = network(torch.tensor([3, 9, 4, 21, 2]), torch.tensor([1, 7, 8, 11]))
    model, sample = Opened(trace, network), trace_sample(trace)
    for name in (
        "gradient rollout",
        "generic attention",
        "grad-cam tokens",
        "grad-cam attention",
        "legrad",
        "input x gradient",
    ):
        targets = [Target("word", 2, label) for label in range(4)]
        rows = torch.stack([METHODS[name].explain(model, sample, target, trace=trace) for target in targets])
        assert rows.shape == (4, 5), name
        assert rows.isfinite().all()
        assert rows.any(), name  # where all heads speak against a word, its Grad-CAM is zero


def test_a_translator_that_takes_no_embeddings_is_refused_in_words():
    model = attnviz.load("seq2seq")
    sample = model.prepare("The cat sleeps.")
    with pytest.raises(UnsupportedMask, match="embeddings"):
        attnviz.explain("generic attention", model, sample)


# Batches, removed tokens, targets


@pytest.mark.parametrize("name", NEEDING)
def test_items_of_a_batch_are_explained_by_themselves(name):
    model, together = picture_model((3, 7), batch=(3,), registers=4)
    rows = attnviz.explain(name, model, together)
    assert rows.shape == (3, 26)
    labels = set()
    for item, pixels in enumerate(together.inputs["main"]):
        alone = replace(together, inputs={"main": pixels}, digest=str(item))
        labels.add(int(model(alone).logits["class"].argmax()))
        if name == "smoothgrad":  # other noise falls on other shapes
            continue
        torch.testing.assert_close(rows[item], attnviz.explain(name, model, alone), atol=1e-10, rtol=1e-8)


def test_the_predicted_class_is_that_of_each_item():
    trace = Trace(
        None, {}, {}, (), {}, {"main": torch.ones(2, 1)}, {"class": torch.tensor([[[1.0, 3, 2]], [[5.0, 0, 4]]])}
    )
    assert score_of(trace).tolist() == [3, 5]
    assert asked(trace).label.tolist() == [1, 0]
    assert score_of(trace, Target(against=2)).tolist() == [1, 1]
    assert score_of(trace, Target(label=2, against=1)).tolist() == [-1, 4]


@pytest.mark.parametrize("name", NEEDING)
@pytest.mark.parametrize("shape", ["cls and registers, 3 x 7", "mean beside CLS"])
def test_removed_tokens_get_nothing_and_change_the_rest(name, shape):
    model, sample = picture_model((3, 7), **SHAPES[shape][0])
    keep = torch.ones(26, dtype=torch.bool)
    keep[[7, 8, 20]] = False
    trace = model(sample, edit=Edit(keep_tokens=keep))  # as pages keep it: without a graph
    row = attnviz.explain(name, model, sample, Target(label=2), trace=trace)
    assert not row[~keep].any()
    assert row[keep].any()
    assert (row - attnviz.explain(name, model, sample, Target(label=2))).abs().max() > 1e-9
    several = model(sample, edit=Edit(keep_tokens=torch.stack([keep, keep | True])))
    rows = attnviz.explain(name, model, sample, Target(label=2), trace=several)
    torch.testing.assert_close(rows[0], row, atol=1e-9, rtol=1e-6) if name != "smoothgrad" else None
    found = dense_picture(model, sample, keep)
    start, y = pooled_by(model.network, keep), found.logits[0, 2]
    expected = {
        "generic attention": lambda: generic_reference(found, y, start),
        "gradient rollout": lambda: rollout_reference(found, y, start, 5),
        "legrad": lambda: legrad_reference(model, sample, 2, keep=keep) * keep,  # no weight on what is masked
    }
    if name in expected:
        torch.testing.assert_close(row, expected[name](), **EXACT)


@pytest.mark.parametrize("name", NEEDING)
def test_a_pass_that_was_changed_otherwise_is_not_explained_as_if_it_were_not(name):
    model, sample = picture_model()
    trace = model(sample, edit=ablate(model, [(0, 0), (1, 2)]))
    with pytest.raises(UnsupportedMask, match="cannot be repeated"):
        attnviz.explain(name, model, sample, trace=trace)
    embeddings = model(sample).token_embeddings["main"].clone().requires_grad_()
    with_graph = model(sample, edit=replace(ablate(model, [(0, 0), (1, 2)]), embeddings=embeddings))
    if name not in ("integrated gradients", "smoothgrad"):  # which run the network again
        assert attnviz.explain(name, model, sample, trace=with_graph).isfinite().all()


@pytest.mark.parametrize("name", NEEDING)
def test_targets_that_there_are_not_are_refused(name):
    model, sample = picture_model()
    with pytest.raises(ValueError, match="labels 0 to 4"):
        attnviz.explain(name, model, sample, Target(label=1, against=5))
    with pytest.raises(ValueError, match="with itself"):
        attnviz.explain(name, model, sample, Target(label=1, against=1))
    predicted = int(model(sample).logits["class"].argmax())
    with pytest.raises(ValueError, match="with itself"):
        attnviz.explain(name, model, sample, Target(against=predicted))
    keep = torch.ones(17, dtype=torch.bool)
    keep[0] = False
    with pytest.raises(ValueError, match="removed"):
        attnviz.explain(name, model, sample, trace=model(sample, edit=Edit(keep_tokens=keep)))


def test_an_answer_for_every_token_needs_a_row_where_all_are_pooled():
    model, sample = text_model(pooling="mean")
    with pytest.raises(ValueError, match="row"):
        attnviz.explain("generic attention", model, sample)
    assert attnviz.explain("generic attention", model, sample, Target(row=2)).any()


def test_without_a_target_the_answer_about_the_whole_text_is_explained():
    model, sample = text_model(outputs={"sentiment": 2})
    expected = attnviz.explain("generic attention", model, sample, Target("sentiment", 0))
    assert torch.equal(attnviz.explain("generic attention", model, sample), expected)
    other = attnviz.explain("generic attention", model, sample, Target("word", 0))
    assert not torch.allclose(expected, other)


# Nothing is left behind


@pytest.mark.parametrize("name", NEEDING)
def test_two_calls_equal_one_and_leave_no_graph_and_no_hook(name):
    model, sample = picture_model((3, 7))
    embeddings = model(sample).token_embeddings["main"].clone().requires_grad_()
    trace = model(sample, edit=Edit(embeddings=embeddings))
    before = [call.output.detach().clone() for call in trace.calls]
    once = attnviz.explain(name, model, sample, Target(label=1), trace=trace)
    other = attnviz.explain(name, model, sample, Target(label=3), trace=trace)
    again = attnviz.explain(name, model, sample, Target(label=1), trace=trace)
    assert torch.equal(once, again)
    assert not torch.allclose(once, other)
    assert not once.requires_grad
    assert embeddings.grad is None
    assert all(parameter.grad is None for parameter in model.network.parameters())
    assert not any(m._forward_hooks or m._forward_pre_hooks or m._backward_hooks for m in model.network.modules())
    assert all(torch.equal(a, call.output) for a, call in zip(before, trace.calls, strict=True))
    with torch.no_grad():
        plain = attnviz.explain(name, model, sample, Target(label=1))
        torch.testing.assert_close(plain, once, **EXACT)
        assert not torch.is_grad_enabled()


class Sizes(TorchDispatchMode):
    """Notes the shape of every tensor that any operation creates."""

    def __init__(self):
        super().__init__()
        self.shapes: set[tuple[int, ...]] = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        for made in result if isinstance(result, tuple | list) else (result,):
            if isinstance(made, torch.Tensor):
                self.shapes.add(tuple(made.shape))
        return result


@pytest.mark.parametrize(
    "name", ["gradient rollout", "generic attention", "grad-cam tokens", "grad-cam attention", "legrad"]
)
def test_no_square_map_is_ever_made(name):
    model, sample = picture_model((16, 20), size=64)  # 321 tokens
    embeddings = model(sample).token_embeddings["main"].clone().requires_grad_()
    trace = model(sample, edit=Edit(embeddings=embeddings))
    with Sizes() as seen:
        attnviz.explain(name, model, sample, trace=trace)
    assert not any(shape[-2:] == (321, 321) for shape in seen.shapes)


@pytest.mark.parametrize("name", NEEDING)
def test_a_shipped_model_is_explained_for_a_class(name):
    model = attnviz.load("vit")
    sample = model.prepare(Image.linear_gradient("L"))
    options = {"steps": 5} if name == "integrated gradients" else {"samples": 4} if name == "smoothgrad" else {}
    one = attnviz.explain(name, model, sample, **options)
    other = attnviz.explain(name, model, sample, Target(label=7), **options)
    assert one.shape == (len(sample.tokens["main"]),)
    assert torch.isfinite(one.sum())
    assert not torch.allclose(one, other)
    assert METHODS[name].signed or (one >= 0).all()
