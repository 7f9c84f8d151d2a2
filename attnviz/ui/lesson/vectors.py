"""Steps 1 to 6 of the Lesson: word vectors and what can be done with them before anything is learned."""

from __future__ import annotations

import numpy as np
import streamlit as st

from attnviz import plots
from attnviz.measures import reweigh
from attnviz.measures.embeddings import cosine, dot_product
from attnviz.models.words import words_of
from attnviz.ui.core.state import one_of
from attnviz.ui.lesson.pictures import CLIP, largest_weight, matrix, nearest, row_bars, weights
from attnviz.ui.lesson.scene import MAX_WORDS, Scene, table
from attnviz.ui.widgets.answers import percent
from attnviz.ui.widgets.output import dark, plot

PROXIMITY_SIGMA = 1.5  # width of the bell, in words, with which steps 2 and 5 begin
SIMILARITIES = {"dot": dot_product, "cosine": cosine}
SIMILARITY_TITLES = {"dot": "Dot product", "cosine": "Cosine"}
AXES = {"rows": "Rows", "columns": "Columns"}
TEMPERATURES = (0, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
THREE_WORDS = "Type three words that the table knows, such as: man woman king."


def vectors(here: Scene) -> None:
    """Every word's row of the table, its neighbours, and a sum of vectors."""
    figure = plots.heatmap(
        here.vectors,
        rows=here.words,
        x_title="Feature",
        signed=True,
        dark=dark(),
        most_ticks=MAX_WORDS,
        height=60 + 26 * len(here.words),
    )
    plot(figure, "lesson:vectors", alt=f"The vectors of the words, one row of {here.vectors.shape[1]} numbers each")
    st.markdown(f"**Nearest to {here.word}**, by cosine: {nearest(here.vectors[here.focus], 8, (here.word,))}")
    analogy()


def analogy() -> None:
    """A sum of the vectors of three words, and the words nearest to it."""
    asked = st.text_input(
        "An analogy: the first word is to the second as the third is to …",
        "man woman king",
        max_chars=60,
        key="analogy",
        bind="query-params",
    )
    three = words_of(asked or "")
    if len(three) != 3 or any(word not in table().index for word in three):
        st.caption(THREE_WORDS)
        return
    a, b, c = three
    total = table().analogy(a, b, c)
    st.markdown(f"{b} − {a} + {c} is nearest to: {nearest(total.numpy(), 6, three)}")
    st.caption(
        f"The three words themselves are left out, as is usual; with them, {c} would have rank "
        f"{table().rank(c, total)} and {b} rank {table().rank(b, total)}."
    )


def proximity(here: Scene) -> None:
    """Weights by distance, and what they do to the numbers along the sentence."""
    sigma = st.slider("Width σ of the bell, in words", 0.3, 6.0, PROXIMITY_SIGMA, 0.1, key="sigma", bind="query-params")
    mixing = reweigh.proximity(len(here.words), sigma)
    weights(mixing, here, "lesson:proximity", "Weights by distance alone")
    feature = int(here.vectors.var(0).argmax())
    series = {"word vectors": here.vectors[:, feature], "weighted means": (mixing @ here.vectors)[:, feature]}
    figure = plots.lines(
        series,
        x_title="Position",
        y_title=f"Feature {feature + 1}",
        points=True,
        dark=dark(),
        x=np.arange(1, len(here.words) + 1),
        height=230,
    )
    plot(
        figure, "lesson:smooth", alt=f"Feature {feature + 1} along the sentence, before and after: it becomes smoother"
    )
    st.caption(
        f"{largest_weight(mixing, here)}. These weights are the same for every sentence of {len(here.words)} words."
    )


def similarity_choice() -> str:
    """By what words are compared, by its name in SIMILARITIES."""
    return one_of("Similarity", SIMILARITY_TITLES, default="dot", key="compare")


def products(here: Scene) -> None:
    """Dot products or cosines of all pairs, and the lengths that make them differ."""
    name = similarity_choice()
    title, scores = SIMILARITY_TITLES[name], SIMILARITIES[name](here.vectors)
    most = float(np.quantile(np.abs(scores), CLIP))  # a long vector's product with itself would pale all others
    matrix(
        scores,
        here,
        "lesson:products",
        f"{title} of every pair of words",
        signed=True,
        limits=(-most, most),
        value=f"{title.lower()}, colours clipped",
    )
    lengths = np.linalg.norm(here.vectors, axis=-1)
    row_bars(
        lengths, here, "lesson:lengths", "Length of each word's vector", form=".2f", colours="value", y_title="Length"
    )
    order = np.argsort(-scores[here.focus])[:2]
    best = here.words[int(order[1] if order[0] == here.focus else order[0])]
    st.caption(
        f"Most similar to {here.word} in this sentence, besides itself: {best}. The table is scaled so that "
        "the mean length over running text is 1."
    )


def normalisation(here: Scene) -> None:
    """From scores to weights by a softmax along rows or, as another operation, along columns."""
    along = one_of("Softmax along", AXES, default="rows", key="along")
    scores = dot_product(here.vectors)
    found = reweigh.softmax(scores, axis=-1 if along == "rows" else 0)
    weights(found, here, "lesson:shares", f"Softmax along {along}")
    st.dataframe(
        {
            "Key": here.words,
            "Score": scores[here.focus],
            "Exponential": np.exp(scores[here.focus]),
            "Weight": 100 * found[here.focus],
        },
        hide_index=True,
        height=220,
        column_config={
            "Score": st.column_config.NumberColumn(format="%.3f"),
            "Exponential": st.column_config.NumberColumn(format="%.3f"),
            "Weight": st.column_config.NumberColumn(format="%.1f %%"),
        },
    )
    total = percent(found[here.focus].sum())
    if along == "rows":
        st.caption(f"The row of {here.word}: its weights sum to {total}.")
    else:
        st.caption(f"The row of {here.word}: its weights sum to {total}, because here columns sum to 1 and not rows.")


def contexts(here: Scene) -> None:
    """What a word becomes when it is mixed with similar words, near ones, or both."""
    content = st.slider(
        "Share of the score that comes from word vectors; the rest comes from distance",
        0.0,
        1.0,
        1.0,
        0.05,
        key="content",
        bind="query-params",
    )
    mixing = reweigh.softmax(reweigh.blended(here.vectors, content, sigma=PROXIMITY_SIGMA))
    weights(mixing, here, "lesson:mixing", "Self-attention without parameters")
    mixed = mixing @ here.vectors
    before, after = here.vectors[here.focus], mixed[here.focus]
    st.markdown(f"**Word vector of {here.word}**, nearest to: {nearest(before, 6, (here.word,))}")
    st.markdown(f"**Context vector of {here.word}**, nearest to: {nearest(after, 6, (here.word,))}")
    similarity = float(before @ after / max(1e-9, np.linalg.norm(before) * np.linalg.norm(after)))
    own = percent(mixing[here.focus, here.focus])
    st.caption(
        f"Its weight on itself is {own}; the cosine of both vectors is {similarity:.2f}. "
        f"{largest_weight(mixing, here)}."
    )


def no_row(word: str) -> str:
    """The sentence about a query that has no vector."""
    return f"The table has no row for that. The query is the focus word, {word}."


def soft_lookup(here: Scene) -> None:
    """One query against the words as keys, at any temperature."""
    asked = st.text_input("Query word", "puppy", max_chars=40, key="lookup", bind="query-params")
    found = [word for word in words_of(asked or "") if word in table().index][:1]
    if not found:
        st.info(no_row(here.word))
    query = table().vectors[table().index[found[0]]].numpy() if found else here.vectors[here.focus]
    name = found[0] if found else here.word
    tau = st.select_slider("Temperature τ", TEMPERATURES, 0.5, key="tau", bind="query-params")
    row = reweigh.look_up(query, here.vectors, tau)
    row_bars(
        row,
        here,
        "lesson:lookup",
        f"The weight of each word in a soft lookup of {name}",
        height=300,
        limits=(0, 1),
        y_title="Weight",
    )
    st.markdown(f"**Hard lookup:** the value of {here.words[int((here.vectors @ query).argmax())]}.")
    st.markdown(f"**Soft lookup:** a vector nearest to {nearest(row @ here.vectors, 5)}.")
