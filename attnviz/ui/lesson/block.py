"""Steps 7 to 12 of the Lesson: what one trained block does with the sentence."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import streamlit as st
import torch
from torch import Tensor

from attnviz import plots, views
from attnviz.measures import reweigh
from attnviz.measures.embeddings import dot_product
from attnviz.models.guess import guesses
from attnviz.plots.growth import growth
from attnviz.training.images import sweep
from attnviz.types import AttentionCall, Mask, Tokens
from attnviz.ui.core.labels import head_name
from attnviz.ui.core.state import buttons, go
from attnviz.ui.lesson.scene import LONGEST, Scene, network, remarks, row_said, table, weights
from attnviz.ui.widgets.answers import percent
from attnviz.ui.widgets.output import dark, plot

HALF = 260  # pixels of a matrix that shares the width with another one
DIMS, KEYS, DRAWS = (4, 16, 64, 256, 1024), 16, 400  # of the random products in step 8


def matrices(here: Scene) -> None:
    """The raw map beside that of a head with learned matrices."""
    call = here.run().calls[0]
    head = head_choice()
    plain, found = reweigh.softmax(dot_product(here.vectors)), call.weights([head])[0].numpy()
    most = float(np.quantile(np.stack([plain, found]), 0.97))
    one = {"legend": False, "limits": (0, most), "height": HALF}  # one range, as they are compared
    raw, learned = st.columns(2)
    with raw:
        st.markdown("**Nothing learned**")
        weights(plain, here, "lesson:raw", "Without matrices", **one)
    with learned:
        st.markdown(f"**Learned:** {head_name(head).lower()}")
        weights(found, here, "lesson:learned", head_name(head), **one)
    st.caption(
        f"{row_said(found, here)}, with the learned matrices. Colours of both end at {percent(most)}; what is "
        "more looks the same."
    )


def head_choice() -> int:
    """Which head of the block."""
    return buttons("Head", list(range(1, network()[0].config.heads + 1)), "head", at=0)


def scaling(here: Scene) -> None:
    """Random products of every dimension, and one row of the block with and without scaling."""
    dims, found = np.array(DIMS), spread()
    figure = growth(
        {"spread of q·k": found["spread"], "√d": np.sqrt(dims)},
        sizes=dims.tolist(),
        x_title="dimension d",
        dark=dark(),
        height=260,
    )
    plot(figure, "lesson:spread", alt="The spread of random dot products grows like the root of the dimension")
    series = {"scores as they are": found["plain"], "divided by √d": found["scaled"]}
    figure = plots.bars(
        series,
        labels=[f"d = {dim}" for dim in dims],
        colours={"scores as they are": "muted", "divided by √d": "key"},
        form=".0%",
        shown=True,
        limits=(0, 1.15),
        dark=dark(),
        height=260,
        y_title="Largest weight",
    )
    plot(figure, "lesson:largest", alt=f"The largest of {KEYS} weights, without and with scaling")
    call = here.run().calls[0]
    sharp = call.scores([0], [here.chosen], "raw")[0, 0].softmax(-1)
    soft, dim = call.weights([0], [here.chosen])[0, 0], call.query.shape[-1]
    st.caption(
        f"Random numbers, the mean of {DRAWS} draws of {KEYS} keys. In this sentence, head 1 of the block "
        f"(d = {dim}) gives at most {percent(float(soft.max()))} of the row of {here.word} to one word; without "
        f"scaling it would be {percent(float(sharp.max()))}."
    )


@st.cache_data(show_spinner=False)
def spread() -> dict[str, np.ndarray]:
    """The random products, which are the same for every visitor."""
    return reweigh.spread_of_products(np.array(DIMS), KEYS, DRAWS)


def several_heads(here: Scene) -> None:
    """All heads as lines between the words, and what each of them adds to the chosen word."""
    call = here.run().calls[0]
    send_heads(call, "lesson:heads")
    heads = heads_choice(call.heads)
    views.lines_view(
        "lesson:lines",
        maps="lesson:heads",
        heads=heads,
        tokens=[here.chosen],
        min_weight=0.02,
        label="Where every word looks, one colour a head",
        on_pick=follow(here),
    )
    handed = torch.einsum("hd,hdf->hf", known(call.output)[:, here.chosen], known(call.projection))
    added = handed.norm(dim=-1).numpy()
    figure = plots.bars(
        added,
        labels=[head_name(h) for h in range(call.heads)],
        colours=list(range(call.heads)),
        dark=dark(),
        height=220,
        y_title="Length added",
    )
    plot(figure, "lesson:added", alt=f"How long the vector is that each head adds to {here.word}")
    st.caption(f"The bars: the length of what each head adds to {here.word}, after its part of W_O.")


def known(tensor: Tensor | None) -> Tensor:
    """What the block always records."""
    if tensor is None:
        raise ValueError("the block records its output and its projection")
    return tensor


def send_heads(call: AttentionCall, slot: str) -> None:
    """Give the browser the maps of all heads."""
    titles = [head_name(head) for head in range(call.heads)]
    views.send_maps(slot, call.weights().numpy(), titles=titles, keys=call.keys, queries=call.queries)


def heads_choice(count: int) -> list[int]:
    """Which heads are shown; all of them to begin with."""
    names = [head_name(head) for head in range(count)]
    chosen = st.pills("Heads", names, default=names, selection_mode="multi", key="heads_shown", bind="query-params")
    return [names.index(name) for name in chosen]


def follow(here: Scene) -> Callable[[tuple[int, ...]], None]:
    """A click on a word makes it the one to follow."""

    def picked(tokens: tuple[int, ...]) -> None:
        if tokens:
            go(word=f"{tokens[-1] + 1} {here.words[tokens[-1]]}")

    return picked


def masks(here: Scene) -> None:
    """A causal mask over one head, and the same head between two sentences."""
    net, head = network()[0], head_choice()
    causal = st.toggle("Causal mask", True, key="causal", bind="query-params")
    call = here.run(mask=Mask(causal=True) if causal else None).calls[0]
    found = call.weights([head])[0].numpy()
    if causal:
        found = np.where(np.tri(len(here.words), dtype=bool), found, np.nan)  # masked is nothing, not zero
    weights(found, here, "lesson:causal", f"{head_name(head)}{', later words masked' if causal else ''}", height=400)
    text = st.text_input(
        "A second sentence, to be looked at",
        "The puppy barked at the old man",
        max_chars=400,
        key="source",
        bind="query-params",
    )
    reading = table().read(text or "", LONGEST)
    for said in remarks(reading):
        st.caption(said)
    if not reading.words:
        st.caption("Type a second sentence of English words to see cross-attention.")
        return
    with torch.no_grad():
        mine, others = (
            net.token_embeddings(torch.tensor(ids)) + net.positions[: len(ids)] for ids in (here.ids, reading.ids)
        )
        keys = Tokens(reading.words, stream="source")
        (cross,) = net.block.attention(
            net.block.attention_norm(mine), net.block.attention_norm(others), queries=Tokens(here.words), keys=keys
        )[1]
    send_heads(cross, "lesson:cross")
    views.lines_view(
        "lesson:across",
        maps="lesson:cross",
        heads=[head],
        tokens=[here.chosen],
        min_weight=0.02,
        label="From your sentence to the second one",
        on_pick=follow(here),
    )


def block(here: Scene) -> None:
    """What is added to each word, and the guess for the chosen word when it is hidden."""
    net, facts = network()
    trace = here.run()
    first, last = trace.residuals["main"]
    (call,) = trace.calls
    with torch.no_grad():
        added = net.block.attention.out(known(call.output).transpose(0, 1).flatten(1))
        parts = {"what it had": first, "attention adds": added, "MLP adds": last - first - added}
    series = {name: part.norm(dim=-1).numpy() for name, part in parts.items()}
    colours = {"what it had": "muted", "attention adds": "key", "MLP adds": "value"}
    figure = plots.bars(
        series, labels=here.words, colours=colours, most_ticks=LONGEST, dark=dark(), height=260, y_title="Length"
    )
    figure.update_xaxes(tickangle=-40, automargin=True)
    plot(figure, "lesson:parts", alt="Length of each word's vector, and of what attention and MLP add to it")
    with torch.no_grad():
        alone = guesses(net, here.ids, here.chosen, alone=True)
        seen = guesses(net, here.ids, here.chosen)
    hidden = " ".join("▢" if i == here.chosen else word for i, word in enumerate(here.words))
    st.markdown(f"**{hidden}**")
    both = {"With a look at the others": seen, "With a look at none of them": alone}
    for column, (title, found) in zip(st.columns(2), both.items(), strict=True):
        with column:
            words, chances = [table().words[i] for i, _ in found], [p for _, p in found]
            most = max(max(chances) * 1.25, 0.05)  # room for the numbers
            figure = plots.bars(
                chances,
                labels=words,
                form=".1%",
                horizontal=True,
                shown=True,
                title=title,
                colours="query",
                limits=(0, most),
                dark=dark(),
                height=230,
            )
            plot(figure, f"lesson:{title}", alt=f"{title}: {words[0]} with {percent(chances[0])}")
    st.caption(
        f"On {facts['held_out']:,} held-out sentences with one hidden word, its first guess was right for "
        f"{facts['top1']} %; always saying the most frequent word would be right for {facts['most_frequent']} %."
    )


def cost(here: Scene) -> None:
    """Multiply-adds of the attention of one layer against the number of tokens, in two parts."""
    width = st.select_slider("Width d", [64, 128, 256, 512, 1024], 512, key="width", bind="query-params")
    sizes = [2**k for k in range(5, 16)]
    counts = np.array(sizes, dtype=np.float64)
    figure = growth(
        {"projections, 4nd²": 4 * counts * width**2, "scores and mixing, 2n²d": 2 * counts**2 * width},
        sizes=sizes,
        y_title="multiply-adds",
        dark=dark(),
        height=380,
    )
    plot(figure, "lesson:cost", alt=f"Two lines that cross at {2 * width} tokens")
    n, d = len(here.words), here.vectors.shape[1]
    st.caption(
        f"The lines cross at n = 2d = {2 * width:,}. The sentence above, n = {n} at d = {d}: {4 * n * d * d:,} "
        f"multiply-adds in the projections, {2 * n * n * d:,} in scores and mixing, {n * n:,} weights a head."
    )
    if rows := sweep.results():
        hunger(rows)


def hunger(rows: Sequence[dict[str, Any]]) -> None:
    """Accuracy against the number of pictures to learn from, as `python -m attnviz.training sweep` found it."""
    series = {"vision transformer": "vit", "most similar picture": "nearest"}
    means = {name: [float(np.mean(row[key])) / 100 for row in rows] for name, key in series.items()}
    counts = [row["pictures"] for row in rows]
    figure = plots.lines(
        means,
        x=counts,
        x_title="Pictures to learn from",
        y_title="Accuracy",
        form=".1%",
        points=True,
        log_x=True,
        limits=(0, 1.02),
        dark=dark(),
        height=300,
    )
    figure.update_xaxes(tickmode="array", tickvals=counts, ticktext=[f"{count:,}" for count in counts])
    own, first = means["vision transformer"], rows[0]
    alt = f"The transformer names {percent(own[0])} of digits with {counts[0]} pictures, {percent(own[-1])} with "
    plot(figure, "lesson:hunger", alt=f"{alt}{counts[-1]:,}")
    st.caption(
        f"Means of {len(first['seeds'])} seeds; {first['steps']} steps of at most {first['batch']} pictures, "
        f"however many there are; {first['held_out']} held-out digits. "
        "`python -m attnviz.training sweep` prints it."
    )
