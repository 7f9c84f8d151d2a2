"""The numbers that the browser reads out of records, against Python's: run by node, without a browser."""

from __future__ import annotations

import itertools
import subprocess
import sysconfig
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from attnviz.paths import ROOT
from attnviz.types import Tokens
from attnviz.views import library, records
from tests.node import ask, made, numbers

PATCHES = Tokens.patches(3, 4, ["CLS", "Register"])
WORDS = Tokens(("CLS", "sing", "…ing", ",", "SEP", "more", "SEP"), words=(-1, 0, 0, 1, -1, 2, -1))
OTHER = Tokens(("un", "deux", "trois", "quatre"), words=(0, 1, 2, 3), stream="other")
NOTHING = np.zeros((1, 1), bool)


def softmax(scores: np.ndarray) -> np.ndarray:
    """Rows that sum to one."""
    grown = np.exp(scores - scores.max(-1, keepdims=True))
    return (grown / grown.sum(-1, keepdims=True)).astype(np.float32)


def random(seed: int = 0) -> np.random.Generator:
    """A random generator with a fixed seed."""
    return np.random.default_rng(seed)


def packed(maps: np.ndarray, keys: Tokens, **options: Any) -> bytes:
    """A record named "m"."""
    return records.pack_maps("m", maps, titles=[f"Head {i + 1}" for i in range(len(maps))], keys=keys, **options)


def share_maps(keys: Tokens, queries: Tokens | None = None) -> np.ndarray:
    """Three maps of shares; one row gives nearly all to the first key, one knows exact zeros, one is empty."""
    maps = softmax(3 * random().normal(size=(3, len(queries or keys), len(keys))))
    maps[:, 1, 1:] *= 1e-3
    maps[:, 1, 0] = 1 - maps[:, 1, 1:].sum(-1)
    maps[0, 2, 2:] = 0
    maps[1, 3] = 0
    return maps


CASES: dict[str, dict[str, Any]] = {
    "patches": {"maps": share_maps(PATCHES), "keys": PATCHES},
    "words": {"maps": share_maps(WORDS), "keys": WORDS},
    "two texts": {"maps": share_maps(WORDS, OTHER), "keys": WORDS, "queries": OTHER},
    "no prefix": {"maps": share_maps(OTHER), "keys": OTHER},
    "masked": {"maps": share_maps(WORDS) * np.tri(7), "keys": WORDS, "masked": ~np.tri(7, dtype=bool)},
    "scores": {"maps": random(1).normal(size=(2, 14, 14)) * 5, "keys": PATCHES, "signed": True, "unit": "number"},
    "masked scores": {
        "maps": random(2).normal(size=(2, 7, 7)),
        "keys": WORDS,
        "masked": ~np.tri(7, dtype=bool),
        "signed": True,
        "unit": "number",
    },
    "scores with -inf": {
        "maps": np.where(np.tri(7), random(3).normal(size=(2, 7, 7)), -np.inf),
        "keys": WORDS,
        "signed": True,
        "unit": "number",
    },
    "numbers": {"maps": random(4).random((2, 14, 14)) * 9, "keys": PATCHES, "unit": "number"},
    "received": {"maps": share_maps(PATCHES), "keys": PATCHES, "map_type": "received weights"},
    "difference": {
        "maps": share_maps(PATCHES) - share_maps(PATCHES)[::-1],
        "keys": PATCHES,
        "map_type": "difference",
        "signed": True,
    },
}
NAMES = pytest.mark.parametrize("name", CASES)
DROPS = pytest.mark.parametrize("drop", [False, True])


def case(name: str, drop: bool) -> tuple[bytes, np.ndarray, np.ndarray]:
    """A case: its record, what the browser makes of it, and its exact numbers."""
    options = dict(CASES[name])
    maps, keys = options.pop("maps"), options.pop("keys")
    share = options.get("unit") != "number" and "map_type" not in options
    masked, signed = options.get("masked"), options.get("signed", False)
    masked = None if masked is None else np.broadcast_to(masked, maps.shape)
    exact = np.where(np.isfinite(maps) & ~(NOTHING if masked is None else masked), maps, np.nan).astype(float)
    if drop:
        whole, exact = np.nansum(exact, -1, keepdims=True), np.where(records.special_tokens(keys), np.nan, exact)
        rest = np.nansum(exact, -1, keepdims=True)
        exact = exact * np.divide(whole, rest, out=np.zeros_like(rest), where=rest > 0) if share else exact
    shown = made(maps, keys, masked, signed=signed, out=drop, share=share and bool(records.special_tokens(keys).any()))
    return packed(maps, keys, **options), shown, exact


def every_row(maps: np.ndarray) -> list[list[int]]:
    """Map and query of every row."""
    return [[*at] for at in np.ndindex(*maps.shape[:2])]


@DROPS
@NAMES
def test_bytes_become_numbers_again(name: str, drop: bool) -> None:
    blob, shown, exact = case(name, drop)
    rows = numbers(
        ask(
            "$rows.map(([map, query]) => togetherRow(of('m'), map, [query], $drop))",
            blob,
            rows=every_row(shown),
            drop=drop,
        )
    )
    np.testing.assert_allclose(rows.reshape(shown.shape), shown, rtol=1e-5, atol=1e-12)
    np.testing.assert_array_equal(np.isnan(shown), np.isnan(exact))
    top = 127 if CASES[name].get("signed") else 254
    special = records.special_tokens(CASES[name]["keys"])
    for part in (special, ~special):
        peaks = np.nanmax(np.abs(np.where(part, exact, 0)), -1, keepdims=True)
        off = np.where(part & ~np.isnan(exact), np.abs(shown - exact), 0)
        assert (off <= peaks / top / 2 * 1.001 + 1e-9).all()


@DROPS
@NAMES
def test_one_cell_is_read_as_its_row_is(name: str, drop: bool) -> None:
    blob, shown, _ = case(name, drop)
    cells = """$rows.map(([map, query]) => {
      const row = rowIndex(of("m"), map, query), units = unitsOf(of("m"), row, $drop);
      return Array.from({length: of("m").keys.count}, (_, key) => valueOf(of("m"), row, key, units)); })"""
    found = numbers(ask(cells, blob, rows=every_row(shown), drop=drop)).reshape(shown.shape)
    special = records.special_tokens(CASES[name]["keys"])
    dropped = special & drop & ~np.isnan(found)  # is worth nothing, as it is not drawn
    assert (found[np.broadcast_to(dropped, found.shape)] == 0).all()
    np.testing.assert_allclose(np.where(dropped, np.nan, found), shown, rtol=1e-5, atol=1e-12)


def test_what_is_left_out_takes_no_step_from_the_rest() -> None:
    tokens = Tokens(("CLS", "a", "b"), words=(-1, 0, 1))
    row = np.array([[[0.995, 0.001, 0.004], [1 - 5e-6, 1e-6, 4e-6], [0.5, 0.1, 0.4]]])
    found = numbers(
        ask("[0, 1, 2].map((q) => togetherRow(of('m'), 0, [q], true))", packed(row, tokens, queries=tokens))
    )
    np.testing.assert_allclose(found[:, 1:], [[0.2, 0.8]] * 3, atol=0.002)
    shares = numbers(ask("[0, 1, 2].map((q) => droppedShare(of('m'), 0, [q]))", packed(row, tokens)))
    np.testing.assert_allclose(shares, row[0, :, 0], atol=1e-6)


@DROPS
@pytest.mark.parametrize("name", [name for name in CASES if name != "no prefix"])
def test_several_rows_are_summed_or_averaged(name: str, drop: bool) -> None:
    blob, shown, _ = case(name, drop)
    picked = [2, 0, len(shown[0]) - 1]
    rows, known = shown[1, picked], (~np.isnan(shown[1, picked])).sum(0)
    total = np.where(known > 0, np.nansum(rows, 0), np.nan)
    mean = CASES[name].get("unit") == "number"
    expected = np.divide(total, known, out=np.full_like(total, np.nan), where=known > 0) if mean else total
    found, words = ask(
        ["togetherRow(of('m'), 1, $picked, $drop)", "togetherWord(of('m'))"], blob, picked=picked, drop=drop
    )
    np.testing.assert_allclose(numbers(found), expected, rtol=1e-5, atol=1e-9)
    assert words == ("mean" if mean else "sum")


@DROPS
def test_single_rows_travel_exact(drop: bool) -> None:
    maps, special = share_maps(WORDS)[:, 4], records.special_tokens(WORDS)
    masked = np.arange(7) == 5
    maps[:, 5] = 0
    blob = packed(maps, WORDS, masked=masked)
    found = numbers(ask("[0, 1, 2].map((map) => togetherRow(of('m'), map, [], $drop))", blob, drop=drop))
    kept = np.where(special & drop | masked, np.nan, maps)
    factor = maps.sum(-1, keepdims=True) / np.nansum(kept, -1, keepdims=True)
    np.testing.assert_allclose(found, kept * factor, rtol=1e-6)
    asked = ["of('m').hasMasked", "maskNote(of('m'), 0) !== ''"]
    assert ask(asked, blob) == [True, True]
    assert ask(asked, packed(maps, WORDS)) == [False, False]  # a zero is nothing masked


@NAMES
def test_a_record_says_whether_it_is_masked(name: str) -> None:
    blob, shown, _ = case(name, False)
    notes = "of('m').titles.map((_, map) => maskNote(of('m'), map))"
    said = ask(["of('m').hasMasked", "of('m').keys.lead", "of('m').keys.special", notes], blob)
    special = records.special_tokens(CASES[name]["keys"])
    assert said[0] == bool(np.isnan(shown).any())
    assert said[1] == np.flatnonzero(~special)[0]
    assert said[2] == special.tolist()
    assert [bool(note) for note in said[3]] == np.isnan(shown).any((1, 2)).tolist()


@NAMES
def test_what_was_left_out_is_said_where_rows_are_shares(name: str) -> None:
    blob, *_ = case(name, False)
    share = CASES[name].get("unit") != "number" and "map_type" not in CASES[name] and name != "no prefix"
    found = ask("[[0], [1], [0, 2]].map((queries) => droppedShare(of('m'), 1, queries))", blob)
    if not share:
        assert found == [None] * 3
        return
    exact = CASES[name]["maps"].astype(float)[1]
    lost = np.where(records.special_tokens(CASES[name]["keys"]), exact, 0).sum(-1) / exact.sum(-1).clip(1e-12)
    np.testing.assert_allclose(found, [lost[0], lost[1], lost[[0, 2]].mean()], atol=1e-6)


@DROPS
@NAMES
def test_the_largest_of_a_row_is_the_exact_one(name: str, drop: bool) -> None:
    blob, shown, exact = case(name, drop)
    best = """$rows.map(([map, query]) => {
      const values = togetherRow(of("m"), map, [query], $drop);
      return bestKey(of("m"), map, [query], values, $drop); })"""
    found = ask(best, blob, rows=every_row(shown), drop=drop)
    order = np.where(np.isnan(exact), -np.inf, exact)
    for (map_, query), key in zip(every_row(shown), found, strict=True):
        row = order[map_, query]
        assert key == (int(row.argmax()) if np.isfinite(row).any() else -1)


def test_two_keys_that_share_a_byte_are_told_apart() -> None:
    row = np.array([[[0.2, 0.399, 0.4001], [0.4, 0.3, 0.3], [0.3, 0.3, 0.4]]])
    tokens = Tokens(("a", "b", "c"))
    say = "rowWords(of('m'), 0, [0], false, null).best"
    assert ask([say, "strongest([1, NaN, 3, 3])", "strongest([NaN])"], packed(row, tokens)) == [2, 2, -1]
    rank = "[0, 1, 2, 3].map((key) => rankWords([2, 5, 5, NaN], key))"
    assert ask(rank)[:3] == ["rank 3 of 3", "the highest of 3", "the highest of 3"]


def test_what_python_has_worked_out_holds_for_what_it_knows_of() -> None:
    of = "[[[3], 'm', 1], [[4], 'm', 1], [[3], 'n', 1], [[3], 'm', 2]].map(([queries, maps, index]) => "
    of += "bestNamed({data: {maps: 'm', index: 1, tokens: [3], best: 9}, maps, index}, queries))"
    assert ask(of) == [9, None, None, None]


# The strongest entries -----------------------------------------------------------------------------------------------
LIMITS = [(0, 0, 1), (0.1, 0, 1), (0, 2, 1), (0, 0, 0.6), (0.05, 3, 0.9), (0, 1, 0.3), (0.3, 0, 0.99)]


def brute(
    shown: np.ndarray,
    whole: np.ndarray,
    heads: list[int],
    queries: list[int],
    key: int | None,
    limits: tuple[float, int, float],
) -> dict[tuple[int, int, int], float]:
    """The entries that limits let through, one row after the other. `whole`: what each row sums to."""
    min_weight, top_k, top_p = limits
    found = {}
    for head, query in itertools.product(heads, queries):
        row = np.nan_to_num(shown[head, query])
        order = np.argsort(-row, kind="stable")
        if top_p < 1:
            order = order[: np.searchsorted(row[order].cumsum(), top_p * whole[head, query] - 1e-6) + 1]
        order = order[: top_k or None]
        found |= {(query, int(k), head): row[k] for k in order if row[k] >= max(min_weight, 1e-12) and key in (None, k)}
    return found


@DROPS
@pytest.mark.parametrize("name", ["patches", "words", "two texts", "masked", "no prefix"])
def test_lines_are_the_strongest_of_each_row(name: str, drop: bool) -> None:
    blob, shown, _ = case(name, drop)
    whole = np.nansum(CASES[name]["maps"], -1)
    asked = [([0, 1, 2], [], None), ([2], [1, 3], None), ([0, 2], [], 2), ([1], [], 0)]
    near = np.sort(shown[shown > 0.05])[::7]  # limits a little above and below a weight
    every = list(
        itertools.product(asked, [*LIMITS, *((by * float(one), 0, 1) for one in near for by in (0.998, 1.002))])
    )
    script = """$every.map(([[heads, queries, key], [minWeight, topK, topP]]) =>
      strongestOf(of("m"), heads, {queries, key}, {minWeight, topK, topP, drop: $drop}, 1e6))"""
    answers = ask(script, blob, every=every, drop=drop)
    for ((heads, queries, key), limits), answer in zip(every, answers, strict=True):
        expected = brute(shown, whole, heads, queries or list(range(len(shown[0]))), key, limits)
        drawn = {(q, k, h): weight for weight, q, k, h in answer["shown"]}
        assert set(drawn) == set(expected)
        assert answer["total"] == len(answer["shown"]) == len(expected)
        assert all(drawn[at] == pytest.approx(expected[at], rel=1e-5) for at in drawn)
        weights = [one[0] for one in answer["shown"]]
        assert weights == sorted(weights)  # the strongest is drawn last


@pytest.mark.parametrize("special", [True, False])
def test_of_equal_keys_the_first_are_taken(special: bool) -> None:
    tokens = Tokens(("CLS", "a", "b", "SEP"), words=(-1, 0, 1, -1 if special else 2))
    even = np.full((1, 4, 4), 0.25)
    for top_k in (1, 2, 3):
        script = "strongestOf(of('m'), [0], {queries: [1]}, {minWeight: 0, topK: $top_k, topP: 1, drop: false}, 99)"
        found = ask(script, packed(even, tokens), top_k=top_k)
        assert [one[2] for one in found["shown"]] == list(range(top_k))
        only = ask(script.replace("[1]}", "[1], key: 2}"), packed(even, tokens), top_k=top_k)
        assert only["total"] == len(only["shown"]) == int(top_k > 2)


@pytest.mark.parametrize("count", [1, 7, 40])
@pytest.mark.parametrize("name", ["patches", "masked"])
def test_at_most_so_many_lines_are_drawn(name: str, count: int) -> None:
    blob, shown, _ = case(name, False)
    found = ask(
        "strongestOf(of('m'), [0, 1, 2], {}, {minWeight: 0, topK: 0, topP: 1, drop: false}, $count)", blob, count=count
    )
    every = np.sort(shown[shown > 0])[::-1]
    assert found["total"] == len(every)
    assert len(found["shown"]) == count
    np.testing.assert_allclose([one[0] for one in found["shown"]], every[:count][::-1], rtol=1e-4)


def test_lines_are_remembered_for_what_was_asked() -> None:
    blob, shown, _ = case("patches", False)
    asked = [(0, 5, 0), (0, 5, 0), (0, 5, 0.2), (1, 5, 0.2), (0, 6, 0), (0, 7, 0)]
    script = """((kept) => $asked.map(([head, query, minWeight]) => {
      const limits = {minWeight, topK: 0, topP: 1, drop: false};
      const {shown} = keptStrongest(kept, of("m"), [head], {queries: [query], key: null}, limits, 99);
      return shown.map(([, q, k, of]) => [q, k, of]); }))({})"""
    for entries, (head, query, min_weight) in zip(ask(script, blob, asked=asked), asked, strict=True):
        keys = {(query, k, head) for k in range(14) if shown[head, query, k] >= max(min_weight, 1e-12)}
        assert {tuple(one) for one in entries} == keys


# ---- the library as one script


@pytest.mark.parametrize("added", ["", "\nconst spare = 1;", "\nnobody();"])
def test_every_name_in_the_library_is_defined_and_used(added: str, tmp_path: Path):
    """The browser gets its files joined, so `make check`, which sees one at a time, cannot tell."""
    joined = tmp_path / "library.js"
    joined.write_text("\n".join([library.library(), added]))
    linter = Path(sysconfig.get_path("scripts")) / "oxlint"
    done = subprocess.run([linter, "-c", ROOT / ".oxlintrc.json", joined], capture_output=True, text=True)
    assert (done.returncode == 0) == (not added), done.stdout
