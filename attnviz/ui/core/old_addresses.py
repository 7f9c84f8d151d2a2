"""What stood in addresses before their values became identifiers: links of that time still open the same thing."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

POSITION_TITLES = {
    "Learned table": "learned",
    "Learned table, started from one sequence": "learned1d",
    "Learned table, started from rows and columns": "learned2d",
    "Sine and cosine, rows and columns": "sine2d",
    "Sine and cosine, one sequence": "sine",
    "None": "none",
    "Rotary": "rotary",
    "ALiBi": "alibi",
    "Shaw, relative": "shaw",
    "T5 buckets": "t5",
}
# parameter -> what stood there -> the identifier it means. A row is added where a value changes, and none is taken out.
OLD_VALUES: Mapping[str, Mapping[str, str]] = MappingProxyType(
    {
        "order": {
            "Layer": "layer",
            "Mean attention distance": "distance",
            "Entropy / log n": "entropy",
            "Share on CLS and registers": "prefix",
            "Share on itself": "self",
            "Share on neighbours": "neighbours",
            "Share on the token before": "previous",
            "Share on the token after": "next",
            "Share on the same word": "same",
            "Share on the first token": "first",
            "Share on separators": "separator",
            "Share on what came after last time": "induction",
            "Mean distance": "reach",
            "Finds the word it depends on": "syntax",
        },
        "places": POSITION_TITLES,
        "scheme": POSITION_TITLES,
        "scale": {"Square root": "sqrt", "Linear": "linear", "Log": "log", "Rank": "rank"},
        "colours": {"Viridis": "viridis", "Cividis": "cividis", "Inferno": "inferno", "Gray": "gray"},
        "look": {"Across": "cross", "Within English": "encoder", "Within French": "decoder"},
        "fusion": {"Mean": "mean", "Maximum": "max", "Minimum": "min"},
        "target": {
            "Answer": "answer",
            "CLS": "cls",
            "Mean of patches": "mean",
            "Mean of words": "mean",
            "One patch": "token",
            "One word": "token",
        },
        "range": {"Each map's own": "own", "One for all": "shared"},
        "grid": {"One patch": "token", "One word": "token", "Matrices": "matrix"},
        "view": {"Lines": "lines", "Matrix": "matrix", "Arcs": "arcs"},
        "over": {"This picture": "sample", "All sample pictures": "all"},
    }
)
