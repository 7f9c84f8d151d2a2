"""An address that names a choice and says nothing of it ("?layer=") opens the page as if it had not named it."""

from __future__ import annotations

from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from tests.pages import ROOT, open_page

CONTROLS = ("segmented_control", "pills", "selectbox", "select_slider", "slider", "toggle", "number_input")
PICTURES = ("start", "embeddings", "positions", "queries_keys", "heads", "rollout", "compare", "train")
TEXTS = ("start", "embeddings", "positions", "queries_keys", "heads", "rollout", "compare")
OPENED = [
    *[(page, "vit-digits") for page in PICTURES],
    *[(page, "sentences") for page in TEXTS],
    ("positions", "stories"), ("lesson", ""), ("generate", ""), ("translate", ""),
]  # fmt: skip


def shown(at: AppTest) -> dict[str, object]:
    """Every control of the page with its value, but those of the sidebar."""
    found = (widget for kind in CONTROLS for widget in getattr(at.main, kind))
    return {str(widget.key): widget.value for widget in found}


@pytest.mark.parametrize(("page", "model"), OPENED)
def test_nothing_said_is_the_default(page: str, model: str) -> None:
    given = {"model": model} if model else {}
    usual = shown(open_page(page, **given))
    assert usual
    several = {"heads_shown", "beside"} & usual.keys()  # where many may be pressed, none is a choice
    blank = shown(open_page(page, **given, **dict.fromkeys(usual.keys() - several, "")))
    assert blank.keys() == usual.keys()


@pytest.mark.parametrize("number", [6, 7, 9])
@pytest.mark.parametrize("scheme", ["Sine and cosine, one sequence", "Sine and cosine, rows and columns"])
def test_a_number_between_the_steps_of_a_slider_is_drawn(scheme: str, number: int) -> None:
    open_page("positions", model="vit-digits", scheme=scheme, dimension=str(number))


@pytest.mark.parametrize("scheme", ["Sines and cosines", "Rotary"])
def test_so_it_is_for_texts(scheme: str) -> None:
    open_page("positions", model="stories", scheme=scheme, dimension="7", channels="7")


def test_sliders_of_one_key_have_one_range() -> None:
    at = open_page("positions", model="stories", tokens="4", dimension="200")
    for scheme in ("Rotary", "T5 buckets", "ALiBi", "Sines and cosines"):
        at.segmented_control(key="scheme").set_value(scheme).run()
        assert not at.exception
        assert not at.error, [e.value for e in at.error]


def test_one_of_is_the_only_row_of_buttons() -> None:
    files: list[Path] = [*ROOT.glob("pages/**/*.py"), *ROOT.glob("attnviz/ui/*.py")]
    found = [path.name for path in files if ".segmented_control(" in path.read_text(encoding="utf-8")]
    assert not found, f"{found} would fail on an empty address: use ui.one_of"
