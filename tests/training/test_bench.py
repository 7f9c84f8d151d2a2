"""The bench: one recipe for every variant, from nothing and uptrained; it resumes where it was interrupted."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from attnviz.attention import VARIANTS
from attnviz.models import ViT, ViTConfig
from attnviz.models.store import RESULTS, bench_results, open_vit
from attnviz.training import __main__ as command
from attnviz.training.images import bench, bench_run, loop
from attnviz.training.images.augment import Augmentation
from attnviz.training.images.data import DATA, split_validation
from attnviz.training.images.evaluate import evaluate, interval
from attnviz.training.images.loop import Progress
from attnviz.training.jobs import AlreadyRunning, locked

SMALL = ViTConfig(
    size=8, patch=1, channels=1, width=16, layers=1, heads=4, mlp=2, classes=10, cls=False, pooling="mean"
)
NEW = replace(
    bench.CPU_BENCH,
    config=SMALL,
    data="digits",
    steps=4,
    batch=32,
    bfloat16=False,
    augmentation=Augmentation(horizontal_flip=False, brightness=0.0),
    teacher="vit-digits",
    validation=5,
)
BUDGET = bench.budget_of(NEW, base=6, uptrained=3)
CPU = torch.device("cpu")
MHA, LAST = bench.Entry("mha"), bench.Entry("mqa", bench.UPTRAINED)
Run = Callable[..., list[bench_run.Row]]


@pytest.fixture(autouse=True)
def forget() -> None:
    """No test sees the pictures of another."""
    bench_run.prepared.cache_clear()
    bench_run.held_out_pictures.cache_clear()


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Train entries of the small bench in a folder of this test."""

    def ran(todo: Sequence[bench.Entry], report: bench.Report = ignore, **options: Any) -> list[bench_run.Row]:
        defaults = {"folder": tmp_path / "bench", "state": tmp_path / "state", "budget": BUDGET}
        return bench_run.run_bench(todo, CPU, report, **(defaults | options))

    return ran


def ignore(name: str, progress: Progress) -> None:
    """A report that nobody reads."""


@pytest.mark.parametrize("name", VARIANTS)
def test_every_variant_fits_the_bench(name: str) -> None:
    recipe = bench.recipe_of(name)
    assert recipe.name == name
    assert recipe.patch_keep_schedule == ((0.0, 1.0),)
    assert replace(recipe, name="", title="", config=bench.SHAPE) == replace(bench.CPU_BENCH, name="", title="")
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


# ---- what is trained, and in which order


def test_the_base_comes_first_then_what_goes_on_from_it_then_what_starts_anew() -> None:
    entries = bench.list_entries(["additive", "mha", "linear", "uniform"])
    assert entries[0] == ("mha", bench.BASE, 0)
    assert entries[1:5] == [(name, bench.UPTRAINED, 0) for name in ("mha", "linear", "uniform", "additive")]
    rest = entries[5:]
    assert {entry.run for entry in rest} == {bench.SAME, bench.EQUAL}
    assert [seed for name, run, seed in rest if name == "linear"] == [0, 1, 2]
    assert [(run, seed) for name, run, seed in rest if name == "uniform"] == [(bench.SAME, 0), (bench.EQUAL, 0)]
    assert len(set(entries)) == len(entries)
    names = [bench.recipe_of(variant, run, seed=seed).name for variant, run, seed in entries]
    assert len(set(names)) == len(names)


def test_runs_and_seeds_can_be_chosen() -> None:
    assert bench.list_entries(["mha", "gqa"], runs=[bench.SAME], seeds=2) == [
        ("mha", bench.SAME, 0),
        ("gqa", bench.SAME, 0),
        ("mha", bench.SAME, 1),
        ("gqa", bench.SAME, 1),
    ]
    assert bench.list_entries(["gqa"], runs=[bench.UPTRAINED]) == [("mha", bench.BASE, 0), ("gqa", bench.UPTRAINED, 0)]
    assert bench.list_entries(["gqa"], runs=[bench.BASE]) == [("mha", bench.BASE, 0)]
    everything = bench.list_entries(list(VARIANTS))
    for run in (bench.UPTRAINED, bench.SAME):
        assert {entry.variant for entry in everything if entry.run == run} == set(VARIANTS)


def test_steps_change_for_the_runs_that_are_named() -> None:
    changed = BUDGET.with_steps(9, [bench.EQUAL])
    assert (changed.new.steps, changed.base, changed.uptrained) == (9, BUDGET.base, BUDGET.uptrained)
    changed = BUDGET.with_steps(9, [bench.UPTRAINED, bench.BASE])
    assert (changed.new, changed.base.steps, changed.uptrained.steps) == (BUDGET.new, 9, 9)


def test_all_runs_differ_in_their_schedule_only() -> None:
    schedule = {"steps", "learning_rate", "ema_decay", "patch_keep_schedule", "masked_removal"}
    for budget in bench.SIZES.values():
        for other in (budget.base, budget.uptrained):
            ours, theirs = bench.settings(budget.new), bench.settings(other)
            assert {name for name in ours | theirs if ours.get(name) != theirs.get(name)} <= schedule


@pytest.mark.parametrize("name", VARIANTS)
def test_every_variant_takes_a_step_of_each_run(name: str) -> None:
    """Also with patches masked, on the grid and length of the bench; gradients reach every parameter, all finite."""
    pictures = replace(
        DATA["digits"]("train"),
        images=torch.randint(0, 256, (8, 64, 64, 3), dtype=torch.uint8).numpy(),
        labels=torch.arange(8).numpy(),
        teacher_logits=torch.randn(8, 130).half().numpy(),
    )
    for run in (bench.UPTRAINED, bench.SAME):
        recipe = replace(bench.recipe_of(name, run), batch=8, steps=3, patch_keep_schedule=((0.0, 0.5),))
        if run == bench.SAME:
            recipe = replace(recipe, patch_keep_schedule=((0.0, 1.0),))
        training = loop.Run(recipe, pictures, CPU)
        before = {name: p.detach().clone() for name, p in training.network.named_parameters()}
        assert training.advance().isfinite()
        after = dict(training.network.named_parameters())
        assert all(p.isfinite().all() for p in after.values())
        assert not torch.equal(before["blocks.0.attention.out.weight"], after["blocks.0.attention.out.weight"])


# ---- it resumes, and nothing is done twice


def test_a_bench_resumes_after_an_interruption(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []

    def report(name: str, progress: Progress) -> None:
        said.append(name)

    rows = run([MHA], report)
    assert [row["name"] for row in rows] == ["mha"] == sorted(set(said))
    assert json.loads((tmp_path / "bench" / RESULTS).read_text()) == json.loads(json.dumps(rows))
    said.clear()
    rows = run([MHA, bench.Entry("mha", seed=1)], report)
    assert [row["name"] for row in rows] == ["mha", "mha-seed1"]
    assert set(said) == {"mha-seed1"}
    monkeypatch.setattr(bench_run, "train", None)
    assert run([MHA, bench.Entry("mha", seed=1)], report) == rows


@pytest.mark.parametrize("entry", [bench.Entry("mha", bench.BASE), LAST], ids=["base", "uptrained"])
def test_an_interrupted_training_gives_the_same_network(
    entry: bench.Entry, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed in its third step, with a state saved after every step, and started again: the same file."""
    monkeypatch.setattr(loop, "SAVE_SECONDS", 0.0)
    todo = bench.list_entries([entry.variant], budget=BUDGET, runs=[entry.run])
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    run(todo, folder=whole)
    run(todo[:-1], folder=parts)
    steps, advance = list[int](), loop.Run.advance

    def interrupted(training: loop.Run) -> torch.Tensor:
        steps.append(training.step)
        if training.step == 2 and len(steps) == 3:
            raise KeyboardInterrupt
        return advance(training)

    monkeypatch.setattr(loop.Run, "advance", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run(todo, folder=parts)
    name = bench_run.recipe(entry, BUDGET).name
    assert bench_run.checkpoint_of(name, tmp_path / "state").is_file()
    run(todo, folder=parts)
    assert steps == [0, 1, 2, *range(2, BUDGET.recipe(entry.run).steps)]
    assert not bench_run.checkpoint_of(name, tmp_path / "state").exists(), "a complete network needs none"
    weights = [(folder / name / "model.safetensors").read_bytes() for folder in (whole, parts)]
    assert weights[0] == weights[1]


def test_an_entry_of_another_recipe_is_trained_again(run: Run) -> None:
    """Other steps, another batch or another share of the teacher, over what checkpoints of before have left."""
    said = list[int]()
    changes: list[dict[str, Any]] = [
        {},
        {"steps": 5},
        {"steps": 5, "batch": 40},
        {"steps": 5, "batch": 40},
        {"steps": 5, "batch": 40, "distillation": 0.25},
    ]
    for change in changes:
        budget = replace(BUDGET, new=replace(NEW, **change))
        (row,) = run([MHA], lambda name, progress: said.append(progress.steps), budget=budget)
        assert (row["steps"], row["batch"]) == (budget.new.steps, budget.new.batch)
    assert said == [4, 5, 5, 5], "one was done"


@pytest.mark.parametrize(
    "change",
    [{"steps": 5}, {"temperature": 1.0}, {"validation": 6}, {"masked_removal": True}, {"learning_rate": 5e-4}],
    ids=str,
)
def test_the_digest_changes_with_the_recipe(change: dict[str, Any]) -> None:
    digest = bench.digest_of(MHA, BUDGET)
    assert digest == bench.digest_of(MHA, replace(BUDGET, base=replace(BUDGET.base, **change)))
    assert digest != bench.digest_of(MHA, replace(BUDGET, new=replace(NEW, **change)))
    on = bench.digest_of(LAST, BUDGET)
    assert on == bench.digest_of(LAST, replace(BUDGET, new=replace(NEW, **change)))
    for part in ("base", "uptrained"):
        changed = {"steps": 50} if "masked_removal" in change and part == "uptrained" else change
        assert on != bench.digest_of(LAST, replace(BUDGET, **{part: replace(getattr(BUDGET, part), **changed)}))


def test_settings_are_what_is_no_default() -> None:
    assert bench.settings(Augmentation(blur=0.5)) == {"blur": 0.5}
    assert bench.settings(ViTConfig()) == {}
    found = bench.settings(NEW)
    assert found["config"]["width"] == 16
    assert "windows" not in found


def test_two_processes_may_train_different_variants(run: Run, tmp_path: Path) -> None:
    """What another process has written meanwhile stays in the table."""
    other = {"name": "uniform", "variant": "uniform", "run": bench.SAME, "minutes": 1.0, "steps": 4}

    def meanwhile(name: str, progress: object) -> None:
        (tmp_path / "bench").mkdir(exist_ok=True)
        (tmp_path / "bench" / RESULTS).write_text(json.dumps([other]))

    rows = run([MHA], meanwhile)
    assert [row["name"] for row in rows] == ["uniform", "mha"]
    assert rows[0] == other


def test_one_state_is_of_one_process(run: Run, tmp_path: Path) -> None:
    with locked(tmp_path / "state"), pytest.raises(AlreadyRunning):
        run([MHA])
    assert [row["name"] for row in run([MHA])] == ["mha"]


@pytest.mark.trains
def test_several_are_trained_at_once(run: Run, tmp_path: Path) -> None:
    """The base first, then two at a time in processes of their own: the same networks as one by one."""
    todo = bench.list_entries(["mha", "mqa"], budget=BUDGET, runs=[bench.UPTRAINED])
    rows = run(todo, jobs=2)
    assert sorted(row["name"] for row in rows) == ["base", "mha-uptrained", "mqa-uptrained"]
    run(todo, folder=tmp_path / "single")
    for row in rows:
        first, second = (
            open_vit(folder / row["name"]).network.state_dict() for folder in (tmp_path / "bench", tmp_path / "single")
        )
        assert all(torch.equal(first[name], second[name]) for name in first)


def test_the_command_trains_what_it_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(bench.SIZES, "cpu", BUDGET)
    given = ["bench", "--only", "mqa", "--runs", "uptrained", "--steps", "2", "--device", "cpu"]
    folders = ["--out", str(tmp_path / "out"), "--state", str(tmp_path / "state")]
    monkeypatch.setattr(sys, "argv", ["training", *given, *folders])
    assert command.main() == 0
    rows = bench_results(tmp_path / "out")
    assert [(row["name"], row["steps"]) for row in rows] == [("base", BUDGET.base.steps), ("mqa-uptrained", 2)]
    assert "| mqa-uptrained | uptrained |" in capsys.readouterr().out
    with locked(tmp_path / "state"):
        assert command.main() == 2


# ---- what stands in the table


def test_rows_have_the_measured_accuracy(run: Run, tmp_path: Path) -> None:
    (row,) = run([MHA])
    model = open_vit(tmp_path / "bench" / "mha")
    found = evaluate(model, DATA["digits"]("val"), drop_patches=False)
    assert found["top1"] == row["top1"]
    assert row["interval"] == interval(row["top1"], 450)
    own = evaluate(model, split_validation(DATA["digits"]("train"), 5)[1], drop_patches=False)
    assert (row["validation"], row["validation_top1"]) == (50, own["top1"])
    card = (tmp_path / "bench" / "mha" / "card.md").read_text()
    assert all(str(row[name]) in card for name in ("top1", "validation_top1", "teacher"))
    assert "new_parameters" not in row


def test_an_uptrained_row_says_what_was_taken_over(run: Run, tmp_path: Path) -> None:
    rows = run(bench.list_entries(["mqa", "additive"], budget=BUDGET, runs=[bench.UPTRAINED]))
    base, shared, additive = rows
    assert base["run"] == bench.BASE
    assert (shared["pooled"], shared["new_parameters"]) == (2 * (4 * 16 + 4), 0)
    assert shared["copied"] + shared["pooled"] == shared["parameters"]
    assert additive["pooled"] == 0
    assert additive["new_names"] == ["attention.vector", "attention.from_query.weight", "attention.from_key.weight"]
    assert additive["copied"] + additive["new_parameters"] == additive["parameters"]
    card = (tmp_path / "bench" / "additive-uptrained" / "card.md").read_text()
    assert "attention.vector" in card
    assert bench.table(rows).count("\n| ") == 3


def test_held_out_pictures_are_read_when_training_is_over(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    order = list[str]()
    train, read = bench_run.train, DATA["digits"]
    monkeypatch.setattr(bench_run, "train", lambda *args, **options: [train(*args, **options), order.append("done")][0])
    monkeypatch.setitem(DATA, "digits", lambda split: [read(split), order.append(split)][0])
    run([MHA])
    assert order == ["train", "done", "val"]


def test_the_time_left_follows_the_pace_of_each_variant() -> None:
    rows = [
        {"variant": "mha", "run": bench.SAME, "minutes": 2.0, "steps": 4},
        {"variant": "mqa", "run": bench.SAME, "minutes": 4.0, "steps": 4},
        {"variant": "mha", "run": bench.BASE, "minutes": 999.0, "steps": 4},
    ]
    assert bench.hours_left([MHA, LAST], BUDGET, rows) == pytest.approx((4 * 0.5 + 3 * 1.0) / 60)
    unknown = bench.Entry("xca")
    assert bench.hours_left([unknown], BUDGET, rows, jobs=2) == pytest.approx(4 * 0.75 / 60 / 2)


def test_the_shipped_networks_tell_the_pace_of_each_variant() -> None:
    assert bench.hours_left(bench.list_entries(list(VARIANTS)), bench.CPU_BUDGET, bench_results()) > 1


def test_the_interval_is_wilsons() -> None:
    """8 of 10: centre (0.8 + z²/20) / (1 + z²/10), as in the paper's formula."""
    z = 1.959964
    centre, half = (0.8 + z * z / 20) / (1 + z * z / 10), z * (0.016 + z * z / 400) ** 0.5 / (1 + z * z / 10)
    assert interval(80.0, 10) == [round(100 * (centre - half), 2), round(100 * (centre + half), 2)]
