"""Steps 11 and 12 of the Lesson: what one trained block does with the sentence, and what attention costs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import streamlit as st
import torch

from attnviz import plots
from attnviz.models.guess import guesses
from attnviz.plots.growth import growth
from attnviz.training.images import sweep
from attnviz.ui.lesson.attention import recorded
from attnviz.ui.lesson.pictures import slant
from attnviz.ui.lesson.scene import MAX_WORDS, Scene, network, table
from attnviz.ui.widgets.answers import percent
from attnviz.ui.widgets.output import dark, plot

MASK = "▢"  # what stands for the masked word on screen
SWEEP_COMMAND = "python -m attnviz.training sweep"
WIDTHS = (64, 128, 256, 512, 1024)
LENGTHS = [2**power for power in range(5, 16)]  # numbers of tokens


def block(here: Scene) -> None:
    """What is added to each word, and what the network predicts for the focus word when it is masked."""
    draw_parts(here)
    net, facts = network()
    st.markdown(f"**{masked_sentence(here)}**")
    with torch.no_grad():
        context = guesses(net, here.ids, here.focus)
        alone = guesses(net, here.ids, here.focus, alone=True)
    left, right = st.columns(2)
    with left:
        draw_predictions(context, "With attention to all words", "lesson:context")
    with right:
        draw_predictions(alone, "With attention to itself only", "lesson:alone")
    st.caption(
        f"On {facts['held_out']:,} held-out sentences with one masked word, the most probable word was right for "
        f"{facts['top1']} %; always predicting the most frequent word would be right for {facts['most_frequent']} %."
    )


def masked_sentence(here: Scene) -> str:
    """The sentence with a sign in place of the focus word."""
    return " ".join(MASK if i == here.focus else word for i, word in enumerate(here.words))


def draw_parts(here: Scene) -> None:
    """The length of each word's vector, and of what attention and MLP add to it."""
    trace = here.run()
    first, last = trace.residuals["main"]
    (call,) = trace.calls
    with torch.no_grad():
        added = network()[0].block.attention.out(recorded(call.output).transpose(0, 1).flatten(1))
    parts = {"input": first, "attention adds": added, "MLP adds": last - first - added}
    figure = plots.bars(
        {name: part.norm(dim=-1).numpy() for name, part in parts.items()},
        labels=here.words,
        colours={"input": "muted", "attention adds": "key", "MLP adds": "value"},
        most_ticks=MAX_WORDS,
        dark=dark(),
        height=260,
        y_title="Length",
    )
    plot(slant(figure), "lesson:parts", alt="Length of each word's vector, and of what attention and MLP add to it")


def draw_predictions(found: Sequence[tuple[int, float]], title: str, key: str) -> None:
    """The most probable words for the masked place."""
    words, probabilities = [table().words[i] for i, _ in found], [p for _, p in found]
    figure = plots.bars(
        probabilities,
        labels=words,
        form=".1%",
        horizontal=True,
        shown=True,
        title=title,
        colours="query",
        limits=(0, max(max(probabilities) * 1.25, 0.05)),  # room for the numbers
        dark=dark(),
        height=230,
    )
    plot(figure, key, alt=f"{title}: {words[0]} with {percent(probabilities[0])}")


def cost(here: Scene) -> None:
    """Multiply-adds of the attention of one layer against the number of tokens, in two parts."""
    width = st.select_slider("Width d", WIDTHS, 512, key="width", bind="query-params")
    counts = np.array(LENGTHS, dtype=np.float64)
    figure = growth(
        {"projections, 4nd²": 4 * counts * width**2, "scores and mixing, 2n²d": 2 * counts**2 * width},
        sizes=LENGTHS,
        y_title="multiply-adds",
        dark=dark(),
        height=380,
    )
    plot(figure, "lesson:cost", alt=f"Two lines that cross at {2 * width} tokens")
    n, d = len(here.words), here.vectors.shape[1]
    st.caption(
        f"The lines cross at n = 2d = {2 * width:,}. Your sentence, n = {n} at d = {d}: {4 * n * d * d:,} "
        f"multiply-adds in the projections, {2 * n * n * d:,} in scores and mixing, {n * n:,} weights per head."
    )
    if rows := sweep.results():
        draw_sweep(rows)


def draw_sweep(rows: Sequence[dict[str, Any]]) -> None:
    """Accuracy against the number of training pictures, as the command of the sweep measured it."""
    series = {"vision transformer": "vit", "nearest training picture": "nearest"}
    means = {name: [float(np.mean(row[key])) / 100 for row in rows] for name, key in series.items()}
    counts = [row["pictures"] for row in rows]
    figure = plots.lines(
        means,
        x=counts,
        x_title="Training pictures",
        y_title="Accuracy",
        form=".1%",
        points=True,
        log_x=True,
        limits=(0, 1.02),
        dark=dark(),
        height=300,
    )
    labels = [f"{count:,}" for count in counts]
    plots.change(figure, xaxis={"tickmode": "array", "tickvals": counts, "ticktext": labels})
    own, first = means["vision transformer"], rows[0]
    alt = f"Accuracy of the transformer: {percent(own[0])} with {counts[0]} training pictures, {percent(own[-1])} with "
    plot(figure, "lesson:hunger", alt=f"{alt}{counts[-1]:,}")
    st.caption(
        f"Means of {len(first['seeds'])} seeds; {first['steps']} steps of at most {first['batch']} pictures, "
        f"however many there are; {first['held_out']} held-out digits. Generated by `{SWEEP_COMMAND}`."
    )
