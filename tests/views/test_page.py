"""Views that stand alone: what a page holds, what it refuses, and that the app's own session is left alone."""

from __future__ import annotations

import json
import re
import zlib

import numpy as np
import pytest
import streamlit as st
import torch
from PIL import Image

import attnviz
from attnviz import views
from attnviz.notebook import GRID, OPENED, PICTURE
from attnviz.types import NoTokenMap, Tokens
from attnviz.views import page as pages
from attnviz.views import transport
from attnviz.views.page import CURRENT, Page
from attnviz.views.records import restore

WORDS = ("the", "cat", "sat")


def weights(layers: int = 2, heads: int = 3, count: int = 3, seed: int = 0) -> np.ndarray:
    """Rows that sum to 1 [layer head query key]."""
    return np.random.default_rng(seed).dirichlet(np.ones(count), size=(layers, heads, count))


def data_of(page: Page) -> dict:
    """What the browser is given."""
    found = re.search(r'<script type="application/json" id="page">(.*?)</script>', page.html(), re.DOTALL)
    assert found
    return json.loads(found[1])


def view_of(page: Page, name: str) -> dict:
    """What one view is told."""
    return next(part["data"] for part in page.parts if part.get("data", {}).get("name") == name)


def maps_of(blob: bytes) -> tuple[dict, np.ndarray]:
    """Head of a record of unmasked words, and its maps as the browser reads them [map query key]."""
    size = int.from_bytes(blob[:4], "little")
    head = json.loads(blob[4 : 4 + size])
    payload = zlib.decompress(blob[4 + size :])
    rows = int(np.prod(head["shape"][:-1]))
    peaks = np.frombuffer(payload, np.float32, 2 * rows).reshape(2, *head["shape"][:-1])  # of words, of special tokens
    cells = np.frombuffer(payload, np.uint8, offset=20 * rows).reshape(head["shape"])
    special = np.array(head["keys"].get("words", [0] * head["keys"]["count"])) < 0
    return head, np.where(special, restore(cells, peaks[1]), restore(cells, peaks[0]))


def test_weights_of_any_origin_arrive_as_they_are() -> None:
    given = weights()
    for form in (given, torch.from_numpy(given), [torch.from_numpy(one)[None] for one in given]):
        page = attnviz.show(weights=form, tokens=WORDS)
        assert list(page.records) == ["maps 0", "maps 1"]
        for layer, blob in enumerate(page.records.values()):
            head, maps = maps_of(blob)
            assert head["keys"]["labels"] == list(WORDS)
            assert head["titles"][2] == f"Layer {layer + 1}, head 3"
            np.testing.assert_allclose(maps, given[layer], atol=1 / 510)
        assert view_of(page, GRID)["maps"] == ["maps 0", "maps 1"]
        assert view_of(page, OPENED)["view"] == "lines"


def test_a_model_shows_what_its_trace_holds() -> None:
    model = attnviz.load("sentences")
    sample = model.prepare("A warm and funny film.")
    trace = model(sample)
    page = attnviz.show(model, sample, layers=[1, 3], opened=(1, 2))
    for blob, layer in zip(page.records.values(), (1, 3), strict=True):
        np.testing.assert_allclose(maps_of(blob)[1], trace.calls[layer].token_map().detach().numpy(), atol=1 / 255)
    assert (view_of(page, OPENED)["maps"], view_of(page, OPENED)["index"]) == ("maps 1", 2)
    assert view_of(page, GRID)["rows"] == [trace.calls[1].name.capitalize(), trace.calls[3].name.capitalize()]


@pytest.mark.parametrize("name", ["vit-digits", "stories", "translator", "seq2seq"])
def test_every_kind_of_model_is_shown(name: str) -> None:
    """Pictures, masked texts, two texts that attend to each other: one record for every call of the trace."""
    model = attnviz.load(name)
    picture = Image.new("RGB", (40, 30), "white")
    sample = model.prepare(picture if model.spec.modality == "image" else "The cat sleeps.")
    trace = model(sample)
    page = attnviz.show(trace=trace, picture=picture if model.spec.modality == "image" else None)
    assert len([name for name in page.records if name.startswith("maps")]) == len(trace.calls)
    assert (PICTURE in page.records) == (model.spec.modality == "image")
    assert len(data_of(page)["records"]) == len(page.records)


def test_patches_of_foreign_weights_lie_on_their_grid() -> None:
    page = attnviz.show(
        weights=weights(count=7), tokens=["CLS", *"abcdef"], grid=(2, 3), picture=Image.new("RGB", (9, 6))
    )
    head, _ = maps_of(page.records["maps 0"])
    assert head["keys"]["grid"] == [2, 3]
    assert head["keys"]["prefix"] == 1
    assert view_of(page, OPENED)["view"] == "picture"


def test_signed_maps_are_whole_and_in_numbers() -> None:
    page = attnviz.show(weights=weights() - 0.4, tokens=WORDS)
    assert view_of(page, OPENED)["view"] == "matrix"
    size = int.from_bytes(page.records["maps 0"][:4], "little")
    head = json.loads(page.records["maps 0"][4 : 4 + size])
    assert head["signed"]
    assert head["unit"] == "number"


def test_what_stands_in_a_page_cannot_end_its_script() -> None:
    label = "</script><script>alert(1)</script>"
    page = attnviz.show(weights=weights(), tokens=(label, "b", "c"), title="<b>")
    whole = page.html()
    assert whole.count("</script>") == 2
    assert "<title>&lt;b&gt;</title>" in whole
    size = int.from_bytes(page.records["maps 0"][:4], "little")
    assert json.loads(page.records["maps 0"][4 : 4 + size])["keys"]["labels"][0] == label
    assert page._repr_html_().count("<") == 2  # the frame alone: all else is quoted


def test_a_page_asks_nobody_for_anything() -> None:
    whole = attnviz.show(weights=weights(), tokens=WORDS).html()
    assert "default-src 'none'" in whole
    assert not re.findall(r"(?:src|href)=[\"']?(?:https?:)?//", whole)


def test_the_session_is_left_alone_and_pages_do_not_mix() -> None:
    before = dict(st.session_state)
    with Page("outer") as outer:
        inner = attnviz.show(weights=weights(), tokens=WORDS)
        views.send_maps("mine", weights()[0], titles=["a", "b", "c"], keys=Tokens(WORDS, words=(0, 1, 2)))
    assert list(outer.records) == ["mine"]
    assert "mine" not in inner.records
    assert CURRENT.get() is None
    assert dict(st.session_state) == before


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({}, "give a model with a sample, or weights"),
        ({"weights": weights(), "model": attnviz.load("stories")}, "give a model with a sample, or weights"),
        ({"weights": weights()[0], "tokens": WORDS}, r"\[layer head query key\]"),
        ({"weights": [], "tokens": WORDS}, "these are empty"),
        ({"weights": weights(), "tokens": WORDS[:2]}, "there are 2 tokens"),
        ({"weights": weights() * np.nan, "tokens": WORDS}, "not finite"),
        ({"weights": weights(), "tokens": WORDS, "layers": [2]}, "layers 0 to 1"),
        ({"weights": weights(), "tokens": WORDS, "layers": []}, "layers 0 to 1"),
        ({"weights": weights(), "tokens": WORDS, "opened": (0, 3)}, r"opened is \(0, 3\)"),
        ({"weights": weights(), "tokens": WORDS, "grid": (2, 2)}, "fewer than the 2 x 2 patches"),
    ],
)
def test_what_does_not_fit_is_said(asked: dict, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        attnviz.show(**asked)


def test_a_model_alone_asks_for_its_sample() -> None:
    with pytest.raises(ValueError, match="give the sample"):
        attnviz.show(attnviz.load("stories"))


def test_what_has_no_map_between_tokens_says_what_it_has() -> None:
    model = attnviz.load("bench/xca")
    with pytest.raises(NoTokenMap, match="channel"):
        attnviz.show(model, model.prepare(Image.new("RGB", (64, 64))))


def test_too_much_for_one_page_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pages, "LARGEST", 400)
    with pytest.raises(ValueError, match="show fewer layers"):
        attnviz.show(weights=weights(), tokens=WORDS)


def test_a_page_takes_what_is_too_much_for_one_message(monkeypatch: pytest.MonkeyPatch) -> None:
    """A message has to reach a visitor soon; a page is read from where it lies."""
    monkeypatch.setattr(transport, "BUDGET", 100)
    given = {"titles": ["a", "b", "c"], "keys": Tokens(WORDS, words=(0, 1, 2))}
    with pytest.raises(ValueError, match="over the budget of 100"):
        views.send_maps("mine", weights()[0], **given)
    with Page() as page:
        views.send_maps("mine", weights()[0], **given)
    assert len(page.records["mine"]) > 100


def test_an_unknown_ground_is_refused() -> None:
    with pytest.raises(ValueError, match="known: auto, light, dark"):
        Page().html("blue")
