"""What the page Follow a token shows: the visitor's picture or words, a layer in stages, and the layers after it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import streamlit as st
from PIL import Image

from attnviz.measures.token_path import NoPath, TokenPath, answers_along, follow_token
from attnviz.types import UnsupportedMask
from attnviz.ui.core.assets import picture_address
from attnviz.ui.core.labels import call_names, head_name, plain, token_names
from attnviz.ui.core.recorded import middle
from attnviz.ui.core.state import read_address, write_address
from attnviz.ui.follow.stages import Stages, array, depth_id, length, limit_of, masked_weights, strips, text_of
from attnviz.ui.inputs.image_run import ImageRun
from attnviz.ui.inputs.model_run import ModelRun
from attnviz.ui.widgets.answers import percent
from attnviz.ui.widgets.text_display import middle as middle_word
from attnviz.ui.widgets.whole_answer import label_of
from attnviz.views.token_path import Scene, Stage

SIDE = 480  # pixels of the picture at most
STAGE = "at_stage"  # session key and parameter: the stage the scrubber is on
FIRST = "weights"  # the stage a visitor sees first, where there is one
NOTHING = "This model records no residual stream, so there is nothing to follow."
NO_PATH = (
    "A token of this model cannot be followed stage by stage. The reason: {reason}. What it carries from layer to "
    "layer is shown."
)


def start_token(run: ModelRun) -> int:
    """The token a visitor follows first: a patch or a word in the middle."""
    tokens = run.sample.tokens["main"]
    return middle(tokens) if isinstance(run, ImageRun) else middle_word(tokens)


def stages_of(run: ModelRun, at: int, head: int, token: int) -> tuple[list[Stage], TokenPath | None]:
    """The stages of one layer and the depths after them; where a layer has no stages a sentence says why."""
    call, names = run.trace.calls[at], token_names(run.sample.tokens["main"])
    try:
        path = follow_token(run.model, run.trace, call, head, token)
    except (NoPath, UnsupportedMask) as error:
        reason = error.reason if isinstance(error, UnsupportedMask) else str(error)
        st.info(NO_PATH.format(reason=plain(reason)), icon=":material/info:")
        return depths(run, token), None
    found = Stages(path, names, head).all()
    heading = f"{call_names(run.trace)[at]}, {head_name(head).lower()}"
    return [with_heading(found[0], heading), *found[1:], *depths(run, token)], path


def depths(run: ModelRun, token: int) -> list[Stage]:
    """The residual of the token before the first and after every layer, and what it would answer there."""
    residuals = run.trace.residuals.get(run.sample.tokens["main"].stream, ())
    residuals = [array(one[token]) for one in residuals if token < len(one)]
    if not residuals:
        return []
    limit, lens = limit_of(*residuals), answers_along(run.model, run.trace, token)
    found = []
    for depth, vector in enumerate(residuals):
        title = f"After layer {depth}" if depth else "Enters layer 1"
        answers, note, text = (), length(vector), text_of("depth")
        if lens is not None:
            labels, shares = lens.labels[depth, 0].tolist(), lens.probabilities[depth, 0].tolist()
            answers = tuple((label_of(run, lens.output, one), share) for one, share in zip(labels, shares, strict=True))
            note, text = f"{answers[0][0].split(': ')[-1]} {percent(shares[0])}", text_of("depth with answers")
        shown = strips(("", "residual", vector), limit=limit)
        found.append(Stage(depth_id(depth), title, text, shown, note, answers=answers))
    return [with_heading(found[0], "All layers"), *found[1:]]


def with_heading(stage: Stage, heading: str) -> Stage:
    """A stage that begins a part."""
    return replace(stage, heading=heading)


def scene_of(run: ModelRun, path: TokenPath | None) -> Scene:
    """The picture or the words, with scores and weights of every token."""
    tokens = run.sample.tokens["main"]
    maps: dict[str, np.ndarray] = {}
    if path is not None and path.scores is not None:
        maps["scores"] = array(path.scores)
    if path is not None and (weights := masked_weights(path)) is not None:
        maps["weights"] = weights
    names = token_names(tokens)
    if not isinstance(run, ImageRun) or tokens.grid is None:
        return Scene(names, maps=maps)
    picture = seen(run)
    return Scene(
        names,
        tokens.prefix,
        tokens.grid,
        picture_address(picture, "JPEG", quality=85),
        picture.width / picture.height,
        maps,
    )


def seen(run: ImageRun) -> Image.Image:
    """The part of the visitor's picture that the model sees, small."""
    picture = run.picture.crop(run.sample.crop) if run.sample.crop else run.picture
    scale = SIDE / max(picture.size)
    size = max(1, round(picture.width * scale)), max(1, round(picture.height * scale))
    return picture.convert("RGB").resize(size, Image.Resampling.LANCZOS if scale < 1 else Image.Resampling.NEAREST)


def chosen_stage(stages: list[Stage]) -> str:
    """The stage that was chosen last, in the address by its identifier."""
    ids = [stage.id for stage in stages]
    default = FIRST if FIRST in ids else ids[0]
    read_address(STAGE, ids)
    picked = st.session_state.get(STAGE, default)
    write_address(STAGE, picked, default)
    st.session_state[STAGE] = picked
    return picked


def rest_on(stage: str) -> None:
    """Keep the stage that the scrubber rests on."""
    st.session_state[STAGE] = stage


def numbers_of(stages: Sequence[Stage]) -> dict[str, np.ndarray]:
    """Every strip by stage and label, for the file of exact numbers; the weight of a masked key is 0."""
    found: dict[str, np.ndarray] = {}
    for stage in stages:
        for at, strip in enumerate(stage.strips):
            values = strip.values if strip.signed else np.maximum(strip.values, 0)
            found[f"{stage.id} {at} {strip.label}"] = values
    return found
