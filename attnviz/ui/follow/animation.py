"""The stages as files: an animated WebP of all of them, and the exact numbers."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from attnviz.plots.stages import Frame, Input, animate
from attnviz.ui.follow.scene import numbers_of, seen
from attnviz.ui.inputs.image_run import ImageRun
from attnviz.ui.inputs.model_run import ModelRun
from attnviz.ui.widgets.output import dark, download, npz
from attnviz.views.token_path import Scene, Stage

NAME = "follow-a-token"


def offer(run: ModelRun, scene: Scene, stages: Sequence[Stage], token: int) -> None:
    """Buttons for both files; they are made on click."""
    shade = dark()
    with st.container(horizontal=True):
        webp = "Stages as animated WebP"
        download(webp, lambda: animation(run, scene, stages, token, dark=shade), f"{NAME}.webp")
        download("Numbers as NPZ", lambda: npz(numbers_of(stages)), f"{NAME}.npz")


def animation(run: ModelRun, scene: Scene, stages: Sequence[Stage], token: int, *, dark: bool = False) -> bytes:
    """All stages as an animated WebP."""
    picture = seen(run) if isinstance(run, ImageRun) and scene.grid else None
    about = Input(scene.names, token, picture, scene.grid or (1, 1), scene.prefix)
    frames, heading = [], ""
    for stage in stages:
        heading = stage.heading or heading
        strips = [(f"{one.sign} {one.label}".strip(), one.values, one.limit, one.signed) for one in stage.strips]
        over = scene.maps.get(stage.map)
        frames.append(Frame(heading, stage.title, stage.text, strips, over, stage.map == "weights", stage.answers))
    return animate(about, frames, dark=dark)
