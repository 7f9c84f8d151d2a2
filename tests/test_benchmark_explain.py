"""The benchmark of attribution methods: its references agree with ours, and the command prints its table."""

from __future__ import annotations

import pytest

from benchmarks import explain
from benchmarks.explain_rows import LAYERS, ROWS, Figures, Size, maps, times

TINY = Size(17, 3)


def cells(printed: str) -> list[list[str]]:
    """The rows of a table below its head."""
    lines = [line.strip("|\n ").split(" | ") for line in printed.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line] for line in lines[1:]]


@pytest.mark.parametrize("name", [name for name, row in ROWS.items() if row.comparable])
def test_the_reference_gives_the_same_numbers(name: str) -> None:
    case = ROWS[name].make(TINY)
    ours, reference = case.ours(), case.reference()()
    searched = ~reference.isnan()  # attention flow: the reference searches one token
    assert searched.any()
    assert (ours - reference)[searched].abs().max() < 1e-5 * reference[searched].abs().max()
    assert reference[searched].abs().max() > 1e-3


@pytest.mark.parametrize("name", list(ROWS))
def test_every_row_is_timed_beside_its_reference(name: str) -> None:
    found = explain.seconds(name, TINY, 1, alone=False)
    assert (found["seconds"] or 0) > 0
    assert (found["reference"] or 0) > 0


def test_ours_can_be_timed_alone() -> None:
    assert set(explain.seconds("rollout", TINY, 1, alone=True)) == {"seconds"}


def test_the_command_measures_a_row_in_processes_of_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    explain.main(["--rows", "rollout", "--tokens", "17", "--layers", "2", "--threads", "1", "--runs", "1"])
    ((name, tokens, ours, reference, ratio, extra, *_),) = cells(capsys.readouterr().out)
    assert (name, tokens) == ("rollout", "17")
    assert min(float(ours), float(reference), float(ratio)) > 0
    assert float(extra) >= 0


def test_what_does_not_fit_is_counted_and_not_run(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[list[object]] = []

    def process(arguments: list[object], settings: dict[str, str]) -> dict[str, float]:
        asked.append(arguments)
        return {"seconds": 1.0, "extra": 2**20}

    monkeypatch.setattr(explain, "process", process)
    explain.main(["--rows", "generic", "rollout-given", "--tokens", "3137", "--memory", "0.1", "--threads", "1"])
    ours, given = cells(capsys.readouterr().out)
    assert ours[:7] == ["generic", "3137", "1,000.0", "does not fit", "–", "1.0", "10.56"]
    assert ours[8].endswith("reached")
    assert "0.4 GiB" in given[2]  # one layer's maps
    assert [arguments[1] for arguments in asked] == ["extra", "alone"]


def test_aims_can_be_missed() -> None:
    slow, fast = Figures(1.0, 2.0, None, 2 * 10**9), Figures(1.0, 9.0, None, 10**8)
    for row in ROWS.values():
        if row.aim is not None:
            late = slow._replace(seconds=5.0)
            assert row.aim.reached(fast)
            assert not row.aim.reached(late)
            assert row.aim.tokens in row.tokens
    assert times(fast) == 9


def test_stored_maps_are_counted_for_the_whole_network() -> None:
    assert maps(Size(3137)) == LAYERS * 12 * 3137 * 3137 * 4
