"""`python -m attnviz.training`: every command takes the options it says and refuses those it would not heed."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest
import torch

from attnviz.models import ViT
from attnviz.training import __main__ as command
from attnviz.training.images import digits, sweep
from attnviz.training.images.data import NoData
from attnviz.training.images.loop import Progress
from attnviz.training.images.recipes import RECIPES, Recipe
from attnviz.training.text import corpus, treebank
from attnviz.training.text.skipgram import TextProgress

VALUES = {
    "steps": ["3"],
    "seed": ["1"],
    "fresh": [],
    "until": ["2"],
    "only": ["mha"],
    "seeds": ["2"],
    "size": ["gpu"],
    "runs": ["base"],
    "jobs": ["2"],
    "state": ["there"],
}


def ask(monkeypatch: pytest.MonkeyPatch, *given: str) -> dict[str, object]:
    """The options that a command line gives."""
    monkeypatch.setattr(sys, "argv", ["training", *given])
    return vars(command.parse_options())


@pytest.mark.parametrize("name", command.commands())
def test_an_option_that_a_command_does_not_use_is_an_error(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    for option, value in VALUES.items():
        if option in command.commands()[name]:
            assert ask(monkeypatch, name, f"--{option}", *value)[option] not in (None, "cpu"), option
            continue
        with pytest.raises(SystemExit) as left:
            ask(monkeypatch, name, f"--{option}", *value)
        assert left.value.code == 2
        assert f"error: {name} takes no --{option}\n" in capsys.readouterr().err
    assert ask(monkeypatch, name)["size"] == "cpu"


def test_help_lists_the_options_of_each_command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit):
        ask(monkeypatch, "--help")
    said = " ".join(capsys.readouterr().out.split())
    assert "text-bench: --steps, --only, --seeds." in said
    assert "treebank: only --device and --out." in said
    assert set(command.commands()) >= {*command.TEXT, *command.RESUMED, *command.MORE, *command.RECIPES}


def test_the_treebank_is_written_to_the_output_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    words = tuple(corpus.Word(i, i + 1, "X", -1) for i in range(treebank.MIN_WORDS))
    monkeypatch.setattr(corpus, "treebank", lambda split: [corpus.Sentence("She runs.", words)] * treebank.COUNT)
    monkeypatch.setattr(sys, "argv", ["training", "treebank", "--out", str(tmp_path / "out")])
    assert command.main() == 0
    assert len(json.loads((tmp_path / "out" / treebank.FILE).read_text())) == treebank.COUNT
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert (treebank.FOLDER / treebank.FILE).is_file(), "where it goes by itself is where the app looks"


def test_treebank_sentences_are_held_out_and_plain(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Of 6 to 14 words, with a capital first, a stop last, and no address."""

    def sentence(text: str, words: int = 6) -> corpus.Sentence:
        return corpus.Sentence(text, tuple(corpus.Word(i, i + 1, "X", -1) for i in range(words)))

    fit = [sentence("She runs."), sentence("Does she?", 14), sentence("Run!")]
    unfit = [
        sentence("she runs."),
        sentence("She runs"),
        sentence("Ask me@home."),
        sentence("She.", 5),
        sentence("She.", 15),
    ]
    splits: list[str] = []
    monkeypatch.setattr(corpus, "treebank", lambda split: splits.append(split) or [*fit, *unfit])
    monkeypatch.setattr(treebank, "COUNT", 3)
    treebank.run_treebank(tmp_path, torch.device("cpu"), lambda progress: None)
    rows = json.loads((tmp_path / treebank.FILE).read_text())
    assert [row["text"] for row in rows] == ["She runs.", "Does she?", "Run!"]
    assert splits == ["test"]


def test_the_time_left_is_extrapolated(capsys: pytest.CaptureFixture[str]):
    command.show(Progress(25, 100, 1.5, 600.0, ViT(RECIPES["vit-digits"].config)))
    assert "25/100  loss 1.500  30.0 min left" in capsys.readouterr().err
    command.show_text("mha", TextProgress(0.25, 1.5, 600.0))
    assert "25%  loss 1.500  30.0 min left" in capsys.readouterr().err


@pytest.mark.parametrize(("given", "seed"), [([], 6), (["--seed", "0"], 0), (["--seed", "3"], 3)])
def test_seed_zero_is_a_seed(given: list[str], seed: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """A recipe may have another one by itself."""
    trained: list[Recipe] = []

    def train(recipe: Recipe, **rest: object) -> None:
        trained.append(recipe)
        raise NoData("enough")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(RECIPES, "vit-digits", replace(RECIPES["vit-digits"], seed=6))
    monkeypatch.setattr(command, "train", train)
    monkeypatch.setattr(sys, "argv", ["training", "vit-digits", "--device", "cpu", *given])
    assert command.main() == 2
    assert [recipe.seed for recipe in trained] == [seed]


@pytest.mark.parametrize(("name", "module", "seeds"), [("digits", digits, 5), ("sweep", sweep, 3)])
def test_the_default_number_of_seeds_is_that_of_the_shipped_results(
    name: str, module: ModuleType, seeds: int, monkeypatch: pytest.MonkeyPatch
):
    asked: list[list[int]] = []
    monkeypatch.setattr(module, f"run_{name}", lambda folder, device, report, *, seeds, steps: asked.append([*seeds]))
    monkeypatch.setattr(module, "table", lambda rows: "")
    monkeypatch.setattr(sys, "argv", ["training", name, "--device", "cpu"])
    assert command.main() == 0
    assert asked == [[*range(seeds)]]
