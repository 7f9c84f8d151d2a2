"""The prose of the pages, one file each in assets/text; its format is explained in assets/text/start.md."""

from __future__ import annotations

from pathlib import Path

import streamlit as st

FOLDER = Path(__file__).resolve().parents[2] / "assets" / "text"


def sections(page: str) -> dict[str, str]:
    """The sections of a page's text by heading; the lead is under "", the title under "title"."""
    parts, name = {"": "", "title": page.replace("_", " ").capitalize()}, ""
    path = FOLDER / f"{page}.md"
    for line in path.read_text().splitlines() if path.exists() else ():
        if line.startswith("# "):
            parts["title"] = line[2:]
        elif line.startswith("## "):
            name = line[3:]
            parts[name] = ""
        else:
            parts[name] += line + "\n"
    return parts


def header(page: str) -> None:
    """The page's title and lead sentence."""
    text = sections(page)
    st.title(text["title"])
    st.markdown(text[""])


def footer(page: str) -> None:
    """The page's "What to try" and "What this does not tell you"."""
    text = sections(page)
    for name in ("What to try", "What this does not tell you"):
        if name in text:
            st.subheader(name)
            st.markdown(text[name])
