"""The figures of a card, from answers made by hand: no network learns anything here."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from attnviz.models import ImageModel, Preparation, ViT, ViTConfig
from attnviz.training.images import evaluate as evaluation
from attnviz.training.images.data import JPEG, Pictures
from attnviz.training.images.evaluate import evaluate, interval, open_trained, percent, predict_logits
from attnviz.training.images.recipes import RECIPES

NAMES = tuple(f"class {i}" for i in range(8))
GROUPS = ("ball", "ball", "dog", "dog", "ball", "cup", "hat", "hat")  # four coarse groups
SHAPE = ViTConfig(size=16, patch=2, channels=1, width=16, layers=1, heads=2, mlp=2, classes=8)  # 64 patches


def opened(shape: ViTConfig = SHAPE, groups: tuple[str, ...] = GROUPS) -> ImageModel:
    """A small untrained model, each time the same, sure enough of itself that its answers differ."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = ViT(shape)
        network.classify.weight.data.normal_()
    return ImageModel("small", network, Preparation(shape.size, (0.3,), (0.4,)), NAMES, groups)


def pictures(labels: list[int], side: int = 16, groups: tuple[str, ...] = GROUPS) -> Pictures:
    """Noise with these labels."""
    noise = np.random.default_rng(0).integers(0, 256, (len(labels), side, side, 1), dtype=np.uint8)
    return Pictures(noise, np.array(labels), NAMES, groups, "noise")


def facts(monkeypatch: pytest.MonkeyPatch, shares: list[list[float]], labels: list[int]) -> dict:
    """The figures of a network that gives these probabilities. Logits are only told apart by what they add up to."""
    logits = torch.tensor(shares).log() + torch.linspace(-9, 9, len(shares))[:, None]
    monkeypatch.setattr(evaluation, "predict_logits", lambda model, held, start, count: logits[start : start + count])
    return evaluate(opened(), pictures(labels), batch=2, drop_patches=False)


# It names a dog; balls are likeliest together; the fifth class is the cup, whose group is the third of four.
UNSURE = [0.18, 0.17, 0.30, 0.01, 0.16, 0.10, 0.05, 0.03]
SURE = [0.60, 0.10, 0.10, 0.10, 0.04, 0.03, 0.02, 0.01]


def test_accuracies_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    found = facts(monkeypatch, [*[UNSURE] * 5, SURE], [2, 3, 4, 5, 6, 0])
    assert found["held_out"] == 6
    assert found["top1"] == 33.33
    assert found["top5"] == 66.67  # the cup is fifth, the hat sixth, the other dog the last
    assert found["superclass_top1"] == 50.0  # a dog of another breed counts
    assert found["superclass_summed"] == 33.33  # probabilities add up, not logits
    assert found["superclass_summed_top3"] == 83.33
    assert found["top1_by_superclass"] == {"ball": 50.0, "dog": 50.0, "cup": 0.0, "hat": 0.0}
    assert found["superclass_summed_by_superclass"] == {"ball": 100.0, "dog": 0.0, "cup": 0.0, "hat": 0.0}
    assert found["superclass_summed_top3_by_superclass"] == {"ball": 100.0, "dog": 100.0, "cup": 100.0, "hat": 0.0}


def test_a_single_superclass_is_not_evaluated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluation, "predict_logits", lambda model, held, start, count: torch.eye(8)[:4])
    alike = ("digit",) * 8
    found = evaluate(opened(groups=alike), pictures([0, 1, 2, 3], groups=alike), drop_patches=False)
    assert (found["top1"], found["superclass_top1"], found["top1_by_superclass"]) == (100.0, 100.0, {})
    assert not {"superclass_summed", "superclass_summed_top3"} & set(found)


def counted(monkeypatch: pytest.MonkeyPatch, shape: ViTConfig, **options: bool) -> tuple[dict, list[int | None]]:
    """The figures, and how many patches each pass has seen."""
    seen: list[int | None] = []

    def said(model: ImageModel, held: Pictures, start: int, count: int, visible: int | None = None) -> Tensor:
        seen.append(visible)
        return torch.eye(8)[: min(count, len(held) - start)] * (1 if visible is None else -1)

    monkeypatch.setattr(evaluation, "predict_logits", said)
    return evaluate(opened(shape), pictures([0, 1, 2, 3], shape.size), **options), seen


def test_halves_and_quarters_of_many_patches_are_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    found, seen = counted(monkeypatch, SHAPE)
    assert seen == [None, 32, 16]
    assert found["top1_with_patches"] == {"64": 100.0, "32": 0.0, "16": 0.0}
    found, seen = counted(monkeypatch, SHAPE, drop_patches=False)
    assert seen == [None]
    assert "top1_with_patches" not in found
    assert counted(monkeypatch, replace(SHAPE, size=14))[1] == [None]  # 49 patches are few


def test_predict_logits_normalises_pixels() -> None:
    model, held = opened(), pictures([0, 1, 2, 3, 4])
    pixels = (torch.from_numpy(held.images).permute(0, 3, 1, 2).float() / 255 - 0.3) / 0.4
    with torch.no_grad():
        wanted = model.network(pixels).logits["class"][:, 0]
    torch.testing.assert_close(
        torch.cat([predict_logits(model, held, 0, 3), predict_logits(model, held, 3, 3)]), wanted
    )


def test_every_batch_keeps_its_own_random_patches(monkeypatch: pytest.MonkeyPatch) -> None:
    model, held, seen = opened(), pictures([0, 1, 2, 3]), list[Tensor]()
    forward = model.network.forward

    def looked_at(pixels: Tensor, *, visible: Tensor):
        seen.append(visible)
        return forward(pixels, visible=visible)

    monkeypatch.setattr(model.network, "forward", looked_at)
    for start in (0, 2, 0):
        predict_logits(model, held, start, 2, 20)
    assert all(patches.shape == (2, 20) for patches in seen)
    assert all(len(row.unique()) == 20 for patches in seen for row in patches)
    first, second, again = seen
    assert torch.equal(first, again)
    assert not torch.equal(first, second)


@pytest.mark.parametrize(("name", "inverted", "jpeg"), [("vit-digits", True, None), ("vit", False, JPEG)])
def test_open_trained_rounds_and_normalises_as_shipped(name: str, inverted: bool, jpeg: int | None) -> None:
    """In half precision, with the normalisation it learned with."""
    recipe = RECIPES[name]
    names = tuple(f"class {i}" for i in range(recipe.config.classes))
    with torch.random.fork_rng():
        network = ViT(replace(recipe.config, layers=1))
    held = Pictures(np.zeros((1, 8, 8, 1), dtype=np.uint8), np.zeros(1, dtype=int), names, names, "noise")
    model = open_trained(recipe, network, held)
    assert all(torch.equal(p, p.half().float()) for p in model.network.parameters())
    how = model.preparation
    assert (how.size, how.invert, how.jpeg) == (recipe.config.size, inverted, jpeg)
    wanted = {"vit-digits": ((0.305,), (0.376,)), "vit": ((0.48, 0.45, 0.4), (0.272, 0.265, 0.279))}[name]
    assert (how.mean, how.std) == wanted
    assert (model.title, model.classes) == (recipe.title, names)


def test_percent_has_two_decimals() -> None:
    assert percent(torch.tensor([True, False, False])) == 33.33
    assert percent(torch.tensor([True, True, False])) == 66.67


def test_an_interval_is_in_percent_and_stays_between_none_and_all() -> None:
    assert interval(0.0, 10) == [0.0, 27.75]
    assert interval(100.0, 10) == [72.25, 100.0]
    assert interval(50.0, 10_000) == [49.02, 50.98]
