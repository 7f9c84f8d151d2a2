"""How maps are drawn: the rare options, in one popover shared by all pages."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import streamlit as st
import torch
from jaxtyping import Bool, Float

from attnviz.types import AttentionCall, MapType, NoTokenMap
from attnviz.ui.core.state import keep_inside, one_of, select
from attnviz.views.canvas import ViewStyle

USUAL = "usual"  # each view has what suits it
SCALES: dict[str, str] = {USUAL: "Usual", "sqrt": "Square root", "linear": "Linear", "log": "Log", "rank": "Rank"}
OVERLAYS = {USUAL: "Usual", "light": "Light", "colour": "Colour"}
TILE_RANGES = {"shared": "Shared", "own": "Per map"}
COLOURS = {"viridis": "Viridis", "cividis": "Cividis", "inferno": "Inferno", "gray": "Gray"}
WHY_SCALE = (
    "Usual: linear from zero over a picture, so that an even map looks even; square root in grids, matrices and texts. "
    "A few weights of trained maps are much larger than the rest. Square root, clipped at the 99th percentile, keeps "
    "the rest visible; rank shows the order only."
)
WHY_OVERLAY = (
    "Light: the picture keeps its colours and is darker where weight is low. Colour: weights are colours over a grey "
    "picture. Usual: light where a map spreads over an object, on Start and Explain; colour for single heads, whose "
    "few strong patches may lie in the dark. Signed maps are always colours."
)
WHY_OPACITY = "How much of the picture the map covers: how dark no weight is, or how dense colours are."
WHY_SMOOTH = "Interpolates between the middles of patches. The model has one number for each patch."
WHY_TILE_RANGE = (
    "Shared: one range for all small maps, so that strong heads stand out and even heads look even. Per map: each map "
    "has a range of its own, which also shows the structure of weak ones."
)
MAP_TYPES: dict[MapType, tuple[str, str]] = {  # what a type of map is called, and what it means
    "weights": ("weights", "the layer mixes values by them"),
    "scores": ("scores", "before they become weights"),
    "effective": ("effective map", "derived; the layer never computes it"),
    "slots": ("weights over learned slots", "keys are slots instead of tokens"),
    "landmarks": ("weights over landmarks", "keys or queries are landmarks instead of tokens"),
    "context scores": ("context scores", "one row for all queries"),
    "channel": ("channel map", "between channels, not tokens"),
}
WHY_MODEL_INPUT = "The small square picture that the model reads, instead of yours with its full resolution."
WHY_HIDE = "CLS and registers often take most of the weight. Without them, each row is rescaled to sum to 1."


WHY_MASK = (
    "Only the most relevant, the fewest that together hold this share of the map, keep their colour (as in the figures "
    "of DINO, Caron et al. 2021); the rest dims. Of a signed map the absolute values count."
)
USUAL_MASS = 60  # percent, as in the figures of DINO


def display(key: str = "display", *, small: bool = True, mass: bool = False) -> ViewStyle:
    """The popover of rare options, and beside it the choice of the small picture; what they hold is in the URL.

    `mass`: whether maps may be cut down to the tokens that hold most of them.
    """
    with st.popover("Display", icon=":material/tune:", key=key):
        over, look = overlay_choice(), scale_choice()
        hide = st.toggle("Hide CLS and registers", True, key="drop", bind="query-params", help=WHY_HIDE)
        share = mass_choice() if mass else None
    return ViewStyle(**look, **over, hide_special=hide, model_input=small and network_choice(), mass=share)


def mass_choice() -> float | None:
    """The share of a map whose tokens keep their colour; None where all do."""
    if not st.toggle("Most relevant only", key="mask", bind="query-params", help=WHY_MASK):
        return None
    keep_inside("mask-mass", range(5, 100))
    title = "Cumulative mass (top-p)"
    return st.slider(title, 5, 95, USUAL_MASS, 5, key="mask-mass", format="%d %%", bind="query-params") / 100


def overlay_choice() -> dict[str, Any]:
    """How a map lies over a picture, as fields of a style."""
    overlay = one_of("Weight over a picture", OVERLAYS, default=USUAL, key="overlay", help=WHY_OVERLAY)
    percent = st.slider("Opacity", 0, 100, 75, 5, format="%d %%", key="opacity", bind="query-params", help=WHY_OPACITY)
    smooth = st.toggle("Smooth", key="smooth", bind="query-params", help=WHY_SMOOTH)
    return {"overlay": None if overlay == USUAL else overlay, "opacity": percent / 100, "smooth": smooth}


def scale_choice() -> dict[str, Any]:
    """How weights become colours, and of what they are shares, as fields of a style."""
    scale = one_of("Scale", SCALES, default=USUAL, key="scale", help=WHY_SCALE)
    tiles = one_of("Range of small maps", TILE_RANGES, default="shared", key="small_maps", help=WHY_TILE_RANGE)
    return {"scale": None if scale == USUAL else scale, "colours": colour_choice(), "tiles_shared": tiles == "shared"}


def colour_choice() -> str:
    """A sequential colour scale of plots.theme."""
    return select("Colours", COLOURS, key="colours")


def network_choice() -> bool:
    """Whether the small picture that the model reads is shown: one click, as it is seldom what one expects."""
    return st.toggle("Show model input", key="network", bind="query-params", help=WHY_MODEL_INPUT)


def masked_of(call: AttentionCall) -> Bool[np.ndarray, "query key"] | None:
    """Which keys no head of a call may attend to; None where there is no mask."""
    closed = call.closed()
    return None if closed is None else closed.cpu().numpy()


def type_words(map_type: MapType, caveat: str = "") -> str:
    """A type of map in a sentence, with what it means unless a caveat says that more exactly."""
    name, meaning = MAP_TYPES[map_type]
    said = name if caveat else f"{name}: {meaning}"
    return f"{said[:1].upper()}{said[1:]}."


def kind_words(call: AttentionCall) -> str:
    """What has to be known of a call's token map that is no plain attention weights; empty where it is."""
    map_type, caveat = call.rule.map_type, call.rule.caveat
    parts = [] if map_type == "weights" else [type_words(map_type, caveat)]
    return " ".join(filter(None, [*parts, caveat]))


def unit_of(call: AttentionCall) -> str:
    """What an entry of its map is: percent where rows sum to 1, else just a number."""
    return "percent" if call.rule.stochastic else "number"


def together(rows: Float[np.ndarray, "*map query key"], *, shares: bool) -> Float[np.ndarray, "*map key"]:
    """Rows of several selected tokens as views put them together: shares add up, other numbers are averaged."""
    return rows.sum(-2) if shares else rows.mean(-2)


def mean_of(
    call: AttentionCall, rows: Sequence[int] | None = None
) -> tuple[Float[np.ndarray, "one query key"] | None, str]:
    """The mean over the heads of a call, of these queries or of all; or none, and why there is no map."""
    try:
        if rows is not None:
            return call.token_map(rows=rows).mean(0, keepdim=True).float().numpy(), ""
        means = [call.token_map(rows=block).mean(0, keepdim=True) for block in call.blocks()]
        return torch.cat(means, 1).float().numpy(), ""
    except NoTokenMap as error:
        return None, f"There is no token-to-token map to show. The reason: {str(error).rstrip('.')}."
