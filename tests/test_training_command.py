"""`python -m attnviz.training`: every command takes the options it says and refuses those it would not heed."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from attnviz.training import __main__ as command
from attnviz.training import corpus, treebank

VALUES = {"steps": ["3"], "seed": ["1"], "fresh": [], "until": ["2"], "only": ["mha"], "seeds": ["2"], "size": ["gpu"]}


def ask(monkeypatch: pytest.MonkeyPatch, *given: str) -> dict[str, object]:
    """The options that a command line gives."""
    monkeypatch.setattr(sys, "argv", ["training", *given])
    return vars(command.asked())


@pytest.mark.parametrize("name", command.commands())
def test_what_would_not_be_heeded_is_refused(
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


def test_help_says_who_takes_what(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit):
        ask(monkeypatch, "--help")
    said = " ".join(capsys.readouterr().out.split())
    assert "text-bench: --steps, --only, --seeds." in said
    assert "treebank: none but --device and --out." in said
    assert set(command.commands()) >= {*command.TEXT, *command.RESUMED, *command.MORE, *command.RECIPES}


def test_the_treebank_is_written_where_it_is_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    words = tuple(corpus.Word(i, i + 1, "X", -1) for i in range(treebank.SHORTEST))
    monkeypatch.setattr(corpus, "treebank", lambda split: [corpus.Sentence("She runs.", words)] * treebank.COUNT)
    monkeypatch.setattr(sys, "argv", ["training", "treebank", "--out", str(tmp_path / "out")])
    assert command.main() == 0
    assert len(json.loads((tmp_path / "out" / treebank.FILE).read_text())) == treebank.COUNT
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert (treebank.FOLDER / treebank.FILE).is_file(), "where it goes by itself is where the app looks"
