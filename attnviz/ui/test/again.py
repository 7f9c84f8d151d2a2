"""The lines of Python that do again what the page shows."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import groupby

import streamlit as st

from attnviz.models import CENTER_CROP
from attnviz.paths import ROOT
from attnviz.types import Target
from attnviz.ui.core.cache import session_models
from attnviz.ui.inputs import samples
from attnviz.ui.inputs.crop import chosen_crop, crop_box
from attnviz.ui.inputs.image_run import OWN_KINDS, ImageRun, chosen_size
from attnviz.ui.inputs.model_run import ModelRun
from attnviz.ui.inputs.text_run import reads_pairs
from attnviz.ui.test.answer import Tested

YOURS = "picture.jpg"  # stands for a picture that a visitor brought
OF_SESSION = "This model lives in your session only, so no file holds it that Python could load."


def python(about: ModelRun, edit: str, test: Tested | None) -> None:
    """The lines that make one edit; `edit` is the expression for it."""
    show_lines(about, lines(about, edit, test))


def show_lines(about: ModelRun, code: Sequence[str]) -> None:
    """The Python lines that compute this again, on demand."""
    with st.expander("Python", icon=":material/code:"):
        if about.name in session_models():
            st.caption(OF_SESSION)
            return
        st.code("\n".join(code), language="python", wrap_lines=True)


def lines(about: ModelRun, edit: str, test: Tested | None) -> list[str]:
    """The imports and three lines; the last gives the logits of the answer, [edit row class], or the trace."""
    names: set[str] = {edit.partition("(")[0]} | ({"answers"} if test else set())
    first = next(iter(about.trace.logits), None)
    output = "" if test is None or test.output == first else f", output={test.output!r}"
    last = f"logits = answers(model, sample, {edit}{output})" if test else f"trace = model(sample, edit={edit})"
    return [*opening(about, f"from attnviz.interventions import {', '.join(sorted(names))}"), last]


def opening(about: ModelRun, *imports: str, raw: str | None = None) -> list[str]:
    """The Python lines that open this model and this input; `raw` is a text in the place of the one in the sidebar."""
    prepared = given(about) if raw is None else repr(raw)
    pictures = ["from PIL import Image"] if "Image." in prepared else []
    return [
        "import attnviz",
        *imports,
        *pictures,
        "",
        f"model = attnviz.load({about.name!r})",
        f"sample = model.prepare({prepared})",
    ]


def given(about: ModelRun) -> str:
    """What the model was given, as Python writes it: the file of a sample picture, or the text."""
    if about.model.spec.modality == "text":
        texts = (st.session_state.get("text") or "", st.session_state.get("second") or "")
        return repr(texts if reads_pairs(about.model) and texts[1].strip() else texts[0])
    path = repr(YOURS if about.source in OWN_KINDS else picture_file(about.name, about.source))
    if isinstance(about, ImageRun) and chosen_crop() != CENTER_CROP:
        path = f"Image.open({path}).crop({crop_box(chosen_crop(), about.picture.size, about.model.spec.input_size)})"
    return f"{path}{at_size(about)}"


def at_size(about: ModelRun) -> str:
    """The keyword that names the input size, where it is not the model's own."""
    size = chosen_size(about.model)
    return "" if size is None else f", size={size}"


def picture_file(model: str, name: str) -> str:
    """The file of a sample picture, from the folder that holds the app; a made-up name for a visitor's own."""
    if name not in samples.samples_of(model):
        return YOURS
    owner = samples.owner_of(model)
    return (samples.FOLDER / owner / f"{name}.{samples.ENDINGS[owner]}").relative_to(ROOT).as_posix()


def target_line(target: Target) -> str:
    """A target as Python writes it."""
    return f"Target({target.output!r}, {target.row}, {target.label})"


def listed(tokens: Iterable[int]) -> str:
    """Numbers as a Python list, stretches of them as ranges."""
    parts = []
    for _, group in groupby(enumerate(sorted(tokens)), lambda pair: pair[1] - pair[0]):
        run = [token for _, token in group]
        parts.append(str(run[0]) if len(run) == 1 else f"*range({run[0]}, {run[-1] + 1})")
    return f"[{', '.join(parts)}]"
