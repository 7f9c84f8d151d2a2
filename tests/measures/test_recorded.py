"""The file of measured scores: written and read back whole, refused where damaged, and true to what is shipped."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

import attnviz
from attnviz.measures import recorded
from attnviz.measures.intervals import Summary
from attnviz.measures.recorded import Row
from attnviz.methods import CONTROLS, METHODS

EMPTY = Summary(math.nan, math.nan, math.nan, 0, 3)
ROWS = [
    Row("scenes/colour", "rollout", "default", "pointing", True, Summary(0.5, 0.25, 0.75, 20, 1), EMPTY),
    Row("scenes/colour", "random", "default", "pointing", False, EMPTY, EMPTY),
]
FACTS = {"command": "python -m benchmarks.faithfulness", "date": "2026-11-30", "model": "vit-scenes", "digest": "0"}


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    path = tmp_path / "scores.json"
    assert recorded.load(path) == {}
    recorded.save("scenes", FACTS, ROWS, path)
    recorded.save("photographs", FACTS, ROWS[:1], path)
    parts = recorded.load(path)
    assert list(parts) == ["scenes", "photographs"]
    assert parts["scenes"]["rows"][0] == ROWS[0]._replace(difference=parts["scenes"]["rows"][0].difference)
    assert math.isnan(parts["scenes"]["rows"][1].value.mean)
    assert parts["scenes"]["rows"][1].value[3:] == (0, 3)
    assert "NaN" not in path.read_text(encoding="utf-8")


def test_a_damaged_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "scores.json"
    for text in ("{", "[]", '{"scenes": {}}', '{"scenes": 3}'):
        path.write_text(text, encoding="utf-8")
        with pytest.raises(ValueError, match=r"scores\.json is no table"):
            recorded.load(path)
    with pytest.raises(ValueError, match="date"):
        recorded.save("scenes", {"command": "", "model": "", "digest": ""}, ROWS, path)


def test_one_score_is_found_by_its_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recorded, "measured", lambda: tuple(ROWS))
    assert recorded.score("scenes/colour", "rollout", "pointing") is ROWS[0]
    assert recorded.score("scenes/colour", "rollout", "pointing", right=False) is None
    assert recorded.score("scenes/colour", "rollout", "mass") is None


def test_the_scores_that_are_shipped_are_of_what_is_shipped() -> None:
    """Another network or a method that is gone makes them void: run `python -m benchmarks.faithfulness` again."""
    for name, part in recorded.load().items():
        model = attnviz.load(part["model"])
        assert model.digest == part["digest"], name
        assert {row.method for row in part["rows"]} <= {*METHODS, *CONTROLS}, name
        assert {"random", "centre"} <= {row.method for row in part["rows"]}, name
        assert part["command"].startswith("python -m benchmarks.faithfulness")
        for row in part["rows"]:
            assert row.value.scored < 2 or row.value.low <= row.value.mean <= row.value.high
