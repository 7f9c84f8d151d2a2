"""The choices shared by all pages (model, picture or text), and the run of an image model that pages read."""

from __future__ import annotations

from contextlib import nullcontext, suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, cast

import streamlit as st
from PIL import Image

from attnviz.models import CENTER_CROP, MODELS, Crop, DamagedFile
from attnviz.models.picture_files import EXTENSIONS
from attnviz.types import Model, Sample
from attnviz.ui.core.about import say_about_app
from attnviz.ui.core.cache import Busy, is_text_model, model_names, open_model, trace
from attnviz.ui.core.device import device_line
from attnviz.ui.core.state import PAGE, select
from attnviz.ui.inputs.crop import choose_crop, chosen_crop, crop_box
from attnviz.ui.inputs.model_run import ModelRun
from attnviz.ui.inputs.other_models import choose_other
from attnviz.ui.inputs.samples import open_sample, origin_of, replaced, samples_of
from attnviz.ui.inputs.text_run import choose_text, reading, reads_text
from attnviz.ui.inputs.uploads import BadImage, Picture, decode

WHICH = "The model to look into. Those of the bench are small and differ only in their attention variant."
NO_ROOM = "There was not enough memory for this picture. Make it smaller and try again."
NO_PICTURE = "it reads text, and this page is about a picture"
ALONE = {  # pages that do not ask which model is chosen, and what they look into
    "translate": "both translators",
    "generate": "`stories`",
    "lesson": "word vectors and one transformer block",
    "train": "networks that you train here",
}
FOLDED = "Model and input of the other pages"
GONE = (
    "The picture of this link was kept in memory only and is gone. Choose it again under Your own picture; until then "
    "a sample is shown."
)
REPLACED = "The sample picture “{old}” of this link is gone; “{new}” is shown in its place."
SIZE = "pixels"  # in the address
WHY_SIZE = (
    "How many pixels a side the model is given. A larger picture is cut into more patches of the same size, so that "
    "attention has more tokens; maps of the largest are computed row by row and take longer."
)
RESIZED = (
    "The model was trained at {own} px. At {size} px its position embeddings are interpolated (bicubic), and its "
    "answers may change."
)
UPLOAD, CAMERA = "upload", "camera"  # in the address, in the place of a sample
SECOND = "upload-2"  # a file brought as the second picture of a page that shows two
OWN_KINDS = (UPLOAD, CAMERA, SECOND)
OWN, LAST = "attnviz:own", "attnviz:last"  # keys of the session
BROUGHT, PROBLEM = "attnviz:brought", "attnviz:problem"  # a file that waits to be read; a sentence: of what, and where
ASIDE, TAKEN = "attnviz:aside", "attnviz:taken"  # a picture just removed; whether this run was caused by `take`


class NoPicture(Exception):
    """A page about a picture was opened with a model that reads text; the message is a clause that says so."""


@dataclass(frozen=True, eq=False, kw_only=True)
class ImageRun(ModelRun):
    """One model, one picture, and everything the model computed for it."""

    picture: Image.Image  # the visitor's picture, upright RGB


def own_pictures() -> dict[str, Picture]:
    """The pictures this visitor brought, by their kind in the address. They live as long as the session."""
    return st.session_state.setdefault(OWN, {})


def sidebar() -> None:
    """Draw the choices shared by all pages: model, picture or text.

    Pages that do not ask for them have them in a closed expander: choices that are not drawn would be forgotten. What a
    damaged file does not let it say is left out: the page that needs the file says which one it is.
    """
    problem = st.empty()  # always there, so that what follows keeps its place and its state
    with problem:
        read_brought()
    alone = ALONE.get(st.session_state.get(PAGE, ""))
    with st.sidebar:
        if alone:
            st.caption(f"This page uses {alone}.")
        with st.expander(FOLDED) if alone else nullcontext():
            name = choose_model(say=not alone)
        with st.popover("About attnviz", icon=":material/info:", type="tertiary"):
            say_about_app()
            with suppress(DamagedFile):
                st.caption(device_line(open_model(name)))
    if sentence := problem_here():
        problem.warning(sentence, icon=":material/image_not_supported:")


def choose_model(*, say: bool) -> str:
    """The model, and the picture or text that it is given; `say`: what kind of model it is."""
    names = model_names()
    keep_in_address("model", names[0])
    name = st.selectbox("Model", names, key="model", bind="query-params", help=WHICH)
    about = st.empty()
    if say:
        choose_other()
    if is_text_model(name):
        with suppress(DamagedFile):
            choose_text(name)
    else:
        choose_picture(name)
        with suppress(DamagedFile):
            choose_size(open_model(name))
            choose_crop(chosen_picture(), open_model(name).spec.input_size)
        bring_picture("image")
    with suppress(DamagedFile):
        if say:
            about.caption(said_of(name))
    return name


def keep_in_address(key: str, usual: str) -> None:
    """Say a choice in the address again, before it is drawn: a page that folds it away made the address forget it.

    What is usual needs no word there.
    """
    if st.session_state.get(key, usual) != usual and key not in st.query_params:
        st.session_state[key] = st.session_state[key]


def said_of(name: str) -> str:
    """What kind of model it is, in a few words. Raises DamagedModel."""
    if name in MODELS:
        return MODELS[name].title
    model = open_model(name)
    if name.startswith("text-bench/"):
        return f"{model.title}, English sentences: sentiment, parts of speech"
    if name.startswith("bench/"):
        return f"{model.title}, photographs, {len(model.outputs['class'])} classes"
    return model.title


def choose_picture(model: str) -> str:
    """The list of sample pictures, and of the visitor's own; each model remembers its last one."""
    gone = OWN not in st.session_state and st.query_params.get("sample") in OWN_KINDS  # of an earlier session
    options = [*samples_of(model), *own_pictures()]
    last = st.session_state.setdefault(LAST, {})
    if new := replaced(model, old := st.query_params.get("sample")):
        st.session_state["sample"] = new
        st.session_state[PROBLEM] = ("", REPLACED.format(old=old, new=new), None)
    if st.session_state.get("sample", options[0]) not in options:
        st.session_state["sample"] = last.get(model, options[0])
    keep_in_address("sample", options[0])
    chosen = st.selectbox("Picture", options, key="sample", bind="query-params")
    if chosen not in own_pictures():
        last[model] = chosen
        with suppress(DamagedFile):
            if origin := origin_of(model, chosen):
                st.caption(origin[0], help=origin[1])
    if gone:
        st.session_state[PROBLEM] = ("", GONE, None)
    return chosen


def chosen_picture() -> Picture:
    """The picture that is chosen: the visitor's own, or a sample of the model in the sidebar."""
    source = st.session_state["sample"]
    return own_pictures().get(source) or open_sample(st.session_state["model"], source)


def choose_size(model: Model) -> None:
    """The sizes at which the model can read a picture, where it has more than one; its own to begin with."""
    sizes = model.spec.input_sizes
    if len(sizes) < 2 or model.spec.input_size is None:
        return
    own, patch = model.spec.input_size[0], model.spec.patch_size or 1
    names = {str(size): f"{size} px, {(size // patch) ** 2:,} patches" for size in sizes}
    select("Input size", names, key=SIZE, default=str(own), help=WHY_SIZE)
    if (size := chosen_size(model)) is not None:
        st.caption(RESIZED.format(size=size, own=own))


def chosen_size(model: Model) -> int | None:
    """The size in pixels the visitor asks for; None where that is the model's own."""
    asked = st.session_state.get(SIZE)
    sizes = [size for size in model.spec.input_sizes if str(size) == asked]
    return sizes[0] if sizes and (sizes[0], sizes[0]) != model.spec.input_size else None


def bring_picture(key: str) -> None:
    """Ways to bring a picture. The camera is opened on demand, so that no permission is asked for by itself."""
    taken = partial(take, key, UPLOAD)
    st.file_uploader("Your own picture", type=EXTENSIONS, key=key, max_upload_size=10, on_change=taken)
    if st.toggle("Use the camera", key=f"{key}:camera:on", help="The picture stays in this app's memory"):
        st.camera_input("Photo", key=f"{key}:camera", on_change=partial(take, f"{key}:camera", CAMERA))


def take(key: str, kind: str) -> None:
    """Note what a visitor brought; it is read when the page is drawn, which can show that it takes its time.

    A browser removes a file before it sends the one that replaces it, so what is removed is set aside for a moment.
    """
    state = st.session_state
    refused = state.pop(PROBLEM, ("",))[0] == kind  # then the picture is not the file that is removed now
    state.pop(BROUGHT, None)
    state[TAKEN] = True
    file = state.get(key)
    if file is not None:
        state[BROUGHT] = (kind, file.getvalue())
    elif not refused and (removed := own_pictures().pop(kind, None)):
        state[ASIDE] = (kind, removed, state.get(place_of(kind)) == kind)


def place_of(kind: str) -> str:
    """Which choice a visitor's own picture is made for: the picture of all pages, or the second one of a page."""
    return "second_picture" if kind == SECOND else "sample"


def read_brought() -> None:
    """A file somebody brought becomes the picture; one that cannot be used leaves a sentence, and the picture stays."""
    state = st.session_state
    if not state.pop(TAKEN, False):
        state.pop(ASIDE, None)  # who goes on after removing a picture meant to remove it
    if BROUGHT not in state:
        return
    with st.spinner("Reading the picture"):
        kind, raw = state[BROUGHT]
        try:
            own_pictures()[kind] = decode(raw)
            state[place_of(kind)] = kind
        except (BadImage, Busy, MemoryError) as error:
            state[PROBLEM] = (kind, NO_ROOM if isinstance(error, MemoryError) else str(error), None)
            bring_back(kind)
        finally:
            del state[BROUGHT]
            state.pop(ASIDE, None)


def bring_back(kind: str) -> None:
    """The picture that was to be replaced is there again, and chosen if it was."""
    earlier, picture, chosen = st.session_state.get(ASIDE, ("", None, False))
    if picture is not None and earlier == kind:
        own_pictures()[kind] = picture
        if chosen:
            st.session_state[place_of(kind)] = kind


def problem_here() -> str:
    """The sentence about a file that cannot be used, on the page and beside the picture where it was said first."""
    kind, sentence, where = st.session_state.get(PROBLEM, ("", "", None))
    place = (st.session_state.get(PAGE), st.session_state.get("sample"))
    if sentence and where is None:
        st.session_state[PROBLEM] = (kind, sentence, place)
    return sentence if where in (None, place) else ""


def model_run() -> ModelRun:
    """What the visitor has chosen, a picture or a text, with its trace. Raises DamagedModel, Busy."""
    return reading() if reads_text() else visit()


def visit() -> ImageRun:
    """The chosen picture with its trace. Raises NoPicture for a model that reads text, DamagedModel, Busy."""
    if reads_text():
        raise NoPicture(NO_PICTURE)
    name, source, picture = st.session_state["model"], st.session_state["sample"], chosen_picture()
    model = open_model(name)
    size = chosen_size(model)
    sample = prepared(model.digest, picture.digest, model, picture.image, chosen_crop(), size)
    return ImageRun(
        model=model, name=name, picture=picture.image, sample=sample, trace=trace(name, sample), source=source
    )


@st.cache_resource(max_entries=64, show_spinner=False)
def prepared(
    model_digest: str,
    picture_digest: str,
    _model: Model,
    _picture: Image.Image,
    crop: Crop = CENTER_CROP,
    size: int | None = None,
) -> Sample:
    """A picture made ready for a model, which is given the crop alone; its own crop lies within that one.

    `size`: one of the model's `input_sizes`; None is its own.
    """
    prepare = _model.prepare if size is None else partial(cast(Any, _model).prepare, size=size)
    if crop == CENTER_CROP:
        return prepare(_picture)
    left, top, right, bottom = crop_box(crop, _picture.size, _model.spec.input_size)
    sample = prepare(_picture.crop((left, top, right, bottom)))
    inside = sample.crop or (0, 0, right - left, bottom - top)
    return replace(sample, crop=(left + inside[0], top + inside[1], left + inside[2], top + inside[3]))
