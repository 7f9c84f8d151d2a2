"""What to try: every link under every page, of pictures and of texts, is followed and makes the choices it names."""

from __future__ import annotations

import pytest
from streamlit.testing.v1 import AppTest

from attnviz.ui.core.state import SEEN
from attnviz.ui.shell.page import FOLDER, PAGES, experiments, section
from tests.pages import open_page

LINKS = [
    *((path.stem, path.stem, "vit") for path in sorted(PAGES.glob("*.py"))),
    *((path.stem, f"text/{path.stem}", "sentences") for path in sorted((FOLDER / "text").glob("*.md"))),
]


def held(at: AppTest) -> dict[str, object]:
    """What the page has chosen: the values of its widgets, and the tokens picked on it."""
    widgets = [
        *at.selectbox,
        *at.multiselect,
        *at.segmented_control,
        *at.pills,
        *at.toggle,
        *at.slider,
        *at.select_slider,
        *at.number_input,
        *at.text_input,
        *at.text_area,
    ]
    names = {widget.key for widget in widgets if widget.key} | set(at.session_state[SEEN])
    return {name: at.session_state[name] for name in names if name in at.session_state}


def as_in_a_link(value: object) -> object:
    """A choice as `text.experiments` gives it: a single token without its tuple, names with commas between them."""
    if isinstance(value, list):
        return ",".join(value)
    return value[0] if isinstance(value, tuple) and len(value) == 1 else value


@pytest.mark.parametrize(("page", "words", "model"), LINKS, ids=[words for _, words, _ in LINKS])
def test_every_experiment_makes_its_choices(page: str, words: str, model: str):
    offered = experiments(section(words, "What to try"))
    assert len(offered) >= 3
    for number, experiment in enumerate(offered):
        at = open_page(page, model=model)
        at.button(key=f"{words}:try:{number}").click().run()
        assert not at.exception
        assert not at.error, [error.value for error in at.error]
        made = held(at)
        for name, choice in experiment.choices.items():
            assert as_in_a_link(made.get(name)) == as_in_a_link(choice), f"{experiment.label}: {name}"
