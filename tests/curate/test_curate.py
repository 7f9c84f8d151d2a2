"""What visitors see first shows what it announces: every stored example, measured again with the shipped models."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from attnviz.curate import KINDS, lacking, measured, pictures
from attnviz.curate.__main__ import main, written
from attnviz.paths import EXAMPLES
from attnviz.ui.inputs import samples

STORED: list[dict[str, Any]] = json.loads(EXAMPLES.read_text(encoding="utf-8"))["examples"]
NAMED = [pytest.param(example, id=f"{example['kind']}-{number}") for number, example in enumerate(STORED)]


def of_kind(kind: str) -> list[dict[str, Any]]:
    """The stored examples of one kind."""
    return [example for example in STORED if example["kind"] == kind]


@pytest.mark.parametrize("example", NAMED)
def test_an_example_still_shows_its_effect(example: dict[str, Any]) -> None:
    found = measured(example)
    assert lacking({**example, "numbers": found}) == []
    # Other processors round differently; a model trained anew differs by far more.
    assert found == pytest.approx(example["numbers"], abs=0.02)


def test_every_kind_has_an_example() -> None:
    assert {example["kind"] for example in STORED} == set(KINDS)


@pytest.mark.parametrize("kind", KINDS)
def test_numbers_below_the_least_are_lacking(kind: str) -> None:
    example = of_kind(kind)[0]
    for name, bound in KINDS[kind].least.items():
        for value in (bound - 0.001, float("nan")):
            assert lacking({**example, "numbers": {**example["numbers"], name: value}}) == [name]


def test_the_file_is_what_the_command_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert EXAMPLES.read_text(encoding="utf-8") == written(STORED)
    monkeypatch.setattr("attnviz.curate.__main__.EXAMPLES", tmp_path / "examples.json")
    monkeypatch.setattr("attnviz.curate.__main__.found", lambda: iter(STORED[:1]))
    assert main(["--check"]) == 1, "there is no such file yet"
    assert (main([]), main(["--check"])) == (0, 0)


# ---- sample photographs


def test_the_sample_photographs_are_the_proven_ones() -> None:
    proven = [example["picture"] for example in of_kind("picture")]
    wrong = [example["picture"] for example in of_kind("wrong picture")]
    assert samples.SAMPLES["vit"] == (*proven, *wrong)
    assert tuple(wrong) == samples.WRONG
    model = pictures.opened()
    kinds = {model.superclasses[model.outputs["class"].index(samples.photographs()[name]["class"])] for name in proven}
    assert len(proven) >= 12
    assert len(kinds) == len(proven), "no two of one superclass"


def test_the_first_photograph_is_named_at_every_size_a_page_offers_beside_its_own() -> None:
    model, name = pictures.opened(), samples.SAMPLES["vit"][0]
    picture = samples.open_sample("vit", name).image
    right = model.outputs["class"].index(samples.photographs()[name]["class"])
    for size in (64, 128, 256):
        assert int(model(model.prepare(picture, size=size)).logits["class"].flatten().argmax()) == right, size


def test_a_map_of_nothing_does_not_lie_on_the_object() -> None:
    mask = pictures.object_patches([[[0, 0], [32, 0], [32, 32], [0, 32]]], (64, 64), (4, 4))
    assert mask.reshape(4, 4).tolist() == [[True, True, False, False]] * 2 + [[False] * 4] * 2
    assert pictures.above(torch.ones(16), mask) == 0.5
    assert pictures.above(mask.float(), mask) == 1
    assert pictures.above(-mask.float(), mask) == 0
    assert pictures.above(pictures.middle((4, 4)), mask) == pytest.approx(0.5), "by symmetry"


@pytest.mark.parametrize("change", ["another class", "another place"])
def test_a_picture_that_shows_nothing_is_left_out(change: str, monkeypatch: pytest.MonkeyPatch) -> None:
    entry = pictures.photographs()[0]
    if change == "another class":
        entry = {**entry, "class": "goldfish"}
    else:
        entry = {**entry, "outline": [[[0, 0], [60, 0], [60, 40], [0, 40]]]}
    monkeypatch.setattr(pictures, "photographs", lambda: [entry])
    (candidate,) = pictures.candidates()
    example = {"kind": "picture", **candidate}
    short = lacking({**example, "numbers": measured(example)})
    assert set(short) >= ({"probability", "margin"} if change == "another class" else {"on_object", "pointing"})


def test_every_photograph_says_whose_it_is() -> None:
    licences = (samples.FOLDER / "LICENSES.md").read_text(encoding="utf-8")
    assert set(samples.photographs()) == set(samples.SAMPLES["vit"])
    for name, entry in samples.photographs().items():
        (row,) = [line for line in licences.splitlines() if line.startswith(f"| vit/{name}.jpg |")]
        assert all(entry[part] in row for part in ("title", "author", "address", "licence", "changes"))
        title, origin = samples.origin_of("vit", name) or ("", "")
        assert entry["title"] in title
        assert entry["author"] in origin
        assert entry["address"] in origin
