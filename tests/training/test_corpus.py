"""The text that is learned from: which rows belong to which split, and where the words of the treebank lie."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from attnviz.training.text import corpus


@pytest.fixture
def text_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty corpus in the folder of training data."""
    (tmp_path / "text").mkdir()
    monkeypatch.setenv("ATTNVIZ_DATA", str(tmp_path))
    return tmp_path / "text"


def packed(folder: Path, name: str, content: str) -> None:
    """A file of the corpus."""
    with gzip.open(folder / name, "wt", encoding="utf-8") as file:
        file.write(content)


def test_pairs_and_reviews_are_read_by_split_without_their_headings(text_folder: Path):
    packed(
        text_folder, "tatoeba_en_fr.tsv.gz", "split\ten\tfr\ntrain\tGo.\tVa !\nval\tStop.\tAssez.\ntest\tNo.\tNon.\n"
    )
    packed(
        text_folder,
        "multi30k_en_de_fr.tsv.gz",
        "split\ten\tde\tfr\ntrain\tA man.\tEin Mann.\tUn homme.\ntest\tA dog.\tEin Hund.\tUn chien.\n",
    )
    packed(text_folder, "sst.tsv.gz", "split\tlabel\ttext\ntrain\t4\tgreat\ndev\t0\tdull\ntest\t2\ta film\n")
    assert [*corpus.translations("train")] == [("Go.", "Va !"), ("A man.", "Un homme.")]
    assert [*corpus.translations("val")] == [("Stop.", "Assez.")]
    assert [*corpus.translations("test")] == [("No.", "Non.")]
    assert [*corpus.captions_translated("test")] == [("A dog.", "Un chien.")]
    found = {split: [*corpus.reviews(split)] for split in ("train", "val", "test")}
    assert found == {"train": [(4, "great")], "val": [(0, "dull")], "test": [(2, "a film")]}


def test_words_of_the_treebank_lie_where_the_text_has_them(text_folder: Path):
    """Contracted words count as their parts, empty nodes not at all; a word that comes twice stands in two places."""
    rows = [
        ("1", "the", "DET", 2),
        ("2", "dog", "NOUN", 0),
        ("3", "of", "ADP", 5),
        ("4", "the", "DET", 5),
        ("5", "vet", "NOUN", 2),
        ("6-7", "isn't", "_", "_"),
        ("6", "is", "AUX", 2),
        ("7", "n't", "PART", 2),
        ("7.1", "gone", "VERB", "_"),
        ("8", "Y", "X", 2),
    ]
    lines = [f"{number}\t{form}\t_\t{tag}\t_\t_\t{head}\t_" for number, form, tag, head in rows]
    text = "\n".join(["# sent_id = 1", "# text = the dog of the vet isn't X", *lines, "", ""])
    packed(text_folder, "ud_ewt_dev.conllu.gz", text)
    (sentence,) = corpus.treebank("val")
    text = sentence.text
    assert [text[word.start : word.stop] for word in sentence.words[:7]] == [
        "the",
        "dog",
        "of",
        "the",
        "vet",
        "is",
        "n't",
    ]
    assert [word.start for word in sentence.words[:4]] == [0, 4, 8, 11]
    assert sentence.words[7][:2] == (24, 25), "what the text writes otherwise begins where the last word ended"
    assert [word.head for word in sentence.words] == [1, -1, 4, 4, 1, 1, 1, 1]
    assert sentence.words[6].tag == "PART"
