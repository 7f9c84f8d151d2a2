"""The prose of the pages, one file each in assets/text, so that a change of wording touches no code.

    # Title
    One or two sentences under it.

    ## What to try
    - [Label of the button](page?layer=3&head=2&token=45) Why it is worth a look

    ## What this does not tell you
    Paragraphs.

A link names a page by its address ("" is Start) and sets choices by their names there: numbers, identifiers, true,
false, tokens as 3,4, or several identifiers by naming the choice once for each. Any further section is read by
`section(page, heading)`.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import NamedTuple, NoReturn
from urllib.parse import parse_qsl, urlsplit

import streamlit as st

from attnviz.models import DamagedFile
from attnviz.paths import PAGES, PROSE
from attnviz.ui.core import assets
from attnviz.ui.core.state import forget_belongings, go
from attnviz.ui.inputs.sentences import PAIRS
from attnviz.ui.inputs.text_run import reads_text
from attnviz.ui.shell.block_map import block_map
from attnviz.ui.shell.menu import MENU, after

FOLDER = PROSE
LINK = re.compile(r"^- \[(?P<label>[^\]]+)\]\((?P<address>[^)]*)\)\s*(?P<why>.*)$")


class Experiment(NamedTuple):
    """Something to try: a button that leads to a page with some choices made."""

    label: str
    page: str  # its file in pages/, without ".py"
    choices: dict[str, object]
    why: str


@lru_cache(maxsize=32)
def sections(page: str) -> dict[str, str]:
    """A page's text by heading; "" holds what stands before the first one, "title" the title. Raises DamagedFile."""
    path, name = FOLDER / f"{page}.md", ""
    parts = {"": ""}
    with assets.reading(path):
        lines = path.read_text(encoding="utf-8").splitlines()
    for line in lines:
        if line.startswith("# "):
            parts["title"] = line[2:].strip()
        elif line.startswith("## "):
            name = line[3:].strip()
            parts[name] = ""
        else:
            parts[name] += line + "\n"
    return parts


def section(page: str, heading: str) -> str:
    """One section of a page's text. Raises DamagedFile where it has none of that name."""
    found = sections(page).get(heading)
    if found is None:
        raise DamagedFile(assets.name_of(FOLDER / f"{page}.md"), f"has no section “{heading}”")
    return found.strip()


def experiments(text: str) -> list[Experiment]:
    """The experiments of a section: its list items that are links."""
    found = []
    for match in filter(None, map(LINK.match, text.splitlines())):
        address = urlsplit(match["address"])
        choices = choices_of(address.query)
        found.append(Experiment(match["label"], address.path.strip("/") or "start", choices, match["why"]))
    return found


def choices_of(query: str) -> dict[str, object]:
    """The choices a link sets; a name that stands there more than once is a list, of which any number may be chosen."""
    pairs = [(name, value_of(value)) for name, value in parse_qsl(query)]
    several = {name: [value for other, value in pairs if other == name] for name, _ in pairs}
    return {name: values if len(values) > 1 else values[0] for name, values in several.items()}


def value_of(text: str) -> object:
    """A value from a link as its widget holds it: number, truth, tokens or word."""
    if text.isdecimal():
        return int(text)
    if re.fullmatch(r"\d+\.\d+", text):
        return float(text)
    if text in ("true", "false"):
        return text == "true"
    parts = text.split(",")
    return tuple(map(int, parts)) if len(parts) > 1 and all(p.isdecimal() for p in parts) else text


def header(page: str) -> None:
    """The part of a transformer that the page shows, its title and the sentence under it."""
    with st.container(horizontal=True, vertical_alignment="center", key="title"):
        st.title(section(page, "title"), anchor=False, width="content")
        asked = block_map(own_name(page))
    if asked is not None:
        open_page(asked)
    st.markdown(section(page, ""))


def footer(page: str) -> None:
    """The end of every page: three things to try, and what the page does not tell."""
    tries = experiments(section(page, "What to try"))
    st.divider()
    left, right = st.columns([3, 2], gap="large")
    with left:
        if tries:
            st.subheader("What to try", anchor=False)
        for number, experiment in enumerate(tries):
            offer(page, experiment, f"{page}:try:{number}")
    with right:
        st.subheader("What this does not tell you", anchor=False)
        st.markdown(section(page, "What this does not tell you"))
    offer_next(own_name(page))


def offer(page: str, experiment: Experiment, key: str) -> None:
    """One experiment: a button that makes its choices, here or on another page, and why it is worth a look."""
    arrow = ":material/arrow_forward:"
    pressed = st.button(experiment.label, key=key, on_click=follow, args=(experiment.choices,), icon=arrow)
    st.caption(experiment.why)
    if pressed and experiment.page != own_name(page):  # a switch to the page itself would undo picks
        open_page(experiment.page)


def offer_next(page: str) -> None:
    """The page that comes next in the story, at the end of each."""
    name = after(page)
    entry = MENU[name]
    with st.container(horizontal=True, vertical_alignment="center"):
        if st.button(f"Next: {entry.title}", key=f"next:{page}", icon=":material/arrow_forward:", type="primary"):
            open_page(name)
        st.caption(entry.about)


def open_page(name: str) -> NoReturn:
    """Go to another page, with all choices."""
    # Without the empty mapping it would clear the parameters bound to widgets, which is refused; they come back.
    st.switch_page(page_file(name), query_params={})


def own_name(page: str) -> str:
    """A page's name in the menu: that of the page about pictures."""
    return page.removeprefix("text/")


def follow(choices: dict[str, object]) -> None:
    """Make an experiment's choices. With another text, what belonged to the one before is forgotten."""
    if "text" in choices:
        choices = {"second": PAIRS.get(str(choices["text"]), ""), **choices}
    for name in choices:
        forget_belongings(name)
    go(**choices)


def page_file(page: str) -> str:
    """The script of a page: its own for models that read text where there is one, under the same address."""
    own = PAGES / "text" / f"{page}.py"
    return str(own if own.exists() and reads_text() else PAGES / f"{page}.py")
