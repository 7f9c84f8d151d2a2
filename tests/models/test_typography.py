"""Typographic signs are read as the plain ones of the corpus; pieces lie in the visitor's text and show his signs."""

from __future__ import annotations

import random
import unicodedata

import pytest
import torch

from attnviz.measures.text_heads import alike
from attnviz.measures.words import grouping, word_label
from attnviz.models import load_text, load_translator
from attnviz.models.generate import continued
from attnviz.models.subwords import BOS, MASK, SPECIAL, SubwordTokenizer, Token, learned_subwords, load_subwords
from attnviz.models.words import words_of
from attnviz.types import CONTINUATION
from attnviz.typography import BYTE, UNSEEN, clean, hidden_bytes, one_line, plain_text, shown
from attnviz.ui.inputs.samples import FOLDER
from attnviz.ui.inputs.sentences import SENTENCES

SAME = (  # typed, and the plain sentence it is read as
    ("It isn’t a good film.", "It isn't a good film."),
    ("It isn´t a good film.", "It isn't a good film."),
    ("He said: “I don‘t know.”", 'He said: "I don\'t know."'),
    ("He said: «\u00a0I am tired\u202f».", 'He said: " I am tired ".'),
    ("The ﬁlm was diﬃcult…", "The film was difficult..."),
    ("My brother — he is ten — can’t swim.", "My brother - he is ten - can't swim."),
    ("My brother—he is ten—can’t swim.", "My brother - he is ten - can't swim."),
    ("A well‑known man, aged 30–40,\u2009came in.", "A well-known man, aged 30-40, came in."),
    ("Ｔｈｅ　ｄｏｇ　ｒｕｎｓ．", "The dog runs."),
    ("The ca\u00adfe\u0301 wa\u200bs closed\ufeff.", "The café was closed."),
    ("I thought -- well \u2014\u2014 nothing\u2003at all.", "I thought -- well - nothing at all."),
)
SINGLES, DOUBLES = "'‘’‚‛′‹›`´ʼ＇", '"“”„‟″«»＂'
SPACES = " \u00a0\u1680\u2002\u2003\u2009\u200a\u202f\u205f\u3000\t"
DASHES = (" - ", " – ", " — ", "—", "――", " ― ", "\u2009—\u2009", " − ")
WORDS = {  # plain: how it may be typed
    "film": ("film", "ﬁlm", "ｆｉｌｍ", "fi\u00adlm", "f\u200bilm"),
    "office": ("office", "oﬃce", "oﬀice", "of\u2060fice"),
    "café": ("café", "cafe\u0301", "ｃａｆｅ\u0301"),
    "Łódź": ("Łódź", "Ło\u0301dz\u0301"),
    "well-known": ("well-known", "well‑known", "well‐known", "well–known", "well－known"),
    "the": ("the", "ｔｈｅ", "𝐭𝐡𝐞"),
    "犬": ("犬",),
    "👩‍🚀": ("👩‍🚀",),
}


@pytest.fixture(scope="module")
def subwords() -> SubwordTokenizer:
    """The shipped vocabulary."""
    return load_subwords()


def mixture(seed: int) -> tuple[str, str]:
    """A sentence at random as somebody may type it, and the plain one."""
    chance, typed, plain = random.Random(seed), "", ""
    for _ in range(chance.randint(1, 12)):
        word = chance.choice(list(WORDS))
        ways = [
            (chance.choice(WORDS[word]), word),
            ("isn" + chance.choice(SINGLES) + "t", "isn't"),
            (chance.choice(DOUBLES) + word + chance.choice(DOUBLES), f'"{word}"'),
            (word + chance.choice(("…", "...", "‥.", "⋯")), word + "..."),
        ]
        one, other = chance.choice(ways)
        gap, dash = chance.choice(SPACES) * chance.randint(1, 2), chance.choice(DASHES)
        between = chance.choice([(gap, " "), (dash, " - ")]) if plain else (gap, "")
        typed, plain = typed + between[0] + one, plain + between[1] + other
    return typed, plain


def spelled(subwords: SubwordTokenizer, piece: Token) -> str:
    """What a piece of the vocabulary says."""
    return subwords.decode([piece.id]).strip()


# ---- plain text


@pytest.mark.parametrize(("typed", "plain"), SAME)
def test_typed_signs_are_read_as_those_of_the_corpus(subwords: SubwordTokenizer, typed: str, plain: str):
    assert clean(typed) == clean(one_line(typed)) == plain
    assert [p.id for p in subwords.encode(typed)] == subwords.ids(plain)
    assert words_of(typed) == words_of(plain)


def test_plain_sentences_are_read_as_they_are(subwords: SubwordTokenizer):
    stored = (FOLDER / "treebank.json").read_text(encoding="ascii", errors="ignore").split('"text":"')[1:]
    texts = [row.split('"')[0] for row in stored] + [text for texts in SENTENCES.values() for text in texts]
    texts += ["".join(map(chr, range(33, 96))), "".join(map(chr, range(97, 127))), "a -- b--c ... d -e- 'f' ''g''"]
    assert len(texts) > 20
    for text in texts:
        assert clean(text) == text
        assert [p.id for p in subwords.encode(text, with_mask=False)] == subwords.ids(text)
    assert clean("œuf, Noël, ça, où, sœur") == "œuf, Noël, ça, où, sœur"


def test_what_means_something_else_stays():
    for text in ("10 m²", "1½", "x₂", "Acme™", "①", "¨", "¯", "n°3", "5 €", "×", "ﷺ"):
        assert clean(text) == text
    assert max(len(clean(chr(code))) for code in range(0xE000)) <= 4
    assert clean("№ 5") == "No 5"
    assert clean("´") == "'"


def test_what_has_no_picture_is_neither_read_nor_shown():
    for read in (clean, one_line):
        assert read(" a\u202eb\x00\x07  c\n\td \ue000\ud800") == "ab c d"
        assert read("\u200b\u2066") == ""
        assert "\u200d" in read("👨‍👩‍👧")
        assert read("is\u200dn\u200c't\u200d") == "isn't"
        assert "\u200c" in read("می\u200cخواهم")
    assert {"Cc", "Cf"} <= UNSEEN


def test_a_long_text_is_composed_as_unicode_says():
    chance = random.Random(0)
    signs = [
        *"aeouAOnNzZ",
        "\u0301",
        "\u0308",
        "\u0323",
        "\u0327",
        "\u1112",
        "\u1161",
        "\u11ab",
        "가",
        "\u11a8",
        "か",
        "\u3099",
        "ｶ",
        "ﾞ",
        "क",
        "\u093c",
        "ব",
        "\u09be",
        "\u09c7",
    ]
    for _ in range(300):
        text = "a" + "".join(chance.choices(signs, k=12))
        assert clean(text) == unicodedata.normalize("NFKC", text)


@pytest.mark.parametrize("seed", range(60))
def test_any_mixture_is_read_as_the_plain_sentence_and_lies_where_it_says(subwords: SubwordTokenizer, seed: int):
    typed, plain = mixture(seed)
    assert clean(typed) == plain == clean(plain)
    pieces = subwords.encode(typed)
    assert [p.id for p in pieces] == [p.id for p in subwords.encode(plain)] == subwords.ids(plain)
    assert [p.word for p in pieces] == [p.word for p in subwords.encode(plain)]
    for ends in ([p.start for p in pieces], [p.stop for p in pieces]):
        assert ends == sorted(ends)
    covered = {i for p in pieces for i in range(p.start, p.stop)}
    assert not one_line("".join(sign for i, sign in enumerate(typed) if i not in covered))
    for p in pieces:
        part = typed[p.start : p.stop]
        assert 0 <= p.start <= p.stop <= len(typed)
        if BYTE.search(p.label) or p.label == "␣":
            continue
        label = p.label.removeprefix(CONTINUATION) if p.label != "…" else p.label
        assert spelled(subwords, p) in clean(part)
        assert label in (one_line(part), spelled(subwords, p))  # his own signs, or what they are read as
        if spelled(subwords, p) == clean(part):
            assert label == one_line(part)


def test_a_sign_that_is_three_and_a_sign_cut_in_two_keep_their_place(subwords: SubwordTokenizer):
    text = "So… the ﬁ"
    assert [(p.label, text[p.start : p.stop].strip()) for p in subwords.encode(text)][:3] == [
        ("So", "So"),
        ("…", "…"),
        ("the", "the"),
    ]
    glued = "So—the end"
    assert [(p.label, glued[p.start : p.stop]) for p in subwords.encode(glued)][:3] == [
        ("So", "So"),
        ("—", "—"),
        ("the", "the"),
    ]
    part = plain_text("aﬃx")
    assert part.text == "affix"
    assert [part.span(i, i + 1) for i in range(5)] == [(0, 1), (1, 2), (1, 2), (1, 2), (2, 3)]
    assert [part.whole(0, 4), part.whole(1, 4), part.whole(1, 2), part.whole(3, 5)] == [True, True, False, False]


# ---- models


def test_a_hidden_word_between_typed_signs(subwords: SubwordTokenizer):
    text = "“She poured…” — water\u00a0from the [MASK] isn’t here."
    pieces, plain = subwords.encode(text), subwords.encode(clean(text))
    assert [p.id for p in pieces] == [p.id for p in plain]
    assert [text[p.start : p.stop] for p in pieces if p.id == MASK] == ["[MASK]"]


@pytest.mark.parametrize("name", ["sentences", "stories"])
def test_readers_read_the_plain_sentence_and_show_the_typed_one(name: str):
    model = load_text(name)
    for typed, plain in SAME:
        one, other = model.prepare(typed), model.prepare(plain)
        assert torch.equal(one.inputs["main"], other.inputs["main"])
        assert one.text == one_line(typed)
        if one.text != plain:  # the caches of one visitor must not hold the signs of another
            assert one.digest != other.digest
    typed, plain = SAME[0]
    assert "’" in "".join(model.prepare(typed).tokens["main"].labels)
    long = model.prepare("It isn’t… " * 500)
    assert long.cut
    assert (long.text + long.cut).replace(" ", "") == "Itisn’t…" * 500


def test_praise_and_a_second_sentence_are_the_same():
    model = load_text("sentences")
    for typed, plain in SAME[:3]:
        one, other = (model(model.prepare((text, text))) for text in (typed, plain))
        assert torch.equal(one.logits["sentiment"], other.logits["sentiment"])


def test_the_same_piece_is_the_same_however_it_is_typed():
    model = load_text("sentences")
    typed, plain = (model.prepare(text).tokens["main"] for text in ("Say “yes” or no.", 'Say "yes" or no.'))
    assert typed.labels != plain.labels
    assert torch.equal(alike(typed), alike(plain))


@pytest.mark.parametrize("name", ["translator", "seq2seq"])
def test_translations_are_the_same(name: str):
    model = load_translator(name)
    for typed, plain in SAME:
        one, other = model.prepare(typed), model.prepare(plain)
        assert model.text(tuple(model.greedy(one))) == model.text(tuple(model.greedy(other)))
        assert one.text == one_line(typed)
    negated = model.prepare(SAME[0][0])
    assert name != "translator" or "n'est pas" in model.text(model.beams(negated)[0].ids)


# ---- bytes


def test_bytes_are_shown_as_the_characters_they_are():
    assert shown("dź".encode() + b"\xc5") == "dź<C5>"
    assert shown(b"\x81o\xf0\x9f") == "<81>o<F0><9F>"
    assert shown("a\u202e\x07".encode()) == "a<E2><80><AE><07>"
    for raw in (b"\xc5", "dź".encode() + b"\xc5", b"plain", b"\xff<C5"):
        assert hidden_bytes(shown(raw)) == raw
    assert word_label(["␣", "<C5>", "<81>", "<C3>", "<B3>", f"{CONTINUATION}d", "<C5>", "<BA>"]) == "Łódź"
    assert word_label(["␣", "<C5>"]) == "<C5>"
    assert word_label(["␣"]) == "␣"


def test_a_piece_of_a_character_and_a_half_shows_the_whole_one():
    learned = learned_subwords(["dź dż dő ő"] * 50, 300)
    labels = [learned.label(i) for i in range(len(SPECIAL), len(learned))]
    assert any(label.startswith("d<") for label in labels)
    assert not any("<64>" in label for label in labels)


def test_no_piece_spells_what_a_byte_is_shown_as(subwords: SubwordTokenizer):
    assert not any(BYTE.search(subwords.decode([id])) for id in range(len(SPECIAL), len(subwords)))


@pytest.mark.parametrize("text", ["Łódź is a town", "犬 and שלום", "👩‍🚀 flies", "Tom’s Łódź", "kőrös 24"])
def test_words_read_as_they_are_typed_and_as_they_are_written(text: str):
    model, translator = load_text("stories"), load_translator("translator")
    typed = grouping(model.prepare(text).tokens["main"], whole_words=True, special=False)
    assert "".join(typed.tokens.labels) == text.replace(" ", "")
    plain, ids = clean(text), model.tokenizer.ids(text := clean(text))
    on = continued(model, model.prepare("I like"), ids)
    assert model.tokenizer.decode(ids) == text
    written = grouping(on.tokens["main"], whole_words=True, special=False)
    assert "".join(written.tokens.labels) == "Ilike" + plain.replace(" ", "")
    french = grouping(translator.named([BOS, *ids]), whole_words=True, special=False)
    assert "".join(french.tokens.labels) == plain.replace(" ", "")
    assert french.tokens.labels == written.tokens.labels[2:]
    assert [label for label in ("Łódź", "kőrös", "犬") if label in plain] == [
        label for label in ("Łódź", "kőrös", "犬") if label in french.tokens.labels
    ]
