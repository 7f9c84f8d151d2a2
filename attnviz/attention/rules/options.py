"""Options of every variant that multiplies query and key, for widgets and captions.

To add one: a parameter of `MultiHead` or of `normalisers.Normalisation`, and one line in OPTIONS.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Option:
    """One option: its title, its values with their labels (the first is the default), and a help text."""

    title: str
    values: Mapping[Any, str]
    suffixes: Mapping[Any, str]  # value -> suffix of the name of a network that has it; none for the default
    help: str

    @property
    def plain(self) -> Any:
        """The default, which leaves multi-head attention unchanged."""
        return next(iter(self.values))


OPTIONS: dict[str, Option] = {
    "normaliser": Option(
        "Normalisation",
        {"softmax": "Softmax", "sigmoid": "Sigmoid", "entmax15": "Entmax 1.5", "top": "Top 8"},
        {"sigmoid": "sigmoid", "entmax15": "entmax 1.5", "top": "top 8"},
        "Sigmoid normalises each weight by itself. Entmax 1.5 is a sparse softmax: rows sum to 1 and small weights are "
        "exactly 0. Top 8 is a softmax over the eight highest scores of each row.",
    ),
    "sink": Option(
        "Attention sink",
        {"": "None", "score": "A score", "key": "A key"},
        {"score": "sink", "key": "null key"},
        "A learned score, or a learned key without a value, that takes part in the softmax of every row.",
    ),
    "talking": Option(
        "Talking heads",
        {"": "No", "before": "Before softmax", "after": "After it", "both": "Both"},
        {"before": "talking heads", "after": "talking heads", "both": "talking heads"},
        "A learned matrix mixes the heads: their scores before softmax, their weights after it (Shazeer et al. 2020).",
    ),
    "qk_norm": Option(
        "QK-norm",
        {False: "No", True: "Yes"},
        {True: "QK-norm"},
        "RMS norm of every query and key before their dot product.",
    ),
}


def describe_options(options: Mapping[str, Any]) -> str:
    """The suffix of a network's name for these options: "entmax 1.5, QK-norm"; empty for the defaults."""
    suffixes = (OPTIONS[name].suffixes.get(value) for name, value in options.items())
    return ", ".join(suffix for suffix in suffixes if suffix)
