"""Packing for the browser, and the Python side of the views."""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from attnviz import views
from attnviz.plots import theme
from attnviz.types import Tokens
from attnviz.views import canvas, library, records, transport

TOKENS = Tokens.patches(3, 4, ["CLS"])


@pytest.fixture
def numbers() -> np.random.Generator:
    """A random generator with a fixed seed."""
    return np.random.default_rng(0)


def unpack(blob: bytes) -> tuple[dict, bytes]:
    """Head and payload, as the browser reads them."""
    (size,) = struct.unpack("<I", blob[:4])
    return json.loads(blob[4 : 4 + size]), zlib.decompress(blob[4 + size :])


def opened(blob: bytes) -> tuple[dict, dict[str, np.ndarray]]:
    """The head of a record of maps, and its arrays by name: of each row, then of each cell."""
    head, payload = unpack(blob)
    shape, at, found = head["shape"][:-1], 0, {}
    names = {"peaks": "f4", "special_peaks": "f4", "sums": "f4", "rests": "f4", "best": "u2", "best_rest": "u2"}
    for name, kind in names.items():
        found[name] = np.frombuffer(payload, kind, int(np.prod(shape)), at).reshape(shape)
        at += found[name].nbytes
    kind = "u1" if len(shape) == 2 else "f4"
    return head, found | {"cells": np.frombuffer(payload, kind, offset=at).reshape(head["shape"])}


def softmax(scores: np.ndarray) -> np.ndarray:
    """Rows that sum to one."""
    grown = np.exp(scores - scores.max(-1, keepdims=True))
    return (grown / grown.sum(-1, keepdims=True)).astype(np.float32)


def test_error_is_at_most_half_a_step_of_each_row(numbers):
    weights = softmax(5 * numbers.normal(size=(3, 40, 40)))
    cells, peaks = records.quantise(weights)
    error = np.abs(records.restore(cells, peaks) - weights).max(-1)
    assert cells.dtype == np.uint8
    assert (error <= peaks / 255 / 2 * 1.001).all()


def test_zeros_stay_zero_and_empty_rows_stay_empty():
    weights = np.array([[0, 0.25, 0.75, 0], [0, 0, 0, 0]], dtype=np.float32)
    cells, peaks = records.quantise(weights)
    back = records.restore(cells, peaks)
    assert (back[weights == 0] == 0).all()
    assert peaks.tolist() == [0.75, 0]


def test_signed_keeps_sign_zero_and_masked(numbers):
    scores = numbers.normal(size=(6, 50)).astype(np.float32)
    scores[0, 3], scores[1, 4], scores[2] = 0, -np.inf, -np.inf
    cells, peaks = records.quantise(scores, signed=True)
    back = records.restore(cells, peaks, signed=True)
    known = np.isfinite(scores)
    assert back[0, 3] == 0
    assert np.isnan(back[~known]).all()
    assert (
        np.abs(back - np.where(known, scores, 0))[known] <= np.broadcast_to(peaks[:, None], scores.shape)[known] / 253
    ).all()
    assert (np.sign(back[known]) * np.sign(scores[known]) >= 0).all()


def test_negative_numbers_need_signed():
    with pytest.raises(ValueError, match="signed=True"):
        records.quantise(np.array([[-1.0, 1.0]]))


def test_record_carries_what_the_browser_needs(numbers):
    weights = softmax(numbers.normal(size=(2, 13, 13)))
    head, found = opened(records.pack_maps("layer 0", weights, titles=["Head 1", "Head 2"], keys=TOKENS))
    assert head["shape"] == [2, 13, 13]
    assert head["keys"] == {"count": 13, "labels": ["CLS"], "grid": [3, 4], "prefix": 1, "stream": "main"}
    np.testing.assert_array_equal(found["peaks"], weights[..., 1:].max(-1))
    np.testing.assert_array_equal(found["special_peaks"], weights[..., 0])
    np.testing.assert_allclose(found["sums"], 1, rtol=1e-5)
    np.testing.assert_allclose(found["rests"], weights[..., 1:].sum(-1), rtol=1e-6)
    np.testing.assert_array_equal(found["best"], weights.argmax(-1))
    np.testing.assert_array_equal(found["best_rest"], 1 + weights[..., 1:].argmax(-1))
    assert found["cells"].nbytes == weights.size


def test_one_number_a_token_and_words_as_tokens():
    words = Tokens(("the", "cat", "sat"))
    row = np.array([[0.99, 0.0061, 0.0039], [1, 0, 0]], np.float32)
    head, found = opened(records.pack_maps("r", row, titles=["a", "b"], keys=words))
    assert head["shape"] == [2, 3]
    assert head["keys"]["labels"] == ["the", "cat", "sat"]
    np.testing.assert_array_equal(found["cells"], row)


def test_masked_entries_of_a_single_row_travel_as_nan():
    words = Tokens(("the", "cat", "sat"))
    scores = np.array([[1.5, -np.inf, -2]], np.float32)
    _, found = opened(records.pack_maps("r", scores, titles=["a"], keys=words, signed=True))
    np.testing.assert_array_equal(found["cells"], [[1.5, np.nan, -2]])


def test_wrong_shapes_name_both_sides():
    with pytest.raises(ValueError, match=r"\(2, 13, 13\).*\(3, 13, 13\)"):
        records.pack_maps("x", np.zeros((2, 13, 13)), titles=["a", "b", "c"], keys=TOKENS)
    with pytest.raises(ValueError, match="uint8"):
        records.pack_colours("x", np.zeros((1, 13, 3)), titles=["a"], keys=TOKENS)
    with pytest.raises(ValueError, match="block_means"):
        records.pack_tiles("x", np.zeros((1, 1, 197, 197)))


def test_over_budget_says_the_sizes(numbers):
    tokens = Tokens(tuple(map(str, range(1200))))
    with pytest.raises(
        ValueError, match=r"'big' \(2 x 1200 x 1200\) packs to [\d,]+ bytes, over the budget of 2,000,000"
    ):
        views.send_maps("big", numbers.random((2, 1200, 1200)), titles=["a", "b"], keys=tokens)


@pytest.mark.parametrize("count", [7, 32, 64, 197])
def test_block_means(numbers, count):
    weights = numbers.random((2, count, count)).astype(np.float32)
    small = views.block_means(weights, 32)
    assert small.shape == (2, min(count, 32), min(count, 32))
    if count <= 32:
        np.testing.assert_array_equal(small, weights)
    elif count == 64:
        np.testing.assert_allclose(small, weights.reshape(2, 32, 2, 32, 2).mean((2, 4)), rtol=1e-5)
    else:
        edges = np.linspace(0, count, 33).round().astype(int)
        first = weights[:, edges[4] : edges[5], edges[9] : edges[10]].mean((1, 2))
        np.testing.assert_allclose(small[:, 4, 9], first, rtol=1e-5)


def test_twelve_by_twelve_heads_fit_half_a_megabyte(numbers):
    layer = softmax(4 * numbers.normal(size=(12, 12, 64, 64)))
    tokens = Tokens(tuple(map(str, range(64))))
    opened = records.pack_maps("layer", layer[0], titles=[str(h) for h in range(12)], keys=tokens)
    assert len(opened) + len(records.pack_tiles("all", views.block_means(layer))) <= 500_000


def test_colours_are_those_of_the_theme():
    look = library.library_data()
    assert set(look["tables"]) == set(theme.SCALES)
    for name, table in look["tables"].items():
        assert bytes.fromhex(table) == theme.table(name).tobytes()
    assert set(look["diverging"]) <= set(look["tables"])
    assert look["roles"]["query"] == list(theme.COLOURS["query"])
    assert library.library_data() is look  # every run of every page asks for it


@pytest.fixture
def mounted(monkeypatch: pytest.MonkeyPatch) -> list[dict]:
    """What views hand to the browser, without a browser."""
    calls: list[dict] = []
    monkeypatch.setattr(canvas.st, "session_state", {})
    monkeypatch.setattr(canvas, "_view", lambda **options: calls.append(options))
    monkeypatch.setattr(transport, "_transport", lambda **options: calls.append(options))
    return calls


def test_a_pick_is_stored_and_passed_on(mounted):
    heard: list[tuple[int, ...]] = []
    views.matrix_view("m", maps="layer 0", tokens=(3,), on_pick=heard.append)
    assert mounted[0]["data"]["tokens"] == [3]
    canvas.st.session_state["m"] = {"pick": {"tokens": [4, 5], "count": 1}}
    mounted[0]["on_pick_change"]()
    assert heard == [(4, 5)]
    assert canvas.st.session_state["m:tokens"] == [4, 5]
    views.matrix_view("m", maps="layer 0", tokens=(4, 5), several=True)
    assert (mounted[1]["data"]["answered"], mounted[1]["data"]["several"]) == (1, True)


def test_heights_follow_what_was_sent(mounted):
    picture = Image.new("RGB", (400, 100))
    views.picture_view("a", picture="p")
    assert mounted[-1]["data"]["fit"] is None  # nothing known yet: the full height is kept
    views.send_picture("p", picture, picture.resize((8, 8)), (150, 0, 250, 100), TOKENS)
    views.picture_view("a", picture="p")
    assert mounted[-1]["data"]["fit"] == {"shape": "plane", "aspect": records.AROUND, "prefix": True}
    views.send_maps("r", np.ones((5, 13)), titles=list("abcde"), keys=TOKENS)
    views.tiles_view("t", maps=["r"], rows=["Rollout"], tile=80)
    assert mounted[-1]["data"]["fit"]["across"] == 5
    assert mounted[-1]["data"]["height"] == 80 + 6 + 18 + 2


@pytest.mark.parametrize("at", [(0, 0), (150, 0), (300, 100), (140, 37)], ids=str)
def test_of_a_large_picture_the_crop_and_what_lies_around_it_is_sent(at: tuple[int, int]):
    picture, crop = Image.effect_noise((400, 200), 90), (*at, at[0] + 100, at[1] + 100)
    shown, inside = records.surroundings(picture, crop)
    assert shown.size == (160, 160)
    assert shown.crop(inside).tobytes() == picture.crop(crop).tobytes()
    assert 0 <= inside[0] <= inside[2] <= 160
    assert 0 <= inside[1] <= inside[3] <= 160
    whole, same = records.surroundings(picture.resize((130, 100)), (15, 0, 115, 100))
    assert (whole.size, same) == ((130, 100), (15, 0, 115, 100))


def test_messages_of_views_are_small(mounted):
    views.picture_view("a", picture="p", maps="m")
    size = len(json.dumps(mounted[-1]["data"])) + len(library.read("view.js"))
    assert size < 3_000  # it is sent again on every pick


# Text ------------------------------------------------------------------------------------------------------------
WORDS = Tokens(("CLS", "sing", "…ing", ".", "SEP"), words=(-1, 0, 0, 1, -1))


def causal(count: int) -> np.ndarray:
    """True = may not attend."""
    return ~np.tri(count, dtype=bool)


def test_later_are_told_apart_from_zero(numbers):
    later = causal(5)
    weights = np.where(later, 0, softmax(numbers.normal(size=(2, 5, 5))))
    weights[0, 4, 1] = 0  # allowed, and given nothing
    cells, peaks = records.quantise(weights, masked=np.broadcast_to(later, weights.shape))
    back = records.restore(cells, peaks, masked=True)
    assert (np.isnan(back) == later).all()
    assert back[0, 4, 1] == 0
    known = np.broadcast_to(~later, weights.shape)
    assert (
        np.abs(back - weights)[known] <= np.broadcast_to(peaks[..., None], weights.shape)[known] / 508 * 1.001
    ).all()


@pytest.mark.parametrize("each", [False, True])
def test_a_mask_travels_in_the_cells_for_all_maps_or_for_each(numbers, each):
    later = causal(5)
    weights = np.where(later, np.nan, softmax(numbers.normal(size=(2, 5, 5))))  # NaN under a mask is nothing wrong
    masked = np.stack([later, later]) if each else later
    if each:
        masked[1, 4, 0], weights[1, 4, 0] = True, 0
    head, found = opened(records.pack_maps("m", weights, titles=["a", "b"], keys=WORDS, masked=masked))
    assert head["masked"] is True
    np.testing.assert_array_equal(found["cells"] == 0, np.broadcast_to(masked, weights.shape))
    shown = np.where(masked, 0, weights)
    np.testing.assert_allclose(found["sums"], shown.sum(-1), rtol=1e-5)
    np.testing.assert_allclose(found["rests"], shown[..., 1:4].sum(-1), rtol=1e-5)  # without CLS and SEP
    np.testing.assert_array_equal(found["best"], shown.argmax(-1))


def test_a_mask_of_nothing_costs_nothing(numbers):
    weights = softmax(numbers.normal(size=(1, 5, 5)))
    free = records.pack_maps("m", weights, titles=["a"], keys=WORDS)
    assert records.pack_maps("m", weights, titles=["a"], keys=WORDS, masked=np.zeros((5, 5), bool)) == free


def test_masked_scores_and_masked_single_rows(numbers):
    scores = numbers.normal(size=(1, 5, 5)).astype(np.float32)  # raw scores stand under the mask too
    _, found = opened(records.pack_maps("m", scores, titles=["a"], keys=WORDS, signed=True, masked=causal(5)))
    np.testing.assert_array_equal(found["cells"][0] == 0, causal(5))
    row, later = np.array([[0.5, 0.5, 0, 0, 0]], np.float32), np.array([False, False, False, True, True])
    _, found = opened(records.pack_maps("r", row, titles=["a"], keys=WORDS, masked=later))
    np.testing.assert_array_equal(found["cells"], [[0.5, 0.5, 0, np.nan, np.nan]])


def test_a_mask_turned_round_is_refused(numbers):
    weights = np.where(causal(5), 0, softmax(numbers.normal(size=(2, 5, 5))))
    with pytest.raises(ValueError, match=r"masked is True where maps hold up to 0\.\d+"):
        records.pack_maps("m", weights, titles=["a", "b"], keys=WORDS, masked=~causal(5))
    with pytest.raises(ValueError, match=r"masked is \(3, 5\) but maps are \(2, 5, 5\)"):
        records.pack_maps("m", weights, titles=["a", "b"], keys=WORDS, masked=np.zeros((3, 5), bool))


def test_words_travel_and_special_tokens_are_marked():
    row = np.array([[0.5, 0.2, 0.1, 0.1, 0.1]], np.float32)
    head, found = opened(records.pack_maps("r", row, titles=["a"], keys=WORDS))
    assert head["keys"]["words"] == [-1, 0, 0, 1, -1]
    assert records.special_tokens(WORDS).tolist() == [True, False, False, False, True]
    assert records.special_tokens(TOKENS).tolist() == [True, *[False] * 12]  # a prefix, as before
    np.testing.assert_allclose(found["rests"], [0.4])
    np.testing.assert_allclose(found["sums"], [1])


@pytest.mark.parametrize("scale", [1, 1e-3, 1e-30])
def test_what_stays_is_kept_as_finely_where_nearly_all_is_left_out(numbers, scale):
    weights = softmax(numbers.normal(size=(1, 13, 13)) * 2)
    weights[..., 1:] *= scale
    weights[..., 0] = 1 - weights[..., 1:].sum(-1)
    _, found = opened(records.pack_maps("m", weights, titles=["a"], keys=TOKENS))
    back = records.restore(found["cells"][..., 1:], found["peaks"])
    shown, true = (rows / rows.sum(-1, keepdims=True) for rows in (back, weights[..., 1:]))
    assert np.abs(back / found["rests"][..., None] - true).max() < 0.01
    assert np.abs(shown - true).max() < 0.01


def test_a_row_has_at_most_as_many_keys_as_two_bytes_count():
    tokens = Tokens(tuple(map(str, range(records.MOST_KEYS + 1))))
    with pytest.raises(ValueError, match="65,537 keys, expected at most 65,536"):
        records.pack_maps("m", np.zeros((1, len(tokens))), titles=["a"], keys=tokens)


def test_a_kept_record_is_packed_once_for_each_description(mounted):
    kept, made = dict[str, bytes](), []

    def keep(described: str, pack: Callable[[], bytes]) -> bytes:
        if described not in kept:
            kept[described] = pack()
        return kept[described]

    def maps() -> np.ndarray:
        made.append(len(made))
        return np.eye(5)[None] * 0.5

    usual = {"name": "k", "titles": ["a"], "keys": WORDS}
    spelt = replace(WORDS, labels=("CAPITALS", *WORDS.labels[1:]))
    others = [{"titles": ["b"]}, {"name": "l"}, {"keys": spelt}, {"queries": spelt}]
    others += [{"signed": True}, {"unit": "number"}, {"map_type": "effective"}, {"axes": ("x", "y")}]
    for other in others:
        for asked in (usual, usual | other, usual | other):
            views.send_maps(maps=maps, keep=keep, **asked)
            assert mounted[-1]["data"] == records.pack_maps(maps=np.eye(5)[None] * 0.5, **asked)
    assert len(made) == len(kept) == 1 + len(others)


def test_views_of_text_reserve_their_height(mounted):
    views.send_maps("t", np.ones((1, 5, 5)) / 5, titles=["a"], keys=WORDS)
    views.text_view("text", maps="t")
    assert mounted[-1]["data"]["fit"] == {"shape": "text", "letters": sum(len(label) + 2 for label in WORDS.labels)}
    long = Tokens(tuple(map(str, range(512))), stream="long")
    views.send_maps("l", np.eye(512)[None], titles=["a"], keys=long)
    for view, options in ((views.text_view, {}), (views.lines_view, {"heads": [0]})):
        view("v", maps="l", **options)
        assert mounted[-1]["data"]["height"] == 560
        view("v", maps="l", height=300, **options)
        assert mounted[-1]["data"]["height"] == 300
    views.lines_view("v", maps="t", heads=[0])
    assert mounted[-1]["data"]["height"] == 30 + 24 * 5
    assert (mounted[-1]["data"]["top_k"], mounted[-1]["data"]["top_p"]) == (0, 1.0)


def test_gold_dependencies_name_tokens_that_are_there(mounted):
    views.send_maps("t", np.ones((1, 5, 5)) / 5, titles=["a"], keys=WORDS)
    views.arcs_view("a", maps="t", gold_dependencies=[(2, 1), (3, 1)])
    assert mounted[-1]["data"]["gold_dependencies"] == [[2, 1], [3, 1]]
    with pytest.raises(ValueError, match=r"gold_dependencies are \[\[2, 5\]\] but 't' has 5 tokens"):
        views.arcs_view("a", maps="t", gold_dependencies=[(2, 5)])
