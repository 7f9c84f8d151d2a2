"""How the methods score on inputs of known cause: the table that `python -m benchmarks.faithfulness` has written."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import streamlit as st

from attnviz.measures import recorded
from attnviz.measures.recorded import Row
from attnviz.methods import CONTROLS, METHODS
from attnviz.ui.core import assets
from attnviz.ui.core.cache import modality_of
from attnviz.ui.core.state import select
from attnviz.ui.explain.badge import number
from attnviz.ui.inputs.model_run import ModelRun

INPUTS, SCORE = "scored", "score"  # the kind of inputs and the score, in the address
FIRST = ("abpc/logit/removal", "pointing", "mass", "layers 1")  # scores to begin with, if there are such
SCORES = {  # what is called otherwise on screen than in the file
    "pointing": "Pointing game",
    "mass": "Relevance mass",
    "rank accuracy": "Relevance rank accuracy",
    "single deletion": "Single-token deletion (IDSDS)",
    "saco": "SaCo",
}
LOW = ("deletion", "sufficiency", "layers", "completeness error")  # begin the names of scores that are better when low
OPTIONS = {"default": "default", "chosen": "chosen on other inputs"}
CAVEAT = (
    "Metrics disagree: the best method by one score need not be the best by another, and another network or other "
    "inputs may order them otherwise. A method whose difference to random does not exclude zero has shown nothing here."
)
READ = (
    "Means over inputs that the model classifies correctly, with 95 % bootstrap intervals. Controls know nothing of "
    "the network."
)


def show(about: ModelRun) -> None:
    """An expander with the measured scores; nothing where none were measured for what this model reads."""
    parts = parts_for(about)
    kinds = {row.inputs: name for name, part in parts.items() for row in part["rows"] if row.right}
    if not kinds:
        return
    with st.expander("How these methods score"):
        controls = st.container(horizontal=True, vertical_alignment="bottom", gap="medium")
        labels = {kind: kind[:1].upper() + kind[1:].replace("/", ": ") for kind in kinds}
        kind = select("Inputs", labels, key=INPUTS, where=controls, width=220)
        part = parts[kinds[kind]]
        rows = [row for row in part["rows"] if row.inputs == kind and row.right]
        names = {row.score: score_name(row.score) for row in rows}
        usual = next((name for name in FIRST if name in names), None)
        score = select("Score", names, key=SCORE, where=controls, default=usual, width=320)
        draw([row for row in rows if row.score == score])
        better = "low" if score.startswith(LOW) else "high"
        st.caption(f"Better is {better}. {READ} {CAVEAT}")
        st.caption(f"Model `{part['model']}`, measured on {part['date']} by `{part['command']}`.")


def parts_for(about: ModelRun) -> dict[str, dict[str, Any]]:
    """The measured parts about models that read what this one reads. Raises DamagedFile."""
    with assets.reading(recorded.FILE):
        parts = measured(recorded.FILE.stat().st_mtime_ns) if recorded.FILE.is_file() else {}
    return {name: part for name, part in parts.items() if modality_of(part["model"]) == about.model.spec.modality}


@st.cache_resource(max_entries=1, show_spinner=False)
def measured(changed: int) -> dict[str, dict[str, Any]]:
    """The whole file, read again when it has changed."""
    return recorded.load(recorded.FILE)


def score_name(name: str) -> str:
    """A score in words: "ABPC of the logit, by removal"."""
    if name in SCORES:
        return SCORES[name]
    if name.startswith("layers "):
        return f"Rank correlation after {name.removeprefix('layers ')} randomised layers"
    head, *more = name.split("/")
    head = {"abpc": "ABPC"}.get(head, head[:1].upper() + head[1:])
    return f"{head} of the {more[0]}, {'by removal' if more[1] == 'removal' else f'{more[1]} fill'}" if more else head


def draw(rows: Sequence[Row]) -> None:
    """One score of every method, the highest first, each with its interval and its difference to random."""
    ordered = sorted(rows, key=lambda row: -math.inf if math.isnan(row.value.mean) else row.value.mean, reverse=True)
    found: dict[str, list[Any]] = {
        "Method": [title(row.method) for row in ordered],
        "Options": [OPTIONS.get(row.options, row.options) for row in ordered],
        "Mean": [number(row.value.mean) for row in ordered],
        "95 % interval": [interval(row.value.low, row.value.high) for row in ordered],
        "Difference to random": [
            "" if row.method == "random" else interval(row.difference.low, row.difference.high) for row in ordered
        ],
        "Inputs": [f"{row.value.scored:,}" for row in ordered],
    }
    st.dataframe(found, hide_index=True, key="scores:table")


def title(method: str) -> str:
    """A method by its title; a control is marked as one."""
    if method in CONTROLS:
        return f"Control: {CONTROLS[method].title.lower()}"
    return METHODS[method].title if method in METHODS else method


def interval(low: float, high: float) -> str:
    """Both ends of an interval; a dash where there is none."""
    return "–" if math.isnan(low) else f"{number(low)} to {number(high)}"
