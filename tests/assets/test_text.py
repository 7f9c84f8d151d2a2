"""The shipped encoder of sentences reaches the metrics on its card, which is generated from its facts."""

from __future__ import annotations

import numpy as np
import pytest

from attnviz.models import TextModel, load_text
from attnviz.models.files import ASSETS
from attnviz.training.text import corpus, evaluation
from attnviz.training.text.sentences import SHAPE, Plan, card_of
from attnviz.training.text.tagged import encode_sentences, flatten

LEAST = {"sst2": 78, "upos": 90}  # percent


@pytest.fixture(scope="module")
def model() -> TextModel:
    """The encoder of sentences, opened."""
    return load_text("sentences")


def test_metrics_are_high_enough(model: TextModel):
    for name, least in LEAST.items():
        assert model.facts[name] >= least
    assert model.facts["uas"] > 2 * max(model.facts["uas_previous_word"], model.facts["uas_next_word"])
    assert model.config == SHAPE
    assert tuple(model.facts["syntax"]) == Plan().syntax_head


def test_the_card_is_generated_from_the_facts(model: TextModel):
    card = (ASSETS / "sentences" / "card.md").read_text(encoding="utf-8")
    assert card == card_of(model.facts, model.config)


@pytest.mark.data
def test_sst2_accuracy_is_that_of_the_card(model: TextModel):
    found = evaluation.evaluate_sentiment(model.network, model.tokenizer)
    assert found["sst2_held_out"] == model.facts["sst2_held_out"]
    assert found["sst2"] == pytest.approx(model.facts["sst2"], abs=0.3)


@pytest.mark.data
def test_upos_and_uas_are_those_of_the_card(model: TextModel):
    rows = encode_sentences(model.tokenizer, [*corpus.treebank("test")][::10], model.config.context_length - 2)
    tags, hits = zip(*(evaluation.predict_parse(model.network, [row]) for row in rows), strict=True)
    right = np.concatenate(tags) == np.array(flatten(rows)[1])
    assert 100 * right.mean() == pytest.approx(model.facts["upos"], abs=3)
    by_head = 100 * np.concatenate(hits, -1).mean(-1)
    layer, head = model.facts["syntax"]
    assert by_head[layer, head] == pytest.approx(model.facts["uas"], abs=4)
    assert np.unravel_index(by_head.argmax(), by_head.shape) == (layer, head)
