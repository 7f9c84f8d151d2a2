"""How text models learn: batches, resuming, what the encoder is asked, and how the treebank is read."""

from __future__ import annotations

import inspect
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from attnviz.models.store import load_text
from attnviz.models.subwords import CLS, MASK, PAD, SEP, load_subwords
from attnviz.models.text import Reader, ReaderConfig
from attnviz.models.text_model import TAGS
from attnviz.training import card, corpus, sentences, text_run
from attnviz.training.judge import parsed
from attnviz.training.tagged import around, flat, tagged
from tests.small_training import Small, loss

CPU = torch.device("cpu")
RECIPE = text_run.TextRecipe(steps=6, batch=64, rate=1e-2)
SHAPE = ReaderConfig(vocabulary=8000, width=24, layers=2, heads=3, positions="learned1d", longest=64, prefix=1,
                     outputs={"sentiment": 2, "tag": len(TAGS)})  # fmt: skip


def small() -> Small:
    torch.manual_seed(0)
    return Small()


def test_a_run_that_was_cut_off_goes_on_as_if_it_had_not(tmp_path: Path):
    whole, _ = text_run.trained(small(), RECIPE, loss, CPU, lambda stand: None)
    first = text_run.TextRun(small(), RECIPE, loss, CPU)
    for _ in range(3):
        first.advance()
    first.save(tmp_path / "state.pt")
    torch.manual_seed(99)  # nothing may hang on the global state
    again, _ = text_run.trained(small(), RECIPE, loss, CPU, lambda stand: None, tmp_path / "state.pt")
    for name, tensor in whole.state_dict().items():
        assert torch.equal(tensor, again.state_dict()[name]), name


def test_the_rate_rises_holds_and_falls():
    held = text_run.TextRecipe(steps=100, rate=2.0, warmup=10, hold=0.6)
    rates = [held.rate_at(step) for step in range(100)]
    assert rates[:3] == pytest.approx([0.2, 0.4, 0.6])
    assert rates[9:61] == pytest.approx([2.0] * 52)
    assert rates[80] == pytest.approx(1.0)
    assert rates[99] < 0.01
    assert rates[60:] == sorted(rates[60:], reverse=True)
    falling = text_run.TextRecipe(steps=100, rate=2.0, warmup=10)
    assert max(range(100), key=falling.rate_at) in (9, 10)
    short = text_run.TextRecipe(steps=6, rate=2.0)  # a warmup longer than the training does not eat it
    assert max(short.rate_at(step) for step in range(6)) == 2.0


def test_a_longer_schedule_goes_on_from_where_the_rate_was_held(tmp_path: Path):
    short, long = (text_run.TextRecipe(steps=steps, batch=64, rate=1e-2, warmup=2, hold=0.5) for steps in (6, 12))
    kept = tmp_path / "checkpoint.pt"
    text_run.trained(small(), short, loss, CPU, lambda stand: None, kept)
    assert torch.load(kept, weights_only=True)["step"] == 6
    assert torch.load(tmp_path / text_run.HELD, weights_only=True)["step"] == 3
    assert text_run.state_on_the_way(kept, long) == tmp_path / text_run.HELD
    assert text_run.state_on_the_way(kept, short) == kept
    later, _ = text_run.trained(small(), long, loss, CPU, lambda stand: None, kept)
    once, _ = text_run.trained(small(), long, loss, CPU, lambda stand: None)
    assert all(torch.equal(tensor, later.state_dict()[name]) for name, tensor in once.state_dict().items())


def test_a_schedule_may_end_sooner_than_planned_while_the_rate_is_held(tmp_path: Path):
    long, short = (text_run.TextRecipe(steps=steps, batch=64, rate=1e-2, warmup=2, hold=0.5) for steps in (12, 10))
    kept = tmp_path / "checkpoint.pt"
    text_run.trained(small(), replace(long, until=5), loss, CPU, lambda stand: None, kept)
    later, _ = text_run.trained(small(), short, loss, CPU, lambda stand: None, kept)
    assert torch.load(tmp_path / text_run.HELD, weights_only=True)["step"] == 5
    once, _ = text_run.trained(small(), short, loss, CPU, lambda stand: None)
    assert all(torch.equal(tensor, later.state_dict()[name]) for name, tensor in once.state_dict().items())


def test_a_state_of_another_schedule_is_refused(tmp_path: Path):
    kept = tmp_path / "checkpoint.pt"
    text_run.trained(small(), RECIPE, loss, CPU, lambda stand: None, kept)
    with pytest.raises(ValueError, match=r"has gone on to step 6 of 6; the recipe stops after 9 of 9\. Start"):
        text_run.trained(small(), replace(RECIPE, steps=9), loss, CPU, lambda stand: None, kept)


def test_it_learns_and_reports():
    seen: list[text_run.Stand] = []
    recipe = text_run.TextRecipe(steps=120, rate=2e-2, average=0.9)
    network, seconds = text_run.trained(small(), recipe, loss, CPU, seen.append, every=20)
    assert seen[-1].loss < 0.5 * seen[0].loss
    assert seen[-1].share == 1
    assert seconds > 0
    assert not network.training


def test_a_shelf_draws_texts_of_one_length_and_every_token_alike():
    lengths = np.array([3] * 200 + [10] * 100 + [40] * 20)
    random = np.random.default_rng(0)
    shelf = text_run.Shelf(lengths, random)
    drawn = np.zeros(len(lengths))
    for _ in range(400):
        chosen = shelf.draw(80, random)
        assert len(set(chosen.tolist())) == len(chosen)
        assert len(chosen) * lengths[chosen].max() <= 80 or len(chosen) == 1
        drawn[chosen] += lengths[chosen]
    share = [drawn[lengths == n].sum() / drawn.sum() for n in (3, 10, 40)]
    tokens = [lengths[lengths == n].sum() / lengths.sum() for n in (3, 10, 40)]
    assert np.allclose(share, tokens, atol=0.12)


def test_padding():
    ids, keep = text_run.padded([[5, 6, 7], [8]], CPU)
    assert ids.tolist() == [[5, 6, 7], [8, PAD, PAD]]
    assert keep.tolist() == [[True] * 3, [True, False, False]]
    assert text_run.kept_or_none(keep) is keep
    assert text_run.kept_or_none(keep[:1]) is None
    assert text_run.padded([[1]], CPU, length=4)[0].shape == (1, 4)


def test_matrices_inside_go_to_muon_and_the_rest_to_adamw():
    muon, plain = text_run.text_optimisers(small(), RECIPE)
    assert [p.shape for group in muon.param_groups for p in group["params"]] == [(4, 4)]
    assert len([p for group in plain.param_groups for p in group["params"]]) == 3


def test_treebank_sentences_as_the_encoder_reads_them():
    subwords = load_subwords()
    words = (corpus.Word(0, 3, "PRON", 3), corpus.Word(4, 7, "AUX", 3), corpus.Word(7, 10, "PART", 3),
             corpus.Word(11, 13, "VERB", -1), corpus.Word(13, 14, "PUNCT", 3))  # fmt: skip
    (row,) = tagged(subwords, [corpus.Sentence("She didn't go.", words)], 20)
    assert (row.ids[0], row.ids[-1]) == (CLS, SEP)
    labels = [subwords.label(i) for i in row.ids]
    assert [labels[i] for i in row.first] == ["She", "didn", "'t", "go", "."]
    tokens, tags, heads = flat([row])
    assert tokens == row.first
    assert [TAGS[t] for t in tags] == ["PRON", "AUX", "PART", "VERB", "PUNCT"]
    assert heads == [row.first[3]] * 3 + [0] + [row.first[3]]
    assert around([9], [8, 7]) == [CLS, 9, SEP, 8, 7, SEP]
    assert not tagged(subwords, [corpus.Sentence("She didn't go.", words)], 2)


def test_reviews_as_a_person_writes_them():
    text = "it 's a film that ca n't be ignored -lrb- or loved -rrb- , is n't it ?"
    assert corpus.written(text) == "It's a film that can't be ignored (or loved), isn't it?"


@pytest.mark.data
def test_every_question_makes_a_gradient(monkeypatch: pytest.MonkeyPatch):
    def few(subwords, longest):
        texts = [text for _, text in zip(range(300), corpus.captions("val"), strict=False)]
        return [np.array(around(ids), dtype=np.int16) for ids in subwords.batch(texts)]

    monkeypatch.setattr(sentences, "plain_texts", few)
    for name in ("treebank", "reviews"):
        some = [row for _, row in zip(range(200), getattr(corpus, name)("val"), strict=False)]
        monkeypatch.setattr(corpus, name, lambda split, some=some: iter(some))
    torch.manual_seed(0)
    network = Reader(SHAPE)
    plan = sentences.Plan(syntax=(1, 2), longest=40)
    tasks = sentences.Tasks(plan, text_run.TextRecipe(steps=2, batch=400), load_subwords(), CPU)
    for ask, touched in ((tasks.guessing, "pieces.bias"), (tasks.praising, "outputs.sentiment.weight"),
                         (tasks.parsing, "outputs.tag.weight")):  # fmt: skip
        network.zero_grad()
        ask(network, np.random.default_rng(1)).backward()
        got = {name for name, p in network.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0}
        assert {touched, "blocks.0.mlp.0.weight", "pieces.table"} <= got
    gradient = dict(network.named_parameters())["blocks.1.attention.query.weight"].grad
    assert gradient is not None
    wanted = gradient.unflatten(0, (3, 8)).abs().sum((1, 2))
    assert wanted.argmax() == 2, "the syntax head is asked directly, the others only through what they hand on"
    hidden = tasks.some_hidden(torch.full((50, 50), 100), np.random.default_rng(0))
    assert float((hidden == MASK).float().mean()) == pytest.approx(plan.dropped, abs=0.02)
    rows = tasks.bank[:3]
    tags, hits = parsed(network.eval(), rows)
    assert len(tags) == hits.shape[-1] == sum(len(row.first) for row in rows)


@pytest.mark.data
def test_the_treebank_is_read_whole():
    found = [*corpus.treebank("test")]
    assert (len(found), sum(len(s.words) for s in found)) == (2077, 25094)
    for sentence in found[:300]:
        assert sum(word.head < 0 for word in sentence.words) == 1
        assert all(-1 <= word.head < len(sentence.words) for word in sentence.words)
        assert all(word.tag in TAGS for word in sentence.words)


def test_a_card_names_the_trainings_it_went_on_from():
    first = {"steps": 3000, "batch": 4096, "seed": 0, "minutes": 102.8, "device": "cpu", "sst2": 74.74}
    second = {**first, "steps": 800, "seed": 1, "minutes": 20.0, "sst2": 78.0, "before": first}
    assert sentences.earlier({"steps": 9}) == []
    one, two = sentences.earlier({"steps": 9, "before": second})
    assert "800 steps of 4,096 pieces, seed 1, 20.0 minutes on cpu, to 78.0 % on SST-2" in one
    assert "3,000 steps" in two


class Asked(sentences.Tasks):
    """Tasks that only say which kind of batch they would draw."""

    def __init__(self, plan: sentences.Plan):
        self.plan = plan

    def first(self, progress: float) -> set[str]:
        """The kinds of many batches at this progress."""
        for name in ("praising", "parsing", "guessing"):
            setattr(self, name, lambda network, random, name=name: name)
        ask: Any = inspect.unwrap(sentences.Tasks.loss)
        return {ask(self, None, progress, np.random.default_rng(seed)) for seed in range(100)}


def test_what_goes_on_learns_all_it_is_asked_from_the_first_step():
    """What begins from nothing only guesses hidden words at first; the shipped network is asked all at once."""
    plans = {name: plan for name, (_, _, plan) in sentences.SIZES.items()}
    everything = {"praising", "parsing", "guessing"}
    assert {name: Asked(plan).first(0.0) for name, plan in plans.items()} == {
        "cpu": {"guessing"}, "gpu": {"guessing"}, "more": everything}  # fmt: skip
    assert all(Asked(plan).first(plan.alone) == everything for plan in plans.values())
    shipped = load_text("sentences")
    assert sentences.SIZES["more"][0] == shipped.config, "it is the shipped network that goes on"
    assert sentences.SIZES["more"][2].syntax == tuple(shipped.facts["syntax"]), "with the head it was taught"
    assert {"sst2", "steps", "threads"} <= card.told(shipped.facts, sentences.TOLD).keys()
