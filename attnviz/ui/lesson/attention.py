"""Steps 7 to 10 of the Lesson: learned matrices, scaling, several heads, masks and a second sentence."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import streamlit as st
import torch
from torch import Tensor

from attnviz import plots, views
from attnviz.measures import reweigh
from attnviz.measures.embeddings import dot_product
from attnviz.models.words import Reading
from attnviz.plots.growth import growth
from attnviz.types import AttentionCall, Mask, Tokens
from attnviz.ui.core.labels import head_name
from attnviz.ui.core.state import go, head_choice, several_of
from attnviz.ui.lesson.pictures import CLIP, largest_weight, weights
from attnviz.ui.lesson.scene import MAX_LETTERS, Scene, focus_label, network, read
from attnviz.ui.widgets.answers import percent
from attnviz.ui.widgets.output import dark, plot

HALF = 260  # pixels of a matrix that shares the width with another one
DIMS, KEYS, DRAWS = (4, 16, 64, 256, 1024), 16, 400  # of the random products in step 8
MIN_WEIGHT = 0.02  # of a line between words
NO_SECOND = "Type a second sentence of English words to see cross-attention."


def matrices(here: Scene) -> None:
    """The map of step 5 beside that of a head with learned matrices."""
    call = here.run().calls[0]
    head = head_choice(call)
    plain, found = reweigh.softmax(dot_product(here.vectors)), call.weights([head])[0].numpy()
    most = float(np.quantile(np.stack([plain, found]), CLIP))
    shared = {"legend": False, "limits": (0, most), "height": HALF}  # one colour scale, as they are compared
    left, right = st.columns(2)
    with left:
        st.markdown("**Without parameters**")
        weights(plain, here, "lesson:raw", "Without parameters", **shared)
    with right:
        st.markdown(f"**Learned:** {head_name(head).lower()}")
        weights(found, here, "lesson:learned", head_name(head), **shared)
    st.caption(
        f"{largest_weight(found, here)}, with the learned matrices. Colours of both end at {percent(most)}; larger "
        "weights look the same."
    )


def scaling(here: Scene) -> None:
    """Random products of every dimension, and one row of the block with and without scaling."""
    draw_spread(spread())
    call = here.run().calls[0]
    unscaled = call.scores([0], [here.focus], "raw")[0, 0].softmax(-1)
    scaled, dim = call.weights([0], [here.focus])[0, 0], call.query.shape[-1]
    st.caption(
        f"Random numbers, the mean of {DRAWS} draws of {KEYS} keys. In this sentence, the largest weight in the row of "
        f"{here.word} (head 1 of the block, d = {dim}) is {percent(float(scaled.max()))}; without scaling it would be "
        f"{percent(float(unscaled.max()))}."
    )


def draw_spread(found: dict[str, np.ndarray]) -> None:
    """The spread of random products, and the largest weight after a softmax with and without scaling, by dimension."""
    series = {"standard deviation of q·k": found["spread"], "√d": np.sqrt(np.array(DIMS))}
    figure = growth(series, sizes=DIMS, x_title="dimension d", dark=dark(), height=260)
    plot(figure, "lesson:spread", alt="The standard deviation of random dot products grows like the root of d")
    figure = plots.bars(
        {"without scaling": found["plain"], "divided by √d": found["scaled"]},
        labels=[f"d = {dim}" for dim in DIMS],
        colours={"without scaling": "muted", "divided by √d": "key"},
        form=".0%",
        shown=True,
        limits=(0, 1.15),
        dark=dark(),
        height=260,
        y_title="Largest weight",
    )
    plot(figure, "lesson:largest", alt=f"The largest of {KEYS} weights, without and with scaling")


@st.cache_data(show_spinner=False)
def spread() -> dict[str, np.ndarray]:
    """The random products, which are the same for every visitor."""
    return reweigh.spread_of_products(np.array(DIMS), KEYS, DRAWS)


def several_heads(here: Scene) -> None:
    """All heads as lines between the words, and the length of what each of them adds to the focus word."""
    call = here.run().calls[0]
    send_heads(call, "lesson:heads")
    draw_lines("lesson:lines", "lesson:heads", choose_heads(call.heads), here, "Weights of every head, one colour each")
    added = torch.einsum("hd,hdf->hf", recorded(call.output)[:, here.focus], recorded(call.projection))
    figure = plots.bars(
        added.norm(dim=-1).numpy(),
        labels=[head_name(h) for h in range(call.heads)],
        colours=list(range(call.heads)),
        dark=dark(),
        height=220,
        y_title="Length added",
    )
    plot(figure, "lesson:added", alt=f"The length of the vector that each head adds to {here.word}")
    st.caption(f"The bars: the length of what each head adds to {here.word}, after its part of W_O.")


def recorded(tensor: Tensor | None) -> Tensor:
    """What the block always records. Raises ValueError where it did not."""
    if tensor is None:
        raise ValueError("the block records its output and its projection")
    return tensor


def send_heads(call: AttentionCall, slot: str) -> None:
    """Give the browser the maps of all heads."""
    titles = [head_name(head) for head in range(call.heads)]
    views.send_maps(slot, call.weights().numpy(), titles=titles, keys=call.keys, queries=call.queries)


def draw_lines(name: str, maps: str, heads: list[int], here: Scene, label: str) -> None:
    """Lines from the focus word to the words it attends to; a click on a word makes it the focus word."""
    views.lines_view(
        name, maps=maps, heads=heads, tokens=[here.focus], min_weight=MIN_WEIGHT, label=label, on_pick=focus_on(here)
    )


def focus_on(here: Scene) -> Callable[[tuple[int, ...]], None]:
    """A click on a word makes it the focus word."""

    def pick(tokens: tuple[int, ...]) -> None:
        if tokens:
            go(word=focus_label(here.words, tokens[-1]))

    return pick


def choose_heads(count: int) -> list[int]:
    """Which heads are shown; all of them to begin with."""
    names = {str(head + 1): head_name(head) for head in range(count)}
    return [int(name) - 1 for name in several_of("Heads", names, default=list(names), key="heads_shown")]


def masks(here: Scene) -> None:
    """A causal mask over one head, and the same head between two sentences."""
    whole = here.run().calls[0]
    head = head_choice(whole)
    if st.toggle("Causal mask", True, key="causal", bind="query-params"):
        found = here.run(mask=Mask(causal=True)).calls[0].weights([head])[0].numpy()
        found = np.where(np.tri(len(here.words), dtype=bool), found, np.nan)  # masked is nothing, not zero
        title = f"{head_name(head)}, later words masked"
    else:
        found, title = whole.weights([head])[0].numpy(), head_name(head)
    weights(found, here, "lesson:causal", title, height=400)
    text = st.text_input(
        "Second sentence (keys and values)",
        "The puppy barked at the old man",
        max_chars=MAX_LETTERS,
        key="source",
        bind="query-params",
    )
    source = read(text)
    if not source.words:
        st.caption(NO_SECOND)
        return
    send_heads(cross_attention(here, source), "lesson:cross")
    draw_lines("lesson:across", "lesson:cross", [head], here, "From your sentence to the second one")


@torch.no_grad()
def cross_attention(here: Scene, source: Reading) -> AttentionCall:
    """The attention of the block, with queries from the sentence and keys and values from the source."""
    net = network()[0]
    own, other = (
        net.block.attention_norm(net.token_embeddings(torch.tensor(ids)) + net.positions[: len(ids)])
        for ids in (here.ids, source.ids)
    )
    (call,) = net.block.attention(own, other, queries=Tokens(here.words), keys=Tokens(source.words, stream="source"))[1]
    return call
