"""Choosing what crosses with a kind of attention: normalisers, sinks, talking heads, QK-norm."""

from __future__ import annotations

from typing import Any

import streamlit as st

from attnviz.attention import OPTIONS, VARIANTS
from attnviz.attention.rules.options import Option
from attnviz.ui.core.state import keep_inside, one_of


def choose_options(variant: str) -> tuple[tuple[str, Any], ...]:
    """What crosses with the variant, in a popover; only what is not plain is returned."""
    with st.popover("Options", icon=":material/tune:", help="What crosses with this kind of attention"):
        if not VARIANTS[variant].supports_options:
            st.caption(
                f"{VARIANTS[variant].title} takes none: they change how products of queries and keys become weights."
            )
            return ()
        chosen = {name: option_choice(name, option) for name, option in OPTIONS.items()}
    return tuple((name, value) for name, value in chosen.items() if value != OPTIONS[name].plain)


def option_choice(name: str, option: Option) -> Any:
    """One option's value, chosen by its name on screen."""
    values = {said: value for value, said in option.values.items()}
    keep_inside(name, values)
    return values[one_of(option.title, list(values), default=option.values[option.plain], key=name, help=option.help)]
