"""Which patches have vectors like the chosen one's, at any stage: by cosine, and by principal components."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import streamlit as st
from jaxtyping import Float

from attnviz import views
from attnviz.measures import embeddings as measures
from attnviz.ui.embeddings.image import patch_of
from attnviz.ui.embeddings.stages import cosines, send_cosines, stage_choice, stages, vectors_at
from attnviz.ui.inputs.image_run import ImageRun
from attnviz.ui.shell.prose import section
from attnviz.ui.widgets.answers import percent
from attnviz.ui.widgets.output import downloads


def alike(run: ImageRun, token: int, picked: Callable[[tuple[int, ...]], None], *, model_input: bool) -> None:
    """The picture coloured by cosine to the chosen patch, and every patch by its principal components."""
    st.subheader("Which patches are alike")
    tokens, stage = run.sample.tokens["main"], stage_choice(run)
    rgb, shares = colours_at(run.model.digest, run.sample.digest, stage, tokens.prefix, vectors_at(run, stage))
    send(run, stage, rgb, token)
    left, right = st.columns(2, gap="large")
    with left:
        views.picture_view(
            "embeddings:alike",
            picture="picture",
            maps="cosines",
            tokens=(token,),
            style=views.ViewStyle(scale="linear", model_input=model_input),
            height=440,
            on_pick=picked,
            label="Cosine to the chosen patch",
        )
    with right:
        views.colour_view(
            "embeddings:colours",
            colours="components",
            tokens=(token,),
            height=440,
            on_pick=picked,
            label="Principal components as red, green and blue",
        )
        st.caption(variance(shares))
    section("embeddings", "Which patches are alike", title=False)
    downloads(
        lambda: {"vectors": vectors_at(run, stage), "cosine": cosines(run, stage, token), "colours": rgb},
        patch_of(run, token).rows,
        "embeddings",
    )


@st.cache_data(max_entries=64, show_spinner=False)
def colours_at(
    model_digest: str, sample_digest: str, stage: str, prefix: int, _vectors: Float[np.ndarray, "token feature"]
) -> tuple[np.ndarray, np.ndarray]:
    """The colours of a stage and their shares of variance, cached by the digests of model and sample."""
    return measures.principal_colours(_vectors, prefix)


def send(run: ImageRun, stage: str, rgb: np.ndarray, token: int) -> None:
    """Give the browser the cosines of a stage and its colours uint8 [token 3]."""
    tokens, name = run.sample.tokens["main"], stages(run)[stage]
    send_cosines(run, stage, token)
    views.send_colours("components", rgb[None], titles=[f"{name}, principal components"], keys=tokens)


def variance(shares: np.ndarray) -> str:
    """How much of the variance each colour shows, in words."""
    parts = (f"{colour} {percent(share)}" for colour, share in zip(("Red", "green", "blue"), shares, strict=False))
    return f"{' · '.join(parts)} of the variance between patches"
