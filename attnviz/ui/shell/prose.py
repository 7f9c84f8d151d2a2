"""Sections of a page's prose; its formulas name the house colours by role: `\\textcolor{query}{q}`."""

from __future__ import annotations

import re

import streamlit as st

from attnviz.plots import theme
from attnviz.ui.shell import page as shell_page
from attnviz.ui.widgets.output import dark


def section(page: str, heading: str, *, title: bool = True, optional: bool = False) -> None:
    """One section of a page's text, under its heading unless `title` is off; nothing if it is optional and missing."""
    if optional and heading not in shell_page.sections(page):
        return
    found = shell_page.section(page, heading)
    if title:
        st.subheader(heading)
    st.markdown(coloured(found, dark()))


def coloured(prose: str, dark: bool = False) -> str:
    """A text with the roles in its formulas written as the colours of the theme."""
    return re.sub(r"\\textcolor\{(\w+)\}", lambda m: rf"\textcolor{{{theme.colour(m[1], dark)}}}", prose)
