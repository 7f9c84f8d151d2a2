"""The shipped generative models reach the metrics on their cards: the decoder of stories and both translators."""

from __future__ import annotations

import math

import pytest

from attnviz.models import TextModel, load_text
from attnviz.models.files import ASSETS
from attnviz.models.store import TRANSLATORS, load_translator
from attnviz.models.translation import TranslationModel
from attnviz.training.text import bleu, corpus
from attnviz.training.text.blimp import blimp, perplexity
from attnviz.training.text.stories import SHAPE
from attnviz.training.text.stories import card_of as story_card
from attnviz.training.text.translate import card_of as translation_card

LEAST = {"translator": 30, "seq2seq": 40}  # BLEU on the Tatoeba test


@pytest.fixture(scope="module")
def stories() -> TextModel:
    """The decoder of stories, opened."""
    return load_text("stories")


@pytest.fixture(scope="module", params=TRANSLATORS)
def translator(request: pytest.FixtureRequest) -> TranslationModel:
    """Each of the translators, opened."""
    return load_translator(request.param)


def test_the_card_of_stories_is_generated_from_the_facts(stories: TextModel):
    card = (ASSETS / "stories" / "card.md").read_text(encoding="utf-8")
    assert card == story_card(stories, stories.facts)
    assert stories.config == SHAPE
    assert stories.facts["blimp_interval"][0] > 50  # better than chance


@pytest.mark.data
def test_perplexity_on_stories_is_that_of_the_card(stories: TextModel):
    found = perplexity(stories.network, stories.tokenizer, corpus.stories("val"))
    assert found["perplexity_token"] == pytest.approx(stories.facts["perplexity_token"], rel=0.005)
    assert found["held_out_tokens"] == stories.facts["held_out_tokens"]


@pytest.mark.data
def test_blimp_accuracy_is_that_of_the_card(stories: TextModel):
    found = blimp(stories.network, stories.tokenizer, 20)  # of each paradigm: 1,340 pairs
    assert found["blimp"] == pytest.approx(stories.facts["blimp"], abs=4)


def test_the_card_of_a_translator_is_generated_from_the_facts(translator: TranslationModel):
    card = (ASSETS / translator.name / "card.md").read_text(encoding="utf-8")
    assert card == translation_card(translator, translator.facts)
    tatoeba = [test["bleu"] for test in translator.facts["tests"] if test["name"] == "Tatoeba test"]
    assert len(tatoeba) == 2
    assert max(tatoeba) >= LEAST[translator.name]


@pytest.mark.data
def test_perplexity_on_french_is_that_of_the_card(translator: TranslationModel):
    held = [*corpus.translations("val")]
    assert len(held) == translator.facts["held_out"]
    assert math.exp(bleu.held_out_loss(translator, held)) == pytest.approx(translator.facts["perplexity"], rel=0.005)


@pytest.mark.data
def test_bleu_is_that_of_the_card(translator: TranslationModel):
    test = bleu.group_references(corpus.translations("test"))
    some = {english: test[english] for english in [*test][::5]}
    found = bleu.score(bleu.translate_all(translator, [*some], 1), [*some.values()])
    claimed = next(one for one in translator.facts["tests"] if one["name"] == "Tatoeba test")
    assert claimed["decoding"] == "greedy"
    assert found["bleu"] == pytest.approx(claimed["bleu"], abs=6)
