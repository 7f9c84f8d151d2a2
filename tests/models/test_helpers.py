"""What pages say in words and numbers: units, ends of ranges, ties, and tokens that do not lie on the grid."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch

import attnviz
from attnviz.measures.heads import MEASURES
from attnviz.models import ImageModel, TextModel
from attnviz.models.subwords import BOS, EOS, MASK, load_subwords
from attnviz.models.text import WORD
from attnviz.types import Tokens, Trace
from attnviz.ui.compare import numbers
from attnviz.ui.core import device, state
from attnviz.ui.core.labels import token_name, token_names
from attnviz.ui.core.recorded import middle
from attnviz.ui.embeddings import stages
from attnviz.ui.generate import writing
from attnviz.ui.heads import overview
from attnviz.ui.positions import image as positions_image
from attnviz.ui.positions.origin import table_file
from attnviz.ui.queries_keys import pairs
from attnviz.ui.queries_keys.text import strongest as strongest_piece
from attnviz.ui.translate.scene import likely
from attnviz.ui.widgets import answers, text_answers

GRID = Tokens.patches(3, 4, ("CLS", "REG 1"))
TEXT = Tokens(("CLS", "a", "b", "SEP"), None, 1, "main", (-1, 0, 1, -1))


@pytest.fixture(scope="module")
def model() -> ImageModel:
    """The small shipped model, with superclasses."""
    one = attnviz.load("vit-digits")
    assert isinstance(one, ImageModel)
    superclasses = ("round", "straight", "round", "other", "straight", "other", "round", "straight", "round", "round")
    return ImageModel("grouped", one.network, one.preparation, one.classes, superclasses)


def said(**logits: torch.Tensor) -> Trace:
    """A trace of nothing but answers."""
    return Trace(None, {}, {}, (), {}, {}, logits)


def test_answers_are_the_likeliest_first_with_their_superclasses(model: ImageModel):
    shares = torch.tensor([0.1, 0.2, 0.15, 0.05, 0.2, 0.04, 0.1, 0.01, 0.1, 0.05])
    trace = said(**{"class": (shares.log() + 3)[None]})
    best = answers.best(model, trace)
    assert [name for name, _ in best[2:3]] == ["round: 2"]
    assert {name for name, _ in best[:2]} == {"straight: 1", "straight: 4"}
    assert [share for _, share in best] == pytest.approx([0.2, 0.2, 0.15, 0.1, 0.1])
    assert len(answers.best(model, trace, 99)) == 10
    assert answers.best_superclass(model, trace) == ("round", pytest.approx(0.5))
    plain = attnviz.load("vit-digits")
    assert isinstance(plain, ImageModel)
    assert answers.class_name(plain, 7) == "7"


def test_shares_are_said_in_percent():
    assert answers.percent(0.1234) == "12.3\u00a0%"
    assert numbers.error_range([0.42, 0.076, 0.9]) == "8 to 90\u00a0%"
    assert numbers.error_range([]) == numbers.NOT_DEFINED
    assert overview.number("self", 0.1234) == "12.3\u00a0%"
    assert overview.number("entropy", 0.1234) == "0.12"
    assert overview.number("distance", 5.2, 4) == "5.20\u00a0patches (21\u00a0px)"
    assert overview.number("distance", 5.2) == "5.20\u00a0patches"
    assert {overview.number(name, math.nan) for name in MEASURES} == {"not defined"}


def test_what_is_unlikely_is_said_as_one_in_so_many():
    assert likely(math.log(0.25)) == "25.0\u00a0%"
    assert likely(math.log(0.001)) == "0.1\u00a0%"
    assert likely(math.log(0.0009)) == "1 in 1,111"
    assert likely(math.log(2e-9)) == "1 in 500,000,000"
    assert likely(-1e9) == "less than 1 in a billion"


@pytest.mark.parametrize(
    ("number", "sign", "tex"),
    [
        (0.0, "-", "0"),
        (2.3451, "-", "2.345"),
        (-2.3451, "+", "-2.345"),
        (2.3451, "+", "+2.345"),
        (2010.4, "-", "2010"),
        (20110.4, "-", "20{,}110"),
        (123456.0, "-", "123{,}500"),
        (12345678.0, "-", r"1.235 \times 10^{7}"),
        (1.2e-7, "-", r"1.2 \times 10^{-7}"),
    ],
)
def test_numbers_in_formulas(number: float, sign: Any, tex: str):
    assert pairs.in_tex(number, sign) == tex


def test_signs_and_bytes():
    assert (stages.signed(0.1234), stages.signed(-0.1234)) == ("+0.123", "−0.123")
    assert device.megabytes(3 * 2**20 + 2**19) == "3.5 MB"
    assert device.megabytes(100 * 2**20) == "100 MB"
    assert device.megabytes(5000 * 2**20) == "5,000 MB"


def test_patches_are_named_by_row_and_column_from_one():
    assert [token_name(GRID, i) for i in (0, 1, 2, 13)] == ["CLS", "REG 1", "row 1, column 1", "row 3, column 4"]
    assert len(token_names(GRID)) == 14
    assert [positions_image.cell_of(GRID, i) for i in (1, 2, 7)] == [None, (0, 0), (1, 1)]
    assert all(
        positions_image.cell_of(GRID, positions_image.patch_at(GRID, row, column)) == (row, column)
        for row in range(3)
        for column in range(4)
    )
    assert positions_image.row_ticks(GRID) == {2: "row 1", 6: "row 2", 10: "row 3"}
    assert positions_image.row_ticks(GRID, 2) == {2: "row 1", 10: "row 3"}
    header, rows = table_file(GRID, np.arange(28.0).reshape(14, 2))
    assert header == ["token", "feature 1", "feature 2"]
    assert rows[2] == ["row 1, column 1", 4.0, 5.0]
    with pytest.raises(ValueError, match="no patch grid"):
        positions_image.cell_of(TEXT, 2)


def test_a_page_starts_in_the_middle():
    assert middle(GRID) == middle(GRID) == positions_image.patch_at(GRID, 1, 2)
    assert middle(TEXT) == 2
    assert overview.said(GRID, [7]) == "what row 2, column 2 attends to"
    assert overview.said(TEXT, [1]) == "what “a” attends to"
    assert overview.said(TEXT, [0]) == "what CLS attends to"
    assert overview.said(GRID, [7, 8]) == "what 2 selected tokens attend to, summed"


def test_the_strongest_key_is_no_special_token_where_there_is_another():
    weights = np.zeros((14, 14))
    weights[5, [0, 3, 9]] = 0.5, 0.2, 0.3
    assert pairs.strongest(weights, 5, GRID.prefix) == 9
    assert pairs.strongest(weights, 5, 0) == 0
    rows = np.array([[0.5, 0.2, 0.2, 0.1]] * 4)
    assert strongest_piece(rows, 1, (-1, 0, 1, -1)) == 1  # the first of two that are equally strong
    assert strongest_piece(rows, 1, (-1, -1, -1, -1)) == 0


def test_what_stands_in_an_address_is_read_with_care():
    assert state.numbers("3,04,x,-1,1.5,,7") == (3, 4, 7)
    assert state.numbers("999999,1000000") == (999_999,)
    assert len(state.numbers(",".join("1" * 99))) == 64
    assert state.below(4, [0, 3, 4, -1]) == (0, 3)
    assert state.below(4, 4) == ()
    ids = (700, 8, 7999, EOS)
    assert writing.decoded(writing.encoded(ids), load_subwords()) == ids
    assert writing.encoded((35, 36)) == "z.10"
    assert writing.decoded(f"{writing.encoded((700, EOS, 8))}", load_subwords()) == (700, EOS), "nothing after an end"
    assert writing.decoded(writing.encoded((700, 8000, 8)), load_subwords()) == (700,)
    for text in ("", "j g", "J", "zzzzz", writing.encoded((BOS, 700)), writing.encoded((MASK, 700))):
        assert writing.decoded(text, load_subwords()) == ()


class Bare(ImageModel):
    """The small shipped model without an answer."""

    @property
    def outputs(self) -> dict[str, Sequence[str]]:
        """None."""
        return {}


def test_a_model_without_classes_has_no_answer_and_one_without_superclasses_has_names():
    one = attnviz.load("vit-digits")
    assert isinstance(one, ImageModel)
    bare = Bare("bare", one.network, one.preparation, one.classes, one.superclasses)
    assert answers.best(bare, said()) == []
    assert answers.classes_words(bare) == answers.NO_CLASSES
    trace = said(**{"class": torch.arange(10.0)[None]})
    plain = ImageModel("plain", one.network, one.preparation, one.classes, one.superclasses)
    plain.superclasses = ()
    assert answers.best(plain, trace, 1)[0][0] == "9"
    assert ", ".join(one.classes) in answers.class_lines(plain)[0]
    facts = {"top1_by_superclass": {"even": 60.4}}
    halves = ImageModel("halves", one.network, one.preparation, one.classes, ("even", "odd") * 5, facts=facts)
    even, odd = answers.class_lines(halves)
    assert "60 %" in even
    assert "%" not in odd


def test_sentiment_is_positive_from_a_half_on():
    def trace(share: float) -> Trace:
        return said(sentiment=torch.tensor([[1 - share, share]]).log())

    assert text_answers.positive(trace(0.7)) == pytest.approx(0.7)
    assert text_answers.sentiment(trace(0.7)) == ("positive", pytest.approx(0.7))
    assert text_answers.sentiment(trace(0.2)) == ("negative", pytest.approx(0.8))
    assert text_answers.sentiment(said(sentiment=torch.zeros(1, 2))) == ("positive", 0.5)
    assert [text_answers.article(noun) for noun in ("adverb", "noun", "other")] == ["an adverb", "a noun", "other"]


def test_special_tokens_are_no_answer_but_an_end_is():
    reader = attnviz.load("stories")
    assert isinstance(reader, TextModel)
    scores = torch.full((2, 8000), -20.0)
    scores[1, :6] = 9.0
    scores[1, 700] = 9.5
    (first, _), (second, share), *rest = text_answers.likeliest(reader, said(**{WORD: scores}), 1)
    assert (first, second) == (reader.tokenizer.label(700), "EOS")
    assert share == pytest.approx(1 / (1 + math.exp(0.5)))
    assert len(rest) == 3
