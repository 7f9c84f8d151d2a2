"""The measurement of all variants that comes with the app: written, read again, and refused where it is damaged."""

from __future__ import annotations

from pathlib import Path

import pytest

from attnviz.measures import reference
from attnviz.measures.cost import Row

FACTS = {"machine": "m", "date": "2026-11-30", "command": "c", "torch": "2", "width": 128, "heads": 4, "runs": 7}
ROWS = [
    Row("mha", 64, 10, 20, 30, 40, seconds=0.00123456, times=1.0, peak_bytes=77, first_seconds=0.5),
    Row("mha", 4096, skipped="would hold too much"),
]


def test_what_was_measured_comes_back(tmp_path: Path) -> None:
    """Counted costs are not kept, since they are counted anew."""
    path = tmp_path / "variants.json"
    reference.save(FACTS, ROWS, path)
    found = reference.load(path)
    assert found is not None
    assert {name: getattr(found, name) for name in reference.FIELDS} == FACTS
    assert found.rows == (Row("mha", 64, seconds=0.00123, peak_bytes=77), ROWS[1])


def test_no_file_is_no_measurement(tmp_path: Path) -> None:
    assert reference.load(tmp_path / "variants.json") is None


@pytest.mark.parametrize("text", ["[", "{}", '{"rows": [[1]]}', '"word"', '{"rows": 3}'])
def test_a_damaged_file_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "variants.json"
    path.write_text(text)
    with pytest.raises(ValueError, match="is no table of measurements"):
        reference.load(path)


def test_facts_must_be_whole(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="needs date, command"):
        reference.save({k: v for k, v in FACTS.items() if k not in ("date", "command")}, ROWS, tmp_path / "a.json")
    assert not list(tmp_path.iterdir())
