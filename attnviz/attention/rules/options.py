"""What crosses with every variant that multiplies query and key, for whoever offers a choice of it.

To add one: a parameter of `MultiHead` or of `normalisers.Options`, and one line in OPTIONS.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Option:
    """One choice: what it is called, its values with their names (the first is the plain one), and what it does."""

    title: str
    values: Mapping[Any, str]
    said: Mapping[Any, str]  # value -> how a network that has it is called; none for the plain one
    help: str

    @property
    def plain(self) -> Any:
        """The value that changes nothing."""
        return next(iter(self.values))


OPTIONS: dict[str, Option] = {
    "normaliser": Option(
        "From scores to weights",
        {"softmax": "Softmax", "sigmoid": "Sigmoid", "entmax15": "Entmax 1.5", "top": "Top 8"},
        {"sigmoid": "sigmoid", "entmax15": "entmax 1.5", "top": "top 8"},
        "Sigmoid decides every weight alone. Entmax 1.5 shares out one as softmax does, but small weights become zero. "
        "Top 8 is a softmax over the eight highest scores of each row.",
    ),
    "sink": Option(
        "A place for weight that no token gets",
        {"": "None", "score": "A score", "key": "A key"},
        {"score": "sink", "key": "null key"},
        "A learned score, or a learned key without a value, that every row may give weight to.",
    ),
    "talking": Option(
        "Heads that talk",
        {"": "No", "before": "Before softmax", "after": "After it", "both": "Both"},
        {"before": "talking heads", "after": "talking heads", "both": "talking heads"},
        "A learned matrix mixes the scores or the weights of all heads (Shazeer et al. 2020).",
    ),
    "qk_norm": Option(
        "Queries and keys normalised",
        {False: "No", True: "Yes"},
        {True: "QK-norm"},
        "Every query and key is divided by its root mean square before they are multiplied (QK-norm).",
    ),
}


def named(options: Mapping[str, Any]) -> str:
    """What a network with these options is called besides its variant: "entmax 1.5, QK-norm"; empty where plain."""
    return ", ".join(said for name, value in options.items() if (said := OPTIONS[name].said.get(value)))
