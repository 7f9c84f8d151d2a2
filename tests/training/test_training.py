"""Training: the digits model learns, a run that was cut off goes on exactly, clipping clips, augmentation behaves."""

from __future__ import annotations

import io
import json
import math
import tarfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from attnviz.models import IMAGES, load
from attnviz.models.vit import superclass_loss_of
from attnviz.training.card import card_text
from attnviz.training.images import data, loop
from attnviz.training.images.augment import Augmentation, augment
from attnviz.training.images.data import (
    DATA,
    JPEG,
    NoData,
    Pictures,
    blur,
    data_folder,
    halve,
    photos,
    read_sheets,
    split_sheet,
    superclass_indices,
)
from attnviz.training.images.evaluate import evaluate, open_trained
from attnviz.training.images.loop import (
    Progress,
    Run,
    balanced_order,
    cosine_schedule,
    pick_device,
    run_info,
    train,
    windows,
)
from attnviz.training.images.recipes import RECIPES, Recipe
from attnviz.types import Trace
from tests.conftest import pytest_runtest_setup

CPU = torch.device("cpu")
TINY = replace(
    RECIPES["vit-digits"],
    config=replace(RECIPES["vit-digits"].config, width=16, layers=2, heads=2),
    steps=12,
    batch=32,
    patch_keep_schedule=((0.0, 0.5), (0.5, 1.0)),
)


STILL = Augmentation(min_area=1.0, max_aspect_ratio=1.0, horizontal_flip=False, brightness=0.0)


@pytest.fixture(scope="module")
def digits() -> Pictures:
    """The training digits."""
    return DATA["digits"]("train")


@pytest.mark.trains
def test_digits_are_learned_from_scratch() -> None:
    """The shipped recipe reaches at least 95 % of the held-out digits."""
    recipe, held = RECIPES["vit-digits"], DATA["digits"]("val")
    reports: list[Progress] = []
    network, seconds = train(recipe, device=CPU, report=reports.append)
    model = open_trained(recipe, network, held)
    facts = evaluate(model, held)
    assert facts["top1"] >= 95
    assert facts["held_out"] == 450
    assert [r.step for r in reports] == list(range(50, 401, 50))
    assert reports[-1].loss < reports[0].loss
    card = card_text(
        model,
        recipe,
        facts
        | {
            "data": held.source,
            "trained_on": 1347,
            "steps": 400,
            "batch": 128,
            "seed": 0,
            "minutes": seconds / 60,
            "device": "cpu",
            "threads": 1,
            "parameters": 58_570,
            "recipe": "vit-digits",
        },
    )
    assert f"| top-1 | {facts['top1']} % |" in card


GROUPS = ("round", "straight", "round", "other", "straight", "other", "round", "straight", "round", "round")


def test_the_superclass_loss_is_that_of_summed_probabilities() -> None:
    """Against sums of softmax in float64; classes of the right group may share the answer as they like."""
    logits, labels = torch.randn(6, 1, 10, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 1, 3, 4, 8, 9])
    chances = logits[:, 0].double().softmax(-1)
    kin = [[one for one, group in enumerate(GROUPS) if group == GROUPS[label]] for label in labels.tolist()]
    expected = -torch.stack([row[of].sum().log() for row, of in zip(chances, kin, strict=True)]).mean()
    trace = Trace(None, {}, {}, (), {}, {}, {"class": logits})
    torch.testing.assert_close(
        superclass_loss_of(trace, labels, superclass_indices(GROUPS)).double(), expected, atol=1e-6, rtol=0
    )


@pytest.mark.trains
def test_the_superclass_loss_raises_superclass_accuracy(digits: Pictures) -> None:
    """Digits grouped by shape: a network that is asked for nothing but the group learns it, and no digit."""
    with_superclasses = replace(digits, superclasses=GROUPS)
    held = replace(DATA["digits"]("val"), superclasses=GROUPS)
    recipe = replace(RECIPES["vit-digits"], steps=120, superclass_loss_weight=1.0)
    network, _ = train(recipe, device=CPU, pictures=with_superclasses)
    facts = evaluate(open_trained(recipe, network, held), held)
    assert facts["superclass_summed"] >= 80
    assert facts["top1"] < facts["superclass_summed"] - 20
    assert facts["superclass_summed_top3"] == 100  # there are only three
    assert set(facts["superclass_summed_by_superclass"]) == set(GROUPS)


def same(first: Run, second: Run) -> bool:
    """Whether two runs stand at the very same point."""
    pairs = zip(
        [*first.network.state_dict().values(), *first.average.state_dict().values()],
        [*second.network.state_dict().values(), *second.average.state_dict().values()],
        strict=True,
    )
    return first.step == second.step and all(torch.equal(a, b) for a, b in pairs)


def test_a_resumed_run_equals_an_uninterrupted_one(digits: Pictures, tmp_path: Path) -> None:
    """Saved after 5 steps and taken up by a fresh run: losses, parameters and order of pictures are the same."""
    torch.manual_seed(0)
    first = Run(TINY, digits, CPU)
    for _ in range(5):
        first.advance()
    first.save(tmp_path / "checkpoint.pt")
    torch.manual_seed(99)
    second = Run(TINY, digits, CPU)
    assert not same(first, second)
    second.load(tmp_path / "checkpoint.pt")
    assert same(first, second)
    for _ in range(5):
        assert torch.equal(first.advance(), second.advance())
    assert same(first, second)


def test_an_interrupted_run_is_resumed(digits: Pictures, tmp_path: Path) -> None:
    """Stopped in the middle by an exception in `report`, then called again: the same network as in one go."""
    path = tmp_path / "runs" / "checkpoint.pt"

    def stop(progress: Progress) -> None:
        if progress.step == 9:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(TINY, device=CPU, checkpoint=path, report=stop, every=1, pictures=digits)
    steps: list[int] = []
    resumed, _ = train(
        TINY, device=CPU, checkpoint=path, report=lambda p: steps.append(p.step), every=1, pictures=digits
    )
    whole, _ = train(TINY, device=CPU, pictures=digits)
    assert steps == [9, 10, 11, 12]
    assert all(
        torch.equal(a, b) for a, b in zip(resumed.state_dict().values(), whole.state_dict().values(), strict=True)
    )
    assert list(path.parent.iterdir()) == [path]


def test_a_checkpoint_without_a_queue_starts_a_new_epoch(digits: Pictures, tmp_path: Path) -> None:
    run = Run(TINY, digits, CPU)
    run.advance()
    run.save(tmp_path / "checkpoint.pt")
    state = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    del state["queue"]
    torch.save(state, tmp_path / "checkpoint.pt")
    again = Run(TINY, digits, CPU)
    again.load(tmp_path / "checkpoint.pt")
    assert again.step == 1
    assert again.advance().isfinite()


def test_clipping_clips(digits: Pictures, monkeypatch: pytest.MonkeyPatch) -> None:
    """A loss a thousand times too large leaves gradients of norm `clip` when the optimisers see them."""
    run = Run(replace(TINY, max_grad_norm=0.5), digits, CPU)
    seen: list[float] = []
    step = run.optimisers[0].step

    def looked_at(*args: object) -> object:
        grads = [p.grad.flatten() for p in run.network.parameters() if p.grad is not None]
        seen.append(torch.cat(grads).norm().item())
        return step()

    monkeypatch.setattr(run.optimisers[0], "step", looked_at)
    with torch.no_grad():
        run.network.classify.weight.mul_(1000)
    run.advance()
    assert seen[0] == pytest.approx(0.5, rel=1e-3)


def test_every_parameter_is_trained(digits: Pictures) -> None:
    run = Run(TINY, digits, CPU)
    before = {name: p.detach().clone() for name, p in run.network.named_parameters()}
    run.advance()
    run.advance()
    still = [name for name, p in run.network.named_parameters() if torch.equal(before[name], p)]
    # A bias of the keys shifts every score of a row alike: its gradient is zero but for rounding.
    assert [name for name in still if not name.endswith("key.bias")] == []


def test_each_picture_comes_once_per_epoch(digits: Pictures) -> None:
    run = Run(TINY, digits, CPU)
    count = len(balanced_order(run.labels, run.random))
    passes = [torch.cat([run.batch() for _ in range(count // 32)]) for _ in range(2)]
    for order in passes:
        assert len(order.unique()) == len(order)
    assert not torch.equal(*passes)


def test_an_epoch_is_balanced_over_classes() -> None:
    """Two classes of 3 and 90: 3 of each, those of the large class chosen anew."""
    labels = torch.tensor([0] * 3 + [2] * 90)  # class 1 has no pictures
    random = torch.Generator().manual_seed(0)
    first, second = balanced_order(labels, random), balanced_order(labels, random)
    assert sorted(labels[first].tolist()) == [0, 0, 0, 2, 2, 2]
    assert set(first.tolist()) != set(second.tolist())


def test_patch_dropout_is_annealed(digits: Pictures) -> None:
    run = Run(TINY, digits, CPU)
    visible = run.visible_patches(4)
    assert visible is not None
    assert visible.shape == (4, 8)
    assert all(len(row.unique()) == 8 for row in visible)
    run.step = 6
    assert run.visible_patches(4) is None


def test_the_learning_rate_rises_and_falls() -> None:
    rates = [cosine_schedule(progress / 100, 0.1) for progress in range(101)]
    assert 0 < rates[0] < 0.02  # the first step is a step
    assert rates[5] == pytest.approx(0.5, abs=0.01)
    assert rates[55] == pytest.approx(0.5)
    assert max(rates) == rates[10] == 1
    assert rates == [*sorted(rates[:11]), *sorted(rates[11:], reverse=True)]
    assert rates[-1] == pytest.approx(0, abs=1e-9)


def test_the_average_follows_the_network(digits: Pictures) -> None:
    run = Run(TINY, digits, CPU)
    run.advance()
    first = run.network.classify.bias.detach().clone()
    run.advance()
    second = run.network.classify.bias.detach()
    expected = TINY.ema_decay * first + (1 - TINY.ema_decay) * second
    torch.testing.assert_close(run.shipped.classify.bias, nn.Parameter(expected))


def test_the_loss_of_a_step_mixes_smoothed_and_superclass_loss(
    digits: Pictures, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By hand from one pass over the whole batch, though it is computed in parts, the last one smaller."""
    monkeypatch.setattr(loop, "MICRO_BATCH", 15)
    recipe = replace(
        TINY,
        superclass_loss_weight=0.3,
        label_smoothing=0.2,
        patch_keep_schedule=((0.0, 1.0),),
        augmentation=STILL,
        bfloat16=False,
    )
    run = Run(recipe, replace(digits, superclasses=GROUPS), CPU)
    run.network.classify.weight.data.normal_()
    first = balanced_order(run.labels, torch.Generator().manual_seed(recipe.seed))[:32]
    pixels = (run.images[first].permute(0, 3, 1, 2).float() / 255 - run.mean) / run.std
    with torch.no_grad():
        trace, labels = run.network(pixels), run.labels[first]
        plain = nn.functional.cross_entropy(trace.logits["class"][:, 0], labels, label_smoothing=0.2)
        wanted = 0.7 * plain + 0.3 * superclass_loss_of(trace, labels, superclass_indices(GROUPS))
    torch.testing.assert_close(run.advance(), wanted, atol=1e-5, rtol=1e-5)


def test_weight_decay_applies_to_matrices_only(digits: Pictures) -> None:
    muon, plain = Run(replace(TINY, weight_decay=0.03), digits, CPU).optimisers
    assert [group["weight_decay"] for group in (*muon.param_groups, *plain.param_groups)] == [0.03, 0.0]
    assert plain.param_groups[0]["betas"] == (0.9, 0.98)


def test_the_seed_decides_the_training(digits: Pictures) -> None:
    """Other parameters to start with, other pictures first; what is reported is the mean since the last report."""
    reported: list[Progress] = []
    one, other, again = (
        train(
            replace(TINY, steps=2, seed=seed, warmup=0.9), device=CPU, pictures=digits, report=reported.append, every=2
        )[0]
        for seed in (1, 2, 1)
    )
    assert torch.equal(one.embed.weight, again.embed.weight)
    assert (one.embed.weight - other.embed.weight).abs().max() > 0.1
    assert [progress.step for progress in reported] == [2, 2, 2]
    assert all(progress.loss == pytest.approx(math.log(10), abs=0.3) for progress in reported)
    first, second = (Run(replace(TINY, seed=seed), digits, CPU).batch() for seed in (1, 2))
    assert not torch.equal(first, second)


def test_run_info_has_the_facts_of_a_run() -> None:
    found = run_info(replace(TINY, seed=4), CPU, 90.0)
    assert found == {"steps": 12, "batch": 32, "seed": 4, "minutes": 1.5, "device": "cpu", "threads": 1}


def test_the_defaults_of_a_recipe() -> None:
    """The shipped networks were trained with these numbers, which their cards do not say."""
    recipe = Recipe("", "", TINY.config, "digits", steps=1)
    assert (recipe.learning_rate, recipe.warmup, recipe.weight_decay, recipe.label_smoothing) == (2e-3, 0.08, 0.05, 0.1)
    assert (recipe.batch, recipe.superclass_loss_weight, recipe.max_grad_norm, recipe.ema_decay, recipe.bfloat16) == (
        256,
        0.0,
        1.0,
        0.998,
        True,
    )
    assert (recipe.patch_keep_schedule, recipe.windows, recipe.seed, recipe.start) == (((0.0, 1.0),), 0.0, 0, "random")


@pytest.mark.parametrize("name", IMAGES)
def test_the_shape_of_a_recipe_is_that_of_the_shipped_network(name: str) -> None:
    assert load(name).config == RECIPES[name].config


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_trains_at_every_stage(name: str) -> None:
    """Also those that are meant for a graphics card: a few noisy pictures, and as many patches as the schedule says."""
    recipe = replace(RECIPES[name], batch=8)
    shape = recipe.config
    size = (2 * shape.classes, shape.size, shape.size, shape.channels)
    noise = np.random.default_rng(0).integers(0, 256, size, dtype=np.uint8)
    names = tuple(f"class {i}" for i in range(shape.classes))
    run = Run(recipe, Pictures(noise, np.arange(len(noise)) % shape.classes, names, names, "noise"), CPU)
    for start, share in recipe.patch_keep_schedule:
        run.step = math.ceil(start * recipe.steps)
        seen, patches = run.visible_patches(8), (shape.size // shape.patch) ** 2
        assert (patches if seen is None else seen.shape[1]) == round(share * patches)
        before = run.network.classify.weight.detach().clone()
        assert run.advance().isfinite()
        assert not torch.equal(run.network.classify.weight, before)


@pytest.mark.parametrize("name", RECIPES)
def test_augmentation_keeps_the_shape_and_is_seeded(name: str) -> None:
    how = RECIPES[name].augmentation
    channels = RECIPES[name].config.channels
    pixels = torch.rand(6, channels, 16, 16, generator=torch.Generator().manual_seed(5))
    first, again, other = (augment(pixels, how, torch.Generator().manual_seed(s)) for s in (1, 1, 2))
    assert first.shape == pixels.shape
    assert torch.equal(first, again)
    assert torch.equal(first, other) == (how == STILL)  # scenes are drawn anew each time, so they are left as they are
    assert first.isfinite().all()


def test_no_augmentation_is_the_identity() -> None:
    pixels = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(5))
    torch.testing.assert_close(augment(pixels, STILL, torch.Generator()), pixels)
    mirrored = augment(
        pixels.repeat(20, 1, 1, 1), replace(STILL, horizontal_flip=True), torch.Generator().manual_seed(0)
    )
    turned = [not torch.allclose(m, p, atol=1e-5) for m, p in zip(mirrored, pixels.repeat(20, 1, 1, 1), strict=True)]
    assert 10 < sum(turned) < 30
    assert any(torch.allclose(mirrored[0 if turned[0] else turned.index(True)], p.flip(-1), atol=1e-5) for p in pixels)


def test_softness_mixes_in_the_mean_of_the_neighbours() -> None:
    """A step becomes less or more steep by at most what is asked for; flat ground and the brightness stay."""
    step = torch.cat([torch.zeros(64, 1, 8, 4), torch.ones(64, 1, 8, 4)], -1)
    changed = augment(step, replace(STILL, blur=0.6), torch.Generator().manual_seed(0))
    amount = 3 * changed[:, 0, 4, 3]  # a third of the pixels around lies beyond the step
    assert -0.3 <= amount.min() < -0.2
    assert 0.5 < amount.max() <= 0.6
    torch.testing.assert_close(changed[..., :3], step[..., :3])
    torch.testing.assert_close(changed.mean((1, 2, 3)), step.mean((1, 2, 3)))


def test_softening_takes_a_share_of_each_neighbour() -> None:
    point = np.zeros((1, 5, 5, 3), dtype=np.uint8)
    point[0, 2, 2] = 200
    soft = blur(point)[0, :, :, 1].astype(float) / 200
    line = np.array([0, 0.05, 0.9, 0.05, 0])
    np.testing.assert_allclose(soft, line[:, None] * line, atol=0.5 / 200)


def test_contact_sheets_are_cut_in_raster_order() -> None:
    sheet = np.zeros((4, 20, 3), dtype=np.uint8)
    for tile in range(20):
        row, column = divmod(tile, 10)
        sheet[row * 2 : row * 2 + 2, column * 2 : column * 2 + 2] = tile
    tiles = split_sheet(sheet, 2)
    assert tiles.shape == (20, 2, 2, 3)
    assert tiles[:, 1, 1, 2].tolist() == list(range(20))


def test_halving_takes_the_mean_of_four() -> None:
    images = np.array([[0, 2, 10, 10], [4, 6, 10, 11]], dtype=np.uint8)[None, :, :, None].repeat(3, -1)
    assert halve(images)[0, 0, :, 0].tolist() == [3, 10]
    assert halve(images + np.array([0, 0, 0, 2], dtype=np.uint8)[:, None])[0, 0, :, 0].tolist() == [3, 11]  # 11.25
    assert halve(np.array([[1, 0], [1, 1]], dtype=np.uint8)[None, :, :, None].repeat(3, -1)).max() == 1  # 0.75


def archive(path: Path, tile: int, names: dict[str, tuple[str, str]], level: int) -> None:
    """A tar of contact sheets: 12 pictures of one grey for each class and split."""
    index = {
        "tile": tile,
        "sheets": {},
        "classes": [{"wnid": wnid, "name": name, "coarse": coarse} for wnid, (name, coarse) in names.items()],
    }
    with tarfile.open(path, "w") as tar:

        def add(name: str, raw: bytes) -> None:
            entry = tarfile.TarInfo(name)
            entry.size = len(raw)
            tar.addfile(entry, io.BytesIO(raw))

        for number, wnid in enumerate(names):
            for split in ("train", "val"):
                buffer = io.BytesIO()
                Image.new("RGB", (10 * tile, 2 * tile), (level + 20 * number,) * 3).save(buffer, "JPEG")
                index["sheets"][f"{split}/{wnid}_0.jpg"] = 12
                add(f"{split}/{wnid}_0.jpg", buffer.getvalue())
        add("index.json", json.dumps(index).encode())


def test_two_archives_become_one_data_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive(tmp_path / "tinyimagenet120_64.tar", 64, {"n1": ("teapot", "kitchen"), "n2": ("pug", "dog")}, 10)
    archive(tmp_path / "imagenette_128.tar", 128, {"n03425413": ("gas", ""), "n03445777": ("ball", "")}, 100)
    monkeypatch.setenv("ATTNVIZ_DATA", str(tmp_path))
    pictures = photos("val")
    assert pictures.images.shape == (48, 64, 64, 3)
    assert pictures.classes == ("teapot", "pug", "gas pump", "golf ball")
    assert pictures.superclasses == ("kitchen", "dog", "outdoor object", "ball or sport")
    for label, grey in enumerate((10, 30, 100, 120)):
        assert abs(pictures.images[pictures.labels == label].astype(int) - grey).max() <= 2
        assert (pictures.labels == label).sum() == 12


def test_sources_are_made_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is sharper is softened, what is larger is halved, and all come out of a JPEG file of one quality."""
    noise = np.random.default_rng(0).integers(0, 256, (1, 128, 128, 3), dtype=np.uint8)
    sheets = {"tinyimagenet120_64.tar": noise[:, :64, :64], "imagenette_128.tar": noise}
    entry = {"wnid": "n1", "name": "one", "coarse": "thing"}
    monkeypatch.setattr(data, "data_folder", Path)
    monkeypatch.setattr(data, "read_sheets", lambda path, split: (sheets[path.name], np.zeros(1, dtype=int), [entry]))
    small, large = photos("train").images
    assert np.array_equal(small, jpeg_of(blur(noise[:, :64, :64])[0]))
    assert np.array_equal(large, jpeg_of(halve(noise)[0]))
    assert load("vit").preparation.jpeg == JPEG == 85


def jpeg_of(pixels: np.ndarray) -> np.ndarray:
    """A picture written as JPEG and read again."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=85)
    return np.asarray(Image.open(file))


def test_of_a_sheet_the_first_tiles_are_used(tmp_path: Path) -> None:
    """A last row that is not full is filled up with nothing."""
    sheet = Image.new("RGB", (80, 16))
    sheet.paste("white", (0, 0, 80, 8))
    sheet.paste("white", (0, 8, 16, 16))
    index = {"tile": 8, "sheets": {"val/n1_0.png": 12}, "classes": [{"wnid": "n1", "name": "", "coarse": ""}]}
    with tarfile.open(tmp_path / "sheets.tar", "w") as tar:
        for name, raw in (("val/n1_0.png", png(sheet)), ("index.json", json.dumps(index).encode())):
            entry = tarfile.TarInfo(name)
            entry.size = len(raw)
            tar.addfile(entry, io.BytesIO(raw))
    tiles, labels, _ = read_sheets(tmp_path / "sheets.tar", "val")
    assert tiles.shape == (12, 8, 8, 3)
    assert tiles.min() == 255
    assert labels.tolist() == [0] * 12


def png(picture: Image.Image) -> bytes:
    """A picture as a file."""
    file = io.BytesIO()
    picture.save(file, "PNG")
    return file.getvalue()


def test_groups_are_numbered_in_the_order_they_come() -> None:
    assert superclass_indices(("b", "a", "b", "c")).tolist() == [0, 1, 0, 2]


def test_missing_data_is_said_in_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ATTNVIZ_DATA", str(tmp_path / "nowhere"))
    with pytest.raises(NoData, match="set ATTNVIZ_DATA"):
        data_folder()
    with pytest.raises(NoData, match=r"imagenette_128\.tar is missing"):
        read_sheets(tmp_path / "imagenette_128.tar", "train")


def test_missing_data_fails_in_ci_unless_it_is_absent_by_design(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    request.node.add_marker("data")
    for place, ci, outcome in (
        (str(tmp_path / "nowhere"), "true", NoData),
        (str(tmp_path / "nowhere"), "", pytest.skip.Exception),
        ("none", "true", pytest.skip.Exception),
    ):
        monkeypatch.setenv("ATTNVIZ_DATA", place)
        monkeypatch.setenv("CI", ci)
        with pytest.raises(outcome):
            pytest_runtest_setup(request.node)


def test_digits_are_split_once_and_for_all(digits: Pictures) -> None:
    held = DATA["digits"]("val")
    assert (len(digits), len(held)) == (1347, 450)
    rows = {image.tobytes() for image in digits.images}
    assert sum(image.tobytes() in rows for image in held.images) <= 1, "one digit occurs twice in the source"
    assert digits.images.dtype == np.uint8
    assert digits.images.max() == 255
    assert held.labels[:12].tolist() == [2, 0, 4, 9, 4, 1, 2, 4, 6, 7, 9, 1], "what is held out is held out for ever"
    shares = [np.bincount(part.labels) / len(part) for part in (digits, held)]
    np.testing.assert_allclose(*shares, atol=0.002)  # as often in both


@pytest.mark.data
@pytest.mark.slow
def test_the_photographs_are_all_there() -> None:
    for split, count in (("train", 69_469), ("val", 9_925)):
        pictures = photos(split)
        assert len(pictures) == count
        assert len(set(pictures.classes)) == 130
        assert sorted(set(pictures.labels.tolist())) == list(range(130))


@pytest.mark.parametrize(
    ("cuda", "mps", "wanted"),
    [(True, True, "cuda"), (True, False, "cuda"), (False, True, "mps"), (False, False, "cpu")],
)
def test_the_fastest_device_there_is(cuda: bool, mps: bool, wanted: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
    assert pick_device() == pick_device("auto") == torch.device(wanted)
    assert pick_device("cpu") == torch.device("cpu")


def test_windows_are_rectangles_of_neighbours_anywhere() -> None:
    """64 of 256 patches are 8 x 8; 128 are 8 x 16 or 16 x 8; every place comes up."""
    random = torch.Generator().manual_seed(0)
    for wanted, shapes in ((64, {(8, 8)}), (128, {(8, 16), (16, 8)})):
        found = windows(300, 16, wanted, random)
        assert found.shape == (300, wanted)
        rows, columns = found // 16, found % 16
        sizes = set(
            zip(
                (rows.amax(1) - rows.amin(1) + 1).tolist(),
                (columns.amax(1) - columns.amin(1) + 1).tolist(),
                strict=True,
            )
        )
        assert sizes == shapes
        assert all(len(set(row)) == wanted for row in found.tolist())
    assert set(windows(300, 16, 64, random)[:, 0].tolist()) >= {0, 8, 8 * 16, 8 * 16 + 8}
    with pytest.raises(ValueError, match="no window of a grid of 4 x 4 patches holds 7"):
        windows(1, 4, 7, random)


def test_a_share_of_the_pictures_shows_a_window(digits: Pictures) -> None:
    run = Run(replace(TINY, windows=0.5), digits, CPU)
    seen = run.visible_patches(400)
    assert seen is not None
    rows, columns = seen // 4, seen % 4
    area = (rows.amax(1) - rows.amin(1) + 1) * (columns.amax(1) - columns.amin(1) + 1)
    assert 0.4 < (area == 8).double().mean() < 0.65  # scattered patches hardly ever fill a rectangle
    scattered = Run(TINY, digits, CPU).visible_patches(400)
    assert scattered is not None
    assert scattered.shape == seen.shape
