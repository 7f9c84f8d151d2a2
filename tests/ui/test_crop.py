"""The square of a picture that the network sees: set by sliders, read from the address, forgotten with the picture."""

from __future__ import annotations

import io

import pytest
from PIL import Image
from streamlit.testing.v1 import AppTest

import attnviz
from attnviz.models import Crop, load
from attnviz.ui.core import cache
from attnviz.ui.inputs.crop import WHOLE, crop_box
from attnviz.ui.inputs.samples import open_sample
from attnviz.ui.widgets.answers import best, percent
from tests.pages import open_page

CORNER = {"zoom": "2.5", "across": "0", "down": "100"}
ASKED = {"zoom": 2.5, "across": 0, "down": 100}


def sliders(at: AppTest) -> dict[str, object]:
    """What the three sliders say."""
    return {key: at.slider(key=key).value for key in WHOLE}


def answer(at: AppTest) -> str:
    """The likeliest class and its probability, as the page says them."""
    return at.get("progress")[0].proto.text


def striped() -> bytes:
    """A file with a broad picture whose left side is not its right side."""
    picture, file = Image.new("RGB", (60, 20), "black"), io.BytesIO()
    picture.paste("white", (3, 0, 6, 20))
    picture.paste("white", (43, 4, 57, 7))
    picture.save(file, "PNG")
    return file.getvalue()


@pytest.mark.parametrize("page", ["start", "heads", "explain"])
def test_the_address_says_which_square_is_seen(page: str):
    cache.traces.clear()
    at = open_page(page, model="vit-digits", sample="three", **CORNER)
    assert sliders(at) == ASKED
    model = attnviz.load("vit-digits")
    sample = model.prepare(open_sample("vit-digits", "three").image, Crop(2.5, 0, 1))
    assert sample.digest != model.prepare(open_sample("vit-digits", "three").image).digest
    cache.traces().get((model.digest, sample.digest, "own"), lambda: pytest.fail("another square was read"))
    if page == "start":
        name, probability = best(model, model(sample), 1)[0]
        assert answer(at).endswith(f"{name} · {percent(probability)}")


def test_every_network_of_compare_sees_the_same_square():
    cache.models.clear()  # other tests make up networks of the same names
    at = open_page("compare", v=["mha"], sample="albatross", **CORNER)
    model = load("bench/mha")
    sample = model.prepare(open_sample("vit", "albatross").image, Crop(2.5, 0, 1))
    name, probability = best(model, model(sample), 1)[0]
    told = [element.value for element in (*at.markdown, *at.caption)]
    assert any(name in value and percent(probability) in value for value in told), told


@pytest.mark.parametrize("wrong", [{"zoom": "0.2"}, {"zoom": "nan"}, {"zoom": "99"}, {"across": "-5"}, {"down": "x"}])
def test_unknown_squares_fall_back_to_the_middle(wrong: dict[str, str]):
    assert sliders(open_page("start", model="vit-digits", **wrong)) == WHOLE


def test_a_new_picture_begins_with_its_middle():
    at = open_page("start", model="vit-digits", sample="three", **CORNER)
    at.slider(key="across").set_value(20).run()
    assert sliders(at) == {**ASKED, "across": 20}
    at.selectbox(key="sample").select("eight").run()
    assert sliders(at) == WHOLE
    at.slider(key="zoom").set_value(3.0).run()
    at.button(key="start:try:0").click().run()  # another page, the same picture
    assert sliders(at) == {**WHOLE, "zoom": 3.0}


def test_a_square_as_high_as_the_picture_moves_only_from_side_to_side():
    at = open_page("start", model="vit-digits")
    at.file_uploader(key="image").upload("mine.png", striped(), "image/png").run()
    assert [at.slider(key=key).disabled for key in WHOLE] == [False, False, True]
    left, right = (answer(at.slider(key="across").set_value(place).run()) for place in (0, 100))
    assert left != right
    at.slider(key="zoom").set_value(2.0).run()
    assert not at.slider(key="down").disabled
    next(button for button in at.button if button.label == "Back to the middle").click().run()
    assert sliders(at) == WHOLE


@pytest.mark.parametrize("size", [(60, 20), (20, 60), (1024, 683), (9, 9), (3, 2)])
@pytest.mark.parametrize("crop", [Crop(), Crop(2.5, 0, 1), Crop(4, 1, 0.3)])
def test_a_crop_has_the_shape_of_the_input(crop: Crop, size: tuple[int, int]):
    assert crop_box(crop, size, None) == crop_box(crop, size, (8, 8)) == crop.box(*size)
    left, top, right, bottom = crop_box(crop, size, (32, 48))  # rows and columns
    assert 0 <= left < right <= size[0]
    assert 0 <= top < bottom <= size[1]
    assert abs((right - left) / 3 - (bottom - top) / 2) <= 1


def test_a_crop_to_another_shape_is_as_large_as_it_can_be():
    assert crop_box(Crop(), (300, 400), (32, 48)) == (0, 100, 300, 300)
    assert crop_box(Crop(2, 0, 1), (300, 400), (32, 48)) == (0, 300, 150, 400)
