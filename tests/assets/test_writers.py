"""The shipped networks that write reach what their cards claim: the decoder of stories and both translators."""

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

LEAST = {"translator": 30, "seq2seq": 40}  # BLEU on the Tatoeba test


@pytest.fixture(scope="module")
def stories() -> TextModel:
    """The decoder of stories, opened."""
    return load_text("stories")


@pytest.fixture(scope="module", params=TRANSLATORS)
def translator(request: pytest.FixtureRequest) -> TranslationModel:
    """Each of the translators, opened."""
    return load_translator(request.param)


def test_the_card_of_stories_prints_the_facts(stories: TextModel):
    card = (ASSETS / "stories" / "card.md").read_text(encoding="utf-8")
    for name in ("perplexity_piece", "perplexity_word", "blimp", "minutes"):
        assert f"{stories.facts[name]}" in card
    assert stories.config == SHAPE
    assert stories.facts["blimp_interval"][0] > 50  # better than chance


@pytest.mark.data
def test_stories_are_as_surprising_as_the_card_says(stories: TextModel):
    found = perplexity(stories.network, stories.subwords, corpus.stories("val"))
    assert found["perplexity_piece"] == pytest.approx(stories.facts["perplexity_piece"], rel=0.005)
    assert found["held_out_pieces"] == stories.facts["held_out_pieces"]


@pytest.mark.data
def test_grammar_is_known_as_well_as_the_card_says(stories: TextModel):
    found = blimp(stories.network, stories.subwords, 20)  # of each paradigm: 1,340 pairs
    assert found["blimp"] == pytest.approx(stories.facts["blimp"], abs=4)


def test_the_card_of_a_translator_prints_the_facts(translator: TranslationModel):
    card = (ASSETS / translator.name / "card.md").read_text(encoding="utf-8")
    for test in translator.facts["tests"]:
        assert f"| {test['name']}, {test['decoding']} | BLEU {test['bleu']}, chrF {test['chrf']}" in card
    tatoeba = [test["bleu"] for test in translator.facts["tests"] if test["name"] == "Tatoeba test"]
    assert len(tatoeba) == 2
    assert max(tatoeba) >= LEAST[translator.name]


@pytest.mark.data
def test_french_is_as_surprising_as_the_card_says(translator: TranslationModel):
    held = [*corpus.translations("val")]
    assert len(held) == translator.facts["held_out"]
    assert math.exp(bleu.held_out_loss(translator, held)) == pytest.approx(translator.facts["perplexity"], rel=0.005)


@pytest.mark.data
def test_sentences_are_translated_as_well_as_the_card_says(translator: TranslationModel):
    test = bleu.grouped(corpus.translations("test"))
    some = {english: test[english] for english in [*test][::5]}
    found = bleu.scores(bleu.translated(translator, [*some], 1), [*some.values()])
    claimed = next(one for one in translator.facts["tests"] if one["name"] == "Tatoeba test")
    assert claimed["decoding"] == "greedy"
    assert found["bleu"] == pytest.approx(claimed["bleu"], abs=6)
