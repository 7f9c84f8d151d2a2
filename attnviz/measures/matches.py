"""Patches of one picture matched with those of another: by what a head's query would attend to there, or by features.

A model never sees two pictures at once, so no map here is one that it computes. Everything is about patches: CLS and
the like stand for no part of a picture, neither ask nor are found.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Float, Int

from attnviz.types import AttentionCall, Mask, NoTokenMap

NO_WEIGHTS = (
    "Its map holds no weights over single keys that sum to 1, so it has none for the patches of another picture."
)


@torch.no_grad()
def cross_weights(
    asking: AttentionCall, answering: AttentionCall, head: int, rows: Sequence[int] | None = None
) -> Float[np.ndarray, "query key"]:
    """What the patches of one picture would attend to in another, by the rule of their layer over its patches.

    `asking`, `answering`: one layer's call for each picture; the queries are of the first, the keys of the second.
    `rows`: of these patches, counted without CLS and the like; None = of all. Of multi-head attention it is softmax
    over j of q_i·k_j / sqrt(d) (Vaswani et al. 2017, equation 1) with the keys of another input; what a model adds for
    positions stays, its own mask does not. Raises NoTokenMap where the rule has no weights that sum to 1, ValueError
    for calls of unlike shape.
    """
    if asking.rule.map_type != "weights" or not asking.rule.stochastic:
        raise NoTokenMap(NO_WEIGHTS)
    if asking.query.shape != answering.query.shape or asking.key.shape != answering.key.shape:
        raise ValueError(
            f"queries {tuple(asking.query.shape)} and keys {tuple(asking.key.shape)} of one picture, "
            f"{tuple(answering.query.shape)} and {tuple(answering.key.shape)} of the other; they must be alike"
        )
    first = answering.keys.prefix
    patches = torch.arange(len(answering.keys), device=asking.query.device) >= first
    mask = Mask(key_padding=patches)  # in the place of the layer's own, which is about one picture
    call = replace(asking, key=answering.key, value=answering.value, keys=answering.keys, mask=mask)
    asked = range(len(asking.queries) - asking.queries.prefix) if rows is None else rows
    return call.token_map([head], [asking.queries.prefix + row for row in asked])[0, :, first:].float().cpu().numpy()


def cross_cosines(
    vectors: Float[np.ndarray, "query feature"], others: Float[np.ndarray, "key feature"]
) -> Float[np.ndarray, "query key"]:
    """Cosine of every vector with every other one, -1 to 1; a vector of length zero is like nothing (0)."""
    return unit(vectors) @ unit(others).T


def unit(vectors: Float[np.ndarray, "token feature"]) -> Float[np.ndarray, "token feature"]:
    """Every vector divided by its length; one of length zero stays."""
    lengths = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return np.divide(vectors, lengths, out=np.zeros_like(vectors), where=lengths > 0)


def best_matches(row: Float[np.ndarray, " key"], count: int = 3) -> Int[np.ndarray, " match"]:
    """The largest numbers of a row, the largest first; of equal ones the first."""
    return np.argsort(-row, kind="stable")[:count]


def mutual(there: Float[np.ndarray, "query key"], back: Float[np.ndarray, "key query"]) -> float:
    """The share of patches that are the best match of their own best match: best buddies (Dekel et al. 2015, eq. 1)."""
    best = there.argmax(1)
    return float((back.argmax(1)[best] == np.arange(len(best))).mean())
