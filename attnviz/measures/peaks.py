"""Rows of attention maps that have one clear answer: most of what a guess can be held against."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float

from attnviz.measures.blocks import spread
from attnviz.types import AttentionCall, Tokens

MOST_ENTRIES = 1 << 22  # of the rows of a call that are looked through; above, rows are spread evenly over the queries
Row = tuple[int, int, int]  # call, head, query


@dataclass(frozen=True)
class Outcome:
    """How a guess of the strongest key of a row came out; the rank counts from 1, equal weights share the best."""

    guess: int
    rank: int
    keys: int  # how many could be guessed
    weight: float
    best: int
    top: float


def outcome(row: Float[np.ndarray, " key"], guess: int) -> Outcome:
    """Hold a guess against a row; keys that are left out are NaN. Raises ValueError for a guess among those."""
    if not np.isfinite(row[guess]):
        raise ValueError(f"key {guess} is left out of this row and cannot be guessed")
    best = int(np.nanargmax(row))
    rank = 1 + int((row > row[guess]).sum())
    return Outcome(guess, rank, int(np.isfinite(row).sum()), float(row[guess]), best, float(row[best]))


def guessable(tokens: Tokens) -> list[int]:
    """Patches, or the tokens of a text that are no special ones."""
    words = tokens.words
    return [i for i in range(tokens.prefix, len(tokens)) if words is None or words[i] >= 0]


def peaked_rows(calls: Sequence[AttentionCall], least: float) -> list[Row]:
    """Rows that give one patch or word at least this share of their weight, in the order of the network.

    Rows of special tokens are not among them; nor are calls whose rows do not sum to 1.
    """
    found = []
    for number, call in enumerate(calls):
        if not call.rule.stochastic or call.queries != call.keys:
            continue
        kept = guessable(call.keys)
        most = max(1, MOST_ENTRIES // (call.heads * len(call.keys)))
        rows = [kept[i] for i in spread(0, len(kept), most)]
        if rows:
            top = call.token_map(rows=rows).detach()[..., kept].amax(-1)  # [head row]
            found += [(number, head, rows[row]) for head, row in (top >= least).nonzero().tolist()]
    return found


def shuffled(rows: Sequence[Row], seed: int = 0) -> list[Row]:
    """The same rows in an order that is the same for everybody."""
    order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(seed)).tolist()
    return [rows[i] for i in order]
