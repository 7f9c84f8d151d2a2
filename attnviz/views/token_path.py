"""A computation as a column of stages with a scrubber, beside the picture or words it is about.

Each stage has strips, one colour a number; all numbers travel with the page, so that scrubbing asks no server. The
chosen token and stage come back as a pick.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import streamlit as st
from jaxtyping import Float
from streamlit.components.v2 import component

from attnviz.plots import theme
from attnviz.views.library import read

Kind = Literal["feature", "token"]  # what the numbers of a strip are counted by
Role = Literal["query", "key", "value", "position", "text", "muted"]

_path = component(
    "attnviz_token_path", html='<div class="path"></div>', css=read("token_path.css"), js=read("token_path.js")
)


@dataclass(frozen=True, eq=False)
class Strip:
    """One vector: a colour for each number. `limit` is the number of the last colour; `sign` stands before it."""

    label: str
    values: Float[np.ndarray, " number"]
    limit: float
    role: Role = "text"
    sign: str = ""
    kind: Kind = "feature"
    signed: bool = True


@dataclass(frozen=True, eq=False)
class Stage:
    """One stage: a line in the column, and what is shown while the scrubber is on it."""

    id: str
    title: str
    text: str
    strips: tuple[Strip, ...]
    note: str = ""  # what its line says at the end
    role: Role = "text"
    heading: str = ""  # over its line, where a part begins
    map: Literal["", "scores", "weights"] = ""  # what lies over the picture or the words
    marked: tuple[int, ...] = ()  # tokens outlined there, in the colour of the role
    answers: tuple[tuple[str, float], ...] = ()  # labels with their probabilities


@dataclass(frozen=True, eq=False)
class Scene:
    """What the stages are about: a picture with its grid, or words."""

    names: Sequence[str]  # of the tokens
    prefix: int = 0  # tokens before the grid
    grid: tuple[int, int] | None = None
    picture: str = ""  # its address
    aspect: float = 1.0  # width over height
    maps: dict[str, Float[np.ndarray, " token"]] = field(default_factory=dict)  # name -> a number for every token


def path_view(
    key: str,
    *,
    scene: Scene,
    stages: Sequence[Stage],
    token: int,
    stage: str,
    dark: bool = False,
    on_token: Callable[[int], None] | None = None,
    on_stage: Callable[[str], None] | None = None,
) -> None:
    """Show stages with a scrubber. A stage is told to `on_stage` once the scrubber rests on it, a click to `on_token`.

    Raises ValueError where `stage` is none of the stages, or a strip over tokens has another length than the tokens.
    """
    ids = [one.id for one in stages]
    if stage not in ids:
        raise ValueError(f"no stage is called {stage!r}; known: {', '.join(ids)}")
    for strip in (strip for one in stages for strip in one.strips):
        if strip.kind == "token" and len(strip.values) != len(scene.names):
            raise ValueError(f"{strip.label} has {len(strip.values)} numbers for {len(scene.names)} tokens")

    def told(name: str, tell: Callable[[Any], None] | None) -> Callable[[], None]:
        def changed() -> None:
            value = st.session_state[key].get(name)
            if tell is not None and value is not None:
                tell(value)

        return changed

    _path(
        key=key,
        data={
            "scene": {**vars(scene), "names": list(scene.names), "maps": {n: packed(m) for n, m in scene.maps.items()}},
            "stages": [{**vars(one), "strips": [strip_data(strip) for strip in one.strips]} for one in stages],
            "token": token,
            "stage": stage,
            "colours": {role: theme.colour(role, dark) for role in ("query", "key", "value", "position", "muted")},
            "signed": theme.SCALES[theme.DIVERGING[dark]],
            "weights": theme.SCALES[theme.SEQUENTIAL[0]],
        },
        on_token_change=told("token", on_token),
        on_stage_change=told("stage", on_stage),
    )


def strip_data(strip: Strip) -> dict[str, Any]:
    """A strip as the browser reads it."""
    return {**vars(strip), "values": packed(strip.values)}


def packed(values: Float[np.ndarray, " number"]) -> str:
    """Numbers as base64 of float32, little endian; -inf stays what it is."""
    return base64.b64encode(np.ascontiguousarray(values, dtype="<f4").tobytes()).decode()
