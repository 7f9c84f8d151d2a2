"""What the model thinks the picture shows, and what it can think at all."""

from __future__ import annotations

from collections import defaultdict

import streamlit as st

from attnviz.models import ImageModel
from attnviz.types import Trace
from attnviz.ui.visit import Visit


def class_name(model: ImageModel, index: int) -> str:
    """A class with its coarse group: "dog: chihuahua"; the class alone where there is one group for all."""
    group, name = model.groups[index], model.classes[index]
    return name if len(set(model.groups)) == 1 else f"{group}: {name}"


def best(model: ImageModel, trace: Trace, count: int = 5) -> list[tuple[str, float]]:
    """The likeliest classes and their probabilities, the likeliest first."""
    top = trace.logits["class"][0].float().softmax(-1).topk(min(count, len(model.classes)))
    return [(class_name(model, int(i)), float(p)) for p, i in zip(top.values, top.indices, strict=True)]


def by_group(model: ImageModel, trace: Trace) -> tuple[str, float]:
    """The likeliest coarse group and the sum of its classes' probabilities."""
    total: dict[str, float] = defaultdict(float)
    for group, probability in zip(model.groups, trace.logits["class"][0].float().softmax(-1).tolist(), strict=True):
        total[group] += probability
    return max(total.items(), key=lambda item: item[1])


def percent(share: float) -> str:
    """A share as percent with one decimal."""
    return f"{share * 100:.1f} %"


def predictions(visit: Visit, count: int = 5) -> None:
    """The model's answer: its five likeliest classes with their probabilities."""
    for name, probability in best(visit.model, visit.trace, count):
        st.progress(probability, f"{name} · {percent(probability)}")


def knows(model: ImageModel) -> None:
    """What the model knows: how often it is right on pictures it has never seen, and every class it can name."""
    facts = model.facts
    said = [f"It chooses among {len(model.classes)} classes, and always chooses one, whatever the picture shows."]
    if {"held_out", "top1", "top5"} <= facts.keys():
        said.append(
            f"On {facts['held_out']:,} pictures kept aside it names {facts['top1']:.1f} % right, "
            f"and {facts['top5']:.1f} % among its first five."
        )
    if len(set(model.groups)) > 1 and "group" in facts:
        said.append(f"The coarse group is right for {facts['group']:.1f} %.")
    size = model.preparation.size
    said.append(f"It sees {size} x {size} pixels: small things and fine texture are lost.")
    st.markdown(" ".join(said))
    groups: dict[str, list[str]] = defaultdict(list)
    for group, name in zip(model.groups, model.classes, strict=True):
        groups[group].append(name)
    right = facts.get("top1_by_group") or {}
    known = {g: f" ({right[g]:.0f} % right)" if g in right else "" for g in sorted(groups)}
    lines = (f"**{g}**{share} {', '.join(groups[g])}" for g, share in known.items())
    st.markdown("  \n".join(lines))
