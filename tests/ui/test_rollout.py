"""The Rollout page run without a browser: its words, its choices, an upload, and exact downloads."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image
from streamlit.testing.v1 import AppTest

import attnviz
from attnviz.paths import ROOT
from attnviz.ui.rollout import steps
from attnviz.ui.widgets.output import npz


def opened(**choices: str) -> AppTest:
    """The page as a deep link with these choices opens it."""
    at = AppTest.from_file(str(ROOT / "attnviz/main.py"), default_timeout=60)
    at.query_params["model"] = "vit-digits"
    for name, value in choices.items():
        at.query_params[name] = value
    at.run()
    at.switch_page("../pages/rollout.py")
    for name, value in choices.items():  # a change of page clears parameters nobody has bound yet
        at.query_params[name] = value
    return at.run()


def words(at: AppTest) -> str:
    """Everything the page says."""
    assert not at.exception
    assert not at.error
    kinds = (at.title, at.subheader, at.markdown, at.caption)
    return "\n".join(element.value for kind in kinds for element in kind)


def png(size: tuple[int, int], seed: int = 0) -> bytes:
    """A picture of coloured noise."""
    pixels = np.random.default_rng(seed).integers(0, 255, (size[1], size[0], 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def test_the_page_says_what_it_shows():
    said = words(opened())
    assert "Rollout" in said
    assert "heads mean · residual weight 0.50 · discard none · layers 1 to 3 · class not used" in said
    assert "**Rollout** of the answer, layers 1 to 3" in said
    assert "**Raw attention**, layer 3 alone" in said
    assert "Where the model looked is not yet why it decided" in said
    assert "‖x‖ to ‖attention(x)‖" in said
    assert "its own range of colours" in said


def test_every_choice_changes_the_labels():
    at = opened()
    at.segmented_control(key="range").set_value("One for all")
    at.slider(key="alpha").set_value(25)
    at.slider(key="discard").set_value(90)
    at.slider(key="from").set_value(3)
    at.toggle(key="rows").set_value(True)
    at.session_state["fusion"] = "Maximum"
    at.session_state["target"] = steps.PATCH
    at.session_state["token"] = (6,)
    said = words(at.run())
    assert "heads max · residual weight 0.25 · discard smallest 90 % of each row · layers 3 alone" in said
    assert "of row 2, column 2, layer 3 alone" in said
    assert "one range of colours, from zero on" in said


def test_a_deep_link_shows_its_choices_and_unknown_values_fall_back():
    said = words(opened(target=steps.MEAN, fusion="Minimum", alpha="70", discard="40"))
    assert "heads min · residual weight 0.70 · discard smallest 40 % of each layer" in said
    assert "of all patches" in said
    said = words(opened(target="Everything", fusion="Sum", alpha="700", token="999999"))
    assert "heads mean · residual weight 0.50" in said
    assert "of the answer" in said


def test_an_upload_is_rolled_out():
    at = opened()
    before = at.dataframe[0].value
    at.file_uploader(key="image").upload("mine.png", png((90, 60)), "image/png").run()
    assert at.session_state["sample"] == "upload"
    assert "heads mean" in words(at)
    assert not at.dataframe[0].value.equals(before)


def test_a_change_of_model_keeps_the_page_whole():
    at = opened()
    at.slider(key="from").set_value(3).run()
    at.selectbox(key="model").set_value("vit").run()
    assert " to 6 · class" in words(at)
    at.slider(key="from").set_value(6).run()
    at.selectbox(key="model").set_value("vit-digits").run()
    assert "layers 1 to 3" in words(at)


# What the page shows is what the method says


@pytest.fixture(scope="module")
def visit() -> object:
    """A visit without a running app."""
    model = attnviz.load("vit-digits")
    picture = Image.open(io.BytesIO(png((40, 40), 3))).convert("RGB")
    sample = model.prepare(picture)
    from attnviz.ui.inputs.image_run import ImageRun

    return ImageRun(model=model, name="vit-digits", picture=picture, sample=sample, trace=model(sample), source="noise")


CHOICES = [
    steps.Choice(steps.ANSWER, 5, depth=3),
    steps.Choice(steps.MEAN, 5, "max", 0.3, 0.5, False, 1, 3),
    steps.Choice(steps.PATCH, 7, "min", 0.6, 0.7, True, 0, 3),
]


@pytest.mark.parametrize("choice", CHOICES)
def test_the_maps_are_those_of_the_methods(visit, choice):
    result = steps.work_out(visit, choice)
    options = {"fusion": choice.fusion, "alpha": choice.alpha, "discard": choice.discard, "by_row": choice.by_row}
    for first in range(choice.depth):
        row = attnviz.explain("rollout", visit.model, visit.sample, start=choice.start, first=first, **options)
        assert np.allclose(result.steps[first], row, atol=1e-6)
    row = attnviz.explain("raw attention", visit.model, visit.sample, start=choice.start, fusion=choice.fusion)
    assert np.allclose(result.raw, row, atol=1e-6)
    if choice.target == steps.PATCH:
        assert result.every.shape == (4, 17, 17)
        assert np.array_equal(result.every[choice.first, choice.token], result.steps[choice.first])
    assert np.allclose(result.steps.sum(-1), 1, atol=1e-5)


def test_held_maps_change_nothing(visit, monkeypatch):
    choice = CHOICES[2]
    kept = steps.work_out(visit, choice)
    monkeypatch.setattr(steps, "HELD", 0)
    monkeypatch.setattr(steps, "SENT", 0)
    again = steps.work_out(visit, choice)
    assert again.every is None
    assert np.allclose(kept.steps, again.steps, atol=1e-6)
    assert np.allclose(kept.raw, again.raw, atol=1e-6)


def test_downloads_hold_the_exact_numbers_with_their_labels(visit):
    choice = CHOICES[1]
    result = steps.work_out(visit, choice)
    with np.load(io.BytesIO(npz(steps.arrays(visit, choice, result, "the cat")))) as file:
        assert np.array_equal(file["rollout"], result.steps[1])
        assert "target: the cat" in file["labels"]
        assert "residual weight: 0.30" in file["labels"]
        assert "discard: smallest 50 % of each layer" in file["labels"]
    header, table = steps.rows(visit, choice, result, "the cat")
    assert header[:3] == ["token", "rollout", "raw attention"]
    assert {row[header.index("target")] for row in table} == {"the cat"}
    assert len(table) == 17
    assert all(len(row) == len(header) for row in table)


def test_a_click_chooses_the_target(visit, monkeypatch):
    made = {}
    monkeypatch.setattr(steps, "go", lambda **choices: made.update(choices))
    steps.pick(visit, (4, 9))
    assert made == {"target": steps.PATCH, "token": (9,)}
    steps.pick(visit, ())
    assert made["target"] == steps.ANSWER
    made.clear()
    steps.pick(visit, (0,))  # the answer is read from CLS
    assert made == {"target": steps.ANSWER}
