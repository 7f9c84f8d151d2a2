"""The bench of texts: what is trained, that it is trained alike, what is written, and that a cut run goes on."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import attnviz
from attnviz.attention import VARIANTS
from attnviz.edits import Edit
from attnviz.models import files, store
from attnviz.models.subwords import load_subwords
from attnviz.models.text import Reader, ReaderConfig
from attnviz.training.text import bench, corpus
from attnviz.training.text.sentences import Tasks
from attnviz.types import UnsupportedMask

CPU = torch.device("cpu")
RECIPE = replace(bench.RECIPE, steps=2, batch=200)
NAMED = ("mha", "mqa", "gqa", "window", "linear", "performer", "linformer", "cosine", "additive")


def network_of(variant: str) -> Reader:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Reader(bench.config_of(variant))


def test_every_variant_without_a_grid_is_on_the_bench():
    assert set(NAMED) <= set(bench.READ) <= set(VARIANTS)
    assert not {"window2d", "axial", "botnet2d", "mobilevit2d"} & set(bench.READ)


@pytest.mark.parametrize("variant", bench.READ)
def test_padding_does_not_change_predictions(variant: str):
    network = network_of(variant).eval()
    ids = torch.randint(8, 8000, (20,), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        alone = network(ids).logits
        filled = torch.cat([ids, torch.zeros(30, dtype=torch.long)])[None]
        among = network(filled, edit=Edit(keep_tokens=(torch.arange(50) < 20)[None])).logits
    assert set(alone) == {"sentiment", "tag"}, "it never learns to predict a token"
    torch.testing.assert_close(among["sentiment"][0], alone["sentiment"], atol=2e-4, rtol=1e-3)
    torch.testing.assert_close(among["tag"][0, :20], alone["tag"], atol=2e-4, rtol=1e-3)
    assert network(torch.full((bench.SHAPE.context_length,), 9)).logits["sentiment"].shape == (1, 2)
    with pytest.raises((ValueError, UnsupportedMask)):
        network(torch.full((bench.SHAPE.context_length + 1,), 9))


def test_networks_have_similar_numbers_of_parameters():
    sizes = {name: sum(p.numel() for p in network_of(name).parameters()) for name in bench.READ}
    assert max(abs(size / sizes["mha"] - 1) for size in sizes.values()) < 0.1, "so one run of each is fair"


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """A handful of made-up reviews and treebank sentences."""
    words = (corpus.Word(0, 3, "PRON", 1), corpus.Word(4, 8, "VERB", -1), corpus.Word(8, 9, "PUNCT", 1))
    monkeypatch.setattr(corpus, "reviews", lambda split: iter([(0, "a dull film ."), (4, "a great film .")] * 8))
    monkeypatch.setattr(corpus, "treebank", lambda split: iter([corpus.Sentence("She runs.", words)] * 8))


def test_a_bench_writes_models_and_skips_existing_entries(few: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    folder, reported = tmp_path / "text-bench", list[str]()
    todo = [("mha", 0), ("linformer", 0), ("mha", 1)]
    rows = bench.run_text_bench(todo, CPU, lambda name, progress: reported.append(name), recipe=RECIPE, folder=folder)
    assert [row["name"] for row in rows] == ["mha", "linformer", "mha-seed1"]
    assert set(reported) == {"mha", "linformer", "mha-seed1"}
    monkeypatch.setattr(store, "TEXT_BENCH", folder)
    model = attnviz.load("text-bench/linformer")
    assert (model.modality, model.config.variant, tuple(model.outputs)) == ("text", "linformer", ("sentiment", "tag"))
    trace = model(model.prepare("She runs."))
    assert {call.token_map().shape for call in trace.calls} == {(4, 5, 5)}
    for name in ("mha", "linformer", "mha-seed1"):
        card = (folder / name / "card.md").read_text()
        row = next(row for row in rows if row["name"] == name)
        assert f"SST-2 accuracy: {row['top1']} % of 16 held-out" in card
        assert f"UPOS accuracy: {row['upos']} % of {row['words_held_out']}" in card
        assert name in bench.table(rows)
    reported.clear()
    bench.run_text_bench(todo, CPU, lambda name, progress: reported.append(name), recipe=RECIPE, folder=folder)
    assert not reported
    with pytest.raises(ValueError, match="no model of texts is called"):
        attnviz.load("text-bench/nobody")


def test_an_entry_with_other_steps_or_batch_is_trained_again(few: None, tmp_path: Path):
    reported = list[float]()
    for recipe in (RECIPE, replace(RECIPE, batch=100), replace(RECIPE, steps=1, batch=100)):
        (row,) = bench.run_text_bench(
            [("mha", 0)],
            CPU,
            lambda name, progress: reported.append(progress.share),
            recipe=recipe,
            folder=tmp_path / "bench",
            checkpoints=tmp_path / "runs",
        )
        assert (row["steps"], row["batch"]) == (recipe.steps, recipe.batch)
    assert len(reported) == 3


def test_shipped_entries_have_the_configuration_of_the_bench():
    rows = store.bench_results(store.TEXT_BENCH)
    assert {"mha", "window", "linformer"} <= {row["variant"] for row in rows} <= set(bench.READ)
    for row in rows:
        assert (row["steps"], row["batch"]) == (bench.RECIPE.steps, bench.RECIPE.batch)
        shape = ReaderConfig(**files.read_config(store.TEXT_BENCH / row["name"])["network"])
        assert shape == bench.config_of(row["variant"])
    assert bench.PLAN.max_tokens == bench.SHAPE.context_length - 2, "CLS and SEP have room"


def test_a_network_is_evaluated_with_rounded_parameters(monkeypatch: pytest.MonkeyPatch):
    scores = {"sst2_held_out": 4, "sst2": 75.0, "sst2_lower": 50.0, "sst2_interval": [1.0, 2.0]}
    asked = list[bool]()

    def evaluated(network: Reader, subwords: object) -> dict:
        asked.append(all(torch.equal(p, p.half().float()) for p in network.parameters()))
        return scores

    monkeypatch.setattr(bench, "evaluate_sentiment", evaluated)
    monkeypatch.setattr(bench, "evaluate_tags", lambda network, subwords: {"upos": 90.0})
    found = bench.facts_of(network_of("mha"), load_subwords(), RECIPE, CPU, 90.0)
    assert (found["top1"], found["interval"], found["upos"], found["minutes"]) == (75.0, [1.0, 2.0], 90.0, 1.5)
    assert asked == [True]


def test_both_tasks_are_trained_and_no_masked_token(few: None):
    tasks = Tasks(bench.PLAN, RECIPE, load_subwords(), CPU)
    network = network_of("mha")
    assert not tasks.texts
    asked = set()
    for seed in range(20):
        network.zero_grad()
        tasks.loss(network, 0.0, np.random.default_rng(seed)).backward()
        asked |= {name for name in ("sentiment", "tag") if network.outputs[name].weight.grad is not None}
        assert network.pieces.bias.grad is None
    assert asked == {"sentiment", "tag"}
