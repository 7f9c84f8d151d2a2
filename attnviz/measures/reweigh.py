"""Attention from its first idea on: mixtures by distance, by likeness, by looking up; plain arrays, nothing learned."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from attnviz.measures.embeddings import dot_product

Matrix = Float[np.ndarray, "query key"]


def softmax(scores: Float[np.ndarray, "..."], axis: int = -1) -> Float[np.ndarray, "..."]:
    """exp(scores) divided by its sum along an axis; 0 where the score is -inf."""
    raised = np.exp(scores - scores.max(axis, keepdims=True))
    return raised / raised.sum(axis, keepdims=True)


def distance_scores(count: int, sigma: float) -> Matrix:
    """-(i - j)^2 / 2 sigma^2: the logarithm of a bell curve around every position."""
    place = np.arange(count, dtype=np.float64)
    return -((place[:, None] - place) ** 2) / (2 * sigma**2)


def proximity(count: int, sigma: float) -> Matrix:
    """Weights that fall with distance like a bell curve of width sigma, rows sum to 1."""
    return softmax(distance_scores(count, sigma))


def blended(vectors: Float[np.ndarray, "token feature"], content: float, sigma: float) -> Matrix:
    """Scores of which a share comes from what words say and the rest from where they stand."""
    return content * dot_product(vectors) + (1 - content) * distance_scores(len(vectors), sigma)


def look_up(
    query: Float[np.ndarray, " feature"], keys: Float[np.ndarray, "token feature"], temperature: float
) -> Float[np.ndarray, " token"]:
    """How much of each value a soft lookup returns; at temperature 0 all of the best match, the first of equals."""
    scores = keys @ query
    if temperature == 0:
        return np.eye(len(keys))[int(scores.argmax())]
    return softmax(scores / temperature)


def spread_of_products(dims: np.ndarray, keys: int = 16, draws: int = 400, seed: int = 0) -> dict[str, np.ndarray]:
    """Random queries and keys of every dimension: the spread of scores, the largest weight without and with scaling.

    Numbers are standard normal; the largest weight is the mean over draws of a softmax over that many keys.
    """
    random = np.random.default_rng(seed)
    spread, plain, scaled = [], [], []
    for dim in dims:
        query, key = random.normal(size=(draws, 1, dim)), random.normal(size=(draws, keys, dim))
        scores = (query * key).sum(-1)
        spread.append(scores.std())
        plain.append(softmax(scores).max(-1).mean())
        scaled.append(softmax(scores / np.sqrt(dim)).max(-1).mean())
    return {"spread": np.array(spread), "plain": np.array(plain), "scaled": np.array(scaled)}
