"""The logit lens of a picture: every patch in the colour of its likeliest class, at every depth."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import streamlit as st
from jaxtyping import UInt8

from attnviz import plots, views
from attnviz.measures.interventions import Lens
from attnviz.plots import theme
from attnviz.ui.inputs.image_run import ImageRun
from attnviz.ui.test.pair import depth_name
from attnviz.ui.widgets.answers import has_superclasses, percent
from attnviz.ui.widgets.output import dark, plot
from attnviz.ui.widgets.whole_answer import label_of

NAMED = len(theme.HEADS) - 1  # kinds with a colour of their own; the others share the last one
MANY = 10  # classes up to which each has its own colour
OTHER = "other"
ACROSS = 4  # depths in a row


def draw(about: ImageRun, found: Lens, cell: int, pick: Callable[[tuple[int, ...]], None]) -> None:
    """One mosaic for each depth, and the legend of their colours."""
    depths, count = found.labels.shape[:2]
    depth, token = divmod(cell, count)
    kinds = kinds_of(about, found)
    named = commonest(kinds)
    rgb, tokens = colours_of(kinds, named), about.sample.tokens["main"]
    best = [[label_of(about, found.output, one) for one in row] for row in found.labels[..., 0].tolist()]
    shares = found.probabilities[..., 0].tolist()
    titles = [depth_name(d) for d in range(depths)]
    views.send_colours("lens", rgb, titles=[f"{title}, likeliest answer" for title in titles], keys=tokens)
    for start in range(0, depths, ACROSS):
        for place, d in zip(st.columns(ACROSS, gap="small"), range(start, min(start + ACROSS, depths)), strict=False):
            with place:
                st.markdown(f"**{titles[d]}**" if d == depth else titles[d])
                views.colour_view(
                    f"test:lens:{d}",
                    colours="lens",
                    index=d,
                    tokens=(token,) if d == depth else (),
                    tips=[f"{name}, {percent(share)}" for name, share in zip(best[d], shares[d], strict=True)],
                    note="Likeliest answer",
                    label=f"{titles[d]}: the likeliest class of each patch",
                    height=190,
                    on_pick=partial(picked, pick, d * count),
                )
    legend(named, kinds[depth], titles[depth])


def picked(pick: Callable[[tuple[int, ...]], None], first: int, chosen: tuple[int, ...]) -> None:
    """A patch of one depth, by its number among all cells."""
    pick(tuple(first + token for token in chosen))


def kinds_of(about: ImageRun, found: Lens) -> list[list[str]]:
    """What the likeliest label of each token is, [depth token]: its class, or its superclass where there are many."""
    labels = about.model.outputs[found.output]
    many = len(labels) > MANY and has_superclasses(about.model) and len(about.model.superclasses) == len(labels)
    names: Sequence[str] = about.model.superclasses if many else labels
    return [[str(names[label]) for label in row] for row in found.labels[..., 0].tolist()]


def commonest(kinds: list[list[str]]) -> list[str]:
    """The kinds with a colour of their own, those of the last depth first."""
    counts = Counter(kind for row in kinds for kind in row)
    last = Counter(kinds[-1])
    return sorted(counts, key=lambda kind: (-last[kind], -counts[kind], kind))[:NAMED]


def colours_of(kinds: list[list[str]], named: list[str]) -> UInt8[np.ndarray, "depth token 3"]:
    """The colour of every cell."""
    table = np.array([[int(one[i : i + 2], 16) for i in (1, 3, 5)] for one in theme.HEADS], np.uint8)
    index = [[named.index(kind) if kind in named else NAMED for kind in row] for row in kinds]
    return table[np.array(index)]


def legend(named: list[str], kinds: list[str], where: str) -> None:
    """Which colour is which, as bars: how many of the tokens of one depth have it."""
    counts = Counter(kinds)
    numbers = {name: counts[name] for name in named} | {OTHER: len(kinds) - sum(counts[name] for name in named)}
    colours = [theme.head_colour(place) for place in range(len(named))] + [theme.head_colour(NAMED)]
    figure = plots.bars(
        list(numbers.values()),
        labels=list(numbers),
        colours=colours,
        form=".0f",
        shown=True,
        horizontal=True,
        dark=dark(),
        height=40 + 26 * len(numbers),
    )
    parts = ", ".join(f"{name} {count}" for name, count in numbers.items())
    st.markdown(f"**Colours**, and how many tokens have them: {where.lower()}")
    plot(figure, "test:lens:legend", alt=f"Tokens by their likeliest answer, {where.lower()}: {parts}")
