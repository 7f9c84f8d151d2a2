"""From a picture to a trace: preparation, the model's own interface, and that a trace is never changed."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

import attnviz
from attnviz.edits import Edit, head_flags
from attnviz.models import CENTER_CROP, IMAGES, Crop, ImageModel, Preparation
from attnviz.models.image import downscale, jpeg_coded
from attnviz.training.images.data import DATA, encode_jpeg, halve

COLOUR = Preparation(8, (0.5, 0.4, 0.3), (0.2, 0.25, 0.5))
GREY = Preparation(8, (0.3,), (0.4,), invert=True)


@pytest.fixture(scope="module")
def model() -> ImageModel:
    """The small shipped model."""
    return attnviz.load("vit-digits")


@pytest.fixture(scope="module")
def digit() -> Image.Image:
    """A handwritten digit nobody trained on."""
    return Image.fromarray(DATA["digits"]("val").images[0, :, :, 0])


@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA", "P", "1", "CMYK"])
@pytest.mark.parametrize("size", [(1, 1), (8, 8), (100, 7), (7, 100)])
def test_any_picture_can_be_prepared(mode: str, size: tuple[int, int]) -> None:
    for how, channels in ((COLOUR, 3), (GREY, 1)):
        pixels = how.pixels(how.picture(Image.new(mode, size)))
        assert pixels.shape == (channels, 8, 8)
        assert pixels.dtype == torch.float32


def test_pixels_are_normalised_channel_by_channel() -> None:
    pixels = COLOUR.pixels(Image.new("RGB", (8, 8), (255, 102, 0)))
    torch.testing.assert_close(pixels[:, 0, 0], torch.tensor([2.5, 0.0, -0.6]))


def test_the_middle_square_is_seen() -> None:
    assert CENTER_CROP.box(30, 10) == (10, 0, 20, 10)
    assert CENTER_CROP.box(11, 30) == (0, 9, 11, 20)
    picture = Image.new("RGB", (30, 10), "white")
    picture.paste("red", (10, 0, 20, 10))
    assert set(COLOUR.picture(picture).get_flattened_data()) == {(255, 0, 0)}


def test_another_square_can_be_seen() -> None:
    assert Crop(across=0).box(30, 10) == (0, 0, 10, 10)
    assert Crop(across=1, down=1).box(30, 10) == (20, 0, 30, 10)  # it is as high as the picture
    assert Crop(zoom=2, across=1, down=1).box(30, 10) == (25, 5, 30, 10)
    picture = Image.new("RGB", (30, 10), "white")
    picture.paste("red", (20, 0, 30, 10))
    assert set(COLOUR.picture(picture, Crop(across=1)).get_flattened_data()) == {(255, 0, 0)}


@pytest.mark.parametrize("size", [(1, 1), (1, 50), (3, 2), (640, 427)])
@pytest.mark.parametrize("zoom", [1, 1.3, 4, 1000])
def test_a_square_lies_inside_the_picture(size: tuple[int, int], zoom: float) -> None:
    for across in (0.0, 0.37, 1.0):
        left, top, right, bottom = Crop(zoom, across, 1 - across).box(*size)
        assert 0 <= left < right <= size[0]
        assert 0 <= top < bottom <= size[1]
        assert right - left == bottom - top == max(1, round(min(size) / zoom))


@pytest.mark.parametrize("wrong", [{"zoom": 0.5}, {"zoom": float("nan")}, {"across": -0.1}, {"down": 1.1}])
def test_a_square_outside_of_the_picture_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="outside of 0 to 1"):
        Crop(**wrong)


def test_dark_ink_on_light_paper_is_turned_round() -> None:
    ink = Image.new("L", (8, 8), 255)
    ink.paste(0, (3, 3, 5, 5))
    turned = np.asarray(GREY.picture(ink))
    assert (turned[0, 0], turned[4, 4]) == (0, 255)
    greys = [np.asarray(GREY.picture(Image.new("L", (8, 8), grey))).max() for grey in (100, 127, 128, 200)]
    assert greys == [100, 127, 127, 55], "light is more than half of white"
    already = Image.fromarray(turned)
    assert np.array_equal(np.asarray(GREY.picture(already)), turned)


def test_jpeg_traces_are_put_on_every_picture() -> None:
    """The photographs a network learned from were JPEG files of its size; it takes clean pixels for another source."""
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8))
    clean, traced = (np.asarray(replace(COLOUR, size=64, jpeg=quality).picture(noise)) for quality in (None, 75))
    assert np.array_equal(clean, np.asarray(noise))
    assert not np.array_equal(traced, clean)
    assert traced.shape == clean.shape
    far, near = (abs(np.asarray(jpeg_coded(noise, quality)).astype(int) - clean).mean() for quality in (10, 90))
    assert far > near + 10
    assert jpeg_coded(noise.convert("L"), 85).mode == "L"


def test_a_picture_is_made_small_as_the_training_pictures_were() -> None:
    """A tile of 128 px gives what training makes of it; a picture of the network's size is left alone."""
    tile = np.random.default_rng(0).integers(0, 255, (1, 128, 128, 3), dtype=np.uint8)
    small = np.asarray(downscale(Image.fromarray(tile[0]), 64)).astype(int)
    assert abs(small - halve(tile)[0]).max() <= 1
    assert np.array_equal(np.asarray(downscale(Image.fromarray(tile[0]), 128)), tile[0])


def test_a_picture_made_small_is_sharp_and_one_made_large_is_smooth() -> None:
    """An edge is overshot on the way down, also just above the size of the network; on the way up it is bridged."""
    for side in (300, 96):
        darkest = []
        for place in range(side // 2, side // 2 + 8):
            edge = Image.new("L", (side, side), 100)
            edge.paste(150, (place, 0, side, side))
            darkest.append(np.asarray(downscale(edge, 64)).min())
        assert min(darkest) < 100
    edge = Image.new("L", (8, 8), 100)
    edge.paste(150, (4, 0, 8, 8))
    assert len(set(np.asarray(downscale(edge, 32))[16])) > 4


@pytest.mark.parametrize("name", IMAGES)
def test_training_pixels_are_prepared_pixels(name: str) -> None:
    """The app must feed the network what training fed it: the same rounding, order and normalisation."""
    how = attnviz.load(name).preparation
    raw = np.random.default_rng(0).integers(0, 120, (how.size, how.size, len(how.mean)), dtype=np.uint8)
    picture = Image.fromarray(raw.squeeze())
    if how.jpeg:
        raw = encode_jpeg(raw[None])[0]
    values = torch.from_numpy(raw).permute(2, 0, 1).float() / 255
    mean, deviation = (torch.tensor(v)[:, None, None] for v in (how.mean, how.std))
    torch.testing.assert_close(how.pixels(how.picture(picture)), (values - mean) / deviation)


def test_a_sample_says_what_it_is(model: ImageModel, digit: Image.Image) -> None:
    sample = model.prepare(digit)
    again = model.prepare(digit.copy())
    assert sample.digest == again.digest
    assert len(sample.digest) == 64
    assert sample.digest != model.prepare(digit.rotate(90)).digest
    assert sample.image is not None
    assert sample.image.size == (8, 8)
    assert sample.crop == (0, 0, 8, 8)
    assert sample.tokens["main"].grid == (4, 4)
    wide = Image.new("L", (30, 10))
    assert model.prepare(wide, Crop(zoom=2, across=1, down=0)).crop == (25, 0, 30, 5)


def test_a_trace_through_the_models_interface(model: ImageModel, digit: Image.Image) -> None:
    trace = model(model.prepare(digit))
    assert trace.sample is not None
    assert trace.logits["class"].argmax().item() == DATA["digits"]("val").labels[0]
    last = trace.residuals["main"][-1]
    torch.testing.assert_close(model.logits_from(last), trace.logits["class"])
    for index in range(model.config.layers):
        before, after = trace.residuals["main"][index : index + 2]
        torch.testing.assert_close(model.layer(index, before), after)
    assert not last.requires_grad
    with pytest.raises(ValueError, match="residual has 5 tokens, expected 17"):
        model.logits_from(last[:5])


def test_options_reach_the_network(model: ImageModel, digit: Image.Image) -> None:
    sample = model.prepare(digit)
    own = model(sample).logits["class"]
    keep = torch.ones(17, dtype=torch.bool)
    keep[5:12] = False
    off = head_flags(model.spec.layers, model.spec.heads, [(0, 1)])
    for edit in (Edit(keep_tokens=keep), Edit(positions="none"), Edit(ablated_heads=off)):
        assert (model(sample, edit=edit).logits["class"] - own).abs().max() > 1e-3


def test_gradients_flow_from_embeddings(model: ImageModel, digit: Image.Image) -> None:
    sample = model.prepare(digit)
    content = model(sample).token_embeddings["main"].clone().requires_grad_()
    trace = model(sample, edit=Edit(embeddings=content))
    gradient = trace.calls[1].gradient(trace.logits["class"][0, 3])
    assert gradient.shape == trace.calls[1].output.shape
    assert gradient.abs().max() > 0
    assert all(not p.requires_grad for p in model.network.parameters())


def test_reading_a_trace_does_not_change_it(model: ImageModel, digit: Image.Image) -> None:
    trace = model(model.prepare(digit))
    tensors = [t for c in trace.calls for t in (c.query, c.key, c.value, c.output)] + [*trace.residuals["main"]]
    before = [t.clone() for t in tensors]
    for call in trace.calls:
        call.weights()
        call.scores(stage="raw")
        call.maps()
        call.propagate(trace.pooling["main"])
        call.map_gradient(torch.ones_like(call.output))
        _ = call.empty
    assert all(torch.equal(a, b) for a, b in zip(tensors, before, strict=True))
