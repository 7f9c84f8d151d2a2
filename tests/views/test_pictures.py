"""Packing a picture for the browser."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

from attnviz.types import Tokens
from attnviz.views import records
from tests.views.test_views import unpack

TOKENS = Tokens.patches(3, 4, ["CLS"])


def pictures(picture: Image.Image, network: Image.Image) -> tuple[dict, Image.Image, Image.Image]:
    """The head of a record, and both pictures as the browser gets them."""
    head, payload = unpack(records.pack_picture("p", picture, network, (0, 0, *picture.size), TOKENS))
    first, second = head["parts"]
    assert first + second == len(payload)
    own, seen = Image.open(io.BytesIO(payload[:first])), Image.open(io.BytesIO(payload[first:]))
    assert head["types"] == [f"image/{one.format.lower()}" for one in (own, seen)]
    return head, own, seen


def test_picture_is_small_enough_and_knows_its_crop():
    picture, network = Image.new("RGB", (3000, 1500), "red"), Image.new("L", (8, 8), 40)
    _, large, small = pictures(picture, network)
    assert (large.format, large.size) == ("JPEG", (1024, 512))
    assert (small.format, small.size, small.getpixel((0, 0))) == ("PNG", (8, 8), (40, 40, 40))
    head, _ = unpack(records.pack_picture("p", picture, network, (750, 0, 2250, 1500), TOKENS))
    assert head["crop"] == [0.25, 0, 0.75, 1]


def test_a_small_picture_arrives_as_it_is():
    digit = Image.fromarray(np.random.default_rng(0).integers(0, 256, (8, 8), dtype=np.uint8))
    _, own, _ = pictures(digit, digit)
    np.testing.assert_array_equal(np.asarray(own), np.asarray(digit.convert("RGB")))
    assert pictures(digit.resize((127, 100)), digit)[1].format == "PNG"
    assert pictures(digit.resize((128, 100)), digit)[1].format == "JPEG"


def test_pictures_are_not_compressed_again():
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (300, 200, 3), dtype=np.uint8))
    blob = records.pack_picture("p", noise, noise, (0, 0, 200, 300), TOKENS)
    _, payload = unpack(blob)
    assert payload[:1000] in blob  # stored as it is
