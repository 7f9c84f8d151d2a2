"""An address that names a choice and says nothing of it ("?layer=") opens the page as if it had not named it."""

from __future__ import annotations

from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from tests.pages import ROOT, open_page

NUMBERS = ("inf", "nan", "9" * 400, "-1", "-inf", "1.5", "1e309")
CONTROLS = ("segmented_control", "pills", "selectbox", "select_slider", "slider", "toggle", "number_input")
PICTURES = ("start", "embeddings", "positions", "queries_keys", "heads", "explain", "test", "compare", "train")
TEXTS = ("start", "embeddings", "positions", "queries_keys", "heads", "explain", "test", "compare")
OPENED = [
    *[(page, "vit-digits") for page in PICTURES],
    *[(page, "sentences") for page in TEXTS],
    ("positions", "stories"),
    ("lesson", ""),
    ("generate", ""),
    ("translate", ""),
]


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


@pytest.mark.parametrize(("page", "model"), [*OPENED, *[("lesson", f"step {step}") for step in (2, 3, 4, 12)]])
def test_a_number_from_an_address_is_finite_and_inside_its_range(page: str, model: str) -> None:
    given = {"step": model[5:]} if page == "lesson" and model else {"model": model} if model else {}
    usual = shown(open_page(page, **given))
    asked = sorted(usual.keys() - given.keys())
    for turn in range(2):  # every control is asked for two of them
        said = {key: NUMBERS[(2 * place + turn) % len(NUMBERS)] for place, key in enumerate(asked)}
        at = open_page(page, **given, **said)
        for control in [*at.slider, *at.number_input]:
            assert control.min <= control.value <= control.max, (control.key, said.get(str(control.key)), control.value)


@pytest.mark.parametrize(("page", "key"), [("train", "seed"), ("generate", "dice")])
def test_a_seed_from_an_address_is_the_seed(page: str, key: str) -> None:
    for said, seed in {
        "7": 7,
        "999": 999,
        "1000": 0,
        "-1": 0,
        "1.5": 1,
        "1e2": 100,
        "inf": 0,
        "nan": 0,
        "9" * 400: 0,
    }.items():
        at = open_page(page, **{key: said})
        assert at.number_input(key=key).value // 1 == seed, said


@pytest.mark.parametrize("number", [6, 7, 9])
@pytest.mark.parametrize("scheme", ["Sine and cosine, one sequence", "Sine and cosine, rows and columns"])
def test_a_number_between_the_steps_of_a_slider_is_drawn(scheme: str, number: int) -> None:
    open_page("positions", model="vit-digits", scheme=scheme, dimension=str(number))


@pytest.mark.parametrize("scheme", ["sine", "rotary"])
def test_so_it_is_for_texts(scheme: str) -> None:
    open_page("positions", model="stories", scheme=scheme, dimension="7", channels="7")


def test_sliders_of_one_key_have_one_range() -> None:
    at = open_page("positions", model="stories", tokens="4", dimension="200")
    for scheme in ("rotary", "t5", "alibi", "sine"):
        at.segmented_control(key="scheme").set_value(scheme).run()
        assert not at.exception
        assert not at.error, [e.value for e in at.error]


def test_one_of_is_the_only_row_of_buttons() -> None:
    files: list[Path] = [*ROOT.glob("pages/**/*.py"), *ROOT.glob("attnviz/ui/**/*.py")]
    found = [path.name for path in files if ".segmented_control(" in path.read_text(encoding="utf-8")]
    assert not found, f"{found} would fail on an empty address: use ui.one_of"


def test_whole_number_is_the_only_field_for_numbers() -> None:
    files: list[Path] = [*ROOT.glob("pages/**/*.py"), *ROOT.glob("attnviz/ui/**/*.py")]
    found = [path.name for path in files if ".number_input(" in path.read_text(encoding="utf-8")]
    assert found == ["state.py"], f"{found} would fail on an address that says inf: use whole_number"
