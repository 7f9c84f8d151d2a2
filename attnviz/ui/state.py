"""What the visitor has chosen: kept in the session and in the URL. Layers and heads count from 1 on screen and there."""

from __future__ import annotations

from dataclasses import dataclass

import streamlit as st

from attnviz.models import ImageModel
from attnviz.types import Tokens


@dataclass(frozen=True)
class Display:
    """How maps are drawn."""

    scale: str = "sqrt"
    colours: str = "viridis"
    drop_prefix: bool = True
    network: bool = False  # the network's own small picture instead of the visitor's


def layer_name(index: int) -> str:
    """What a layer is called on screen."""
    return f"Layer {index + 1}"


def head_name(index: int) -> str:
    """What a head is called on screen."""
    return f"Head {index + 1}"


def token_name(tokens: Tokens, index: int) -> str:
    """What a token is called on screen: "row 4, column 9" or its label."""
    if tokens.grid is None or index < tokens.prefix:
        return tokens.labels[index]
    row, column = divmod(index - tokens.prefix, tokens.grid[1])
    return f"row {row + 1}, column {column + 1}"


def chosen_tokens(name: str, count: int, default: tuple[int, ...] = ()) -> tuple[int, ...]:
    """The tokens picked under this name: from the session, else the URL, else the default; written back to the URL."""
    if name not in st.session_state:
        parts = st.query_params.get(name, "").split(",")
        numbers = [int(p) for p in parts if p.isdecimal() and len(p) < 7]
        st.session_state[name] = tuple(n for n in numbers if n < count) or default
    kept = tuple(n for n in st.session_state[name] if n < count) or default
    st.session_state[name] = kept
    st.query_params[name] = ",".join(map(str, kept))
    return kept


def chosen_token(name: str, count: int, default: int = 0) -> int:
    """The one token picked under this name."""
    return chosen_tokens(name, count, (default,))[0]


def set_tokens(name: str, tokens: tuple[int, ...]) -> None:
    """Pick tokens, e.g. from a view's on_pick."""
    st.session_state[name] = tuple(int(t) for t in tokens)


def go(**state: str | int | bool | tuple[int, ...]) -> None:
    """Set several choices at once, by their names in the URL; call it from a button's on_click."""
    for name, value in state.items():
        st.session_state[name] = value


def layer_choice(model: ImageModel, key: str = "layer") -> int:
    """A slider over the layers; the last one to begin with. Counts from 0 in code, from 1 on screen and in the URL."""
    count = model.config.layers
    keep_inside(key, range(1, count + 1))
    return st.slider("Layer", 1, count, count, key=key, bind="query-params") - 1


def head_choice(model: ImageModel, key: str = "head") -> int:
    """A row of buttons over the heads; the first one to begin with."""
    options = list(range(1, model.config.heads + 1))
    keep_inside(key, options)
    chosen = st.segmented_control("Head", options, default=1, required=True, key=key, bind="query-params")
    return chosen - 1


def keep_inside(key: str, options) -> None:
    """Forget a choice that another model does not have."""
    if key in st.session_state and st.session_state[key] not in options:
        del st.session_state[key]


SCALES = {"Square root": "sqrt", "Linear": "linear", "Log": "log", "Rank": "rank"}
COLOURS = {"Viridis": "viridis", "Cividis": "cividis", "Inferno": "inferno", "Gray": "gray"}


def display(key: str = "display") -> Display:
    """The popover of rare options, shared by all pages."""
    with st.popover("Display", icon=":material/tune:"):
        scale = st.segmented_control(
            "Scale", list(SCALES), default="Square root", required=True, key="scale", bind="query-params"
        )
        colours = st.selectbox("Colours", list(COLOURS), key="colours", bind="query-params")
        drop = st.toggle("Leave out CLS and registers", True, key="drop", bind="query-params")
        network = st.toggle("Show the picture the network sees", False, key="network", bind="query-params")
    return Display(SCALES[scale], COLOURS[colours], drop, network)
