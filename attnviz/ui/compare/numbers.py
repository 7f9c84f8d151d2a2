"""Tables of numbers on the Compare page: statistics of maps, and the errors of approximations."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import streamlit as st
import torch
from jaxtyping import Float
from torch import Tensor

from attnviz.attention import Softmax
from attnviz.measures.compare import effective_rank, head_diversity, relative_error
from attnviz.types import Tokens, Trace
from attnviz.ui.compare import maps
from attnviz.ui.compare.domain import Domain, Panel
from attnviz.ui.compare.heads import PanelHead

NOT_DEFINED, NOT_SCORED = "not defined", "not scored"
APPROXIMATES = {  # what keeps query, key and value and changes only how softmax is worked out, and how
    "mqa": "keys and values averaged over all heads",
    "gqa": "keys and values averaged over each group of heads",
    "window": "softmax over fewer keys",
    "window2d": "softmax over fewer keys",
    "mobilevit2d": "softmax over fewer keys",
    "linear": "a product of features instead of the exponential",
    "performer": "random features instead of the exponential",
    "nystrom": "softmax by way of landmarks",
}


ESTIMATES = ("performer", "nystrom")  # these approximate softmax attention, trained or not


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table as Markdown: the first column as text, the others to the right."""
    lines = [header, [":--", *["--:"] * (len(header) - 1)], *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def map_statistics(domain: Domain, panel: Panel) -> list[str]:
    """One row of the table of numbers: means over all layers and heads; what a map does not have is not defined."""
    if maps.missing_map_reason(panel):
        return [panel.title, *[NOT_DEFINED] * 4]
    every = maps.token_maps(panel)
    each = every.maps.flatten(0, 1).double()  # [head query key]
    rank = f"{float(effective_rank(each).mean()):.1f}"
    if not every.stochastic or every.signed:
        return [panel.title, NOT_DEFINED, NOT_DEFINED, rank, NOT_DEFINED]
    diversity = np.mean([head_diversity(layer.double()) for layer in every.maps])
    entropy, distance = (
        "none" if np.isnan(value) else f"{value:.2f}" for value in mean_measures(domain, each, panel.tokens)
    )
    return [panel.title, entropy, distance, rank, "one head" if np.isnan(diversity) else f"{diversity:.2f}"]


def mean_measures(domain: Domain, weights: Float[Tensor, "head query key"], tokens: Tokens) -> list[float]:
    """How even the rows of some heads are and how far they reach, as means; not a number where no row counts."""
    rows = domain.measured_rows(tokens)
    return [float(measure.rows(weights[:, rows], tokens, rows).nanmean()) for measure in domain.measures]


def statistics_table(domain: Domain, panels: Sequence[Panel]) -> None:
    """Entropy, distance, rank and diversity of every variant on this input."""
    first = next((panel for panel in panels if panel.trace is not None), None)
    if first is None:
        return
    tokens = first.tokens
    entropy, distance = domain.measures
    header = [
        "Variant",
        entropy.title,
        f"{distance.title}, {distance.unit}",
        f"Effective rank, of {len(tokens)}",
        "Head diversity",
    ]
    st.markdown(markdown_table(header, [map_statistics(domain, panel) for panel in panels]))
    _, reach = mean_measures(domain, torch.full((1, len(tokens), len(tokens)), 1 / len(tokens)).double(), tokens)
    even = "" if np.isnan(reach) else f" Even attention has entropy 1, distance {reach:.2f} and rank 1."
    st.caption(domain.statistics_help + even)


def errors(panel: Panel, donor: Trace) -> tuple[list[float], list[float]]:
    """Relative errors of map and output against softmax attention, one for each layer, heads averaged."""
    pairs = [(call, exact) for exact in donor.calls for call in panel.calls(exact.layer)]
    relative = [relative_error(call, exact) for call, exact in pairs]
    return [float(e.map.mean()) for e in relative if e.map is not None], [float(e.output.mean()) for e in relative]


def estimate_error(shown: PanelHead) -> str:
    """How far an estimate is from the softmax attention of its own queries and keys; empty for what is none."""
    if shown.panel.variant not in ESTIMATES:
        return ""
    (call,) = shown.panel.calls(shown.layer)
    error = relative_error(call, call.with_rule(Softmax()))
    if error.map is None:
        return ""
    errors = [f"{100 * values[shown.head]:.0f}\u00a0%" for values in (error.map, error.output)]
    return f"Error against the softmax of its own queries and keys: {errors[0]} (map), {errors[1]} (output)."


def errors_table(panels: Sequence[Panel], donor: Trace) -> None:
    """How far each approximation is from exact softmax; what is none gets no score."""
    rows = [error_row(panel, donor) for panel in panels]
    st.markdown(markdown_table(["Variant", "Error of the map", "Error of the output", "Approximation"], rows))
    st.caption(
        "Relative errors (Frobenius norm of the difference over that of the exact one), least to most over the "
        "layers. A map of zeros has an error of 100 %."
    )


def error_row(panel: Panel, donor: Trace) -> list[str]:
    """One row: ranges of both errors, or why there is no score."""
    if panel.trace is None:
        return [panel.title, "none", "none", panel.reason]
    if panel.variant == "mha":
        return [panel.title, "exact", "exact", "it is what the others are measured against"]
    if panel.variant not in APPROXIMATES:
        why = "a formula of its own, no approximation of softmax attention"
        return [panel.title, NOT_SCORED, NOT_SCORED, why]
    return [panel.title, *map(error_range, errors(panel, donor)), APPROXIMATES[panel.variant]]


def error_range(values: Sequence[float]) -> str:
    """The smallest and the largest of some errors, in percent."""
    return f"{100 * min(values):.0f} to {100 * max(values):.0f}\u00a0%" if values else NOT_DEFINED
