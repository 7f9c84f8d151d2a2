"""The lines of Python that do again what the page shows."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import groupby

import streamlit as st

from attnviz.models import CENTER_CROP
from attnviz.paths import ROOT
from attnviz.ui.core.cache import session_models
from attnviz.ui.inputs import samples
from attnviz.ui.inputs.crop import chosen_crop, crop_box
from attnviz.ui.inputs.image_run import CAMERA, UPLOAD, ImageRun
from attnviz.ui.inputs.model_run import ModelRun
from attnviz.ui.inputs.text_run import reads_pairs
from attnviz.ui.test.answer import Tested

YOURS = "picture.jpg"  # stands for a picture that a visitor brought
OF_SESSION = "This model lives in your session only, so no file holds it that Python could load."


def python(about: ModelRun, edit: str, test: Tested | None) -> None:
    """The code under a heading; `edit` is the expression that makes the edit."""
    with st.expander("Python", icon=":material/code:"):
        if about.name in session_models():
            st.caption(OF_SESSION)
            return
        st.code(code(about, edit, test), language="python", wrap_lines=True)


def code(about: ModelRun, edit: str, test: Tested | None) -> str:
    """The imports and three lines; the last gives the logits of the answer, [edit row class], or the trace."""
    names: set[str] = {edit.partition("(")[0]} | ({"answers"} if test else set())
    first = next(iter(about.trace.logits), None)
    output = "" if test is None or test.output == first else f", output={test.output!r}"
    last = f"logits = answers(model, sample, {edit}{output})" if test else f"trace = model(sample, edit={edit})"
    crop = ["from PIL import Image", ""] if "Image." in given(about) else [""]
    return "\n".join(
        [
            "import attnviz",
            f"from attnviz.interventions import {', '.join(sorted(names))}",
            *crop,
            f"model = attnviz.load({about.name!r})",
            f"sample = model.prepare({given(about)})",
            last,
        ]
    )


def given(about: ModelRun) -> str:
    """What the model was given, as Python writes it: the file of a sample picture, or the text."""
    if about.model.spec.modality == "text":
        texts = (st.session_state.get("text") or "", st.session_state.get("second") or "")
        return repr(texts if reads_pairs(about.model) and texts[1].strip() else texts[0])
    path = repr(YOURS if about.source in (UPLOAD, CAMERA) else file_of(about))
    if not isinstance(about, ImageRun) or chosen_crop() == CENTER_CROP:
        return path
    return f"Image.open({path}).crop({crop_box(chosen_crop(), about.picture.size, about.model.spec.input_size)})"


def file_of(about: ModelRun) -> str:
    """The file of a sample picture, from the folder that holds the app."""
    owner = samples.owner_of(about.name)
    return (samples.FOLDER / owner / f"{about.source}.{samples.ENDINGS[owner]}").relative_to(ROOT).as_posix()


def listed(tokens: Iterable[int]) -> str:
    """Numbers as a Python list, stretches of them as ranges."""
    parts = []
    for _, group in groupby(enumerate(sorted(tokens)), lambda pair: pair[1] - pair[0]):
        run = [token for _, token in group]
        parts.append(str(run[0]) if len(run) == 1 else f"*range({run[0]}, {run[-1] + 1})")
    return f"[{', '.join(parts)}]"
