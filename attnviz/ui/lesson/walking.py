"""Walking through the Lesson: each step is shown from its top, and the arrow keys lead to the one before or after."""

from __future__ import annotations

from pathlib import Path

from streamlit.components.v2 import component

HERE = Path(__file__).parent
BACK, NEXT = "lesson:back", "lesson:next"  # keys of the two buttons

_walking = component(
    "attnviz_walking",
    html='<div class="top"></div>',
    css=".top { height: 1px; margin-bottom: -1px; scroll-margin-top: 4.5rem; }",  # below the header of the page
    js=(HERE / "walking.js").read_text(),
)


def top_of(step: int) -> None:
    """The place that is scrolled to when another step is chosen, and what hears the arrow keys."""
    _walking(key="lesson:walking", data={"step": step, "buttons": {"back": css(BACK), "next": css(NEXT)}})


def css(key: str) -> str:
    """A widget's key as Streamlit writes it into the name of a class."""
    return key.replace(":", "-")
