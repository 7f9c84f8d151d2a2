"""Controls: maps that depend on the input alone, never on the network or the class."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.ndimage import sobel

import attnviz
from attnviz.edits import Edit
from attnviz.methods import CONTROLS, METHODS
from attnviz.types import NoTokenMap, Sample, Target


@pytest.fixture(scope="module")
def sample() -> Sample:
    noise = np.random.default_rng(0).integers(0, 255, (8, 8), dtype=np.uint8)
    return attnviz.load("vit-digits").prepare(Image.fromarray(noise))


def test_pages_can_tell_controls_apart() -> None:
    assert all(control.control for control in CONTROLS.values())
    assert not any(method.control for method in METHODS.values())
    assert not CONTROLS.keys() & METHODS.keys()
    assert all(control.help.endswith(".") for control in CONTROLS.values())


@pytest.mark.parametrize("name", CONTROLS)
def test_a_control_knows_neither_the_network_nor_the_class(name: str, sample: Sample) -> None:
    model = attnviz.load("vit-digits")
    found = attnviz.explain(name, model, sample, Target("class", 0, 1))
    torch.nn.init.normal_(model.network.classify.weight)
    torch.nn.init.normal_(model.network.embed.weight)
    torch.testing.assert_close(attnviz.explain(name, model, sample, Target("class", 0, 2)), found, atol=0, rtol=0)
    assert found.shape == (17,)
    assert found[0] == 0  # CLS
    assert (found >= 0).all()
    assert found.std() > 0


def test_random_is_drawn_anew_for_each_input(sample: Sample) -> None:
    model = attnviz.load("vit-digits")
    other = model.prepare(Image.linear_gradient("L"))
    first, again, third = (attnviz.explain("random", model, each) for each in (sample, sample, other))
    assert torch.equal(first, again)
    assert not torch.equal(first, third)
    assert not torch.equal(first, attnviz.explain("random", model, sample, seed=1))


def test_the_centre_is_in_the_middle_and_symmetric(sample: Sample) -> None:
    found = attnviz.explain("centre", attnviz.load("vit-digits"), sample)[1:].view(4, 4)
    torch.testing.assert_close(found, found.flip(0))
    torch.testing.assert_close(found, found.T)
    assert found[1, 1] > found[0, 1] > found[0, 0]
    text = attnviz.load("sentences")
    words = text.prepare("one two three")
    row = attnviz.explain("centre", text, words)
    assert int(row.argmax()) == len(row) // 2


def test_edges_are_those_of_sobel(sample: Sample) -> None:
    pixels = sample.inputs["main"][0].double().numpy()
    strength = np.hypot(sobel(pixels, 0, mode="nearest"), sobel(pixels, 1, mode="nearest"))
    expected = strength.reshape(4, 2, 4, 2).mean((1, 3)).ravel()
    found = attnviz.explain("edges", attnviz.load("vit-digits"), sample)[1:]
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-5)
    text = attnviz.load("sentences")
    with pytest.raises(NoTokenMap, match="text"):
        attnviz.explain("edges", text, text.prepare("A fine film."))


def test_controls_follow_the_batch_of_a_trace(sample: Sample) -> None:
    model = attnviz.load("vit-digits")
    trace = model(sample, edit=Edit(keep_tokens=torch.ones(3, 17, dtype=torch.bool)))
    for name in CONTROLS:
        assert attnviz.explain(name, model, sample, trace=trace).shape == (3, 17)
