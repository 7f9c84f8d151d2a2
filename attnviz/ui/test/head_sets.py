"""Several heads at once: two of them against the sum of the two, and the fewest that change the answer."""

from __future__ import annotations

from functools import partial

import streamlit as st

from attnviz import plots
from attnviz.measures.interventions import MOST_STEPS, HeadEffects, PairEffect, Search, greedy_heads, pair_effect
from attnviz.types import Target
from attnviz.ui.core.labels import plain
from attnviz.ui.test.answer import signed
from attnviz.ui.test.changed_answer import spoken
from attnviz.ui.test.computed import computed
from attnviz.ui.test.head_choice import Choice
from attnviz.ui.widgets.output import dark, plot

NOTHING = 0.02  # of the sum: an interaction below it is called none
WHY_FEWEST = (
    "In each step the head is ablated whose loss costs the answer most of its margin over the next answer. That is no "
    "proof: another set of heads, or a smaller one, may do the same."
)


def pair(choice: Choice, effects: HeadEffects, off: tuple[int, ...]) -> None:
    """What two heads change together, against the sum of what each changes alone."""
    st.subheader("Two heads together", anchor=False)
    if effects.logit.numel() < 2:
        st.caption("This model has one head only.")
        return
    chosen = off if len(off) == 2 else tuple(effects.logit.flatten().abs().topk(2).indices.tolist())
    first, second = (choice.head(index) for index in chosen)
    about = choice.about
    make = partial(pair_effect, about.model, about.sample, (first, second), choice.target, choice.means)
    found = computed(("pair", *choice.key, first, second), lambda _: make(), "Ablating both heads")
    names = [choice.name(*first), choice.name(*second)]
    numbers = {names[0]: found.first, names[1]: found.second, "Sum of the two": found.sum, "Both at once": found.both}
    figure = plots.bars(
        list(numbers.values()),
        labels=list(numbers),
        colours=["muted", "muted", "key", "query"],
        form="+.2f",
        limits=room_for(list(numbers.values())),
        shown=True,
        horizontal=True,
        dark=dark(),
        height=210,
    )
    left, right = st.columns([3, 2], gap="large")
    with left:
        plot(figure, "test:pair", alt=", ".join(f"{name} {value:+.2f}" for name, value in numbers.items()))
    with right:
        st.markdown(pair_words(found, plain(choice.label)))
        which = (
            "The two heads ablated above."
            if len(off) == 2
            else ("The two heads with the largest effects; ablate exactly two in the grid to choose them.")
        )
        st.caption(which)


def room_for(values: list[float]) -> tuple[float, float]:
    """A range with room beside each bar for its number."""
    low, high = min(0.0, *values), max(0.0, *values)
    beside = 0.15 * ((high - low) or 1.0)
    return low - beside * (low < 0), high + beside * (high > 0)


def pair_words(found: PairEffect, label: str) -> str:
    """What a pair shows, in words."""
    said = (
        f"Ablated one at a time, the two change the logit of {label} by {signed(found.sum)} in sum; ablated together, "
        f"by **{signed(found.both)}**: {signed(found.interaction)} between them."
    )
    if abs(found.interaction) <= NOTHING * max(abs(found.first), abs(found.second)):
        return f"{said} They act independently of each other."
    if found.interaction < 0 > found.sum:
        return f"{said} Together they cost more: each made up for some of the other's loss (self-repair)."
    if found.interaction > 0 > found.sum:
        return f"{said} Together they cost less: part of what they do is the same, or one works through the other."
    return f"{said} The effect of one depends on whether the other is there."


def fewest(choice: Choice) -> None:
    """A greedy search for few heads that change the answer, step by step; only when it is asked for."""
    st.subheader("Fewest heads that change the answer", anchor=False)
    if not st.toggle("Search", key="fewest", bind="query-params", help=WHY_FEWEST):
        st.caption(f"A greedy search, at most {MOST_STEPS} heads.")
        return
    about = choice.about
    whose = Target(choice.target.output, choice.target.row)
    make = partial(greedy_heads, about.model, about.sample, whose, choice.means)
    key = ("fewest", *choice.key[:2], whose, choice.key[3])
    found = computed(key, lambda told: make(progress=told), "Looking for the heads that matter most together")
    rows = step_rows(choice, found)
    st.markdown(search_words(found))
    if rows:
        st.dataframe(rows, hide_index=True, width="stretch")
    st.caption(WHY_FEWEST)


def step_rows(choice: Choice, found: Search) -> list[dict[str, object]]:
    """One row for each step: the head, the margin that is left, the answer."""
    return [
        {
            "Step": number,
            "Ablated as well": choice.name(*step.head),
            "Margin (logits)": signed(step.margin),
            "Answer": spoken(choice.about, choice.target, step.logits),
        }
        for number, step in enumerate(found.steps, 1)
    ]


def search_words(found: Search) -> str:
    """What the search has found, in words."""
    count = len(found.steps)
    heads = "1 head" if count == 1 else f"{count} heads"
    if found.changed:
        return f"**{heads}** ablated together change the answer."
    if count < MOST_STEPS:
        return f"No head takes away more after {heads}, and the answer has not changed. Other sets may still change it."
    return (
        f"The answer survives the {heads} that cost it most, taken greedily. Other or larger sets may still change it."
    )
