"""What the address asked for when it was opened and is not here, said in one line instead of silently replaced."""

from __future__ import annotations

from typing import Any

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from attnviz.hub.source import read_policy
from attnviz.ui.core.old_addresses import OLD_VALUES
from attnviz.ui.core.others import PREFIXES
from attnviz.ui.core.state import numbers
from attnviz.ui.inputs.image_run import OWN_KINDS
from attnviz.ui.inputs.samples import REPLACED, TRAINED_HERE

ARRIVED = "attnviz:arrived"  # session key: whether the address has been read, once for a session
NOUNS = {  # parameter -> what it names; other parameters are matters of display, and fall back silently
    "model": "the model",
    "sample": "the picture",
    "second_picture": "the second picture",
    "pixels": "the input size",
    "layer": "layer",
    "head": "head",
    "token": "token",
    "method": "the method",
    "variant": "the variant",
    "only": "the part of the page",
}
NOT_HERE = "This link asks for {asked}. There is no such thing here; the page shows {shown} instead."
DEFAULT = "what it shows without being asked"
NOT_OPEN = "A model of others is not opened by a link: open it in the sidebar, under “Open another model”."
NOT_ALLOWED = "This server opens no models of others."
TRAINED_ELSEWHERE = "A network that a visitor trains is kept in that visitor's session only."


def read_address() -> dict[str, str]:
    """What the address names when a session begins; nothing later, when visitors choose for themselves."""
    if st.session_state.get(ARRIVED):
        return {}
    st.session_state[ARRIVED] = True
    return {name: value for name in NOUNS if (value := st.query_params.get(name))}


def say_what_is_not_here(asked: dict[str, str], place: DeltaGenerator) -> None:
    """Say which of these things the page did not find. What it does not use is no matter."""
    lacking = {name: value for name, value in asked.items() if not found(name, value)}
    if not lacking:
        return
    wanted = ", ".join(named(name, value) for name, value in lacking.items())
    shown = ", ".join(named(name, held) for name in lacking if (held := spoken(st.session_state[name])))
    said = NOT_HERE.format(asked=wanted, shown=shown or DEFAULT)
    if lacking.get("model", "").startswith(TRAINED_HERE):
        said = f"{said} {TRAINED_ELSEWHERE}"
    if lacking.get("model", "").startswith(PREFIXES):
        said = f"{said} {NOT_OPEN if read_policy().opens else NOT_ALLOWED}"
    place.info(said, icon=":material/link_off:")


def found(name: str, value: str) -> bool:
    """Whether the page has what the address names. Of uploads and replaced samples others speak."""
    pictures = {"sample": (*OWN_KINDS, *REPLACED), "second_picture": OWN_KINDS}
    if name not in st.session_state or value in pictures.get(name, ()):
        return True
    held = st.session_state[name]
    if isinstance(held, tuple):
        return held == numbers(value)
    return spoken(held) in (value, OLD_VALUES.get(name, {}).get(value))


def named(name: str, value: str) -> str:
    """A thing in words, without the signs that Markdown would take for its own."""
    plain = "".join(sign for sign in value[:60] if sign.isalnum() or sign in " -_./,:")
    return f"{NOUNS[name]} “{plain}”"


def spoken(held: Any) -> str:
    """A choice as an address says it."""
    return ",".join(map(str, held)) if isinstance(held, tuple) else str(held)
