"""Pieces of words: any text comes back, labels can be read, what is typed as a special piece is text."""

from __future__ import annotations

import pytest
import torch

from attnviz.models import TEXTS as TEXTS_KNOWN
from attnviz.models import load_text
from attnviz.models.files import DamagedModel
from attnviz.models.subwords import (
    MASK,
    SPECIAL,
    VOCABULARY,
    SubwordTokenizer,
    byte_alphabet,
    first_tokens,
    learned_subwords,
    load_subwords,
)
from attnviz.training.text import corpus
from attnviz.training.text import subwords as training
from attnviz.types import CONTINUATION
from attnviz.typography import clean

TEXTS = (
    "Tommy can be annoying but he is a good dog",
    "An unbelievably tiny hippopotamus, isn't it?",
    "l'école était fermée à Noël",
    "日本語 and שלום and 😀👨‍👩‍👧",
    "</script><b>bold</b> & \"unpaired 'quotes",
    "[SEP] [CLS] [PAD] are words here",
    "x",
)


@pytest.fixture(scope="module")
def subwords() -> SubwordTokenizer:
    """The shipped vocabulary."""
    return load_subwords()


@pytest.mark.parametrize("text", TEXTS)
def test_any_text_comes_back(subwords: SubwordTokenizer, text: str):
    assert subwords.decode(subwords.ids(clean(text))) == clean(text)
    pieces = subwords.encode(clean(text))
    assert [p.id for p in pieces] == subwords.ids(clean(text))
    assert all(p.id >= len(SPECIAL) for p in pieces)
    assert all(p.label and "\ufffd" not in p.label for p in pieces)


@pytest.mark.parametrize("text", TEXTS)
def test_pieces_lie_where_they_say(subwords: SubwordTokenizer, text: str):
    text = clean(text)
    pieces = subwords.encode(text)
    assert [p.start for p in pieces] == sorted(p.start for p in pieces)
    assert pieces[-1].stop == len(text)
    for p in pieces:
        if not p.label.startswith(("<", f"{CONTINUATION}<", "␣")):
            assert text[p.start : p.stop].strip() == p.label.removeprefix(CONTINUATION)


def test_pieces_inside_a_word_say_so_and_share_its_number(subwords: SubwordTokenizer):
    pieces = subwords.encode("An unbelievably tiny dog.")
    inside = [p for p in pieces if p.label.startswith(CONTINUATION)]
    assert inside, "this word is meant to fall apart"
    assert len({p.word for p in inside}) == 1
    assert next(p.label for p in pieces) == "An"
    assert [p.word for p in pieces] == sorted(p.word for p in pieces)


def test_a_hidden_word_is_one_piece_and_others_keep_their_places(subwords: SubwordTokenizer):
    text = "She took water from the [MASK] into the house."
    pieces = subwords.encode(text)
    hidden = [p for p in pieces if p.id == MASK]
    assert [(p.label, text[p.start : p.stop]) for p in hidden] == [("MASK", "[MASK]")]
    assert "␣" not in [p.label for p in pieces]
    assert [p.label for p in pieces] == ["She", "took", "water", "from", "the", "MASK", "into", "the", "house", "."]
    assert subwords.encode("[MASK]")[0].id == MASK
    assert [p.id for p in subwords.encode("[MASK] [MASK]")] == [MASK, MASK]


def test_words_that_share_a_piece(subwords: SubwordTokenizer):
    text = "She didn't go."
    pieces = subwords.encode(text)
    spans = [(0, 3), (4, 7), (7, 10), (11, 13), (13, 14)]  # She did n't go .
    first = first_tokens(text, pieces, spans)
    assert [pieces[i].label for i in first] == ["She", "didn", "'t", "go", "."]


def test_every_byte_has_a_sign():
    assert sorted(byte_alphabet().values()) == list(range(256))


def test_a_vocabulary_is_learned_from_texts():
    learned = learned_subwords(["the dog the dog the cat"] * 50, 300)
    assert learned.ids("the dog") != learned.ids("the cat")
    assert len(learned.ids("the")) == 1
    assert learned.decode(learned.ids("zebra 😀")) == "zebra 😀"


def test_a_vocabulary_is_learned_from_what_is_there_to_train_on(monkeypatch: pytest.MonkeyPatch, tmp_path):
    """One paragraph in three of the stories; tokens per word are counted on held-out text."""
    rows = {
        "story_paragraphs": {"train": [f"story {i}" for i in range(7)]},
        "captions": {"train": ["a caption"], "val": ["a dog runs"]},
        "translations": {"train": [("go", "va")], "val": [("stop now", "arrêtez")]},
        "reviews": {"train": [(0, "it 's dull")]},
        "treebank": {"train": [corpus.Sentence("a tree", ())]},
    }
    for name, splits in rows.items():
        monkeypatch.setattr(corpus, name, lambda split, splits=splits: iter(splits[split]))
    assert [*training.texts()] == ["story 0", "story 3", "story 6", "a caption", "go", "va", "It's dull", "a tree"]
    card = training.run_subwords(tmp_path, torch.device("cpu"), lambda progress: None)
    learned = load_subwords(tmp_path)
    english = sum(len(learned.ids(text)) for text in ("a dog runs", "stop now")) / 5
    assert f"| tokens per word of held-out English | {english:.2f} |" in card
    assert f"| tokens per word of held-out French | {len(learned.ids('arrêtez')):.2f} |" in card
    assert (tmp_path / "card.md").read_text(encoding="utf-8") == card


def test_the_shipped_vocabulary_is_as_large_as_networks_expect(subwords: SubwordTokenizer):
    assert len(subwords) == VOCABULARY == 8000


def test_words_without_a_piece_of_their_own_share_one(subwords: SubwordTokenizer):
    """An empty word stands where it begins; one behind all pieces has the last."""
    text = "A dog runs."
    pieces = subwords.encode(text)
    assert first_tokens(text, pieces, [(2, 2), (3, 5), (10, 11), (11, 11), (99, 100)]) == [1, 1, 3, 3, 3]
    assert first_tokens(text, pieces, [(1, 2)]) == [1], "the space before a piece belongs to it"


def test_a_missing_or_damaged_vocabulary_names_itself(tmp_path):
    with pytest.raises(DamagedModel, match=r"tokenizer\.json is missing"):
        load_subwords(tmp_path)
    other = tmp_path / "other"
    other.mkdir()
    (other / "tokenizer.json").write_text("{")
    with pytest.raises(DamagedModel, match="cannot be read"):
        load_subwords(other)


@pytest.mark.parametrize("name", TEXTS_KNOWN)
def test_a_prepared_text(name: str):
    model = load_text(name)
    sample = model.prepare("A dog runs. " * 300)
    assert len(sample.tokens["main"]) == model.config.context_length == len(sample.inputs["main"])
    assert sample.cut
    assert (sample.text + " " + sample.cut).replace(" ", "") == ("A dog runs. " * 300).replace(" ", "")
    empty = model.prepare("")
    assert not empty.text
    assert not empty.cut
    assert all(word == -1 for word in empty.tokens["main"].words or ())
    assert torch.isfinite(model(empty).logits["word"]).all()
    assert model.prepare("a").digest != model.prepare("b").digest


def test_a_pair_has_separators():
    model = load_text("sentences")
    tokens = model.prepare(("A dog runs.", "It is fast.")).tokens["main"]
    assert tokens.labels == ("CLS", "A", "dog", "runs", ".", "SEP", "It", "is", "fast", ".", "SEP")
    assert tokens.words == (-1, 0, 1, 2, 3, -1, 4, 5, 6, 7, -1)
    long = model.prepare(("dog " * 400, "cat " * 400))
    assert len(long.tokens["main"]) == model.config.context_length
    assert long.tokens["main"].labels.count("SEP") == 2
    assert model.prepare(("dog", "cat " * 400)).cut.startswith("cat")


@pytest.mark.parametrize("name", TEXTS_KNOWN)
def test_no_more_than_twenty_thousand_characters_are_looked_at(name: str):
    sample = load_text(name).prepare("dog " * 9000)
    assert len(f"{sample.text} {sample.cut}") == 19_999  # the last space has no picture
