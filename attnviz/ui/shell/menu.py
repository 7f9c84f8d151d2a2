"""The pages in the order of their story, in groups. To add a page: its file in pages/, its text, and one line here."""

from __future__ import annotations

from typing import NamedTuple


class Entry(NamedTuple):
    """One page in the menu."""

    group: str
    title: str
    icon: str  # of Material Symbols
    about: str  # what it shows, in a line


LEARN, LOOK, CHOOSE, MAKE = "Learn", "Look", "Choose", "Make"
MENU: dict[str, Entry] = {  # file in pages/ and address -> its line
    "start": Entry("", "Start", "home", "A picture or a text, the model's answer, and what attends to what"),
    "lesson": Entry(LEARN, "Lesson", "school", "Attention built up in twelve steps on a sentence of yours"),
    "train": Entry(LEARN, "Train", "model_training", "Watch a small network learn to read digits"),
    "embeddings": Entry(LOOK, "Embeddings", "grid_on", "How patches and words become vectors"),
    "positions": Entry(
        LOOK, "Positions", "my_location", "How position enters: learned, sinusoidal, rotary and relative positions"
    ),
    "follow": Entry(LOOK, "Follow a token", "route", "One token through one layer, stage by stage, and all layers"),
    "queries_keys": Entry(LOOK, "Queries and keys", "join_inner", "From query and key to attention weights"),
    "heads": Entry(LOOK, "Heads", "grid_view", "What each head attends to"),
    "explain": Entry(LOOK, "Explain", "layers", "Attribution: which tokens the answer depends on"),
    "test": Entry(LOOK, "Test", "experiment", "Take something away, and see what the answer loses"),
    "compare": Entry(CHOOSE, "Compare", "compare", "Attention variants side by side"),
    "translate": Entry(MAKE, "Translate", "translate", "English to French, with cross-attention for every word"),
    "generate": Entry(MAKE, "Generate", "edit_note", "Next-token prediction: probabilities, sampling, attention"),
}


def groups() -> dict[str, list[str]]:
    """The pages of every group, in order; "" is the group without a heading."""
    found: dict[str, list[str]] = {}
    for name, entry in MENU.items():
        found.setdefault(entry.group, []).append(name)
    return found


def after(name: str) -> str:
    """The page that comes next in the story; after the last one the first."""
    names = list(MENU)
    return names[(names.index(name) + 1) % len(names)]
