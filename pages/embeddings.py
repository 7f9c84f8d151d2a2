"""Embeddings: a picture becomes patches, and patches become vectors."""

import streamlit as st

from attnviz import plots, ui, views
from attnviz.ui.core.recorded import middle
from attnviz.ui.embeddings import image
from attnviz.ui.embeddings.alike import alike
from attnviz.ui.shell.prose import section
from attnviz.ui.widgets.display import network_choice

ui.header("embeddings")
visit = ui.visit()
tokens, projection = visit.sample.tokens["main"], visit.model.patch_projection


def picked(chosen: tuple[int, ...]) -> None:
    """Keep the patch that was clicked; a click that deselects keeps the last one."""
    if chosen:
        ui.set_tokens("token", chosen[:1])


def story(patch: image.Patch) -> None:
    """One patch from pixels to vector: enlarged, flattened, projected, placed."""
    st.markdown(patch.sentence)
    if patch.picture is not None:
        ui.show_picture(
            st,
            plots.tiled(image.enlarged(patch.picture), columns=4, tile=96, gap=12),
            alt=f"The pixels of {patch.name}",
        )
    alt = f"Bars: the numbers of {patch.name}, from pixels to the vector that enters layer 1"
    ui.plot(image.steps_figure(projection, patch), "story", alt=alt)


def one_number(projection: image.PatchProjection, patch: image.Patch) -> None:
    """One number of the patch embedding as pixels times weights."""
    st.subheader("One number of the patch embedding")
    width = len(projection.weight)
    ui.keep_inside("number", range(1, width + 1))
    number = st.slider("Number", 1, width, 1, key="number", bind="query-params")
    found = image.feature_of(projection, patch, number - 1)
    left, right = st.columns([2, 5], gap="large")
    pixels = plots.tiled(found.tiles, columns=2, tile=128, gap=12)
    ui.show_picture(
        left,
        pixels,
        alt=f"{patch.name} beside row {number} of the projection",
        caption="The patch · row of the projection",
    )
    with right:
        alt = f"Bars: the products of pixels and weights that make number {number}"
        ui.plot(image.products_figure(projection, found), "products", alt=alt)
        st.markdown(found.sentence)
    section("embeddings", "One number of the patch embedding", title=False)


def filters(projection: image.PatchProjection) -> None:
    """The patterns the projection responds to most."""
    section("embeddings", "What the projection looks for")
    tiles, shares = image.filters_of(visit.model.digest, projection)
    left, right = st.columns([3, 2], gap="large")
    ui.show_picture(
        left, plots.tiled(tiles, columns=7, tile=72, gap=8), alt="The patterns that the projection responds to most"
    )
    with right:
        ui.plot(image.shares_figure(shares), "shares", alt="Bars: share of variance by principal component")


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
    if token < tokens.prefix:
        section("embeddings", "A token without pixels")
    elif projection is None:
        section("embeddings", "Patches without a linear projection")
    else:
        section("embeddings", "From pixels to a vector")
        one_number(projection, patch)
    alike(visit, token, picked, model_input=network)


network = network_choice()
ui.share_picture(visit)
body()
if projection is not None:
    filters(projection)
ui.footer("embeddings")
