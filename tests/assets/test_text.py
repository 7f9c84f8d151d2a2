"""The shipped encoder of sentences reaches what its card claims, and its card says what was asked of it."""

from __future__ import annotations

import numpy as np
import pytest

from attnviz.models import TextModel, load_text
from attnviz.models.files import ASSETS
from attnviz.training.text import corpus, judge
from attnviz.training.text.sentences import SHAPE, Plan
from attnviz.training.text.tagged import flat, tagged

LEAST = {"sst2": 78, "upos": 90}  # percent


@pytest.fixture(scope="module")
def model() -> TextModel:
    """The encoder of sentences, opened."""
    return load_text("sentences")


def test_the_card_reaches_what_was_asked(model: TextModel):
    for name, least in LEAST.items():
        assert model.facts[name] >= least
    assert model.facts["uas"] > 2 * max(model.facts["uas_before"], model.facts["uas_after"])
    assert model.config == SHAPE
    assert tuple(model.facts["syntax"]) == Plan().syntax


def test_the_card_prints_the_facts(model: TextModel):
    card = (ASSETS / "sentences" / "card.md").read_text(encoding="utf-8")
    for name in ("sst2", "upos", "uas", "masked1", "masked5", "minutes"):
        assert f"{model.facts[name]}" in card


@pytest.mark.data
def test_praise_is_told_as_often_as_the_card_says(model: TextModel):
    found = judge.evaluate_sentiment(model.network, model.tokenizer)
    assert found["sst2_held_out"] == model.facts["sst2_held_out"]
    assert found["sst2"] == pytest.approx(model.facts["sst2"], abs=0.3)


@pytest.mark.data
def test_words_are_tagged_and_depend_as_the_card_says(model: TextModel):
    rows = tagged(model.tokenizer, [*corpus.treebank("test")][::10], model.config.context_length - 2)
    tags, hits = zip(*(judge.parsed(model.network, [row]) for row in rows), strict=True)
    right = np.concatenate(tags) == np.array(flat(rows)[1])
    assert 100 * right.mean() == pytest.approx(model.facts["upos"], abs=3)
    by_head = 100 * np.concatenate(hits, -1).mean(-1)
    layer, head = model.facts["syntax"]
    assert by_head[layer, head] == pytest.approx(model.facts["uas"], abs=4)
    assert np.unravel_index(by_head.argmax(), by_head.shape) == (layer, head)
