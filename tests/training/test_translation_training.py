"""Learning to translate, on a handful of sentences: what a batch holds, going on after a cut, card and figures."""

from __future__ import annotations

import builtins
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from attnviz.models.beam import Beam
from attnviz.models.files import ASSETS
from attnviz.models.seq2seq import Seq2Seq, Seq2SeqConfig
from attnviz.models.store import load_translator
from attnviz.models.subwords import BOS, EOS, load_subwords
from attnviz.models.text import Translator, TranslatorConfig
from attnviz.models.translation import TranslationModel
from attnviz.training.images.data import NoData
from attnviz.training.text import bleu, corpus, seq2seq, translate
from attnviz.training.text.loop import TextRecipe, TextRun
from attnviz.training.text.translate import Pairs, Size, run_pairs
from attnviz.types import Sample

FEW = [
    ("I sleep.", "Je dors."),
    ("You sleep.", "Tu dors."),
    ("The dog sleeps.", "Le chien dort."),
    ("Go!", "Va !"),
    ("The cat eats the fish.", "Le chat mange le poisson."),
    ("Go!", "Allez !"),
]
CPU = torch.device("cpu")
RECIPE = TextRecipe(steps=4, batch=60, learning_rate=1e-3)
NETWORKS: dict[str, Any] = {
    "translator": lambda: Translator(TranslatorConfig(width=16, layers=1, heads=2, context_length=64)),
    "seq2seq": lambda: Seq2Seq(Seq2SeqConfig(width=16, hidden=12, compared=8, context_length=64)),
}


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """A corpus of six pairs, for every split."""

    def pairs(split: str) -> Iterator[tuple[str, str]]:
        return iter(FEW)

    monkeypatch.setattr(corpus, "translations", pairs)
    monkeypatch.setattr(corpus, "captions_translated", pairs)


def run(kind: str, recipe: TextRecipe = RECIPE) -> TextRun:
    """A training on the six pairs, at its beginning."""
    torch.manual_seed(0)
    pairs = Pairs(FEW, load_subwords(), CPU)

    def loss(network: Any, progress: float, random: np.random.Generator) -> torch.Tensor:
        return pairs.loss(network, progress, random, tokens=recipe.batch)

    return TextRun(NETWORKS[kind](), recipe, loss, CPU)


def test_pairs_have_bos_and_eos():
    pairs = Pairs([*FEW, ("a " * 80, "un")], load_subwords(), CPU)
    assert len(pairs) == len(FEW)  # what is too long is not learned from
    assert all(row[-1] == EOS for row in [*pairs.source, *pairs.target])
    assert all(row[0] == BOS for row in pairs.target)


@pytest.mark.parametrize("kind", NETWORKS)
def test_an_interrupted_run_resumes_exactly(kind: str, tmp_path: Path):
    whole, cut = run(kind), run(kind)
    for _ in range(4):
        whole.advance()
    for _ in range(2):
        cut.advance()
    cut.save(tmp_path / "checkpoint.pt")
    again = run(kind)
    again.load(tmp_path / "checkpoint.pt")
    for _ in range(2):
        again.advance()
    for name, tensor in whole.network.state_dict().items():
        torch.testing.assert_close(again.network.state_dict()[name], tensor, atol=0, rtol=0)


@pytest.mark.trains
@pytest.mark.parametrize("kind", NETWORKS)
def test_six_sentences_are_overfitted(kind: str):
    learning = run(kind, TextRecipe(steps=150, batch=200, learning_rate=1e-2))
    losses = [learning.advance() for _ in range(150)]
    assert losses[-1] < losses[0] / 2


@pytest.mark.usefixtures("few")
@pytest.mark.parametrize("kind", NETWORKS)
def test_training_writes_weights_facts_and_card(kind: str, tmp_path: Path):
    size = Size(NETWORKS[kind], RECIPE).with_changes("gpu", {"steps": 2, "seed": 3})
    card = run_pairs(kind, "English to French", size, tmp_path / kind, CPU, lambda progress: None, tmp_path / "c.pt")
    assert (tmp_path / kind / "card.md").read_text(encoding="utf-8") == card
    assert f"`python -m attnviz.training {kind} --size gpu --steps 2 --seed 3`" in card
    assert "6 pairs" in card
    model = TranslationModel.open(tmp_path / kind)
    facts = model.facts
    assert facts == json.loads((tmp_path / kind / "config.json").read_text())["facts"]
    assert (facts["steps"], facts["seed"], facts["held_out"]) == (2, 3, 6)
    assert facts["parameters"] == sum(p.numel() for p in model.network.parameters())
    assert [(test["sentences"], test["references"]) for test in facts["tests"]] == [(5, 6)] * 4
    assert facts["loss"] == pytest.approx(bleu.held_out_loss(model, FEW), abs=1e-3)
    again = run_pairs(kind, "English to French", size, tmp_path / kind, CPU, lambda progress: None, tmp_path / "c.pt")
    assert again == card  # nothing is left to train


def test_pairs_have_at_most_sixty_tokens_and_are_sampled_by_both_lengths():
    subwords = load_subwords()
    rows = [
        (" ".join(["dog"] * english), " ".join(["dog"] * french))
        for english, french in ((59, 1), (1, 59), (60, 1), (1, 60), (3, 4))
    ]
    assert len(subwords.ids(rows[0][0])) == 59
    pairs = Pairs(rows, subwords, CPU)
    assert [(len(s), len(t)) for s, t in zip(pairs.source, pairs.target, strict=True)] == [(60, 3), (2, 61), (4, 6)]
    assert sorted(pairs.sampler.lengths.tolist()) == [10, 63, 63]


@pytest.mark.parametrize("kind", NETWORKS)
def test_the_loss_is_smoothed_cross_entropy_of_the_next_token(kind: str):
    """A tenth of the answer lies on all pieces alike; what fills up the shorter pair counts for nothing."""
    learning, pairs = run(kind), Pairs(FEW[:3], load_subwords(), CPU)
    network, total, count = learning.network.eval(), 0.0, 0
    with torch.no_grad():
        for source, target in zip(pairs.source, pairs.target, strict=True):
            said = network(*(torch.from_numpy(row.astype(np.int64)) for row in (source, target[:-1]))).logits["word"]
            shares, wanted = said.log_softmax(-1), torch.from_numpy(target[1:].astype(np.int64))
            total -= float(0.9 * shares.gather(-1, wanted[:, None]).sum() + 0.1 * shares.mean(-1).sum())
            count += len(wanted)
        found = pairs.loss(network, 0.0, np.random.default_rng(0), tokens=1000)
    assert float(found) == pytest.approx(total / count, rel=1e-4)


def test_each_test_set_is_its_own_split_decoded_by_the_best_beam(monkeypatch: pytest.MonkeyPatch):
    asked: list[tuple[str, str, int]] = []
    for name in ("translations", "captions_translated"):
        monkeypatch.setattr(corpus, name, lambda split, name=name: iter([(f"{name} {split}", "un")]))
    model = TranslationModel("seq2seq", NETWORKS["seq2seq"](), load_subwords())

    def batch(samples: list[Sample], width: int) -> list[list[Beam]]:
        asked.extend((sample.text, "", width) for sample in samples)
        return [[Beam((*model.tokenizer.ids("un"), EOS), -1.0), Beam((*model.tokenizer.ids("deux"), EOS), -2.0)]]

    monkeypatch.setattr(model, "batch", batch)
    losses: list[list[tuple[str, str]]] = []
    monkeypatch.setattr(bleu, "held_out_loss", lambda model, pairs: losses.append(pairs) or 2.5)
    found = bleu.evaluate(model)
    assert losses == [[("translations val", "un")]]
    assert (found["loss"], found["perplexity"], found["held_out"]) == (2.5, 12.18, 1)
    assert [(text, width) for text, _, width in asked] == [
        ("translations test", 1),
        ("translations test", 4),
        ("captions_translated test", 1),
        ("captions_translated test", 4),
    ]
    assert [(test["name"], test["decoding"], test["exact"]) for test in found["tests"]] == [
        (name, how, 100.0) for name in ("Tatoeba test", "Multi30k test captions") for how in ("greedy", "beam 4")
    ]


def test_the_shipped_translator_has_the_configuration_of_the_recipe():
    assert load_translator("translator").config == translate.SHAPE
    assert {test["decoding"] for test in load_translator("translator").facts["tests"]} == set(bleu.DECODINGS)


def test_both_commands_have_both_sizes():
    assert set(translate.SIZES) == set(seq2seq.SIZES) == {"cpu", "gpu"}
    assert translate.SIZES["cpu"].recipe == translate.CPU


def test_a_translation_is_scored_against_all_references():
    groups = bleu.group_references(FEW)
    assert groups["Go!"] == ["Va !", "Allez !"]
    right = bleu.score(
        ["Je dors.", "Tu dors.", "Le chien dort.", "Allez !", "Le chat mange le poisson."], [*groups.values()]
    )
    assert right["bleu"] == right["chrf"] == pytest.approx(100)
    assert right["exact"] == 100
    assert (right["sentences"], right["references"]) == (5, 6)
    wrong = bleu.score(["Non."] * 5, [*groups.values()])
    assert wrong["bleu"] < 5
    assert wrong["exact"] == 0
    near = bleu.score(["Je dorts.", "Tu dors."], [["Je dors."], ["Tu dors."]])
    assert near["exact"] == 50.0
    assert near["chrf"] > near["bleu"] + 10  # letters are right where words are not


def test_the_held_out_loss_is_the_mean_over_tokens():
    torch.manual_seed(0)
    subwords = load_subwords()
    model = TranslationModel("seq2seq", NETWORKS["seq2seq"](), subwords)
    total, count = 0.0, 0
    pairs = [*FEW, tuple(" ".join(side * 4) for side in zip(*FEW, strict=True))]  # cut at what the network reads
    assert min(len(subwords.ids(side)) for side in pairs[-1]) > model.config.context_length
    for english, french in pairs:
        ids = [*subwords.ids(french)[: model.config.context_length - 1], EOS]
        with torch.no_grad():
            said = model.trace(model.prepare(english), ids).logits["word"].log_softmax(-1)
        total -= sum(float(row[piece]) for row, piece in zip(said, ids, strict=True))
        count += len(ids)
    assert bleu.held_out_loss(model, pairs) == pytest.approx(total / count, abs=1e-5)


def test_without_sacrebleu_the_error_names_the_requirements(monkeypatch: pytest.MonkeyPatch):
    real = builtins.__import__

    def missing(name: str, *args: Any, **kwargs: Any) -> Any:
        if name == "sacrebleu":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", missing)
    with pytest.raises(NoData, match=r"requirements-dev\.txt"):
        bleu.scorer()


LEAST = {"translator": 30, "seq2seq": 20}  # BLEU


@pytest.mark.parametrize("name", NETWORKS)
def test_shipped_models_reach_the_bleu_of_their_cards(name: str):
    model = load_translator(name)
    best = next(
        test for test in model.facts["tests"] if test["name"].startswith("Tatoeba") and "beam" in test["decoding"]
    )
    assert best["bleu"] >= LEAST[name]
    assert model.text(model.beams(model.prepare("I love you."), 4)[0].ids).startswith(("Je t'aime", "Je vous aime"))
    assert model.text(tuple(model.greedy(model.prepare("Two dogs are running.")))).lower().startswith("deux chiens")
    card = (ASSETS / name / "card.md").read_text(encoding="utf-8")
    assert f"BLEU {best['bleu']}" in card
