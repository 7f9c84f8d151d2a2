"""What the model answers for a picture, and which answers it can give."""

from __future__ import annotations

from collections import defaultdict

import numpy as np
import streamlit as st

from attnviz.types import Model, Trace
from attnviz.ui.inputs.image_run import ImageRun

CLASS = "class"  # the output that names what a picture shows
NO_CLASSES = "This model names no classes, so there is no answer to show. Its attention maps are here all the same."


def has_superclasses(model: Model) -> bool:
    """Whether its classes belong to more than one superclass."""
    return len(set(model.superclasses)) > 1


def class_name(model: Model, index: int) -> str:
    """A class with its superclass: "dog: chihuahua"; the class alone where there are no superclasses."""
    name = model.outputs[CLASS][index]
    return f"{model.superclasses[index]}: {name}" if has_superclasses(model) else name


def best(model: Model, trace: Trace, count: int = 5) -> list[tuple[str, float]]:
    """The likeliest classes and their probabilities, the likeliest first; none where it names no classes."""
    if CLASS not in model.outputs:
        return []
    top = trace.logits[CLASS][0].float().softmax(-1).topk(min(count, len(model.outputs[CLASS])))
    return [(class_name(model, int(i)), float(p)) for p, i in zip(top.values, top.indices, strict=True)]


def best_superclass(model: Model, trace: Trace) -> tuple[str, float]:
    """The likeliest superclass and the sum of its classes' probabilities."""
    total: dict[str, float] = defaultdict(float)
    probabilities = trace.logits[CLASS][0].float().softmax(-1).tolist()
    for superclass, probability in zip(model.superclasses, probabilities, strict=True):
        total[superclass] += probability
    return max(total.items(), key=lambda item: item[1])


def percent(share: float | np.floating) -> str:
    """A share as percent with one decimal, on one line."""
    return f"{share * 100:.1f}\u00a0%"


def predictions(run: ImageRun, count: int = 5) -> None:
    """The model's answer: the likeliest superclass, and the likeliest classes."""
    if CLASS not in run.model.outputs:
        st.caption(NO_CLASSES)
        return
    if has_superclasses(run.model):
        superclass, together = best_superclass(run.model, run.trace)
        st.markdown(f"#### {superclass[:1].upper()}{superclass[1:]} :gray[{percent(together)}]")
        st.caption("The superclass whose classes have the largest summed probability. The likeliest classes of all:")
    for name, probability in best(run.model, run.trace, count):
        st.progress(probability, f"{name} · {percent(probability)}")


def knows(model: Model, columns: int = 3) -> None:
    """What the model can answer: its record, its input size, and every class by superclass."""
    st.markdown(" ".join(filter(None, (classes_words(model), model.record, input_words(model)))))
    if CLASS not in model.outputs:
        return
    lines = class_lines(model)
    each = -(-len(lines) // columns)
    for place, start in zip(st.columns(columns, gap="medium"), range(0, len(lines), each), strict=False):
        place.caption("  \n".join(lines[start : start + each]))


def classes_words(model: Model) -> str:
    """How many classes it chooses among, in a sentence."""
    if CLASS not in model.outputs:
        return NO_CLASSES
    return f"It chooses among {len(model.outputs[CLASS])} classes, and always chooses one, whatever the picture shows."


def input_words(model: Model) -> str:
    """How many pixels it reads, in a sentence; empty where it does not say."""
    if model.spec.input_size is None:
        return ""
    rows, columns = model.spec.input_size
    return f"It reads {columns} x {rows} pixels: small things and fine texture are lost."


def class_lines(model: Model) -> list[str]:
    """A line for each superclass: its top-1 accuracy, where that is known, and its classes."""
    superclasses = model.superclasses or ("Classes",) * len(model.outputs[CLASS])
    classes: dict[str, list[str]] = defaultdict(list)
    for superclass, name in zip(superclasses, model.outputs[CLASS], strict=True):
        classes[superclass].append(name)
    right = model.facts.get("top1_by_superclass") or {}
    return [
        f"**{superclass}**{f' ({right[superclass]:.0f} % right)' if superclass in right else ''}: {', '.join(names)}"
        for superclass, names in sorted(classes.items())
    ]
