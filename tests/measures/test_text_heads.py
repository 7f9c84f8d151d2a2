"""Measures of heads that read text, on maps whose answers are known by hand."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from attnviz.attention.rules.softmax import Softmax
from attnviz.measures.text_heads import SYNTAX, TEXT_MEASURES, Parsed, gold_arcs, measure_text_heads, predicted_heads
from attnviz.types import AttentionCall, Mask, Tokens

TOKENS = Tokens(("CLS", "a", "dog", "saw", "a", "cat", "SEP"), None, 1, "main", (-1, 0, 1, 2, 3, 4, -1))
N = len(TOKENS)


def looking(at: list[int], tokens: Tokens = TOKENS) -> AttentionCall:
    """A call of one head in which token i looks at token at[i] alone."""
    query = 50 * torch.eye(len(tokens))[at]
    key = torch.eye(len(tokens))
    return AttentionCall("layer 1", 0, Softmax(), query[None], key[None], key[None], tokens, tokens)


def sharing(weights: np.ndarray, tokens: Tokens = TOKENS, **fields: Mask) -> AttentionCall:
    """A call whose map is the one given [head query key]: the logarithm of the weights meets the unit vectors."""
    scores = torch.from_numpy(weights).clamp_min(1e-300).log()
    unit = torch.eye(len(tokens), dtype=torch.float64).expand(len(weights), -1, -1)
    return AttentionCall("layer 1", 0, Softmax(), scores, unit, unit, tokens, tokens, **fields)


def random_weights(tokens: Tokens, heads: int = 2) -> np.ndarray:
    """Rows that sum to one."""
    drawn = np.random.default_rng(0).gamma(0.5, size=(heads, len(tokens), len(tokens)))
    return drawn / drawn.sum(-1, keepdims=True)


def measured(name: str, at: list[int]) -> float:
    """One measure of such a head; 0 where no head has it."""
    table = measure_text_heads([looking(at)])
    return float(table[name][0, 0]) if name in table else 0.0


@pytest.mark.parametrize(
    ("name", "at"),
    [
        ("previous", [0, 0, 1, 2, 3, 4, 5]),
        ("next", [1, 2, 3, 4, 5, 5, 6]),
        ("first", [0] * N),
        ("separator", [6] * N),
        ("self", list(range(N))),
    ],
)
def test_a_head_that_does_one_thing(name: str, at: list[int]):
    rows = {"previous": 4 / 4, "next": 4 / 4}.get(name, 1.0)
    assert measured(name, at) == pytest.approx(rows, abs=1e-6)
    for other in {"previous", "next", "separator", "self"} - {name}:
        assert measured(other, at) < 0.3


def loops(row: np.ndarray, i: int, tokens: Tokens) -> dict[str, float]:
    """Every measure of one row once more, key by key; what is not defined for the row is left out."""
    assert tokens.words is not None
    names, every = tokens.labels, range(len(tokens))
    real = [j for j in every if tokens.words[j] >= 0]
    twins = [j for j in real if names[j] == names[i] and j != i]
    separators = [j for j in every if j not in real and j > 0]
    after = [j + 1 for j in twins if j < i and j + 1 in real]
    on_pieces = sum(row[j] for j in real)
    found = {
        "first": row[0],
        "self": row[i],
        "entropy": -sum(w * math.log(w) for w in row if w > 0) / math.log(len(tokens)),
        "reach": sum(row[j] / on_pieces * abs(i - j) for j in real),
    }
    for name, keys in {
        "previous": {i - 1} & {*real},
        "next": {i + 1} & {*real},
        "same": twins,
        "separator": separators,
        "induction": after,
    }.items():
        if keys:
            found[name] = sum(row[j] for j in keys)
    return found


LONG = Tokens(
    ("CLS", *(f"w{7 * i * i % 11}" for i in range(140)), "SEP", *(f"w{i % 5}" for i in range(9)), "SEP"),
    None,
    1,
    "main",
    (-1, *range(140), -1, *range(140, 149), -1),
)


@pytest.mark.parametrize("tokens", [TOKENS, LONG], ids=["short", "two blocks of rows"])
def test_measures_equal_loops(tokens: Tokens):
    weights = random_weights(tokens)
    table = measure_text_heads([sharing(weights, tokens)])
    assert tokens.words is not None
    for head in range(2):
        rows = [loops(weights[head, i], i, tokens) for i, word in enumerate(tokens.words) if word >= 0]
        for name in TEXT_MEASURES:
            assert table[name][0, head] == pytest.approx(np.mean([row[name] for row in rows if name in row])), name


def test_shares_are_printed_as_shares():
    numbers = {"reach": "tokens", "entropy": ""}
    assert {name: measure.unit for name, measure in TEXT_MEASURES.items()} == {
        name: numbers.get(name, "%") for name in TEXT_MEASURES
    }
    assert SYNTAX.unit == "%"


def test_same_word_and_induction_count_only_rows_that_have_them():
    same = [0, 4, 0, 0, 1, 0, 0]
    assert measured("same", same) == pytest.approx(1, abs=1e-6)
    assert measured("induction", same) == pytest.approx(0, abs=1e-6)
    after = [0, 0, 0, 0, 2, 0, 0]  # the second "a" looks at "dog", which came after the first
    assert measured("induction", after) == pytest.approx(1, abs=1e-6)


def test_distance_counts_real_pieces_alone():
    assert measured("reach", [0, 2, 3, 4, 5, 4, 0]) == pytest.approx(1, abs=1e-6)


def test_a_measure_no_head_has_is_left_out():
    once = Tokens(("CLS", "a", "dog", "SEP"), None, 1, "main", (-1, 0, 1, -1))
    table = measure_text_heads([looking([0, 0, 1, 0], once)])
    assert "same" not in table
    assert "induction" not in table
    assert set(table) <= set(TEXT_MEASURES)


def test_a_decoder_has_no_token_after():
    call = replace(looking(list(range(N))), mask=Mask(causal=True))
    assert "next" not in measure_text_heads([call])


def test_dependencies():
    parsed = Parsed("a dog saw a cat", (1, 2, 3, 4, 5), (1, 2, -1, 4, 2))
    right = [0, 2, 3, 0, 5, 3, 0]
    assert predicted_heads(looking(right), parsed).tolist() == [[True] * 5]
    assert predicted_heads(looking([0, 2, 3, 1, 5, 3, 0]), parsed).tolist() == [[True, True, False, True, True]]
    itself: Tensor = looking(list(range(N))).query  # a head that looks at itself is asked where it looks besides
    assert itself.shape == (1, N, N)
    assert predicted_heads(looking(list(range(N))), parsed).sum() < 5
    assert gold_arcs(parsed) == [(1, 2), (2, 3), (4, 5), (5, 3)]
    with pytest.raises(ValueError, match="begins at token 9"):
        predicted_heads(looking(right), Parsed("x", (9,), (-1,)))


def test_a_word_is_asked_where_it_looks_besides_itself_and_special_tokens():
    """Most of each row lies on the word itself, some on SEP, less on the word it depends on, the rest on all."""
    parsed = Parsed("a dog saw a cat", (1, 2, 3, 4, 5), (1, 2, -1, 4, 2))
    weights = np.full((1, N, N), 0.01)
    for i in range(N):
        weights[0, i, i] += 0.5
        weights[0, i, 6] += 0.25
    for i, head in enumerate(parsed.heads):
        weights[0, i + 1, parsed.first[head] if head >= 0 else 0] += 0.18
    assert predicted_heads(sharing(weights / weights.sum(-1, keepdims=True)), parsed).tolist() == [[True] * 5]


def test_tables_of_layers_with_different_heads():
    two = looking([0] * N)
    wide = replace(
        two,
        query=two.query.expand(2, -1, -1),
        key=two.key.expand(2, -1, -1),
        value=two.value.expand(2, -1, -1),
        layer=1,
    )
    table = measure_text_heads([two, wide])
    assert table["first"].shape == (2, 2)
    assert np.isnan(table["first"][0, 1])
