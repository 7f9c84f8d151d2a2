"""A small diagram of a transformer: which part of it the page shows, and a way to the pages about the others."""

from __future__ import annotations

from pathlib import Path

import streamlit as st
from streamlit.components.v2 import component

from attnviz.ui.shell.menu import LOOK, MENU

HERE = Path(__file__).parent
KEY = "blockmap"  # without a dash: what a tab sent is told by the end of a widget's id, "-map"

_map = component(
    "attnviz_block_map",
    html='<nav class="map" aria-label="Parts of a transformer"></nav>',
    css=(HERE / "block_map.css").read_text(),
    js=(HERE / "block_map.js").read_text(),
)


def block_map(page: str) -> str | None:
    """Show the diagram with one page marked; the page that was clicked, if any."""
    if MENU[page].group != LOOK:
        return None
    titles = {name: entry.title for name, entry in MENU.items() if entry.group == LOOK}
    _map(key=KEY, data={"titles": titles, "here": page}, on_page_change=lambda: None)
    asked = st.session_state[KEY].get("page")
    return asked if asked in titles and asked != page else None
