"""What the encoder of sentences is asked while it learns, batch by batch, of a network whose answers are given."""

from __future__ import annotations

import inspect
import math
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from attnviz.models.store import load_text
from attnviz.models.subwords import CLS, MASK, SEP, SPECIAL, load_subwords
from attnviz.models.text import Reader
from attnviz.models.text_model import TAGS
from attnviz.training.images.data import NoData
from attnviz.training.text import corpus, sentences
from attnviz.training.text.loop import LengthSampler, TextRecipe
from attnviz.training.text.sentences import Plan, Tasks
from attnviz.training.text.tagged import flatten
from tests.small_training import FixedAnswers

CPU = torch.device("cpu")
RECIPE = TextRecipe(steps=2, batch=400)
RUNS = corpus.Sentence(
    "She runs.", (corpus.Word(0, 3, "PRON", 1), corpus.Word(4, 8, "VERB", -1), corpus.Word(8, 9, "PUNCT", 1))
)
Given = dict[str, list[Any]]
Make = Callable[..., Tasks]


@pytest.fixture
def given(monkeypatch: pytest.MonkeyPatch) -> Given:
    """A corpus of a few rows to train on, which a test may change; other splits have none."""
    rows: Given = {
        "captions": [],
        "translations": [],
        "story_paragraphs": ["One dog. Two dogs."],
        "treebank": [RUNS],
        "reviews": [(4, "a great film .")],
    }
    for name in rows:
        monkeypatch.setattr(corpus, name, lambda split, name=name: iter({"train": rows[name]}[split]))
    return rows


def tasks(plan: Plan | None = None, **changes: Any) -> Tasks:
    """The three kinds of batches over what is given."""
    return Tasks(plan or Plan(**changes), RECIPE, load_subwords(), CPU)


def test_stories_are_split_into_excerpts_of_two_texts(given: Given):
    """As many sentences as have room, the first half before SEP, the second after it."""
    subwords = load_subwords()
    given["story_paragraphs"] = ["One dog. Two dogs. Three dogs.", "Four dogs. Five dogs."]
    one, two, three, four, five = (
        subwords.ids(f"{number} dog{'s' * (number != 'One')}.") for number in ("One", "Two", "Three", "Four", "Five")
    )
    assert {len(ids) for ids in (one, two, three, four, five)} == {3}
    # Of 15 pieces two thirds are for a stretch: three sentences of 3, not four.
    rows = [row.tolist() for row in sentences.pretraining_texts(subwords, 15)]
    assert rows == [[CLS, *one, *two, SEP, *three, SEP], [CLS, *four, SEP, *five, SEP]]


def test_short_texts_are_single_and_too_short_ones_are_dropped(given: Given):
    subwords = load_subwords()
    given |= {"captions": ["A dog with a ball.", "Dog"], "translations": [("Go on", "Va")], "story_paragraphs": []}
    rows = [row.tolist() for row in sentences.pretraining_texts(subwords, 4)]
    assert rows == [[CLS, *subwords.ids("A dog with a"), SEP], [CLS, *subwords.ids("Go on"), SEP]]


def test_of_ten_chosen_tokens_eight_are_masked_one_is_random_and_one_stays(given: Given):
    """Only the hidden ones are asked for; special pieces are never hidden."""
    asked, network = tasks(mask_share=0.3), FixedAnswers(pieces={100: 30.0})
    asked.texts = [np.array([CLS, *[100] * 48, SEP], dtype=np.int16)] * 200
    asked.text_sampler = LengthSampler([50] * 200, np.random.default_rng(0))
    asked.recipe = replace(RECIPE, batch=50 * 200)
    losses = [asked.masked_loss(network, np.random.default_rng(seed)) for seed in range(4)]
    assert max(map(float, losses)) < 1e-3, "the answer is the piece that stood there"
    read = torch.cat(network.inputs)
    assert (read[:, 0] == CLS).all()
    assert (read[:, -1] == SEP).all()
    inside = read[:, 1:-1]
    masked, stays = ((inside == piece).double().mean().item() for piece in (MASK, 100))
    assert masked == pytest.approx(0.3 * 0.8, abs=0.01)
    assert 1 - masked - stays == pytest.approx(0.3 * 0.1, abs=0.005)
    assert (inside >= min(MASK, len(SPECIAL))).all()
    assert len(inside.unique()) > 500, "any other piece may stand there"


@pytest.mark.parametrize(
    ("praise", "loss"),
    [(4, -math.log(0.75)), (0, -math.log(0.25)), (1, -0.75 * math.log(0.25) - 0.25 * math.log(0.75))],
)
def test_sentiment_grades_are_soft_labels(praise: int, loss: float, given: Given):
    given["reviews"] = [(praise, "a film .")]
    network = FixedAnswers({"sentiment": torch.tensor([[0.0, math.log(3)]])})
    assert float(tasks().sentiment_loss(network, np.random.default_rng(0))) == pytest.approx(loss)


def test_reviews_are_sampled_in_both_spellings(given: Given):
    """Six of ten as a visitor would write them, each with the answer that belongs to it."""
    subwords, network = load_subwords(), FixedAnswers({"sentiment": torch.zeros(1, 2)})
    asked = tasks(input_mask_share=0.0)
    asked.recipe = replace(RECIPE, batch=6)
    for seed in range(600):
        asked.sentiment_loss(network, np.random.default_rng(seed))
    read = Counter(tuple(ids[0, 1:-1].tolist()) for ids in network.inputs)
    assert set(read) == {tuple(subwords.ids(text)) for text in ("a great film .", "A great film.")}
    assert read[tuple(subwords.ids("A great film."))] / 600 == pytest.approx(0.6, abs=0.06)


def test_a_review_keeps_its_label_in_a_batch(given: Given):
    given["reviews"] = [(4, "praise"), (0, "blame")] * 4
    network = FixedAnswers({"sentiment": torch.zeros(1, 2)})
    asked, wanted = tasks(input_mask_share=0.0), list[torch.Tensor]()

    def entropy(scores: torch.Tensor, answers: torch.Tensor) -> torch.Tensor:
        wanted.append(answers)
        return scores.sum()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sentences.F, "cross_entropy", entropy)
        asked.sentiment_loss(network, np.random.default_rng(0))
    praises = {piece for text in ("praise", "Praise") for piece in load_subwords().ids(text)}
    found = [bool(praises & set(row)) for row in network.inputs[0].tolist()]
    assert wanted[0][:, 1].tolist() == [float(praise) for praise in found]
    assert 0 < sum(found) < len(found)


def parsing_loss(plan: Plan) -> float:
    """The loss of a batch of the treebank, of a network with two layers that finds heads in one place only."""
    asked = tasks(plan)
    (row,) = asked.treebank
    weights, tags = torch.full((2, 2, len(row.ids), len(row.ids)), 1e-4), torch.zeros(len(row.ids), len(TAGS))
    for token, tag, head in zip(*flatten([row]), strict=True):
        weights[1, 1, token, head] = 1
        tags[token, tag] = 30
    network = FixedAnswers({"tag": tags}, [layer / layer.sum(-1, keepdim=True) for layer in weights])
    return float(asked.parsing_loss(network, np.random.default_rng(0)))


@pytest.mark.usefixtures("given")
def test_the_syntax_head_is_trained_on_dependency_heads():
    plan = Plan(input_mask_share=0.0, syntax_head=(1, 1))
    assert parsing_loss(plan) == pytest.approx(0, abs=2e-3)
    uniform = math.log(5)  # of She runs . between CLS and SEP
    for syntax in ((0, 1), (1, 0), (0, 0)):
        assert parsing_loss(replace(plan, syntax_head=syntax)) == pytest.approx(uniform, abs=1e-3)
    assert parsing_loss(replace(plan, syntax_head=None)) == pytest.approx(0, abs=1e-6)


def test_tasks_are_sampled_by_their_shares():
    """Only hidden words at first; then reviews, the treebank, and hidden words for the rest."""

    class Asked(Tasks):
        def __init__(self, plan: Plan):
            self.plan = plan
            for name in ("sentiment_loss", "parsing_loss", "masked_loss"):
                setattr(self, name, lambda network, random, name=name: name)

    ask: Any = inspect.unwrap(Tasks.loss)
    plan = Plan(pretraining=0.5, reviews=0.5, treebank=0.3)
    kinds = Counter(ask(Asked(plan), None, 0.5, np.random.default_rng(seed)) for seed in range(2000))
    assert {name: count / 2000 for name, count in kinds.items()} == pytest.approx(
        {"sentiment_loss": 0.5, "parsing_loss": 0.3, "masked_loss": 0.2}, abs=0.04
    )
    assert {ask(Asked(plan), None, 0.49, np.random.default_rng(seed)) for seed in range(50)} == {"masked_loss"}
    assert plan.predicts_masked
    assert Plan(pretraining=0, reviews=0.5, treebank=0.3).predicts_masked
    assert not Plan(pretraining=0, reviews=0.5, treebank=0.5).predicts_masked


@pytest.mark.usefixtures("given")
@pytest.mark.parametrize("size", ["cpu", "more"])
def test_the_checkpoint_depends_on_the_plan_and_the_initial_weights(
    size: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    started: list[Any] = []

    def train(network: Reader, *rest: Any, extra: Any) -> None:
        started.append(extra)
        raise NoData("enough")

    monkeypatch.setattr(sentences, "train", train)
    with pytest.raises(NoData, match="enough"):
        sentences.run_sentences(tmp_path, CPU, lambda progress: None, size=size)
    assert started == [(sentences.SIZES[size][2], load_text("sentences").digest if size == "more" else None)]


def test_the_defaults_of_a_plan():
    """What the card of the shipped network does not say, and it was trained with."""
    plan = Plan()
    assert (plan.pretraining, plan.mask_share, plan.input_mask_share) == (0.5, 0.2, 0.2)
    assert (plan.reviews, plan.treebank, plan.max_tokens) == (0.45, 0.4, 100)
