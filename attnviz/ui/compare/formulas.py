"""The words of the Compare page: what each variant computes, what its map means, and its paper."""

from __future__ import annotations

import inspect
import re

import streamlit as st

from attnviz.attention import VARIANTS
from attnviz.ui.compare.choice import Choice
from attnviz.ui.compare.costs import mask_names
from attnviz.ui.compare.domain import Domain
from attnviz.ui.shell.prose import coloured, section
from attnviz.ui.widgets.output import dark

ROLES = {"q": "query", "k": "key", "v": "value"}
LETTER = re.compile(r"(?<![A-Za-z\\])([QKVqkv])(?![A-Za-z])")  # not inside a command or a word
SENTENCE_END = re.compile(r"(?<!\bet al)\. ")  # "(Liu et al. 2021)" does not end one
ACCENT = re.compile(r"\\(hat|tilde|bar|widetilde|sqrt) ([A-Za-z])")


def introduce(choice: Choice) -> None:
    """What each variant does, a sentence each, before its panel shows it."""
    st.caption(" ".join(f"**{VARIANTS[name].title}:** {first_sentence(name)}" for name in choice.variants))


def details(choice: Choice) -> None:
    """The formula of each variant, what its map means, what may be asked of it, and where it comes from."""
    with st.expander("Formulas, limits and sources", icon=":material/function:", key="formulas"):
        section(choice.domain.page, "Formulas", title=False)
        for name in choice.variants:
            formula, words = st.columns([1, 1], gap="medium", vertical_alignment="center")
            with formula:
                st.markdown(f"**{VARIANTS[name].title}**")
                st.markdown(coloured(f"$$\n{roles(VARIANTS[name].formula)}\n$$", dark()))
            words.markdown(paragraph(choice.domain, name))


def first_sentence(name: str) -> str:
    """What a variant does, in one sentence."""
    paragraph = " ".join((inspect.getdoc(VARIANTS[name]) or "").split("\n\n")[0].split())
    return SENTENCE_END.split(paragraph)[0].rstrip(".") + "."


def roles(formula: str) -> str:
    """A formula with its queries, keys and values in the colours they have everywhere."""
    braced = ACCENT.sub(r"\\\1{\2}", formula)  # a command without braces would take the colour for its letter
    return LETTER.sub(lambda m: rf"\textcolor{{{ROLES[m[1].lower()]}}}{{{m[1]}}}", braced)


def paragraph(domain: Domain, name: str) -> str:
    """What a variant does, what its map means, what may be asked of it, and its paper."""
    variant = VARIANTS[name]
    does = " ".join((inspect.getdoc(variant) or "").split("\n\n")[0].split())
    needs = "".join(f" It needs {domain.requirement_names[need]}." for need in sorted(variant.requirements))
    supported = mask_names(variant.supported_masks) or "nothing but the whole input"
    return f"{does} {variant.meaning}\n\n:small[Supports: {supported}.{needs} Source: {variant.paper}]"
