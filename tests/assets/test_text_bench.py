"""The shipped bench of texts: what is there, that it is what the recipe makes, and that it does what its table says."""

from __future__ import annotations

import json

import pytest

from attnviz.models import load_text
from attnviz.models.store import TEXT_BENCH, bench_results
from attnviz.training.text import bench, evaluation

NAMED = ("mha", "mqa", "gqa", "window", "linear", "performer", "linformer", "cosine", "additive")
ROWS = {row["name"]: row for row in bench_results(TEXT_BENCH)}
CHANCE = {"top1": 50.1, "upos": 17.3}  # percent: the larger class of SST-2, the most frequent tag


def test_the_listed_variants_are_there():
    assert set(NAMED) <= set(ROWS)
    folders = {path.name for path in TEXT_BENCH.iterdir() if path.is_dir()}
    assert folders == set(ROWS), "every network has its row and every row its network"


@pytest.mark.parametrize("name", ROWS)
def test_each_opens_as_the_recipe_makes_it(name: str):
    row, model = ROWS[name], load_text(f"text-bench/{name}")
    assert model.config == bench.config_of(row["variant"])
    assert model.facts == row
    assert (row["steps"], row["batch"]) == (bench.RECIPE.steps, bench.RECIPE.batch)
    card = (TEXT_BENCH / name / "card.md").read_text(encoding="utf-8")
    assert card == bench.card(row)
    for figure, least in CHANCE.items():
        assert row[figure] > least + 15, f"{name} has learned something"
    size = (TEXT_BENCH / name / "model.safetensors").stat().st_size
    assert size < 15e6


@pytest.mark.data
@pytest.mark.parametrize("name", ["mha", "linformer", "performer"])
def test_the_accuracies_are_those_of_the_table(name: str):
    row, model = ROWS[name], load_text(f"text-bench/{name}")
    scores = evaluation.evaluate_sentiment(model.network, model.tokenizer)
    assert scores["sst2"] == pytest.approx(row["top1"], abs=0.3)
    assert scores["sst2_held_out"] == row["held_out"]
    kinds = evaluation.evaluate_tags(model.network, model.tokenizer)
    assert kinds["upos"] == pytest.approx(row["upos"], abs=0.2)
    assert kinds["words_held_out"] == row["words_held_out"]


def test_the_table_is_json_that_lists_each_once():
    rows = json.loads((TEXT_BENCH / "bench.json").read_text(encoding="utf-8"))
    assert len({row["name"] for row in rows}) == len(rows)
