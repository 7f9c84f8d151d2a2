"""The bench: one recipe for every variant, equal parameters where asked, taken up where it was cut off."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from attnviz.attention import VARIANTS
from attnviz.models import ViT, ViTConfig
from attnviz.models.store import RESULTS, open_vit
from attnviz.training.images import bench
from attnviz.training.images.augment import Augmentation
from attnviz.training.images.data import DATA
from attnviz.training.images.evaluate import evaluate, interval

SMALL = ViTConfig(
    size=8, patch=1, channels=1, width=16, layers=1, heads=4, mlp=2, classes=10, cls=False, pooling="mean"
)
BASE = replace(
    bench.CPU_BENCH,
    config=SMALL,
    data="digits",
    steps=4,
    batch=32,
    bfloat16=False,
    augmentation=Augmentation(horizontal_flip=False, brightness=0.0),
)
CPU = torch.device("cpu")


@pytest.mark.parametrize("name", VARIANTS)
def test_every_variant_fits_the_bench(name: str) -> None:
    recipe = bench.recipe_of(name)
    assert recipe.name == name
    assert recipe.patch_keep_schedule == ((0.0, 1.0),)
    trace = ViT(recipe.config)(torch.zeros(2, 3, 64, 64))
    assert trace.logits["class"].shape == (2, 1, 130)
    assert len(trace.calls[0].queries) == 64


@pytest.mark.parametrize("name", VARIANTS)
def test_equal_parameters_are_equal(name: str) -> None:
    goal = bench.count_parameters(bench.SHAPE)
    assert bench.needs_equal(name) == (abs(bench.count_parameters(bench.recipe_of(name).config) / goal - 1) > 0.1)
    recipe = bench.recipe_of(name, bench.EQUAL).config
    equal, feature = bench.count_parameters(recipe), recipe.layers * (2 * recipe.width + 1)
    assert abs(equal / goal - 1) < 0.005
    assert goal - feature < equal <= goal, "one more hidden feature would be too many"


def test_no_mlp_makes_up_for_too_much(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        bench, "count_parameters", lambda config: 10_000_000 if config.variant == "additive" else 1_000_000
    )
    with pytest.raises(ValueError, match="additive has 9,000,000 parameters too many"):
        bench.matching_mlp(replace(SMALL, variant="additive"))


def test_a_bench_resumes_after_an_interruption(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    todo = bench.list_entries(["mha"], [0, 1], BASE)
    assert todo == [("mha", bench.SAME, 0), ("mha", bench.SAME, 1)]
    rows = bench.run_bench(todo[:1], CPU, lambda name, progress: said.append(name), base=BASE, folder=tmp_path)
    assert [row["name"] for row in rows] == ["mha"] == sorted(set(said))
    assert json.loads((tmp_path / RESULTS).read_text()) == json.loads(json.dumps(rows))
    said.clear()
    rows = bench.run_bench(todo, CPU, lambda name, progress: said.append(name), base=BASE, folder=tmp_path)
    assert [row["name"] for row in rows] == ["mha", "mha-seed1"]
    assert set(said) == {"mha-seed1"}
    monkeypatch.setattr(bench, "train", None)
    assert bench.run_bench(todo, CPU, lambda name, progress: None, base=BASE, folder=tmp_path) == rows


def test_an_entry_with_other_steps_or_batch_is_trained_again(tmp_path: Path) -> None:
    """More steps or a larger batch train anew, over what the checkpoints of the bench before have left."""
    entry, said = bench.list_entries(["mha"], [0], BASE), list[int]()
    for base in (BASE, replace(BASE, steps=5), replace(BASE, steps=5, batch=40), replace(BASE, steps=5, batch=40)):
        (row,) = bench.run_bench(
            entry,
            CPU,
            lambda name, progress: said.append(progress.steps),
            base=base,
            folder=tmp_path / "bench",
            checkpoints=tmp_path / "runs",
        )
        assert (row["steps"], row["batch"]) == (base.steps, base.batch)
    assert said == [4, 5, 5], "the last was done"


def test_two_processes_may_train_different_variants(tmp_path: Path) -> None:
    """What another process has written meanwhile stays in the table."""
    other = {"name": "uniform", "variant": "uniform"}

    def meanwhile(name: str, progress: object) -> None:
        (tmp_path / RESULTS).write_text(json.dumps([other]))

    rows = bench.run_bench(bench.list_entries(["mha"], [0], BASE), CPU, meanwhile, base=BASE, folder=tmp_path)
    assert [row["name"] for row in rows] == ["uniform", "mha"]
    assert rows[0] == other


def test_rows_have_the_measured_accuracy(tmp_path: Path) -> None:
    (row,) = bench.run_bench(
        bench.list_entries(["mha"], [0], BASE), CPU, lambda name, progress: None, base=BASE, folder=tmp_path
    )
    model = open_vit(tmp_path / "mha")
    found = evaluate(model, DATA["digits"]("val"), drop_patches=False)
    assert found["top1"] == row["top1"]
    assert "top1_with_patches" not in row, "no network of the bench has learned to do without some"
    assert row["interval"] == interval(row["top1"], 450)
    assert str(row["top1"]) in (tmp_path / "mha" / "card.md").read_text()


def test_the_interval_is_wilsons() -> None:
    """8 of 10: centre (0.8 + z²/20) / (1 + z²/10), as in the paper's formula."""
    z = 1.959964
    centre, half = (0.8 + z * z / 20) / (1 + z * z / 10), z * (0.016 + z * z / 400) ** 0.5 / (1 + z * z / 10)
    assert interval(80.0, 10) == [round(100 * (centre - half), 2), round(100 * (centre + half), 2)]
