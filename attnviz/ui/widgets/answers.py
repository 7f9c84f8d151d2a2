"""What the model thinks the picture shows, and what it can think at all."""

from __future__ import annotations

from collections import defaultdict

import numpy as np
import streamlit as st

from attnviz.types import Model, Trace
from attnviz.ui.inputs.image_run import ImageRun


def class_name(model: Model, index: int) -> str:
    """A class with its coarse group: "dog: chihuahua"; the class alone where there is one group for all."""
    group, name = model.superclasses[index], model.outputs["class"][index]
    return name if len(set(model.superclasses)) == 1 else f"{group}: {name}"


def best(model: Model, trace: Trace, count: int = 5) -> list[tuple[str, float]]:
    """The likeliest classes and their probabilities, the likeliest first."""
    top = trace.logits["class"][0].float().softmax(-1).topk(min(count, len(model.outputs["class"])))
    return [(class_name(model, int(i)), float(p)) for p, i in zip(top.values, top.indices, strict=True)]


def by_group(model: Model, trace: Trace) -> tuple[str, float]:
    """The likeliest coarse group and the sum of its classes' probabilities."""
    total: dict[str, float] = defaultdict(float)
    for group, probability in zip(
        model.superclasses, trace.logits["class"][0].float().softmax(-1).tolist(), strict=True
    ):
        total[group] += probability
    return max(total.items(), key=lambda item: item[1])


def percent(share: float | np.floating) -> str:
    """A share as percent with one decimal, on one line."""
    return f"{share * 100:.1f}\u00a0%"


def predictions(visit: ImageRun, count: int = 5) -> None:
    """The model's answer: the group whose classes are likeliest together, and its five likeliest classes."""
    if len(set(visit.model.superclasses)) > 1:
        group, together = by_group(visit.model, visit.trace)
        st.markdown(f"#### {group[:1].upper()}{group[1:]} :gray[{percent(together)}]")
        st.caption("The kind of thing whose classes are likeliest together. The likeliest single classes of all:")
    for name, probability in best(visit.model, visit.trace, count):
        st.progress(probability, f"{name} · {percent(probability)}")


def knows(model: Model, columns: int = 3) -> None:
    """What the model knows and what it does not: its record, its eyesight, and every class it can name."""
    rows, columns = model.spec.input_size or (0, 0)
    choice = (
        f"It chooses among {len(model.outputs['class'])} classes, and always chooses one, whatever the picture shows."
    )
    eyes = f"It sees {columns} x {rows} pixels: small things and fine texture are lost."
    st.markdown(" ".join((choice, model.record, eyes)))
    groups: dict[str, list[str]] = defaultdict(list)
    for group, name in zip(model.superclasses, model.outputs["class"], strict=True):
        groups[group].append(name)
    right = model.facts.get("top1_by_superclass") or {}
    lines = [
        f"**{group}**{f' ({right[group]:.0f} % right)' if group in right else ''}: {', '.join(names)}"
        for group, names in sorted(groups.items())
    ]
    each = -(-len(lines) // columns)
    for place, start in zip(st.columns(columns, gap="medium"), range(0, len(lines), each), strict=False):
        place.caption("  \n".join(lines[start : start + each]))
