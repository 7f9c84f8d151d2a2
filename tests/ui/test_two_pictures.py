"""Two pictures on Queries and keys: samples and files, both directions, links, what is lost or cannot be read."""

from __future__ import annotations

import io
import json
from functools import partial
from typing import Any

import numpy as np
import pytest
from PIL import Image
from streamlit.testing.v1 import AppTest

from attnviz.measures.matches import NO_WEIGHTS
from attnviz.ui.inputs.image_run import OWN, PROBLEM, SECOND
from attnviz.ui.queries_keys import two_pictures
from attnviz.ui.queries_keys.two_pictures import FIRST, GONE, OTHERWISE, A, B
from tests import pages

show = partial(pages.open_page, "queries_keys")
two = partial(show, model="vit", pictures="two", sample=OTHERWISE, token="166")


def data(at: AppTest) -> dict[str, dict[str, Any]]:
    """What every view was told, by its name."""
    found = [json.loads(part.proto.json) for part in at.get("bidi_component") if part.proto.json]
    return {one["name"]: one for one in found if isinstance(one, dict) and "view" in one}


def png(seed: int = 0) -> bytes:
    """A small picture of noise."""
    file = io.BytesIO()
    Image.fromarray(np.random.default_rng(seed).integers(0, 255, (80, 80, 3), np.uint8)).save(file, "PNG")
    return file.getvalue()


def test_one_picture_is_what_a_visitor_sees_first_and_two_are_one_click_away():
    at = show(model="vit")
    assert {"query", "answer"} <= data(at).keys()
    at.segmented_control(key="pictures").set_value("two").run()
    assert not at.error
    assert data(at).keys() == {A, B}
    assert at.selectbox(key="second_picture").value == FIRST
    assert at.query_params["pictures"] in ("two", ["two"])


def test_a_patch_of_either_picture_asks_in_the_other():
    at = two()
    views = data(at)
    assert (views[A]["tokens"], views[B]["tokens"]) == ([165], [])
    assert (views[A]["asked_in"], views[B]["asked_in"]) == (B, A)
    weights = at.table[0].value
    assert len(weights) == 3
    back = data(two(second_token="40"))
    assert (back[A]["tokens"], back[B]["tokens"]) == ([], [40])


def test_the_numbers_are_the_best_matches_of_the_measure():
    at = two(two_layer="3", two_head="2")
    model = two_pictures.open_model("vit")
    runs = [model(model.prepare(two_pictures.open_sample("vit", name).image)) for name in (OTHERWISE, FIRST)]
    row = two_pictures.cross_weights(runs[0].calls[2], runs[1].calls[2], 1, [165])[0]
    best = np.argsort(-row)[:3]
    assert at.table[0].value["Patch"].tolist() == [f"row {i // 16 + 1}, column {i % 16 + 1}" for i in best]
    assert [float(text.split()[0]) for text in at.table[0].value["Weight"]] == pytest.approx(100 * row[best], abs=0.06)


def test_clicks_choose_the_direction():
    picked: dict[str, tuple[int, ...]] = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(two_pictures, "set_tokens", lambda name, tokens: picked.update({name: tuple(tokens)}))
        two_pictures.pick(B, 1)((40,))
        assert picked == {"second_token": (40,)}
        two_pictures.pick(A, 1)((12,))
        assert picked == {"second_token": (), "token": (13,)}


def test_features_after_every_layer_and_a_link_brings_them():
    at = two(match="cosine", two_depth="6", second_picture="albatross")
    assert at.segmented_control(key="two_depth").value == 6
    assert at.selectbox(key="second_picture").value == "albatross"
    assert "Cosine" in at.table[0].value


def test_a_file_becomes_the_second_picture_and_the_first_stays():
    at = two()
    at.file_uploader(key="image:second").upload("mine.png", png(), "image/png").run()
    assert not at.error
    assert at.selectbox(key="second_picture").value == SECOND
    assert at.session_state["sample"] == OTHERWISE
    assert data(at).keys() == {A, B}


def test_a_file_that_cannot_be_read_is_a_sentence_and_the_picture_stays():
    at = two()
    at.file_uploader(key="image:second").upload("mine.png", b"no picture", "image/png").run()
    assert not at.exception
    assert at.session_state[PROBLEM][1] in [one.value for one in at.warning]
    assert at.selectbox(key="second_picture").value == FIRST
    assert data(at).keys() == {A, B}


def test_a_second_picture_of_an_earlier_session_is_said_to_be_gone():
    at = two(second_picture=SECOND)
    assert GONE in [one.value for one in at.warning]
    assert at.selectbox(key="second_picture").value == FIRST
    assert SECOND not in at.session_state[OWN]


@pytest.mark.parametrize(
    "broken", [{"second_picture": "nothing"}, {"second_token": "9999"}, {"two_layer": "77"}, {"match": ""}]
)
def test_a_broken_link_falls_back(broken: dict[str, str]):
    assert data(two(**broken)).keys() == {A, B}


def test_digits_have_pictures_of_their_own():
    at = show(model="vit-digits", pictures="two")
    assert data(at).keys() == {A, B}
    assert at.selectbox(key="second_picture").value != at.session_state["sample"]


def test_a_head_without_softmax_says_so_and_features_still_match():
    at = AppTest.from_file(pages.MAIN, default_timeout=300)
    at.query_params["model"], at.query_params["pictures"] = "bench/linear", "two"
    at.run()
    at.switch_page("../pages/queries_keys.py").run()
    assert not at.exception
    if "bench/linear" not in at.selectbox(key="model").options:
        pytest.skip("the bench is not there")
    assert any(NO_WEIGHTS[:40] in one.value for one in at.info)
    at.segmented_control(key="match").set_value("cosine").run()
    assert data(at).keys() == {A, B}
