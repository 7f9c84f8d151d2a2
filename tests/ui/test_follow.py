"""Follow a token: what is sent adds up, for pictures and texts; what has no stages says so."""

from __future__ import annotations

import base64
import io
import json
from typing import Any

import numpy as np
import pytest
from PIL import Image
from streamlit.testing.v1 import AppTest

import attnviz
from attnviz.ui.follow import animation, scene
from attnviz.ui.follow.stages import depth_id
from attnviz.ui.inputs.samples import open_sample
from attnviz.ui.inputs.sentences import sentences_of
from tests.pages import open_page

RAW = {
    "vit": lambda: open_sample("vit", "cat").image,
    **{n: lambda n=n: sentences_of(n)[0] for n in ("sentences", "stories")},
}


def sent(at: AppTest) -> dict[str, Any]:
    """What the view was told."""
    (found,) = [one for one in at.get("bidi_component") if one.proto.component_name.endswith("attnviz_token_path")]
    return json.loads(found.proto.json)


def strips(data: dict[str, Any], stage: str) -> list[np.ndarray]:
    """The numbers of a stage."""
    (found,) = [one for one in data["stages"] if one["id"] == stage]
    return [np.frombuffer(base64.b64decode(strip["values"]), "<f4") for strip in found["strips"]]


def opened(name: str, **choices: str) -> dict[str, Any]:
    sample = {"sample": "cat"} if name == "vit" else {}
    return sent(open_page("follow", model=name, layer="2", head="3", token="4", **sample, **choices))


@pytest.mark.parametrize("name", RAW)
def test_what_is_shown_adds_up_to_what_was_recorded(name: str) -> None:
    data, model = opened(name), attnviz.load(name)
    trace = model(model.prepare(RAW[name]()))
    residuals = [one[4].numpy() for one in trace.residuals["main"]]
    scale = {"rtol": 0, "atol": 1e-5 * max(1.0, float(np.abs(residuals[2]).max()))}
    for stage in ("values", "heads", "add", "leave"):
        *parts, whole = strips(data, stage)
        np.testing.assert_allclose(np.sum(parts, axis=0), whole, **scale)
    np.testing.assert_allclose(strips(data, "enter")[0], residuals[1], **scale)
    np.testing.assert_allclose(strips(data, "leave")[-1], residuals[2], **scale)
    scores, weights = strips(data, "weights")
    assert (np.isneginf(weights) == np.isneginf(scores)).all()
    np.testing.assert_allclose(np.maximum(weights, 0), trace.calls[1].weights([2], [4])[0, 0], rtol=1e-5)
    output = trace.calls[1].output
    assert output is not None
    np.testing.assert_allclose(strips(data, "values")[-1], output[2, 4], **scale)
    for depth, residual in enumerate(residuals):
        np.testing.assert_allclose(strips(data, depth_id(depth))[0], residual, **scale)


def test_the_last_depth_of_what_is_read_answers_as_the_model_does() -> None:
    data, model = sent(open_page("follow", model="vit", sample="cat", token="0")), attnviz.load("vit")
    share = model(model.prepare(RAW["vit"]())).logits["class"].softmax(-1).max()
    assert data["stages"][-1]["answers"][0][1] == pytest.approx(float(share), rel=1e-4)


@pytest.mark.parametrize(("asked", "shown"), [("mlp", "mlp"), ("depth-2", "depth-2"), ("nonsense", scene.FIRST)])
def test_the_address_names_the_stage(asked: str, shown: str) -> None:
    assert opened("sentences", at_stage=asked)["stage"] == shown


def test_a_model_without_stages_says_so_and_shows_its_depths() -> None:
    at = open_page("follow", model="bench/axial")
    data = sent(at)
    assert len(at.info) == 1
    assert [one["id"] for one in data["stages"]] == [depth_id(depth) for depth in range(len(data["stages"]))]


@pytest.mark.parametrize("name", ["vit", "stories"])
def test_stages_become_files(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    kept: list[Any] = []
    monkeypatch.setattr(animation, "offer", lambda *given: kept.append(given))
    open_page("follow", model=name)
    run, about, stages, token = kept[-1]
    with Image.open(io.BytesIO(animation.animation(run, about, stages, token))) as file:
        assert getattr(file, "n_frames", 1) == len(stages)
    numbers = scene.numbers_of(stages)
    assert len(numbers) == sum(len(stage.strips) for stage in stages)
