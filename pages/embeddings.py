"""Embeddings: a picture becomes patches, and patches become vectors."""

import streamlit as st

from attnviz import plots, ui, views
from attnviz.ui.core.recorded import middle
from attnviz.ui.embeddings import image
from attnviz.ui.shell.prose import section
from attnviz.ui.widgets.display import network_choice

ui.header("embeddings")
visit = ui.visit()
tokens = visit.sample.tokens["main"]


def picked(chosen: tuple[int, ...]) -> None:
    """Keep the patch that was clicked; letting go keeps the last one."""
    if chosen:
        ui.set_tokens("token", chosen[:1])


def story(patch: image.Patch) -> None:
    """One patch from pixels to vector: enlarged, flattened, projected, placed."""
    st.markdown(patch.sentence)
    if patch.picture is not None:
        st.image(plots.mosaic(image.enlarged(patch.picture), columns=4, tile=96, gap=12))
    alt = f"Bars: the numbers of {patch.name}, from pixels to the vector that enters layer 1"
    ui.plot(image.steps_figure(visit, patch), "story", alt=alt)


def one_number(patch: image.Patch) -> None:
    """One number of the content as pixels times weights."""
    st.subheader("One number of the content")
    width = visit.model.spec.width
    ui.keep_inside("number", range(1, width + 1))
    number = st.slider("Number", 1, width, 1, key="number", bind="query-params")
    found = image.feature_of(visit, patch, number - 1)
    left, right = st.columns([2, 5], gap="large")
    with left:
        st.image(plots.mosaic(found.tiles, columns=2, tile=128, gap=12), caption="The patch · row of the projection")
    with right:
        alt = f"Bars: the products of pixels and weights that make number {number}"
        ui.plot(image.products_figure(visit, found), "products", alt=alt)
        st.markdown(found.sentence)
    section("embeddings", "One number of the content", title=False)


def alike(token: int) -> None:
    """Which patches have vectors like the chosen one's, at any stage."""
    st.subheader("Which patches are alike")
    stages = image.stages(visit)
    ui.keep_inside("stage", stages)
    name = st.select_slider("Vectors", stages, key="stage", bind="query-params")
    stage = stages.index(name)
    rgb, shares = image.colours(visit, stage)
    views.send_maps(
        "cosines",
        image.cosines(visit, stage)[None],
        titles=[f"{name}, cosine"],
        keys=tokens,
        signed=True,
        map_type="cosine",
        unit="number",
    )
    views.send_colours("components", rgb[None], titles=[f"{name}, principal components"], keys=tokens)
    left, right = st.columns(2, gap="large")
    with left:
        views.picture_view(
            "embeddings:alike",
            picture="picture",
            maps="cosines",
            tokens=(token,),
            style=views.ViewStyle(scale="linear", model_input=network),
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
        st.caption(
            " · ".join(f"{c} {100 * s:.1f} %" for c, s in zip(("Red", "green", "blue"), shares, strict=False))
            + " of the variance between patches"
        )
    section("embeddings", "Which patches are alike", title=False)
    ui.downloads(
        lambda: {"vectors": image.vectors_at(visit, stage), "cosine": image.cosines(visit, stage), "colours": rgb},
        image.patch_of(visit, token).rows,
        "embeddings",
    )


@ui.fragment
def body() -> None:
    """Everything that follows the chosen patch."""
    token = ui.chosen_token("token", len(tokens), middle(tokens))
    patch = image.patch_of(visit, token)
    left, right = st.columns([3, 2], gap="large")
    with left:
        views.picture_view(
            "embeddings:patches",
            picture="picture",
            tokens=(token,),
            style=views.ViewStyle(model_input=network),
            height=480,
            label="The picture, cut into patches",
            on_pick=picked,
        )
    with right:
        story(patch)
    st.table(patch.table(), border="horizontal", hide_index=True)
    section("embeddings", "From pixels to a vector" if patch.pixels is not None else "CLS has no pixels")
    if patch.pixels is not None:
        one_number(patch)
    alike(token)


network = network_choice()
ui.share_picture(visit)
body()
section("embeddings", "What the projection looks for")
tiles, shares = image.filters_of(visit)
left, right = st.columns([3, 2], gap="large")
left.image(plots.mosaic(tiles, columns=7, tile=72, gap=8))
with right:
    ui.plot(image.shares_figure(shares), "shares", alt="Bars: share of variance by principal component")
ui.footer("embeddings")
