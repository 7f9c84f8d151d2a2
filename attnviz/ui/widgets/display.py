"""How maps are drawn: the rare options, in one popover shared by all pages."""

from __future__ import annotations

import numpy as np
import streamlit as st
from jaxtyping import Bool, Float

from attnviz.types import AttentionCall, NoTokenMap
from attnviz.ui.core.state import one_of
from attnviz.views.canvas import Scale, ViewStyle

SCALES: dict[str, Scale] = {"Square root": "sqrt", "Linear": "linear", "Log": "log", "Rank": "rank"}
COLOURS = {"Viridis": "viridis", "Cividis": "cividis", "Inferno": "inferno", "Gray": "gray"}
FIRST = "Square root"
WHY_SCALE = (
    "Trained maps have a few very hot cells. Square root, clipped at the 99th percentile, lets the rest be seen; "
    "rank shows the order only."
)
KINDS = {  # what is said of a kind of map
    "weights": "weights: the layer mixes values by them",
    "scores": "scores, before they become weights",
    "effective": "effective map: worked out, the layer never makes it",
    "slots": "weights over learned slots instead of tokens",
    "landmarks": "weights from and to landmarks",
    "context scores": "context scores: one row for all queries",
    "channel": "channels, not tokens",
}
WHY_NETWORK = "The small square picture that the network reads, instead of yours with its full resolution."
WHY_DROP = "CLS and registers often take most of the weight. Without them, the rest is divided so that rows sum to one."


def display(key: str = "display", *, small: bool = True) -> ViewStyle:
    """The popover of rare options, and beside it the choice of the small picture; what they hold is in the URL."""
    with st.popover("Display", icon=":material/tune:", key=key):
        scale = one_of("Scale", list(SCALES), default=FIRST, key="scale", help=WHY_SCALE)
        colours = st.selectbox("Colours", list(COLOURS), key="colours", bind="query-params")
        drop = st.toggle("Leave out CLS and registers", True, key="drop", bind="query-params", help=WHY_DROP)
    return ViewStyle(SCALES[scale], COLOURS[colours or "Viridis"], drop, small and network_choice())


def network_choice() -> bool:
    """Whether the picture is shown as the network sees it: one click, as it is seldom what one expects."""
    return st.toggle("As the network sees it", key="network", bind="query-params", help=WHY_NETWORK)


def masked_of(call: AttentionCall) -> Bool[np.ndarray, "query key"] | None:
    """What a mask forbids to all heads of a call; None where there is no mask."""
    if call.mask is None:
        return None
    allowed = call.mask.rows(list(range(call.heads)), list(range(len(call.queries))), len(call.queries), len(call.keys))
    return ~allowed.any(-3).cpu().numpy()


def kind_words(call: AttentionCall) -> str:
    """What has to be known of a call's token map that is no plain attention weights; empty where it is."""
    kind, caveat = call.rule.map_type, call.rule.caveat
    said = "" if kind == "weights" else KINDS[kind].split(":")[0] if caveat else KINDS[kind]  # a caveat is more exact
    return " ".join(filter(None, [f"{said[:1].upper()}{said[1:]}." if said else "", caveat]))


def unit_of(call: AttentionCall) -> str:
    """What an entry of its map is: a share of one, in percent, or just a number."""
    return "percent" if call.rule.stochastic else "number"


def mean_of(call: AttentionCall) -> tuple[Float[np.ndarray, "one query key"] | None, str]:
    """The mean over the heads of a call; or none, and why there is no map."""
    try:
        return call.token_map().mean(0, keepdim=True).float().numpy(), ""
    except NoTokenMap as error:
        return None, f"No map lies over it. The reason: {str(error).rstrip('.')}."
