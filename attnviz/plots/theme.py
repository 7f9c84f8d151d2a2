"""Every colour in the app: every role in light and dark, and the scales maps are drawn with."""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import UInt8
from plotly.colors import sample_colorscale, unlabel_rgb

COLOURS: dict[str, tuple[str, str]] = {  # role -> (light, dark)
    "query": ("#2f6fde", "#7aa7ff"),
    "key": ("#d9480f", "#ff9e64"),
    "value": ("#2b8a3e", "#69db7c"),
    "position": ("#7048e8", "#b197fc"),
    "text": ("#1f2430", "#e6e8ee"),
    "muted": ("#5c6370", "#a3a9b5"),
    "grid": ("#e3e6eb", "#2e3440"),
    "ground": ("#ffffff", "#11141a"),
    "red": ("#c92a2a", "#ff8787"),  # the channels of a picture
    "green": ("#37932b", "#8ce99a"),
    "blue": ("#1864ab", "#74c0fc"),
    "light": ("#868e96", "#adb5bd"),
}
# Okabe and Ito 2008, but for their yellow and black, which vanish on white and on dark ground.
HEADS = ["#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#8c7a00", "#7f7f7f"]
SEQUENTIAL = ("viridis", "cividis", "inferno", "gray")
DIVERGING = ("diverging", "diverging dark")  # (light, dark): zero lies near the ground of each


def hex_rows(name: str | list[str]) -> list[str]:
    """256 colours of a plotly scale or between given colours, dark or small first."""
    colours = sample_colorscale(name, np.linspace(0, 1, 256).tolist())
    return ["#" + "".join(f"{round(c):02x}" for c in unlabel_rgb(colour)) for colour in colours]


SCALES: dict[str, list[str]] = {
    **{name: hex_rows(name) for name in SEQUENTIAL},
    # Blue negative, red or orange positive: told apart by every kind of eye.
    DIVERGING[0]: hex_rows("RdBu")[::-1],
    DIVERGING[1]: hex_rows(["#b3dcff", "#4c9be8", "#1d4f8c", "#1b1f27", "#8c3a1a", "#f08040", "#ffd9b0"]),
}


def colour(role: str, dark: bool = False) -> str:
    """The colour of a role in the theme the visitor sees."""
    return COLOURS[role][dark]


def head_colour(index: int) -> str:
    """One of eight colours, repeated beyond; a label goes with it."""
    return HEADS[index % len(HEADS)]


def table(name: str) -> UInt8[np.ndarray, "256 3"]:
    """A scale as RGB rows, for canvases."""
    if name not in SCALES:
        raise ValueError(f"no colour scale is called {name!r}; known: {', '.join(SCALES)}")
    return np.array([[int(row[i : i + 2], 16) for i in (1, 3, 5)] for row in SCALES[name]], dtype=np.uint8)


def stops(name: str) -> list[tuple[float, str]]:
    """A scale as plotly wants it."""
    rows = SCALES[name]
    return [(i / 32, rows[min(255, i * 8)]) for i in range(33)]


def template(dark: bool = False) -> dict[str, Any]:
    """Layout options shared by all figures, made anew for each."""
    return {
        "template": {"data": {"scatter": [{"type": "scatter"}]}},  # what plotly calls "none"; its own would add 6 kB
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "font": {"family": "Inter, Source Sans, sans-serif", "size": 13, "color": colour("text", dark)},
        "colorway": HEADS,
        "margin": {"l": 48, "r": 16, "t": 32, "b": 40},
        "hoverlabel": {"bgcolor": colour("ground", dark), "font": {"color": colour("text", dark)}},
        "xaxis": axis(dark),
        "yaxis": axis(dark),
    }


def axis(dark: bool = False) -> dict[str, Any]:
    """Options shared by all axes."""
    lines = dict.fromkeys(("gridcolor", "zerolinecolor", "linecolor"), colour("grid", dark))
    return {**lines, "tickfont": {"color": colour("muted", dark)}}
