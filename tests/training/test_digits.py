"""The table of networks on digits: its interval, what it writes and prints."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from attnviz.models.nets import built
from attnviz.training import __main__ as command
from attnviz.training.images import digits
from attnviz.training.images.data import DATA
from attnviz.training.images.digits import BASE, NETWORKS, RESULTS, interval, recipe_of, results, run_digits, table

LEARNS = pytest.mark.trains


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The folder the command has written to after two steps from two seeds, and what it has printed."""
    folder, printed = tmp_path_factory.mktemp("digits"), []
    with pytest.MonkeyPatch.context() as patch:
        given = ["digits", "--steps", "2", "--seeds", "2", "--device", "cpu", "--out", str(folder)]
        patch.setattr(sys, "argv", ["attnviz.training", *given])
        patch.setattr(sys.stdout, "write", printed.append)
        assert command.main() == 0
    return folder, "".join(printed)


@LEARNS
def test_the_command_writes_a_row_for_each_network(written: tuple[Path, str]) -> None:
    rows = json.loads((written[0] / RESULTS).read_text())
    assert [row["name"] for row in rows] == list(NETWORKS)
    assert [row["parameters"] for row in rows] == [58_570, 47_986, 58_202, 67_610]
    assert [row["cells"] for row in rows] == [16, 16, 64, 64]
    for row in rows:
        assert row["seeds"] == [0, 1]
        assert len(row["accuracy"]) == len(row["seconds"]) == 2
        assert all(0 <= value <= 100 for value in row["accuracy"])
        assert row["mean"] == pytest.approx(sum(row["accuracy"]) / 2, abs=0.006)
        assert row["interval"] == interval(row["accuracy"])
        assert (row["steps"], row["trained_on"], row["held_out"]) == (2, 1347, 450)
    assert list(written[0].iterdir()) == [written[0] / RESULTS]


@LEARNS
def test_the_command_prints_a_table(written: tuple[Path, str]) -> None:
    folder, printed = written
    rows = json.loads((folder / RESULTS).read_text())
    assert printed == table(rows)
    lines = printed.splitlines()
    assert lines[0] == "| network | parameters | each seed % | mean % | 95 % interval | seconds each |"
    assert {line.count("|") for line in lines[:6]} == {7}
    assert "multi-query attention | 47,986 | " in lines[3]
    assert "1,347 training pictures, 450 held out, one of which makes 0.22 %" in printed


@LEARNS
def test_what_was_written_is_read_again(written: tuple[Path, str], tmp_path: Path) -> None:
    assert table(results(written[0])) == written[1]
    assert results(tmp_path) == []


def test_one_seed_has_no_interval(tmp_path: Path) -> None:
    (row,) = run_digits(
        tmp_path / "new", torch.device("cpu"), lambda name, progress: None, seeds=[3], steps=1, names=["vit-mha"]
    )
    assert row["interval"] is None
    assert row["seeds"] == [3]
    assert "| none |" in table([row])


def test_the_interval_is_students() -> None:
    """Mean 96, deviation 1 (squares 4 over 4), five seeds: 2.776 of the t distribution with 4 degrees / root 5."""
    assert interval([95, 95, 96, 97, 97]) == [96 - 1.24, 96 + 1.24]
    assert interval([96.0, 96.0, 96.0]) == [96, 96]
    assert interval([90.0, 100.0]) == [31.47, 100.0]
    assert interval([0.0, 10.0]) == [0.0, 68.53]
    assert interval([96.0]) is None


def test_a_network_is_scored_by_top1(monkeypatch: pytest.MonkeyPatch) -> None:
    held = DATA["digits"]("val")
    network = built(replace(BASE.config, layers=1))
    monkeypatch.setattr(digits, "train", lambda recipe, **given: (network, 1.23))
    monkeypatch.setattr(digits, "evaluate", lambda model, held, drop_patches: {"top1": 91.0, "top5": 99.0})
    assert digits.train_and_evaluate(BASE, held, held, torch.device("cpu"), lambda name, progress: None) == (91.0, 1.2)


def test_the_shipped_table_has_these_networks_and_seeds() -> None:
    rows = results()
    assert [row["name"] for row in rows] == list(NETWORKS)
    for row in rows:
        assert row["seeds"] == [*range(digits.SEEDS)] == [0, 1, 2, 3, 4]
        assert row["interval"] == interval(row["accuracy"])


def test_all_networks_follow_one_recipe() -> None:
    for name in NETWORKS:
        recipe = recipe_of(name, seed=4)
        assert (recipe.data, recipe.steps, recipe.batch, recipe.learning_rate) == (
            BASE.data,
            BASE.steps,
            BASE.batch,
            BASE.learning_rate,
        )
        assert (recipe.max_grad_norm, recipe.augmentation, recipe.seed) == (BASE.max_grad_norm, BASE.augmentation, 4)
        assert recipe.config.size == 8


@LEARNS
def test_what_is_done_is_not_trained_again(written: tuple[Path, str], monkeypatch: pytest.MonkeyPatch) -> None:
    folder, before = written[0], results(written[0])

    def refused(recipe: object, *rest: object) -> tuple[float, float]:
        raise RuntimeError("it would be trained again")

    monkeypatch.setattr(digits, "train_and_evaluate", refused)
    ignore = lambda name, progress: None  # noqa: E731
    assert run_digits(folder, torch.device("cpu"), ignore, seeds=[0, 1], steps=2) == before
    with pytest.raises(RuntimeError, match="again"):
        run_digits(folder, torch.device("cpu"), ignore, seeds=[0, 1], steps=3)
    assert results(folder) == before  # what was there stays until something takes its place
