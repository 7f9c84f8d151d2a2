"""Embeddings, for a text: words become tokens, token ids pick rows of the token embedding."""

import streamlit as st

from attnviz import plots, ui, views
from attnviz.ui.core.labels import plain
from attnviz.ui.embeddings import text
from attnviz.ui.embeddings.stages import send_cosines, stage_choice, stages, vectors_at
from attnviz.ui.inputs.examples import other_context
from attnviz.ui.inputs.sentences import HIGH
from attnviz.ui.shell.prose import section
from attnviz.ui.widgets import text_display

ui.header("text/embeddings")
run = ui.reading()
tokens = run.sample.tokens["main"]
ui.remarks(run)


def picked(chosen: tuple[int, ...]) -> None:
    """Keep the word that was clicked; a click that deselects keeps the last one."""
    if chosen:
        ui.set_tokens("token", chosen[:1])


def story(token: int) -> text.Word:
    """One token from its id to the vector that enters layer 1, and its neighbours in the token embedding."""
    word = text.word_of(run, token)
    st.markdown(word.sentence)
    steps, near = st.columns([3, 2], gap="large")
    with steps:
        ui.plot(text.steps_figure(word), "story", alt=f"Bars: the numbers of {word.label}")
        st.table(word.table(), border="horizontal", hide_index=True)
        section("text/embeddings", "From a word to a vector", title=False)
    with near:
        neighbours(word)
    return word


def neighbours(word: text.Word) -> None:
    """The tokens whose rows of the token embedding are nearest."""
    table = run.model.input_embeddings
    rows = "" if table is None else f", of {len(table):,} rows"
    st.markdown(f"**Nearest to {plain(word.label)}** in the token embedding{rows}")
    found = text.neighbours(run, word.id)
    if not found:
        st.caption(text.NO_TABLE)
        return
    alt = "Cosines of the nearest rows: " + ", ".join(f"{name} {cosine:.2f}" for name, cosine in found)
    ui.plot(text.neighbour_figure(found), "near", alt=alt)
    section("text/embeddings", "Neighbours in the token embedding", title=False)


def alike(token: int, stage: str) -> None:
    """Which words have vectors like the chosen one's, at any stage."""
    name = stages(run)[stage]
    send_cosines(run, stage)
    left, right = st.columns(2, gap="large")
    with left:
        views.text_view(
            "embeddings:alike",
            maps="cosines",
            tokens=(token,),
            style=views.ViewStyle(scale="linear"),
            on_pick=picked,
            label="Cosine to the chosen word",
        )
        section("text/embeddings", "Which words are alike", title=False)
    with right:
        figure, share = text.plane_figure(run, stage, token)
        ui.plot(figure, "plane", alt=f"The words in a plane of principal components, {name.lower()}")
        st.caption(f"The plane holds {ui.percent(share)} of the variance between the words.")


def contexts(token: int) -> None:
    """The vectors of one word in two contexts, stage by stage."""
    usual = other_context(tokens.labels[token], run.sample.text) or HIGH
    label = "Another sentence with the same word"
    other = st.text_input(label, max_chars=400, key="other", bind="query-params", placeholder=usual)
    found = text.twin(run, token, other or usual)
    if found is None:
        st.info(text.NO_TWIN.format(token=plain(tokens.labels[token])), icon=":material/info:")
        return
    where, curve = found
    st.markdown(f"{where}: cosine **{curve[0]:.2f}** before the layers, **{curve[-1]:.2f}** after the last layer.")
    labels = list(stages(run).values())
    figure = plots.bars(
        curve,
        labels=labels,
        form=".2f",
        horizontal=True,  # in a row, the names of the stages would run into each other
        shown=True,
        most_ticks=len(labels),
        x_title="Cosine",
        dark=ui.dark(),
        height=30 * len(labels) + 80,
    )
    ui.plot(figure, "contexts", alt=f"Cosine of {where}, by stage")


@ui.fragment
def body() -> None:
    """Everything that follows the chosen word."""
    token = ui.chosen_token("token", len(tokens), text_display.middle(tokens))
    stage = stage_choice(run)
    alike(token, stage)
    word = story(token)
    section("text/embeddings", "One word, two contexts")
    contexts(token)
    with st.expander("Tokens and token ids"):
        st.dataframe(text.tokens_table(run), hide_index=True)
    ui.downloads(lambda: {"vectors": vectors_at(run, stage)}, word.rows, "embeddings-text")


body()
ui.footer("text/embeddings")
