"""Choosing the options of an attention variant: normalisation, attention sink, talking heads, QK-norm."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import streamlit as st

from attnviz.attention import OPTIONS, VARIANTS
from attnviz.attention.rules.options import Option
from attnviz.ui.core.state import one_of

IDENTIFIERS: Mapping[Any, str] = {"": "none", False: "no", True: "yes"}  # of values that are no names


def choose_options(variant: str) -> tuple[tuple[str, Any], ...]:
    """The options of a variant that are not at their defaults, chosen in a popover."""
    with st.popover("Options", icon=":material/tune:", help="Options of this attention variant"):
        if not VARIANTS[variant].supports_options:
            st.caption(no_options(variant))
            return ()
        chosen = {name: choose_option(name, option) for name, option in OPTIONS.items()}
    return tuple((name, value) for name, value in chosen.items() if value != OPTIONS[name].plain)


def no_options(variant: str) -> str:
    """The sentence about a variant that supports no options."""
    return f"{VARIANTS[variant].title} has no options: they change how products of queries and keys become weights."


def choose_option(name: str, option: Option) -> Any:
    """The value of one option, kept in the address by identifier."""
    values = {identifier(value): value for value in option.values}
    labels = {name: option.values[value] for name, value in values.items()}
    return values[one_of(option.title, labels, default=identifier(option.plain), key=name, help=option.help)]


def identifier(value: Any) -> str:
    """What the value of an option is called in the address."""
    return IDENTIFIERS.get(value, value)
