"""How faithful the shown map is, for this very input: scores by removal, beside those of random orders."""

from __future__ import annotations

import math
import time
from collections.abc import Collection
from dataclasses import replace

import streamlit as st
import torch
from jaxtyping import Int
from torch import Tensor

from attnviz import paths
from attnviz.measures.faithfulness import Perturbation, by_part, parts_of, removal
from attnviz.measures.map_scores import MOST, SEEDS, Beside, MapScores, edits, score_map, without
from attnviz.models.text import WORD
from attnviz.plots import change, lines
from attnviz.training.images.recipes import RECIPES
from attnviz.types import Model, Target
from attnviz.ui.core.cache import LARGE, core
from attnviz.ui.core.labels import written
from attnviz.ui.core.sized_cache import SizedCache
from attnviz.ui.explain.choice import ANSWER, Choice
from attnviz.ui.explain.steps import Result
from attnviz.ui.inputs.model_run import ModelRun
from attnviz.ui.shell.page import Experiment, offer
from attnviz.ui.widgets.output import dark, plot
from attnviz.ui.widgets.whole_answer import answer_of

TESTED, CURVES = "tested", "curves"  # whether the map is tested and its curves are drawn, in the address
AT_ONCE = 1.0  # seconds that a test may take without being asked for
TENTH = 10  # percent of the parts that the link removes
CANNOT = "This map cannot be tested: the model does not let tokens be removed."
NO_ANSWER = "This map cannot be tested: the model gives no answer about the whole input that removal could change."
TOO_FEW = "This map cannot be tested: fewer than two patches or words can be removed."
ELSEWHERE = (
    "Only maps that start from the answer can be tested: what is watched while tokens are removed is the answer."
)
IN_DISTRIBUTION = (
    "Parts are removed by the attention mask. This model was trained with patches removed, so such inputs are "
    "in-distribution."
)
OFF_DISTRIBUTION = (
    "Parts are removed by the attention mask. Nothing says that this model was trained with parts removed: such "
    "inputs may be off-distribution, and a part of every score is then how the model fails on them."
)
DISAGREE = "Metrics disagree, so no single one decides. All are about this one input."
NAMES = {  # of scores, and which way is faithful
    "abpc/probability": "ABPC of the probability ↑",
    "abpc/logit": "ABPC of the logit ↑",
    "single deletion": "Single deletion (IDSDS) ↑",
    "comprehensiveness": "Comprehensiveness ↑",
    "sufficiency": "Sufficiency ↓",
}
WHAT = {
    "abpc": "**ABPC**: area between the curve of removing the least relevant first and that of the most relevant "
    "first.",
    "single deletion": "**IDSDS**: rank correlation of the map with what the logit loses when each part alone is "
    "removed.",
    "comprehensiveness": "**Comprehensiveness**, **sufficiency**: what the probability loses without the most "
    "relevant words, and with them alone.",
}
WHY_TEST = "Removes parts of the input in the order of this map and in random orders, and watches the answer."
MANY = (
    "A test of this map runs the model {edits:,} times over {tokens:,} tokens, which takes many minutes. Choose 128 px "
    "or less in the sidebar for one of a minute or two, or start it here."
)
WHY_CURVES = (
    "The answer while more and more is removed: the most relevant first, the least relevant first, or at random."
)


def show(about: ModelRun, choice: Choice, result: Result) -> None:
    """The scores of the shown map, on click or at once where they are quick, or why there are none."""
    st.markdown("**How faithful is this map?**")
    watched = perturbation(about, choice)
    if isinstance(watched, str):
        st.caption(watched)
        return
    text = about.sample.tokens["main"].words is not None
    key = (about.model.digest, about.sample.digest, choice.method, str(sorted(choice.options.items())))
    key = (*key, str(choice.at), str(watched.label), str(choice.target))
    if key not in kept() and not wanted(about, watched, text):
        return
    relevance = by_part(torch.from_numpy(result.steps[choice.at].copy()), watched.parts)
    scores = kept().get(key, lambda: tested(watched, relevance, text))
    report(scores)
    known = trained_without_parts(about.model)
    st.caption(f"{IN_DISTRIBUTION if known else OFF_DISTRIBUTION} {DISAGREE}")
    if st.toggle("Deletion curves", key=CURVES, bind="query-params", help=WHY_CURVES):
        draw_curves(scores)
    link(choice)


def wanted(about: ModelRun, watched: Perturbation, text: bool) -> bool:
    """Whether the map is to be tested now: at once where that is quick, else when it is asked for."""
    if (tokens := len(watched.parts)) < LARGE:
        seconds = expected(about, watched, text)
        return seconds <= AT_ONCE or ask(seconds)
    st.caption(MANY.format(edits=edits(watched.count, text=text), tokens=tokens))
    return st.button("Test this map", key=f"{TESTED}:large", help=WHY_TEST)  # a switch would stay on for the next map


def ask(seconds: float) -> bool:
    """Whether the visitor wants the map tested, which takes a while; the switch stays on for the next map."""
    with st.container(horizontal=True, vertical_alignment="center"):
        wanted = st.toggle("Test this map", key=TESTED, bind="query-params", help=WHY_TEST)
        st.caption(f"About {max(1, round(seconds)):,} s.")
    return wanted


def answered(about: ModelRun, choice: Choice) -> Target | None:
    """The class that is watched: the explained one, else what the model predicts; None without an answer."""
    if choice.target is not None:
        return choice.target
    if (found := answer_of(about)) is None:
        return None
    output, row = found
    logits = about.trace.logits[output]
    return Target(output, row % len(logits), int(logits[row].argmax()))


def perturbation(about: ModelRun, choice: Choice) -> Perturbation | str:
    """The input whose parts are removed, with the watched class; or why not, as a sentence."""
    if "keep_tokens" not in about.model.spec.honours:
        return CANNOT
    if choice.start != ANSWER:
        return ELSEWHERE
    target = answered(about, choice)
    if target is None:
        return NO_ANSWER
    parts = removable(about, target)
    if int(parts.max()) < 1:
        return TOO_FEW
    found = removal(about.model, about.sample, target, trace=about.trace, parts=parts)

    def logits(keep: Tensor) -> Tensor:
        with core():
            return found.logits(keep)

    return replace(found, logits=logits)


def removable(about: ModelRun, target: Target) -> Int[Tensor, " token"]:
    """The part of each token, without the one word that a language model's answer is read from."""
    tokens = about.sample.tokens["main"]
    stay: Collection[int] = (target.row,) if target.output == WORD and target.row is not None else ()
    return without(parts_of(tokens), stay)


@st.cache_resource(show_spinner=False)
def kept() -> SizedCache[MapScores]:
    """The scores computed last: at most 256, at most 20 MB."""
    return SizedCache(entries=256, size=20_000_000)


def expected(about: ModelRun, watched: Perturbation, text: bool) -> float:
    """Seconds that a test takes about."""
    return edits(watched.count, text=text) * seconds_each(about.model.digest, len(watched.parts), watched)


@st.cache_data(max_entries=256, show_spinner=False)
def seconds_each(digest: str, tokens: int, _watched: Perturbation) -> float:
    """Seconds of one edit in a small batch, for a model and a number of tokens: the quicker of two, as one warms up.

    Of many tokens the batch is one edit, and a first pass that takes long is not repeated.
    """
    keep, found = torch.ones(max(1, min(4, 1024 // tokens)), _watched.count, dtype=torch.bool), []
    while len(found) < 2 and max(found, default=0.0) < AT_ONCE / 4:
        began = time.perf_counter()
        _watched.logits(keep)
        found.append((time.perf_counter() - began) / len(keep))
    return min(found)


def tested(watched: Perturbation, relevance: Tensor, text: bool) -> MapScores:
    """The scores of a map, with a bar while they are computed."""
    bar = st.progress(0.0, "Parts of the input are removed")
    try:
        return score_map(watched, relevance, text=text, progress=bar.progress)
    finally:
        bar.empty()


def trained_without_parts(model: Model) -> bool:
    """Whether its card names a recipe by which it was trained with patches removed."""
    recipe = RECIPES.get(str(model.facts.get("recipe", "")))
    return recipe is not None and any(share < 1 for _, share in recipe.patch_keep_schedule)


def number(value: float) -> str:
    """A score with two decimals; a dash where it is not defined."""
    return "–" if math.isnan(value) else written(value, ".2f")


def beside_words(found: Beside) -> str:
    """The score of random orders in words."""
    return f"{number(found.mean)} ± {number(found.spread)}"


def report(scores: MapScores) -> None:
    """Every score beside that of random orders, and what each of them is."""
    table = scores.table()
    rows: dict[str, list[str]] = {"Score": [], "This map": [], "Random order": []}
    for name, found in table.items():
        cells = (NAMES[name], number(found.value), beside_words(found))
        for column, cell in zip(rows.values(), cells, strict=True):
            column.append(cell)
    st.dataframe(rows, hide_index=True, key="badge:scores")
    said = [words for name, words in WHAT.items() if any(each.startswith(name) for each in table)]
    st.caption(f"{' '.join(said)} Random: mean ± standard deviation of {SEEDS} orders. ↑ high is faithful, ↓ low is.")
    if scores.single_deletion is None:
        st.caption(f"Of more than {MOST:,} parts none is removed alone.")


def draw_curves(scores: MapScores) -> None:
    """The probability as parts are removed, by the map both ways and in the mean of random orders."""
    most, least = scores.curves.probability
    series = {"Most relevant first": most[0], "Least relevant first": least[0], "Random, mean": most[1:].mean(0)}
    figure = lines(
        {name: values.numpy() for name, values in series.items()},
        x=scores.curves.removed.numpy(),
        colours={"Most relevant first": "key", "Least relevant first": "query", "Random, mean": "muted"},
        x_title="Share removed",
        y_title="Probability",
        form=".1%",
        points=True,
        dark=dark(),
        height=240,
    )
    change(figure, xaxis={"tickformat": ".0%"})
    plot(figure, "badge:curves", alt="Probability of the class while patches or words are removed, in three orders")


def link(choice: Choice) -> None:
    """The way to the page Test, with the strongest tenth removed by this method."""
    if not (paths.PAGES / "test.py").exists():
        return
    choices: dict[str, object] = {"change": "remove", "method": choice.method, "choose": "strongest", "part": TENTH}
    why = "On the page Test, by this method with its default options."
    offer("explain", Experiment("Remove the strongest tenth", "test", choices, why), "badge:remove")
