"""Edits of a forward pass, against the same change made by hand; many edits in few passes, against one by one."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor

import attnviz
from attnviz import interventions
from attnviz.edits import BlockedEdges, Edit, PatchedResiduals, first_true
from attnviz.interventions import ablate, answers, block, head_means, patch, remove
from attnviz.models.image import ImageModel, Preparation
from attnviz.models.text import Reader, ReaderConfig
from attnviz.models.vit import ViT, ViTConfig
from attnviz.types import Mask, Model, Sample, Trace

CONFIG = ViTConfig(size=16, patch=4, width=24, layers=3, heads=3, classes=5, registers=1)


def picture_model(**changes: Any) -> ImageModel:
    """A small network for pictures in double precision, with parameters large enough for every change to matter."""
    torch.manual_seed(0)
    network = ViT(replace(CONFIG, **changes)).double()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    preparation = Preparation(16, (0.5,) * 3, (0.5,) * 3)
    return ImageModel("small", network, preparation, list("abcde"), [""] * 5)


@pytest.fixture(scope="module")
def model() -> ImageModel:
    return picture_model()


@pytest.fixture(scope="module")
def sample(model: ImageModel) -> Sample:
    return model.prepare(Image.radial_gradient("L").convert("RGB"))


def logits(trace: Trace) -> Tensor:
    return trace.logits["class"][..., 0, :]


def test_blocked_edges_are_edges_without_weight(model: ImageModel, sample: Sample) -> None:
    trace = model(sample, edit=block(model, sample, [0, 5], [3, 7], [1], heads=[2]))
    for call in trace.calls:
        weights = call.token_map()
        there = torch.zeros_like(weights, dtype=torch.bool)
        if call.layer == 1:
            there[2, [[0], [5]], [3, 7]] = True
        assert (weights[there] == 0).all()
        assert (weights[~there] > 0).all()
        torch.testing.assert_close(weights.sum(-1), torch.ones_like(weights[..., 0]))
    assert (logits(trace) - logits(model(sample))).abs().max() > 1e-4


def test_a_blocked_edge_is_a_score_of_minus_infinity(model: ImageModel, sample: Sample) -> None:
    """The layer's output, by the formula: softmax over the keys that are left."""
    plain, edited = model(sample), model(sample, edit=block(model, sample, [4], [0, 2, 9]))
    call = plain.calls[0]
    scores = call.query @ call.key.transpose(-1, -2) * call.scale
    scores[:, 4, [0, 2, 9]] = -torch.inf
    torch.testing.assert_close(edited.calls[0].output, scores.softmax(-1) @ call.value)


def test_an_edge_blocked_for_all_queries_is_a_removed_key(model: ImageModel, sample: Sample) -> None:
    everyone = range(len(sample.tokens["main"]))
    cut, removed = model(sample, edit=block(model, sample, everyone, [6])), model(sample, edit=remove(sample, [6]))
    torch.testing.assert_close(logits(cut), logits(removed))


def test_a_mean_ablated_head_gives_its_mean(model: ImageModel, sample: Sample) -> None:
    other = model.prepare(Image.linear_gradient("L").convert("RGB"))
    means = head_means(model, [sample, other])
    by_hand = [(model(one).calls[2].output.mean(-2)) for one in (sample, other)]  # type: ignore[union-attr]
    torch.testing.assert_close(means[2], sum(by_hand) / 2)
    trace = model(sample, edit=ablate(model, [(1, 2)], means=means))
    given = trace.calls[1].output
    assert given is not None
    torch.testing.assert_close(given[2], means[1, 2].expand_as(given[2]))
    plain = model(sample).calls[1].output
    torch.testing.assert_close(given[:2], plain[:2])  # type: ignore[index]
    assert not torch.allclose(logits(trace), logits(model(sample, edit=ablate(model, [(1, 2)]))))
    with pytest.raises(ValueError, match="no inputs"):
        head_means(model, [])


def test_all_residuals_of_another_input_are_its_answer(model: ImageModel, sample: Sample) -> None:
    donor = model(model.prepare(Image.linear_gradient("L").convert("RGB")))
    values = torch.stack(donor.residuals["main"])
    for depth in range(4):
        where = torch.zeros(4, len(sample.tokens["main"]), dtype=torch.bool)
        where[depth] = True
        trace = model(sample, edit=Edit(residuals=PatchedResiduals(values, where)))
        torch.testing.assert_close(logits(trace), logits(donor))
    where = torch.zeros(4, len(sample.tokens["main"]), dtype=torch.bool)
    where[1, 7] = True
    trace = model(sample, edit=Edit(residuals=PatchedResiduals(values, where)))
    residual = model(sample).residuals["main"][1].clone()
    residual[7] = values[1, 7]
    for index in (1, 2):
        residual = model.layer(index, residual)
    torch.testing.assert_close(logits(trace), model.logits_from(residual)[0])


@pytest.mark.parametrize("pooling", ["cls", "mean"])
def test_a_batch_of_edits_is_each_edit_alone(pooling: str, sample: Sample) -> None:
    model = picture_model(pooling=pooling)
    donor = model(model.prepare(Image.linear_gradient("L").convert("RGB")))
    heads = [[(layer, head)] for layer in (2, 0, 1) for head in range(3)]
    many: list[Edit] = [
        remove(sample, *([token] for token in range(2, 18))),
        ablate(model, *heads, [(0, 1), (2, 2)]),
        block(model, sample, [0, 5], [4, 6, 9], [2], [0, 1], [1]),
        patch(sample, donor, (0, 4), (2, 4), (1, 17)),
    ]
    for edit in many:
        (count,) = edit.batch
        found = answers(model, sample, edit, batch=3)
        alone = [model(sample, edit=edit.pick(torch.tensor([i]))).logits["class"][0] for i in range(count)]
        torch.testing.assert_close(found, torch.stack(alone))
        assert (found - model(sample).logits["class"]).abs().amax((-2, -1)).min() > 1e-6


def test_layers_before_the_first_change_compute_once(model: ImageModel, sample: Sample) -> None:
    """Ablations of one layer run together, whatever their order; what comes before has no batch of its own."""
    seen: list[tuple[int, ...]] = []
    original = model.network.layer

    def watched(index: int, residual: Tensor, **options: Any) -> Any:
        seen.append((index, *residual.shape[:-2]))
        return original(index, residual, **options)

    edit = ablate(model, [(2, 0)], [(0, 1)], [(2, 1)], [(1, 0)], [(2, 2)])
    assert edit.first_layer().tolist() == [2, 0, 2, 1, 2]
    model.network.layer = watched  # type: ignore[method-assign]
    try:
        answers(model, sample, edit)
    finally:
        del model.network.layer
    assert seen == [(0,), (1, 1), (2, 1), (0,), (1,), (2, 1), (0,), (1,), (2,)]
    trace = model(sample, edit=edit.pick(torch.tensor([0, 2])))
    assert {call.query.shape[0] for call in trace.calls} == {x.shape[0] for x in trace.residuals["main"]} == {2}


def test_progress_is_told_and_ends_at_one(model: ImageModel, sample: Sample) -> None:
    told: list[float] = []
    answers(model, sample, remove(sample, *([token] for token in range(2, 12))), batch=4, progress=told.append)
    assert told == [0.4, 0.8, 1.0]


def test_gradients_reach_embeddings_of_every_edit(model: ImageModel, sample: Sample) -> None:
    content = model(sample).token_embeddings["main"]
    assert content is not None
    content = content.detach().clone().requires_grad_()
    two = remove(sample, [4], [5, 6])
    trace = model(sample, edit=replace(two, embeddings=content))
    grads = trace.calls[0].gradient(trace.logits["class"][1, 0, 2])
    assert grads.shape == trace.calls[0].output.shape  # type: ignore[union-attr]
    assert (grads[0] == 0).all()
    assert (grads[1] != 0).any()


def test_a_decoder_cannot_attend_to_a_blocked_word() -> None:
    model = attnviz.load("stories")
    sample = model.prepare("The animal was tired because it ran.")
    for edit in (block(model, sample, [6], [2]), block(model, sample, [6], [2], [0], [1, 2])):
        trace = model(sample, edit=edit)
        for layer, call in enumerate(trace.calls):
            weights = call.token_map().flatten(0, -4)[..., 6, 2] if edit.batch else call.token_map()[..., 6, 2]
            if not edit.batch:
                assert (weights == 0).all()
            else:
                blocked = torch.tensor([layer == 0, layer in (1, 2)])
                assert ((weights == 0).all(-1) == blocked).all()
        assert (call.token_map().triu(1) == 0).all()


def test_what_an_edit_cannot_be_is_said(model: ImageModel, sample: Sample) -> None:
    for wrong, message in (
        (lambda: remove(sample, [99]), "token 99 is named; there are tokens 0 to 17"),
        (lambda: remove(sample), "nothing is named"),
        (lambda: ablate(model, [(3, 0)]), "layer 3; this network has layers 0 to 2"),
        (lambda: block(model, sample, [0], [1], [7]), "layer 7 is named; there are layers 0 to 2"),
        (lambda: block(model, sample, [0], [1], heads=[3]), "head 3 is named; there are heads 0 to 2"),
        (lambda: patch(sample, model(sample), (4, 0)), "depth 4 is named; there are depths 0 to 3"),
        (lambda: patch(sample, picture_model(registers=0)(sample_of(0)), (1, 0)), "17 tokens and this one 18"),
        (lambda: answers(model, sample, remove(sample, [2]), output="word"), "no output 'word'; known: class"),
    ):
        with pytest.raises(ValueError, match=message):
            wrong()


def sample_of(registers: int) -> Sample:
    """A picture prepared for a network with so many registers."""
    return picture_model(registers=registers).prepare(Image.radial_gradient("L").convert("RGB"))


def test_removing_everything_that_is_read_leaves_the_bias(model: ImageModel, sample: Sample) -> None:
    trace = model(sample, edit=remove(sample, range(18)))
    assert trace.pooling["main"].sum() == 0
    torch.testing.assert_close(logits(trace), model.network.classify.bias)


def test_what_a_record_asks_for() -> None:
    assert Edit().requests == frozenset()
    assert Edit(positions="none").requests == {"positions"}
    assert Edit(head_means=torch.zeros(1, 1, 1)).requests == {"ablated_heads"}
    edges = BlockedEdges(torch.ones(2, 4, dtype=torch.bool), torch.ones(4, dtype=torch.bool))
    assert Edit(blocked_edges=edges).requests == {"blocked_edges"}
    assert Edit(blocked_edges=edges).batch == (2,)
    assert first_true(torch.tensor([[False, True, True], [False, False, False]])).tolist() == [1, 3]
    with pytest.raises(ValueError, match="do not match"):
        _ = Edit(keep_tokens=torch.ones(3, 4, dtype=torch.bool), blocked_edges=edges).batch
    with pytest.raises(ValueError, match="one leading axis"):
        Edit(positions="none").pick(torch.tensor([0]))


def test_three_lines_do_it_again() -> None:
    """What the package's own docstring shows."""
    model: Model = attnviz.load("vit-digits")
    sample = model.prepare(Image.linear_gradient("L"))
    without = model(sample, edit=interventions.remove(sample, [4, 5]))
    assert not torch.equal(without.logits["class"], model(sample).logits["class"])
    assert (without.calls[0].token_map()[..., [4, 5]] == 0).all()


def test_a_reader_with_a_mask_of_its_own_keeps_it() -> None:
    """A causal reader that may not attend to some keys still attends to none that comes later."""
    torch.manual_seed(0)
    reader = Reader(ReaderConfig(width=16, layers=2, heads=2, vocabulary=20, causal=True, context_length=8)).double()
    edges = BlockedEdges(torch.ones(5, dtype=torch.bool), torch.tensor([False, True, False, False, False]))
    trace = reader(torch.arange(5), edit=Edit(blocked_edges=edges))
    allowed = Mask(causal=True).rows([0], list(range(5)), 5, 5)[0]
    allowed[:, 1] = False
    for call in trace.calls:
        assert ((call.token_map() > 0) == allowed).all()
