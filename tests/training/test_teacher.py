"""Soft labels: kept in parts and resumed, and weighed beside the labels by the formula; pictures to choose by."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from attnviz.edits import Edit
from attnviz.models import ViT, load
from attnviz.models.vit import distillation_loss_of, loss_of
from attnviz.training.images import teacher
from attnviz.training.images.data import DATA, Pictures, split_validation
from attnviz.training.images.evaluate import predict_logits
from attnviz.training.images.loop import Run
from attnviz.training.images.recipes import RECIPES
from attnviz.types import Trace

CPU = torch.device("cpu")
TINY = replace(
    RECIPES["vit-digits"],
    config=replace(RECIPES["vit-digits"].config, width=16, layers=2, heads=2),
    steps=4,
    batch=32,
    teacher="vit-digits",
    distillation=0.5,
    temperature=2.0,
)


@pytest.fixture(scope="module")
def digits() -> Pictures:
    """Some of the training digits."""
    return DATA["digits"]("train").pick(np.arange(200))


def answer(logits: torch.Tensor) -> Trace:
    """A trace with these class logits."""
    return Trace(None, {}, {}, (), {}, {}, {"class": logits[:, None]})


def test_the_loss_is_that_of_hinton(random: torch.Generator) -> None:
    """T² sum over classes of p log(p / q) with p, q = softmax(logits / T), the mean over pictures; in float64."""
    own, theirs = (torch.randn(5, 7, generator=random) for _ in range(2))
    for temperature in (1.0, 2.5):
        p, q = (np.exp(x.double().numpy() / temperature) for x in (theirs, own))
        p, q = p / p.sum(1, keepdims=True), q / q.sum(1, keepdims=True)
        expected = temperature**2 * (p * np.log(p / q)).sum(1).mean()
        assert float(distillation_loss_of(answer(own), theirs, temperature)) == pytest.approx(expected, rel=1e-5)
    assert float(distillation_loss_of(answer(own), own, 3.0)) == pytest.approx(0, abs=1e-6)


def test_gradients_keep_their_size_at_high_temperature(random: torch.Generator) -> None:
    """Hinton et al. 2015, equation 4: for centred logits and large T, each is (own - teacher) / classes."""
    own, theirs = (torch.randn(1, 6, generator=random, dtype=torch.double) for _ in range(2))
    own, theirs = (x - x.mean() for x in (own, theirs))
    own.requires_grad_(True)
    distillation_loss_of(answer(own), theirs, 1000.0).backward()
    assert own.grad is not None
    assert torch.allclose(own.grad, (own.detach() - theirs) / 6, atol=1e-3)


def test_a_run_weighs_labels_and_teacher(digits: Pictures) -> None:
    soft = replace(digits, teacher_logits=np.random.default_rng(0).normal(size=(200, 10)).astype(np.float16))
    run, index = Run(TINY, soft, CPU), torch.tensor([3, 1, 4])
    trace = answer(torch.randn(3, 10, generator=torch.Generator().manual_seed(0)))
    logits = torch.from_numpy(soft.teacher_logits)[index]
    labels = loss_of(trace, torch.from_numpy(digits.labels[[3, 1, 4]]), TINY.label_smoothing)
    expected = 0.5 * labels + 0.5 * distillation_loss_of(trace, logits, 2.0)
    assert torch.allclose(run.loss(trace, index), expected)
    plain = Run(replace(TINY, teacher="", distillation=0.0), soft, CPU)
    assert torch.allclose(plain.loss(trace, index), labels)


def test_a_recipe_with_a_teacher_needs_its_answers(digits: Pictures) -> None:
    with pytest.raises(ValueError, match="learns from the answers of vit-digits"):
        Run(TINY, digits, CPU)


def test_answers_are_kept_in_parts(digits: Pictures, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stopped after one part and asked again: only the others are computed, and all are what the model answers."""
    monkeypatch.setattr(teacher, "PART", 80)
    monkeypatch.setattr(teacher, "BATCH", 40)
    done: list[int] = []

    def stop(count: int, of: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        teacher.with_soft_labels(digits, "vit-digits", tmp_path, CPU, stop)
    soft = teacher.with_soft_labels(digits, "vit-digits", tmp_path, CPU, lambda count, of: done.append(count))
    assert done == [160, 200]
    model = load("vit-digits")
    expected = [predict_logits(model, digits, start, 40, 8) for start in range(0, 200, 40)]
    assert soft.teacher_logits is not None
    assert np.array_equal(soft.teacher_logits, torch.cat(expected).half().numpy())
    done.clear()
    teacher.with_soft_labels(digits, "vit-digits", tmp_path, CPU, lambda count, of: done.append(count))
    assert not done
    other = replace(digits, images=digits.images[::-1].copy())
    teacher.with_soft_labels(other, "vit-digits", tmp_path, CPU, lambda count, of: done.append(count))
    assert done == [80, 160, 200], "other pictures have other answers"


def test_a_teacher_of_other_classes_is_refused(digits: Pictures, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="names other classes"):
        teacher.with_soft_labels(digits, "vit-scenes", tmp_path, CPU, lambda count, of: None)


def test_masked_patches_do_what_left_out_ones_do(digits: Pictures) -> None:
    """Multi-head attention knows no difference; the prefix is kept in both."""
    recipe = replace(TINY, teacher="", distillation=0.0)
    left_out, masked = Run(recipe, digits, CPU), Run(replace(recipe, masked_removal=True), digits, CPU)
    masked.network.load_state_dict(left_out.network.state_dict())
    pixels, visible = torch.randn(2, 1, 8, 8), torch.tensor([[0, 3, 5, 15], [1, 2, 9, 8]])
    first, second = (run.forward(pixels, visible).logits["class"] for run in (left_out, masked))
    assert torch.allclose(first, second, atol=1e-5)
    assert not torch.allclose(first, masked.forward(pixels, None).logits["class"], atol=1e-3)
    kept = torch.zeros(2, 17, dtype=torch.bool)
    kept[:, 0] = True
    kept[0, [1, 4, 6, 16]] = True
    kept[1, [2, 3, 10, 9]] = True
    assert isinstance(masked.network, ViT)
    assert torch.equal(masked.network(pixels, edit=Edit(keep_tokens=kept)).logits["class"], second)


def test_pictures_to_choose_by_are_left_out_of_training(digits: Pictures) -> None:
    train, chosen = split_validation(digits, 4)
    assert (len(train), len(chosen)) == (160, 40)
    assert np.bincount(chosen.labels).tolist() == [4] * 10
    everything = sorted(image.tobytes() for image in digits.images)
    assert sorted(image.tobytes() for image in (*train.images, *chosen.images)) == everything
    again = split_validation(digits, 4)[1]
    assert np.array_equal(again.images, chosen.images)
    with pytest.raises(ValueError, match="leaves none"):
        split_validation(digits, 100)


def test_soft_labels_stay_with_their_pictures(digits: Pictures) -> None:
    numbered = replace(digits, teacher_logits=np.repeat(np.arange(200.0)[:, None], 10, 1))
    for part in split_validation(numbered, 4):
        assert part.teacher_logits is not None
        for image, number in zip(part.images, part.teacher_logits[:, 0], strict=True):
            assert np.array_equal(image, digits.images[int(number)])
