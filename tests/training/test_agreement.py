"""Sentences in which one word decides: which of BLiMP's are taken, and whether maps find that word."""

from __future__ import annotations

import pytest
import torch

import attnviz
from attnviz.edits import Edit
from attnviz.measures.faithfulness import by_part, parts_of
from attnviz.measures.localisation import mass, pointing, word_mask
from attnviz.training.text.agreement import DISTRACTOR, ONE_NOUN, agreement_of, agreements
from attnviz.training.text.blimp import Pair
from attnviz.types import Tokens


def pair(paradigm: str, good: str, bad: str) -> Pair:
    return Pair(paradigm, "morphology", "agreement", good, bad)


def test_the_word_that_decides_is_found() -> None:
    noun = agreement_of(pair(ONE_NOUN[0], "The women meet.", "The woman meet."))
    assert noun is not None
    assert (noun.words, noun.decides, noun.verb, noun.other) == (("The", "women"), 1, "meet", "")
    sketch = "The sketch of those trucks {} hurt Alan."
    between = agreement_of(pair(DISTRACTOR[0], sketch.format("hasn't"), sketch.format("haven't")))
    assert between is not None
    assert between.words == ("The", "sketch", "of", "those", "trucks")
    assert (between.words[between.decides], between.verb, between.other) == ("sketch", "hasn't", "haven't")


def test_sentences_with_a_second_sign_of_number_are_left_out() -> None:
    """ "A", "most" and "these" say the number as well, and so would a verb in between."""
    for good in ("A niece of most senators hasn't left.", "These movies about Galileo were long."):
        bad = good.replace("hasn't", "haven't").replace("were", "was")
        assert agreement_of(pair(DISTRACTOR[0], good, bad)) is None
    assert agreement_of(pair(ONE_NOUN[0], "These women meet.", "This woman meet.")) is None
    assert agreement_of(pair("animate_subject_passive", "The women meet.", "The woman meet.")) is None


def test_a_word_is_a_mask_of_parts() -> None:
    tokens = Tokens(("<s>", "the", "sk", "…etch"), words=(-1, 0, 1, 1))
    assert word_mask(tokens, 1).tolist() == [False, True]
    relevance = by_part(torch.tensor([5.0, 1, 1, 2]), parts_of(tokens))
    assert float(mass(relevance, word_mask(tokens, 1))) == 0.75
    assert float(pointing(relevance, word_mask(tokens, 1))) == 1
    with pytest.raises(ValueError, match="words 0 to 1"):
        word_mask(tokens, 2)


@pytest.mark.data
def test_every_agreement_names_one_word_before_the_verb() -> None:
    found = agreements(count=300)
    assert len(found) == 900
    for each in found:
        assert 0 <= each.decides < len(each.words)
        assert each.verb not in each.words
        assert each.other != each.verb


@pytest.mark.data
def test_removing_the_word_that_decides_leaves_the_verbs_alike() -> None:
    """The evidence is in that word: without it, the model's preference for the right verb falls towards none."""
    from benchmarks.faithfulness_inputs import agreement_cases

    cases = [case for case in agreement_cases(120) if case.right]
    assert len(cases) > 40
    drops = []
    for case in cases:
        tokens = case.sample.tokens["main"]
        decides = case.masks["word"]
        parts = parts_of(tokens)
        keep = torch.tensor([part < 0 or not bool(decides[part]) for part in parts.tolist()])
        before, after = (
            case.model(case.sample, edit=edit).logits["word"][-1].log_softmax(-1)[case.target.label]
            for edit in (Edit(), Edit(keep_tokens=keep))
        )
        drops.append(float(before - after))
    assert torch.tensor(drops).mean() > 0


def test_the_model_that_is_asked_reads_the_sentence() -> None:
    model = attnviz.load("stories")
    sample = model.prepare("The sketch of those trucks")
    assert int(parts_of(sample.tokens["main"]).max()) + 1 == 5
