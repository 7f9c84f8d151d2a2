"""Measures of attention heads on text: previous token, same token, separator, induction, dependency accuracy.

Every measure is a mean over the rows of text tokens; those of special tokens are not counted. Rows for which a measure
is undefined (no earlier occurrence) are left out; a head without any row has none. To add a measure: one
function of rows and one line in TEXT_MEASURES.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from attnviz.measures.heads import Measure, entropy_rows, self_rows
from attnviz.types import AttentionCall, Tokens
from attnviz.typography import clean

NONE = torch.tensor(float("nan"), dtype=torch.float64)


def real(tokens: Tokens) -> Bool[Tensor, " token"]:
    """Which tokens are text and not special tokens. Raises ValueError for tokens without words."""
    if tokens.words is None:
        raise ValueError("these tokens do not belong to words")
    return torch.tensor([word >= 0 for word in tokens.words], dtype=torch.bool)


def alike(tokens: Tokens) -> Bool[Tensor, "token token"]:
    """Which pairs are the same token, whichever quotation mark was typed; False for special tokens."""
    names = {label: i for i, label in enumerate(dict.fromkeys(map(clean, tokens.labels)))}
    ids = torch.tensor([names[clean(label)] for label in tokens.labels])
    kept = real(tokens)
    return (ids[:, None] == ids[None]) & kept[:, None] & kept[None]


def on(weights: Tensor, chosen: Bool[Tensor, "row key"]) -> Tensor:
    """[head row]: the weight on the chosen keys; not a number in rows with none."""
    mass = (weights * chosen.to(weights)).sum(-1)
    return torch.where(chosen.any(-1), mass, NONE.to(weights))


def beside(offset: int):
    """The measure of the weight on the token at this offset."""

    def rows(weights: Tensor, tokens: Tokens, rows: Tensor) -> Tensor:
        kept = real(tokens)
        place = torch.arange(len(tokens))
        chosen = (place[None] == rows[:, None] + offset) & kept[None]
        return on(weights, chosen)

    return rows


def first_rows(weights: Tensor, tokens: Tokens, rows: Tensor) -> Tensor:
    """[head row]: the weight on the first token, often an attention sink."""
    return weights[..., 0]


def separator_rows(weights: Tensor, tokens: Tokens, rows: Tensor) -> Tensor:
    """[head row]: the weight on special tokens other than the first."""
    chosen = ~real(tokens)
    chosen[0] = False
    return on(weights, chosen.expand(len(rows), -1))


def same_rows(weights: Tensor, tokens: Tokens, rows: Tensor) -> Tensor:
    """[head row]: the weight on other occurrences of the same token."""
    same = alike(tokens)
    same.fill_diagonal_(False)
    return on(weights, same[rows])


def induction_rows(weights: Tensor, tokens: Tokens, rows: Tensor) -> Tensor:
    """[head row]: the weight on the tokens after earlier occurrences of the same token (Olsson et al. 2022)."""
    earlier = alike(tokens).tril(-1)
    after = torch.zeros_like(earlier)
    after[:, 1:] = earlier[:, :-1]
    return on(weights, (after & real(tokens)[None])[rows])


def reach_rows(weights: Tensor, tokens: Tokens, rows: Tensor) -> Tensor:
    """[head row]: mean attention distance over text tokens; special tokens have no position."""
    kept = real(tokens).to(weights)
    place = torch.arange(len(tokens)).to(weights)
    mass = weights * kept
    return (mass * (place[None] - place[rows][:, None]).abs()).sum(-1) / mass.sum(-1)


TEXT_MEASURES: dict[str, Measure] = {
    "previous": Measure("Attention to the previous token", "%", "", "Previous token", beside(-1)),
    "next": Measure("Attention to the next token", "%", "", "Next token", beside(1)),
    "same": Measure("Attention to the same token", "%", "", "Same token", same_rows),
    "first": Measure("Attention to the first token", "%", "", "First token (attention sink)", first_rows),
    "separator": Measure("Attention to separators", "%", "", "Separator", separator_rows),
    "induction": Measure("Induction score", "%", "", "Induction", induction_rows),
    "reach": Measure("Mean attention distance", "tokens", "Nearest", "Farthest", reach_rows),
    "entropy": Measure("Attention entropy / log n", "", "Sharpest", "", entropy_rows),
    "self": Measure("Attention to itself", "%", "", "", self_rows),
}
SYNTAX = Measure("Dependency head accuracy (UAS)", "%", "", "Syntax", self_rows)  # of stored sentences, by `syntax`


def measure_text_heads(calls: Sequence[AttentionCall]) -> dict[str, Float[np.ndarray, "layer head"]]:
    """Every measure of every head of a trace; not a number where it is not defined.

    Measures that are 0 or undefined for all heads are left out, such as the next token in a decoder.
    """
    table = {name: np.full((len(calls), max(c.heads for c in calls)), np.nan) for name in TEXT_MEASURES}
    for layer, call in enumerate(calls):
        rows = real(call.keys).nonzero()[:, 0].tolist()
        found: dict[str, list[Tensor]] = {name: [] for name in TEXT_MEASURES}
        for begin in range(0, len(rows), 128):
            block = rows[begin : begin + 128]
            weights = call.token_map(rows=block).to(torch.float64)
            for name, measure in TEXT_MEASURES.items():
                found[name].append(measure.rows(weights, call.keys, torch.tensor(block)))
        for name, parts in found.items():
            if parts:
                table[name][layer, : call.heads] = torch.cat(parts, -1).nanmean(-1).numpy()
    return {name: values for name, values in table.items() if np.nan_to_num(values).any()}


@dataclass(frozen=True)
class Parsed:
    """A sentence whose words depend on each other."""

    text: str
    first: tuple[int, ...]  # the token each word begins with
    heads: tuple[int, ...]  # the number of the word it depends on, -1 for the root


def predicted_heads(call: AttentionCall, parsed: Parsed) -> Bool[np.ndarray, "head word"]:
    """Of which words each head's row is largest at the word they depend on, among all other words; the root is token 0.

    Raises ValueError for a call over another sentence's tokens.
    """
    if max(parsed.first, default=0) >= len(call.keys):
        raise ValueError(f"a word begins at token {max(parsed.first)}, but there are {len(call.keys)}")
    places = [0, *parsed.first]
    weights = call.token_map(rows=list(parsed.first))[..., places].clone()  # [head word 1 + word]
    own = torch.arange(len(parsed.first))
    weights[:, own, own + 1] = -1  # no word depends on itself
    wanted = torch.tensor(parsed.heads) + 1
    return (weights.argmax(-1) == wanted[None]).numpy()


def gold_arcs(parsed: Parsed) -> list[tuple[int, int]]:
    """Token pairs (word, word it depends on) of a sentence, for a picture; the root has none."""
    return [(parsed.first[i], parsed.first[head]) for i, head in enumerate(parsed.heads) if head >= 0]
