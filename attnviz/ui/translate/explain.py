"""Which English words a French word depends on, by attribution methods that go through both texts."""

from __future__ import annotations

import numpy as np
import streamlit as st
from jaxtyping import Float
from torch import Tensor

from attnviz import views
from attnviz.methods import METHODS, explain
from attnviz.types import NoTokenMap, Target, UnsupportedMask
from attnviz.ui.core.cache import core
from attnviz.ui.core.sized_cache import SizedCache
from attnviz.ui.core.state import select
from attnviz.ui.shell.prose import section
from attnviz.ui.translate.scene import Written, plain
from attnviz.ui.widgets.answers import percent
from attnviz.ui.widgets.method_options import control, said_value
from attnviz.ui.widgets.output import downloads

OFFERED = (
    "generic attention",
    "gradient rollout",
    "input x gradient",
    "integrated gradients",
    "smoothgrad",
    "deletion",
    "occlusion",
    "rollout",
    "raw attention",
)
METHOD, SLOT = "why-method", "translate:why"
WHY = (
    "Methods that go through both texts. Attention flow, norm-based attention, ALTI and value zeroing are not defined "
    "where one text attends to another; Grad-CAM and LeGrad read tokens of one text. Where the English is changed, the "
    "French is read as it stands here, so that one and the same token is scored."
)
REST = "{} of the relevance stays with the French read so far and is not shown; the rest is divided by its sum."
SUMS = "The numbers are divided by their sum."
SIGNED = "The method is signed: its colour scale is centred at zero."


def show(here: Written, at: int) -> None:
    """The English coloured by what the chosen French token depends on, by the method that is chosen."""
    section("translate", "Which English words does it depend on?")
    with st.container(horizontal=True, vertical_alignment="bottom"):
        titles = {name: METHODS[name].title for name in OFFERED}
        name = select("Attribution method", titles, key=METHOD, default=OFFERED[0], width=230, help=WHY)
        how, depth = METHODS[name], here.model.spec.layers
        with st.popover("Options", icon=":material/settings:", key="why-options"):
            options = {option.name: control(option, depth, st) for option in how.options}
    token = plain(here.tokens.labels[at])
    try:
        row = relevance(here, at, name, options)
    except (NoTokenMap, UnsupportedMask) as error:
        st.info(f"{how.title} does not apply here: {str(error).rstrip('.')}.")
        return
    said = " · ".join(f"{one.title.lower()} {said_value(one, options[one.name], depth)}" for one in how.options)
    st.markdown(f"**English**, coloured by what **{token}** depends on, {how.title}  \n:small[:gray[{said}]]")
    total = float(row.sum())
    shown = row if how.signed or not total else row / total
    keys, unit = here.trace.calls[0].keys, "number" if how.signed else "percent"
    views.send_maps(
        SLOT, shown[None], titles=[how.title], keys=keys, signed=how.signed, map_type="relevance", unit=unit
    )
    views.text_view(f"{SLOT}:text", maps=SLOT, height=160, label=f"The English, by {how.title.lower()}")
    st.caption(f"{words(how.signed, name, total)} {how.help.splitlines()[0]}")
    save(here, at, row, {"method": how.title, "token": f"{at + 1} {here.tokens.labels[at]}", "options": said})


def save(here: Written, at: int, row: Float[np.ndarray, " token"], labels: dict[str, str]) -> None:
    """Buttons for the exact numbers, before they are divided by their sum."""
    english = here.trace.calls[0].keys.labels
    said = np.array([f"{name}: {value}" for name, value in labels.items()])
    table = [[token, value, *labels.values()] for token, value in zip(english, row.tolist(), strict=True)]
    downloads(
        lambda: {"relevance": row, "english": np.array(english), "labels": said},
        lambda: (["english", "relevance", *labels], table),
        f"translate-depends-{at + 1}",
    )


def words(signed: bool, name: str, total: float) -> str:
    """What the numbers are: signed, shares of what has come to the English, or divided by their sum."""
    if signed:
        return SIGNED
    return REST.format(percent(1 - total)) if name == "rollout" else SUMS


def relevance(here: Written, at: int, name: str, options: dict) -> Float[np.ndarray, " token"]:
    """The relevance of each English token for the token generated at a step. Raises NoTokenMap, UnsupportedMask."""

    def made() -> Tensor:
        with core():
            target, both = Target("word", at, here.beam.ids[at]), here.trace.sample or here.sample
            return explain(name, here.model, both, target, trace=here.trace, **options).float()

    key = (here.model.digest, here.sample.digest, repr(here.beam.ids), str(at), name, str(sorted(options.items())))
    return kept().get(key, made).numpy()


@st.cache_resource(show_spinner=False)
def kept() -> SizedCache[Tensor]:
    """The rows explained last: at most 512, at most 2 MB."""
    return SizedCache(entries=512, size=2_000_000)
