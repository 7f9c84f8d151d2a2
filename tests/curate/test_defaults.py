"""Pages begin with proven examples, and their prose says the measured numbers and no others."""

from __future__ import annotations

import re
from typing import Any

import pytest

from attnviz.paths import PROSE
from attnviz.ui.inputs import sentences
from attnviz.ui.inputs.examples import of_kind, other_context
from attnviz.ui.lesson.scene import SENTENCE
from attnviz.ui.shell.page import experiments, section
from attnviz.ui.test import swap_texts
from attnviz.ui.translate import scene


def tried(page: str) -> list[dict[str, Any]]:
    """What each link of a page's "What to try" chooses, with its page and its words."""
    found = experiments(section(page, "What to try"))
    return [{"page": one.page, "why": one.why, "label": one.label, **one.choices} for one in found]


def link(page: str, **choices: Any) -> dict[str, Any]:
    """The one link of a page that makes these choices."""
    (found,) = [one for one in tried(page) if choices.items() <= one.items()]
    return found


def test_the_sentences_after_the_first_are_a_proven_pair() -> None:
    assert sentences.SENTENCES["sentences"][1:3] == (sentences.SICK, sentences.HIGH)
    assert [of_kind("pronoun")[0][name] for name in ("text", "other")] == [sentences.SICK, sentences.HIGH]


def test_sentences_with_an_answer_are_proven() -> None:
    proven = {example["text"] for kind in ("sentiment", "hidden word") for example in of_kind(kind)}
    for text in sentences.SENTENCES["sentences"]:
        if "[MASK]" in text or "film" in text:
            assert text in proven


def test_prompts_of_which_something_is_said_are_proven() -> None:
    assert {of_kind("induction")[0]["text"], of_kind("agreement")[0]["text"]} <= set(sentences.SENTENCES["stories"])


def test_every_translation_to_start_from_is_right() -> None:
    proven = [example["english"] for example in of_kind("translation")]
    assert set(scene.SAMPLES.values()) <= set(proven)
    assert proven[0] == scene.FIRST


def test_the_page_about_translation_tries_what_is_proven() -> None:
    proven = {example["english"] for kind in ("translation", "wrong translation") for example in of_kind(kind)}
    for one in tried("translate"):
        assert one["english"] in proven
    assert link("translate", english=of_kind("wrong translation")[0]["english"])["label"] == "Where it fails"


def test_the_words_of_the_lesson_are_proven() -> None:
    said = " ".join(section("lesson", "7 Queries, keys and values").split())
    for example in of_kind("lesson"):
        assert example["sentence"] == SENTENCE
        assert f"*{example['word']}* to *{example['key']}* (head {example['head']})" in said
    first = of_kind("lesson")[0]
    word = f"{SENTENCE.split().index(first['word']) + 1} {first['word']}"
    link("lesson", step=7, word=word, head=first["head"])


def test_the_ambiguous_word_turns() -> None:
    first = of_kind("two meanings")[0]
    link("text/embeddings", text=first["text"], other=first["other"], token=first["text"].split().index("bank") + 1)
    assert other_context("bank", first["text"]) == first["other"]
    assert other_context("Bank", first["other"]) == first["alike"]
    contexts = of_kind("two contexts")
    assert [example["text"] for example in contexts] == list(sentences.SENTENCES["sentences"][:2])
    assert all(other_context(example["word"], example["text"]) == example["other"] for example in contexts)
    assert other_context("nobody", "") is None
    for example in of_kind("two meanings")[1:]:
        assert f"*{example['word']}*" in link("text/embeddings", other=first["other"])["why"]


def test_links_to_a_head_say_what_is_measured() -> None:
    pair, (family,) = of_kind("pronoun")[0], of_kind("pronoun family")
    why = link("text/start", text=pair["other"], layer=pair["layer"], head=pair["head"], token=10)["why"]
    assert {f"{family['pairs']}", *percents(family, "flips", "gains")} <= set(re.findall(r"\d+(?: %)?", why))
    (previous,) = [one for one in of_kind("behaviour") if (one["model"], one["measure"]) == ("sentences", "previous")]
    why = link("text/heads", model="sentences", layer=previous["layer"], head=previous["head"])["why"]
    assert percents(previous, "share")[0] in why
    induction, agreement = of_kind("induction")[0], of_kind("agreement")[0]
    why = link("generate", begin=induction["text"], temperature=0.0)["why"]
    assert f"layer {induction['layer']}, head {induction['head']}" in why
    assert f"head {agreement['head']}" in link("generate", begin=agreement["text"])["why"]


def percents(example: dict[str, Any], *names: str) -> list[str]:
    """Numbers of an example in whole percent, as prose has them."""
    return [f"{example['numbers'][name]:.0%}".replace("%", " %") for name in names]


@pytest.mark.parametrize("words", ["most trained models", "nearly every", "every trained", "a pronoun to a name"])
def test_prose_claims_nothing_of_all_models(words: str) -> None:
    for path in PROSE.rglob("*.md"):
        assert words not in path.read_text(encoding="utf-8"), path.name


def test_pairs_of_the_page_test_are_named_right() -> None:
    for text, answer in zip(swap_texts.SENTIMENT, ("positive", "negative"), strict=True):
        assert (text, answer) in {(example["text"], example["answer"]) for example in of_kind("sentiment")}
