"""The names that heads earn on the input in view: in words for captions, as badges for small maps."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import streamlit as st
from PIL import Image

from attnviz.measures.head_names import NAMES, Earned, head_names
from attnviz.types import AttentionCall
from attnviz.ui.core.cache import core
from attnviz.ui.inputs.model_run import ModelRun
from attnviz.ui.widgets.answers import percent
from attnviz.views.canvas import Badge

Named = list[list[tuple[Earned, ...]]]  # [call][head], the strongest name first
Cell = tuple[int, int]
BY_NAME = "name"  # in the address, the order of the heads by their names


def named(run: ModelRun) -> Named:
    """The names of every head on this input."""
    return _named(run.model.digest, run.sample.digest, run.trace.calls, run.sample.image)


@st.cache_data(max_entries=64, show_spinner=False)
def _named(model: str, sample: str, _calls: Sequence[AttentionCall], _image: Image.Image | None) -> Named:
    with core():
        return head_names(_calls, _image)


def on_what(run: ModelRun) -> str:
    """What the names were earned on."""
    return "on this picture" if run.model.spec.modality == "image" else "on this text"


def titles(names: Sequence[Earned]) -> str:
    """The names of one head, one after the other; empty where it has none."""
    return ", ".join(NAMES[one.name].title for one in names)


def sentence(earned: Earned, where: str) -> str:
    """A name with what it means and the measure that earned it."""
    name = NAMES[earned.name]
    value, null = (percent(n) if name.unit == "%" else f"{n:.2f}" for n in (earned.value, earned.null))
    held = "" if earned.name == "even" else f", baseline {null}"
    return f"{name.title} {where}: {name.explanation} {name.measure}: {value}{held}."


def beside_title(names: Named, layer: int, head: int) -> str:
    """The names of the opened head as they go on after its title; empty where it has none."""
    found = titles(names[layer][head])
    return f" · **{found}** here" if found else ""


def say_names(run: ModelRun, names: Named, layer: int, head: int) -> None:
    """What the names of the opened head mean, and how they were earned."""
    for earned in names[layer][head]:
        st.caption(sentence(earned, on_what(run)))


def badges(run: ModelRun, names: Named) -> dict[Cell, Badge]:
    """A badge for each head that has a name: the strongest one."""
    found = {}
    for row, heads in enumerate(names):
        for column, earned in enumerate(heads):
            if earned:
                name = NAMES[earned[0].name]
                said = "\n".join(sentence(one, on_what(run)) for one in earned)
                found[row, column] = Badge(name.title, name.badge, said, even=earned[0].name == "even")
    return found


def by_name(names: Named) -> list[Cell]:
    """All heads, those of one name together, the strongest first; those without any last, in the network's order."""
    place = {name: i for i, name in enumerate(NAMES)}
    place["even"] = len(NAMES)  # there is little to see in them
    cells = [(row, column) for row, heads in enumerate(names) for column in range(len(heads))]

    def key(cell: Cell) -> tuple[int, float]:
        earned = names[cell[0]][cell[1]]
        return (place[earned[0].name], -earned[0].strength) if earned else (len(NAMES) + 1, 0.0)

    return sorted(cells, key=key)


def names_file(names: Named) -> dict[str, np.ndarray]:
    """The names as text [layer head] for a file, several divided by commas; empty text where a head has none."""
    most = max((len(heads) for heads in names), default=0)
    rows = [[titles(one) for one in heads] + [""] * (most - len(heads)) for heads in names]
    return {"names": np.array(rows)}
