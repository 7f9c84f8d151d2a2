"""How maps are drawn: the rare options, in one popover shared by all pages."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import streamlit as st
from jaxtyping import Bool, Float

from attnviz.types import AttentionCall, NoTokenMap
from attnviz.views.canvas import Scale

SCALES: dict[str, Scale] = {"Square root": "sqrt", "Linear": "linear", "Log": "log", "Rank": "rank"}
COLOURS = {"Viridis": "viridis", "Cividis": "cividis", "Inferno": "inferno", "Gray": "gray"}
FIRST = "Square root"
WHY_SCALE = (
    "Trained maps have a few very hot cells. Square root, clipped at the 99th percentile, lets the rest be seen; "
    "rank shows the order only."
)
WHY_DROP = "CLS and registers often take most of the weight. Without them, the rest is divided so that rows sum to one."


@dataclass(frozen=True)
class Display:
    """How maps are drawn, in the words of the views."""

    scale: Scale = "sqrt"
    colours: str = "viridis"  # a sequential scale of plots.theme
    drop_prefix: bool = True  # leave out CLS and registers as keys, the rest renormalised
    network: bool = False  # the small picture the network sees instead of the visitor's


def display(key: str = "display") -> Display:
    """The popover of rare options; what it holds is in the URL."""
    with st.popover("Display", icon=":material/tune:", key=key):
        scale = st.segmented_control(
            "Scale", list(SCALES), default=FIRST, required=True, key="scale", bind="query-params", help=WHY_SCALE
        )
        colours = st.selectbox("Colours", list(COLOURS), key="colours", bind="query-params")
        drop = st.toggle("Leave out CLS and registers", True, key="drop", bind="query-params", help=WHY_DROP)
        network = st.toggle("Show the picture the network sees", False, key="network", bind="query-params")
    return Display(SCALES[scale or FIRST], COLOURS[colours or "Viridis"], drop, network)


def masked_of(call: AttentionCall) -> Bool[np.ndarray, "query key"] | None:
    """What a mask forbids to all heads of a call; None where there is no mask."""
    if call.mask is None:
        return None
    allowed = call.mask.rows(list(range(call.heads)), list(range(len(call.queries))), len(call.queries), len(call.keys))
    return ~allowed.any(-3).cpu().numpy()


def unit_of(call: AttentionCall) -> str:
    """What an entry of its map is: a share of one, in percent, or just a number."""
    return "percent" if call.rule.stochastic else "number"


def mean_of(call: AttentionCall) -> tuple[Float[np.ndarray, "one query key"] | None, str]:
    """The mean over the heads of a call; or none, and why there is no map."""
    try:
        return call.token_map().mean(0, keepdim=True).float().numpy(), ""
    except NoTokenMap as error:
        return None, f"No map lies over it: this model {str(error).rstrip('.')}."
