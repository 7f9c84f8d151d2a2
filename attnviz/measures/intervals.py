"""Means of scores over inputs, with bootstrap intervals; what has no score is left out and counted."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

DRAWS, LEVEL = 2000, 0.95


class Summary(NamedTuple):
    """The mean of a score over inputs."""

    mean: float
    low: float  # 95 % interval by the percentiles of the bootstrap (Efron 1979): other inputs, the same model
    high: float
    scored: int  # inputs with a score
    excluded: int  # inputs without one


def summarise(values: Float[np.ndarray, " input"], seed: int = 0) -> Summary:
    """Mean and interval over inputs; not a number where none has a score, and no interval for a single one."""
    values = np.asarray(values, dtype=np.float64)
    scored = values[~np.isnan(values)]
    excluded = len(values) - len(scored)
    if not len(scored):
        return Summary(np.nan, np.nan, np.nan, 0, excluded)
    if len(scored) == 1:
        return Summary(float(scored[0]), np.nan, np.nan, 1, excluded)
    drawn = np.random.default_rng(seed).integers(len(scored), size=(DRAWS, len(scored)))
    low, high = np.quantile(scored[drawn].mean(1), ((1 - LEVEL) / 2, (1 + LEVEL) / 2))
    return Summary(float(scored.mean()), float(low), float(high), len(scored), excluded)


def paired(values: Float[np.ndarray, " input"], baseline: Float[np.ndarray, " other"], seed: int = 0) -> Summary:
    """The difference to a baseline on the same inputs: narrower than two intervals, because inputs differ in hardness.

    Raises ValueError where the two are not of the same inputs.
    """
    if len(values) != len(baseline):
        raise ValueError(f"{len(values)} inputs and {len(baseline)} of the baseline cannot be paired")
    return summarise(np.asarray(values) - np.asarray(baseline), seed)
