"""Embeddings, for a text: words become pieces, pieces become numbers, numbers pick rows of a table."""

import streamlit as st

from attnviz import plots, ui, views
from attnviz.ui.core.labels import plain
from attnviz.ui.embeddings import text
from attnviz.ui.inputs.sentences import WIDE
from attnviz.ui.shell.prose import section
from attnviz.ui.widgets import text_display

ui.header("text/embeddings")
about = ui.reading()
tokens = about.sample.tokens["main"]
ui.remarks(about)


def picked(chosen: tuple[int, ...]) -> None:
    """Keep the word that was clicked; letting go keeps the last one."""
    if chosen:
        ui.set_tokens("token", chosen[:1])


def story(token: int) -> text.Word:
    """One token from its number to the vector that enters layer 1, and its neighbours in the table."""
    word = text.word_of(about, token)
    st.markdown(word.sentence)
    steps, near = st.columns([3, 2], gap="large")
    with steps:
        ui.plot(text.steps_figure(word), "story", alt=f"Bars: the numbers of {word.label}")
        st.table(word.table(), border="horizontal", hide_index=True)
        section("text/embeddings", "From a word to a vector", title=False)
    with near:
        st.markdown(f"**Nearest to {plain(word.label)}** in the table")
        found = text.neighbours(about, word.id)
        ui.plot(
            text.neighbour_figure(found),
            "near",
            alt="Cosines of the nearest rows: " + ", ".join(f"{a} {b:.2f}" for a, b in found),
        )
        section("text/embeddings", "Neighbours in the table", title=False)
    return word


def alike(token: int, stage: int, name: str) -> None:
    """Which words have vectors like the chosen one's, at any stage."""
    cosines = text.measures.cosine(text.vectors_at(about, stage))
    views.send_maps(
        "cosines", cosines[None], titles=[f"{name}, cosine"], keys=tokens, signed=True, map_type="cosine", unit="number"
    )
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
        figure, share = text.plane_figure(about, stage, token)
        ui.plot(figure, "plane", alt=f"The words in a plane of principal components, {name.lower()}")
        st.caption(f"The plane holds {ui.percent(share)} of the variance between the words.")


def contexts(token: int) -> None:
    """The vectors of one word in two contexts, stage by stage."""
    other = st.text_input("Another sentence with the same word", WIDE, max_chars=400, key="other", bind="query-params")
    found = text.twin(about, token, other or "")
    if found is None:
        label = plain(tokens.labels[token])
        st.info(
            f"“{label}” stands neither a second time in your text nor in the other sentence. Type one with it.",
            icon=":material/info:",
        )
        return
    where, curve = found
    st.markdown(f"{where}: cosine **{curve[0]:.2f}** in the table, **{curve[-1]:.2f}** after the last layer.")
    figure = plots.bars(
        curve,
        labels=text.stages(about),
        form=".2f",
        shown=True,
        most_ticks=20,
        y_title="Cosine",
        dark=ui.dark(),
        height=300,
    )
    ui.plot(figure, "contexts", alt=f"Cosine of {where}, by stage")


@ui.fragment
def body() -> None:
    """Everything that follows the chosen word."""
    token = ui.chosen_token("token", len(tokens), text_display.middle(tokens))
    names = text.stages(about)
    ui.keep_inside("stage", names)
    name = st.select_slider("Vectors", names, key="stage", bind="query-params")
    alike(token, names.index(name), name)
    section_word = story(token)
    section("text/embeddings", "One word, two contexts")
    contexts(token)
    with st.expander("Every piece and its number"):
        st.dataframe(text.pieces_table(about), hide_index=True)
    stage = names.index(name)
    ui.downloads(lambda: {"vectors": text.vectors_at(about, stage)}, section_word.rows, "embeddings-text")


body()
ui.footer("text/embeddings")
