"""Steps 1 to 6 of the Lesson: word vectors and what can be done with them before anything is learned."""

from __future__ import annotations

import numpy as np
import streamlit as st

from attnviz import plots
from attnviz.measures import reweigh
from attnviz.measures.embeddings import SIMILARITIES, dot_product
from attnviz.models.words import words_of
from attnviz.ui.core.state import one_of
from attnviz.ui.lesson.scene import LONGEST, Scene, matrix, nearest, row_bars, row_said, table, weights
from attnviz.ui.widgets.answers import percent
from attnviz.ui.widgets.output import dark, plot


def vectors(here: Scene) -> None:
    """Every word's row of the table, its neighbours, and a sum of vectors."""
    figure = plots.heatmap(
        here.vectors,
        rows=here.words,
        x_title="Feature",
        signed=True,
        dark=dark(),
        most_ticks=LONGEST,
        height=60 + 26 * len(here.words),
    )
    plot(figure, "lesson:vectors", alt=f"The vectors of the words, one row of {here.vectors.shape[1]} numbers each")
    st.markdown(f"**Nearest to {here.word}**, by cosine: {nearest(here.vectors[here.chosen], 8, (here.word,))}")
    asked = st.text_input(
        "A sum of directions: the first word is to the second as the third is to …",
        "man woman king",
        max_chars=60,
        key="analogy",
        bind="query-params",
    )
    three = words_of(asked or "")
    if len(three) != 3 or any(word not in table().index for word in three):
        st.caption("Type three words that the table knows, such as: man woman king.")
        return
    a, b, c = three
    total = table().analogy(a, b, c)
    st.markdown(f"{b} − {a} + {c} lies nearest to: {nearest(total.numpy(), 6, three)}")
    st.caption(
        f"The three words themselves are left out, as is usual; counted in, {c} would be number "
        f"{table().rank(c, total)} and {b} number {table().rank(b, total)}."
    )


def proximity(here: Scene) -> None:
    """Weights by distance, and what they do to the numbers along the sentence."""
    sigma = st.slider("Width σ of the bell, in words", 0.3, 6.0, 1.5, 0.1, key="sigma", bind="query-params")
    mixing = reweigh.proximity(len(here.words), sigma)
    weights(mixing, here, "lesson:proximity", "Weights by distance alone")
    feature = int(here.vectors.var(0).argmax())
    series = {"as it was": here.vectors[:, feature], "reweighed": (mixing @ here.vectors)[:, feature]}
    figure = plots.lines(
        series,
        x_title="Word number",
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
        f"{row_said(mixing, here)}. The same numbers would stand here for any other sentence of "
        f"{len(here.words)} words."
    )


def products(here: Scene) -> None:
    """Dot products or cosines of all pairs, and the lengths that tell them apart."""
    how = one_of("Compare by", ["Dot product", "Cosine"], default="Dot product", key="compare")
    scores = SIMILARITIES[how.lower()](here.vectors)
    most = float(np.quantile(np.abs(scores), 0.97))  # a long vector's product with itself would pale all others
    matrix(
        scores,
        here,
        "lesson:products",
        f"{how} of every word with every other",
        signed=True,
        limits=(-most, most),
        value=f"{how.lower()}, colours clipped",
    )
    lengths = np.linalg.norm(here.vectors, axis=-1)
    row_bars(
        lengths, here, "lesson:lengths", "Length of each word's vector", form=".2f", colours="value", y_title="Length"
    )
    other = np.argsort(-scores[here.chosen])[:2]
    best = here.words[int(other[1] if other[0] == here.chosen else other[0])]
    st.caption(
        f"Most like {here.word} in this sentence, besides itself: {best}. The table is scaled so that "
        "the mean length over running text is 1."
    )


def normalising(here: Scene) -> None:
    """From scores to shares, row by row or, as another operation, column by column."""
    way = one_of("Softmax along", ["Rows", "Columns"], default="Rows", key="along")
    scores = dot_product(here.vectors)
    shares = reweigh.softmax(scores, axis=-1 if way == "Rows" else 0)
    weights(shares, here, "lesson:shares", f"Softmax along {way.lower()}")
    st.dataframe(
        {
            "Key": here.words,
            "Score": scores[here.chosen],
            "Exponential": np.exp(scores[here.chosen]),
            "Weight": 100 * shares[here.chosen],
        },
        hide_index=True,
        height=220,
        column_config={
            "Score": st.column_config.NumberColumn(format="%.3f"),
            "Exponential": st.column_config.NumberColumn(format="%.3f"),
            "Weight": st.column_config.NumberColumn(format="%.1f %%"),
        },
    )
    total = shares[here.chosen].sum()
    st.caption(
        f"The row of {here.word}: its weights sum to {percent(total)}"
        + ("." if way == "Rows" else ", because this softmax shares out columns.")
    )


def contexts(here: Scene) -> None:
    """What a word becomes when it is mixed with those like it, near it, or both."""
    content = st.slider(
        "Share of the score that comes from what words say; the rest is distance",
        0.0,
        1.0,
        1.0,
        0.05,
        key="content",
        bind="query-params",
    )
    mixing = reweigh.softmax(reweigh.blended(here.vectors, content, sigma=1.5))
    weights(mixing, here, "lesson:mixing", "Self-attention with nothing to learn")
    mixed = mixing @ here.vectors
    before, after = here.vectors[here.chosen], mixed[here.chosen]
    st.markdown(f"**{here.word}** alone lies near: {nearest(before, 6, (here.word,))}")
    st.markdown(f"**{here.word}** in this sentence lies near: {nearest(after, 6, (here.word,))}")
    cosine = float(before @ after / max(1e-9, np.linalg.norm(before) * np.linalg.norm(after)))
    own = percent(mixing[here.chosen, here.chosen])
    st.caption(f"It gives {own} to itself; the cosine of both vectors is {cosine:.2f}. {row_said(mixing, here)}.")


def looking_up(here: Scene) -> None:
    """One query against the words as keys, at any temperature."""
    asked = st.text_input("Look up", "puppy", max_chars=40, key="lookup", bind="query-params")
    found = [word for word in words_of(asked or "") if word in table().index][:1]
    if not found:
        st.info(f"The table has no row for that; the word to follow, {here.word}, is looked up instead.")
    query = table().vectors[table().index[found[0]]].numpy() if found else here.vectors[here.chosen]
    name = found[0] if found else here.word
    step = st.select_slider(
        "Temperature τ", [0, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0], 0.5, key="tau", bind="query-params"
    )
    shares = reweigh.look_up(query, here.vectors, step)
    row_bars(
        shares,
        here,
        "lesson:lookup",
        f"How much of each word a lookup of {name} returns",
        height=300,
        limits=(0, 1),
        y_title="Share of its value",
    )
    st.markdown(f"**Hard:** the value of {here.words[int((here.vectors @ query).argmax())]}.")
    st.markdown(f"**Soft:** a vector that lies near {nearest(shares @ here.vectors, 5)}.")
