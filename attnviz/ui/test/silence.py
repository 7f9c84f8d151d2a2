"""Ablated heads: each alone, several at once, two against the sum of the two, and the fewest that change the answer."""

from __future__ import annotations

from functools import partial

import numpy as np
import streamlit as st
from torch import Tensor

from attnviz import views
from attnviz.interventions import ablate, head_means
from attnviz.measures.interventions import HeadEffects, head_effects
from attnviz.ui.core.cache import edited_trace
from attnviz.ui.core.labels import head_name, layer_name, plain
from attnviz.ui.core.state import chosen_tokens, one_of, set_tokens
from attnviz.ui.inputs.image_run import ImageRun, prepared
from attnviz.ui.inputs.model_run import ModelRun
from attnviz.ui.inputs.samples import open_sample, samples_of
from attnviz.ui.inputs.sentences import sentences_of
from attnviz.ui.inputs.text_run import prepared_text
from attnviz.ui.test import head_sets
from attnviz.ui.test.again import opening, picture_file, show_lines, target_line
from attnviz.ui.test.answer import NO_ANSWER, signed
from attnviz.ui.test.changed_answer import answer_bars, answer_choice, answered, logits_of, spoken
from attnviz.ui.test.computed import computed
from attnviz.ui.test.head_choice import MEAN, ZERO, Choice
from attnviz.ui.widgets.output import downloads

ABLATIONS = {ZERO: "Zero", MEAN: "Mean"}
LOGIT, PROBABILITY = "logit", "probability"
SHOWN = {LOGIT: "Logit", PROBABILITY: "Probability"}
OFF = "off"  # the pick of ablated heads, numbered layer by layer
WHY_MEAN = (
    "Zero takes away all that a head adds. Mean puts its average over the sample inputs of this app in its place, so "
    "that only what it says about this input is lost."
)
NO_HEADS = "The heads of this model cannot be ablated: its forward pass takes no such change."


def show(about: ModelRun) -> None:
    """The grid of effects, the answer without the chosen heads, a pair, and a search."""
    first = answered(about)
    if "ablated_heads" not in about.model.spec.honours or first is None:
        st.info(NO_ANSWER if first is None else NO_HEADS, icon=":material/info:")
        return
    with st.container(horizontal=True, vertical_alignment="bottom"):
        target = answer_choice(about, first)
        ablation = one_of("Ablation", ABLATIONS, default=ZERO, key="ablation", help=WHY_MEAN)
        shown = one_of("Change of", SHOWN, default=LOGIT, key="effect")
    try:
        means = reference_means(about) if ablation == MEAN else None
    except ValueError as error:  # a head with more than one attention in a layer has no single mean
        st.info(f"There is no mean to put in its place: {error}. Choose Zero.", icon=":material/info:")
        return
    choice = Choice(about, target, means, ablation)
    effects = effects_of(choice)
    spec = about.model.spec
    off = chosen_tokens(OFF, spec.layers * spec.heads)
    left, right = st.columns([3, 2], gap="large")
    with left:
        grid(choice, effects, off, shown)
    with right:
        without(choice, off)
    head_sets.pair(choice, effects, off)
    head_sets.fewest(choice)
    output(choice, effects)


def effects_of(choice: Choice) -> HeadEffects:
    """What each head alone changes, kept."""
    model, sample = choice.about.model, choice.about.sample
    make = partial(head_effects, model, sample, choice.target, choice.means)
    return computed(("heads", *choice.key), lambda told: make(progress=told), "Ablating each head alone")


def reference_means(about: ModelRun) -> Tensor:
    """What every head gives on average over the sample inputs of the app. Raises ValueError where there is no mean."""
    model, name = about.model, about.name
    if isinstance(about, ImageRun):
        opened = [open_sample(name, one) for one in samples_of(name)]
        samples = [prepared(model.digest, one.digest, model, one.image) for one in opened]
    else:
        samples = [prepared_text(model.digest, text, model, text) for text in sentences_of(name)]
    return computed(("means", model.digest), lambda _: head_means(model, samples).cpu(), "Averaging over the samples")


def grid(choice: Choice, effects: HeadEffects, off: tuple[int, ...], shown: str) -> None:
    """Every head with what ablating it alone changes; a click ablates it, another click restores it."""
    share = shown == PROBABILITY
    values = effects.probability if share else effects.logit
    layers, heads = values.shape

    def tip(layer: int, head: int) -> str:
        logit, probability = float(effects.logit[layer, head]), float(effects.probability[layer, head])
        changes = f"logit {signed(logit)}, probability {signed(100 * probability, 1)} points"
        return f"{choice.name(layer, head)} ablated alone: {choice.label}, {changes}"

    st.markdown(f"**Each head ablated alone:** the change of the {shown} of {plain(choice.label)}")
    views.cells_view(
        "test:heads",
        rows=[layer_name(layer) for layer in range(layers)],
        columns=[head_name(head) for head in range(heads)],
        values=values.tolist(),
        texts=[[signed(100 * one if share else one, 1 if share else 2) for one in row] for row in values.tolist()],
        tips=[[tip(layer, head) for head in range(heads)] for layer in range(layers)],
        signed=True,
        unit="percent" if share else "number",
        cell=(96, 48),
        chosen=off,
        crossed=off,
        several=True,
        note="percentage points" if share else "logits",
        label="Click a head to ablate it, click again to restore it",
        on_pick=partial(set_tokens, OFF),
    )


def without(choice: Choice, off: tuple[int, ...]) -> None:
    """The answer with the clicked heads ablated, beside the model's own."""
    about, target = choice.about, choice.target
    own = logits_of(about, target)
    heads = [choice.head(index) for index in off]
    names = "; ".join(choice.name(*head).lower() for head in heads)
    st.markdown(f"**The answer** without {names or 'any head'}" if off else "**The answer** with all heads")
    answers, colours = {"All heads": own}, {"All heads": "muted", "Ablated": "query"}
    if heads:
        edit = ablate(about.model, heads, means=choice.means)
        answers["Ablated"] = edited_trace(about.name, about.sample, edit).logits[str(target.output)][target.row or 0]
        answers["Ablated"] = answers["Ablated"].float()
    answer_bars(about, target, answers, "test:silenced", {name: colours[name] for name in answers})
    if not heads:
        st.caption("Click heads in the grid to ablate them together.")
        return
    st.markdown(f"{plain(spoken(about, target, own))} becomes **{plain(spoken(about, target, answers['Ablated']))}**.")
    st.button("Restore all heads", icon=":material/undo:", key="restore heads", on_click=set_tokens, args=(OFF, ()))


def output(choice: Choice, effects: HeadEffects) -> None:
    """Exact numbers as files, and the Python lines that compute them."""

    def rows() -> tuple[list[str], list[list[float]]]:
        header = ["layer", "head", "change of logit", "change of probability"]
        cells = np.ndindex(*effects.logit.shape)
        return header, [
            [layer + 1, head + 1, float(effects.logit[layer, head]), float(effects.probability[layer, head])]
            for layer, head in cells
        ]

    downloads(lambda: {name: one.numpy() for name, one in effects._asdict().items()}, rows, "head-effects")
    show_lines(choice.about, lines(choice))


def lines(choice: Choice) -> list[str]:
    """The Python lines that compute every effect, the pair and the search again."""
    about = choice.about
    imports = ["from attnviz.measures.interventions import greedy_heads, head_effects, pair_effect"]
    means, given = [], ""
    if choice.ablation == MEAN:
        imports.insert(0, "from attnviz.interventions import head_means")
        picture = isinstance(about, ImageRun)
        names = samples_of(about.name) if picture else sentences_of(about.name)
        references = [picture_file(about.name, name) if picture else name for name in names]
        means, given = (
            [f"references = {references!r}", "means = head_means(model, map(model.prepare, references))"],
            ", means",
        )
    return [
        *opening(about, *imports, "from attnviz.types import Target"),
        *means,
        f"target = {target_line(choice.target)}",
        f"effects = head_effects(model, sample, target{given})  # logit and probability [layer head]",
        f"both = pair_effect(model, sample, ((0, 0), (1, 0)), target{given}).interaction",
        f"steps, changed = greedy_heads(model, sample, target{given})",
    ]
