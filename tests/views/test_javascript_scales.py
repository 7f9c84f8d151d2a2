"""From numbers to colours in the browser, against numpy: scales, legends, images of whole maps. Run by node."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from attnviz import views
from attnviz.measures.mass import mass_mask
from attnviz.plots import theme
from attnviz.types import Tokens
from attnviz.views import records
from tests.node import ask, numbers
from tests.views.test_javascript import CASES, DROPS, PATCHES, case, packed, random, softmax

NAMES = ["linear", "sqrt", "log", "rank"]
SCALES = pytest.mark.parametrize("scale", NAMES)
KINDS = pytest.mark.parametrize(
    "name", ["patches", "words", "two texts", "masked", "scores", "masked scores", "numbers"]
)
Along = Callable[[np.ndarray], np.ndarray]


def along(values: np.ndarray, scale: str) -> Along:
    """How far along the colour table a magnitude lies among these."""
    found = np.sort(np.abs(values[~np.isnan(values)]))
    high = found.max(initial=0)
    if scale == "linear":
        return lambda v: v / high
    if scale == "sqrt":
        clip = found[min(len(found) - 1, int(0.99 * len(found)))]
        return lambda v: np.sqrt(v / (clip if clip > 0 else high))
    if scale == "log":
        low = min(max(found[found > 0].min(), high / 1e4), high / 2)
        return lambda v: np.log(v / low) / np.log(high / low)
    return lambda v: np.searchsorted(found, v) / max(1, len(found) - 1)


def steps(values: np.ndarray, scale: str, *, signed: bool = False, over: np.ndarray | None = None) -> np.ndarray:
    """The step of the colour table for every value, on the scale of `over`; -1 where there is none."""
    over = values if over is None else over
    if not np.nanmax(np.abs(over), initial=0) > 0:
        t = np.zeros_like(values)
    else:
        far = np.abs(np.nan_to_num(values))
        t = np.where(far > 0, np.clip(along(over, scale)(np.where(far > 0, far, 1e-9)), 0, 1), 0)
    t = 0.5 + 0.5 * np.sign(values) * t if signed else t
    return np.where(np.isnan(values), -1, np.floor(np.nan_to_num(t) * 255 + 0.5)).astype(int)


def same_steps(found: object, expected: np.ndarray) -> None:
    """Assert equal quantisation steps; a value halfway between two may be rounded to either."""
    found, expected = numbers(found).reshape(expected.shape), expected
    assert np.abs(found - expected).max() <= 1
    assert (found != expected).mean() < 0.02
    ends = np.isin(expected, [-2, -1, 0, 255])
    np.testing.assert_array_equal(found[ends], expected[ends])


@DROPS
@KINDS
def test_a_row_gets_the_steps_of_its_scale(name: str, drop: bool) -> None:
    blob, shown, _ = case(name, drop)
    signed, special = bool(CASES[name].get("signed")), records.special_tokens(CASES[name]["keys"])
    paint = """$scales.map((name) => Array.from({length: of("m").queries.count}, (_, q) =>
      paintRow(of("m"), 1, [q], {name, colours: "viridis", drop: $drop}).index))"""
    for scale, found in zip(NAMES, ask(paint, blob, scales=NAMES, drop=drop), strict=True):
        expected = np.stack([steps(row, scale, signed=signed) for row in shown[1]])
        same_steps(found, np.where(special & drop, -2, expected))


@SCALES
@DROPS
@pytest.mark.parametrize("name", ["patches", "scores", "masked", "numbers"])
def test_several_rows_and_one_range_for_all(name: str, drop: bool, scale: str) -> None:
    blob, shown, _ = case(name, drop)
    signed, special = bool(CASES[name].get("signed")), records.special_tokens(CASES[name]["keys"])
    rows = np.float32(shown[:, [4, 1]])
    known = (~np.isnan(rows)).sum(1)
    total = np.where(known > 0, np.nansum(rows, 1), np.nan)
    total = total / known.clip(1) if CASES[name].get("unit") == "number" else total
    script = """[[null, [4, 1]], [[4, 1], [4, 1]], [[4], [4]]].map(([range, queries]) => {
      const fixed = range && commonScale([of("m")], range, $scale, $drop), record = of("m");
      return record.titles.map((_, map) =>
        paintRow(record, map, queries, {name: $scale, colours: "viridis", drop: $drop, fixed}).index); })"""
    own, common, alone = ask(script, blob, scale=scale, drop=drop)
    out = special & drop
    same_steps(own, np.where(out, -2, np.stack([steps(row, scale, signed=signed) for row in total])))
    same_steps(common, np.where(out, -2, steps(total, scale, signed=signed)))
    same_steps(alone, np.where(out, -2, steps(np.float32(shown[:, 4]), scale, signed=signed)))


@pytest.mark.parametrize("share", [0.2, 0.6, 0.95])
@pytest.mark.parametrize("name", ["patches", "words", "scores", "masked"])
def test_a_row_is_cut_down_to_a_share_of_its_mass(name: str, share: float) -> None:
    """To the keys that Python finds; the colours of those that stay are as before, and so are special tokens."""
    blob, shown, _ = case(name, False)
    special = records.special_tokens(CASES[name]["keys"])
    script = """[null, $share].map((mass) => Array.from({length: of("m").queries.count}, (_, q) =>
      paintRow(of("m"), 1, [q], {name: "sqrt", colours: "viridis", drop: false, mass}).index))"""
    whole, cut = (numbers(found) for found in ask(script, blob, share=share))
    values = torch.from_numpy(np.nan_to_num(shown[1].astype(np.float64)))
    held = mass_mask(values, share, torch.from_numpy(special)).numpy() | special | np.isnan(shown[1])
    np.testing.assert_array_equal(cut, np.where(held, whole, -2))
    assert 0 < held.sum() < held.size


@SCALES
def test_a_range_may_begin_at_the_least(scale: str) -> None:
    row = np.float32(random().random(14) * 0.2 + 0.7)
    blob = packed(row[None], PATCHES, unit="number")
    paint = "paintRow(of('m'), 0, [], {name: $scale, colours: 'viridis', drop: false, rowRange: true})"
    found = ask([f"{paint}.index", f"{paint}.scale", f"{paint}.scale.t({paint}.scale.half)"], blob, scale=scale)
    above = (row - row.min()).astype(float)
    expected = steps(above, scale)
    if scale == "log":
        ground = np.sort(above)[0]  # the first hundredth of fourteen is the least itself
        low = min(max(ground, above.max() / 1e4), above.max() / 2)
        t = np.clip(np.log(np.where(above > 0, above, low) / low) / np.log(above.max() / low), 0, 1)
        expected = np.floor(np.where(above > 0, t, 0) * 255 + 0.5).astype(int)
    same_steps(found[0], expected)
    assert found[1]["low"] == pytest.approx(row.min())
    clip = np.sort(row)[int(0.99 * 14)]
    assert found[1]["high"] == pytest.approx(clip if scale == "sqrt" else row.max(), rel=1e-6)
    assert found[1]["words"].endswith("from the minimum of the row")
    assert found[2] == pytest.approx(0.5, abs=0.04)


@SCALES
@pytest.mark.parametrize("signed", [False, True])
def test_the_legend_says_where_the_colours_end(scale: str, signed: bool) -> None:
    values = random(1).normal(size=400) * (-1 if signed else 1)
    values = values if signed else np.abs(values)
    script = "((scale) => ({...scale, ends: [0, 1e-9, scale.half, scale.high, 1e9, -scale.high].map(scale.t)}))"
    script += "(makeScale($scale, ofNumbers($values, $signed), $signed))"
    found = ask(script, scale=scale, values=values.tolist(), signed=signed)
    far = np.sort(np.abs(values))
    high = far[int(0.99 * 400)] if scale == "sqrt" else far.max()
    assert found["high"] == pytest.approx(high, rel=1e-6)
    assert bool(found.get("clipped")) == (scale == "sqrt")
    zero, tiny, half, most, beyond, minus = found["ends"]
    whole = 0.5 if signed else 1
    assert zero == (0.5 if signed else 0)
    assert tiny == pytest.approx(zero, abs=1e-4)
    assert half == pytest.approx(zero + whole / 2, abs=0.01)
    assert most == pytest.approx(zero + whole, abs=0.01)
    assert beyond == 1
    assert minus == pytest.approx(zero - whole if signed else 0, abs=0.01)
    if scale == "log":
        assert found["low"] == pytest.approx(max(far[0], far[-1] / 1e4), rel=1e-6)


def test_ends_of_scales() -> None:
    cases = [[], [0, 0], [0.5], [3, 3, 3], [1e-9, 1], [0, 0, 0, 4]]
    script = "$cases.map((values) => ['linear', 'sqrt', 'log', 'rank'].map((name) => {"
    script += "const scale = makeScale(name, ofNumbers(values, false), false); return [0, ...values].map(scale.t); }))"
    found = ask(script, cases=cases)
    assert found[0] == [[0]] * 4
    assert found[1] == [[0, 0, 0]] * 4
    assert found[2] == [[0, 1], [0, 1], [0, 1], [0, 0]]  # one alone has no rank
    assert found[3] == [[0, 1, 1, 1]] * 3 + [[0, 0, 0, 0]]  # none lies above another
    assert [row[2] for row in found[4]] == [1, 1, 1, 1]
    assert found[4][2][1] == 0  # four decades below the most, where the logarithm begins
    assert found[5][1] == [0, 0, 0, 0, 1]
    assert found[5][3] == [0, 0, 0, 0, 1]


@pytest.mark.parametrize("zero", [0, 1, 128])
def test_counted_bytes_are_a_distribution_like_any_other(zero: int) -> None:
    holes, units = zero > 0, [0.01, 0.0007]
    cells = random().integers(0, 256, 60).astype(np.uint8)
    special = (np.arange(60) % 5 == 0).astype(int)
    script = """[false, true].map((drop) => { const all = Uint8Array.from([...Array(7).fill(9), ...$cells]);
      const d = ofBytes(all, 7, 67, $units, {zero: $zero, holes: $holes, special: $special, drop});
      return [d.max, d.low, $at.map(d.quantile), $values.map(d.rank)]; })"""
    at, values = [0, 0.01, 0.25, 0.5, 0.99, 1], [0, 0.0007 * 5, 0.01 * 11, 0.3, 0.01 * 300]
    given = {"cells": cells.tolist(), "units": units, "zero": zero, "holes": holes, "special": special.tolist()}
    found = ask(script, at=at, values=values, **given)
    for drop, (most, low, quantiles, ranks) in zip([False, True], found, strict=True):
        kept = ~((cells == 0) & holes) & ~((special == 1) & drop)
        far = np.sort(np.abs((cells.astype(int) - zero) * np.array(units)[special])[kept])
        assert most == pytest.approx(far[-1])
        assert low == pytest.approx(far[far > 0][0])
        np.testing.assert_allclose(quantiles, [far[min(len(far) - 1, int(q * len(far)))] for q in at])
        expected = [np.searchsorted(far, v - 1e-12) / (len(far) - 1) if v > 0 else 0 for v in values]
        np.testing.assert_allclose(ranks, np.minimum(1, expected))


# Images ---------------------------------------------------------------------------------------------------------------
def rgba(name: str) -> np.ndarray:
    """The colours of a table as the little-endian numbers of a canvas."""
    red, green, blue = theme.table(name).astype(np.uint32).T
    return (255 << 24) | (blue << 16) | (green << 8) | red


@DROPS
@KINDS
def test_the_image_of_a_map_has_a_row_for_each_query(name: str, drop: bool) -> None:
    blob, shown, _ = case(name, drop)
    signed, special = bool(CASES[name].get("signed")), records.special_tokens(CASES[name]["keys"])
    image = """$scales.map((name) => {
      const {image, part} = matrixImage(of("m"), 1, name, "cividis", $drop);
      return [image.width, image.height, part, image.pixels]; })"""
    images, table = ask([image, "tableOf('cividis', of('m').signed)"], blob, scales=NAMES, drop=drop)
    assert table == rgba(theme.DIVERGING[0] if signed else "cividis").tolist()
    values, skip = np.float32(shown[1]), int(np.flatnonzero(~special)[0]) if drop else 0
    for scale, (width, height, part, pixels) in zip(NAMES, images, strict=True):
        expected = np.where(special & drop, -2, steps(values, scale, signed=signed))[:, skip:]
        assert [height, width] == list(expected.shape)
        assert part == [0, 0, width, height]
        places = {colour: step for step, colour in reversed(list(enumerate(table)))} | {0: -1, 0x40808080: -2}
        found, first = np.array([places[pixel] for pixel in pixels]), [places[colour] for colour in table]
        same = np.where(expected < 0, expected, np.array(first)[expected.clip(0)])
        off = np.abs(found.reshape(expected.shape) - same)
        assert off.max() <= 3  # some colours of a table stand there twice
        assert (off > 0).mean() < 0.04
        assert (off[expected < 0] == 0).all()


def test_an_image_is_kept_for_what_it_was_made_with() -> None:
    blob, *_ = case("scores", False)
    made = "matrixImage(of('m'), 0, 'sqrt', 'viridis', false)"
    assert ask(f"{made} === {made}", blob)
    others = [
        "0, 'log', 'viridis', false",
        "0, 'sqrt', 'gray', false",
        "0, 'sqrt', 'viridis', true",
        "1, 'sqrt', 'viridis', false",
    ]
    for other in others:
        assert ask(f"({made}, matrixImage(of('m'), {other}, true))", blob) is None
    assert ask(f"({made}, shared.dark = true, {made.replace('false)', 'false, true)')})", blob) is None


def test_a_large_map_is_scaled_by_its_true_peak() -> None:
    tokens = Tokens.patches(16, 16, ["CLS"])
    maps = softmax(random().normal(size=(1, 257, 257)))
    maps[0, 200, 131] = 0.9
    blob = packed(maps, tokens, unit="number")
    whole, rest = "ofMap(of('m'), 0, false, 0)", "ofMap(of('m'), 0, true, 1)"
    found = ask([f"{whole}.max", f"{rest}.max", f"{rest}.quantile(0.5)"], blob)
    assert found[:2] == pytest.approx([0.9, 0.9])
    assert found[2] == pytest.approx(np.median(maps[0, :, 1:]), rel=0.03)


def test_the_overview_has_every_head_in_its_place() -> None:
    maps = softmax(3 * random().normal(size=(2, 3, 80, 80)))
    blocks = views.block_means(maps, 16)
    blob = records.pack_tiles("m", blocks)
    script = "[0, 1].map((row) => [0, 1, 2].map((column) => overviewImage({data: {}}, of('m'), {row, column}, $look)))"
    look = {"name": "linear", "colours": "gray"}
    tiles, outside = ask([script, "overviewImage({data: {}}, of('m'), {row: 2, column: 0}, $look)"], blob, look=look)
    assert outside is None
    table = {colour: step for step, colour in reversed(list(enumerate(rgba("gray").tolist())))}
    image = np.array([table[pixel] for pixel in tiles[0][0]["image"]["pixels"]]).reshape(2 * 16, 3 * 16)
    for row in range(2):
        for column in range(3):
            left, top, wide, tall = tiles[row][column]["part"]
            found = image[top : top + tall, left : left + wide]
            expected = 255 * blocks[row, column] / blocks[row, column].max()
            assert np.abs(found - expected).max() <= 2
            assert tiles[row][column]["scale"]["high"] == pytest.approx(blocks[row, column].max(), rel=1e-5)


def test_colour_tables_arrive_as_they_are() -> None:
    found = ask("[...Object.entries(shared.tables)]")
    assert {name: table for name, table in found} == {name: rgba(name).tolist() for name in theme.SCALES}
    names = ask(
        ["tableOf('viridis', true)", "(shared.dark = true, tableOf('viridis', true))", "tableOf('nothing', false)"]
    )
    assert names[:2] == [rgba(name).tolist() for name in theme.DIVERGING]
    assert names[2] == rgba(next(iter(theme.SCALES))).tolist()
    assert ask("[css(0xff332211), contrast('rgb(120 120 120)'), contrast('rgb(117 117 117)')]") == [
        "rgb(17 34 51)",
        "#000000",
        "#ffffff",
    ]


def test_the_picture_shines_through_where_little_is_given() -> None:
    index = [9, -1, -2, *range(0, 256, 25)][:14]
    script = """((out) => { const view = {context: recorder(), data: {overlay: "colour", opacity: 0.5}, ink: {}};
      view.context.drawImage = (image) => out.push(image.pixels);
      const boxes = {tokens: {grid: [3, 4], prefix: 2}, crop: [0, 0, 4, 3]}, table = shared.tables.viridis;
      for (const signed of [false, true]) drawOverlay(view, boxes, {table, index: $index, scale: {signed}}, false);
      return out; })([])"""
    plain, signed = (np.array(pixels, dtype=np.uint32) for pixels in ask(script, index=index))
    on = np.array(index[2:])
    for pixels, strength in ((plain, on / 255), (signed, np.abs(on - 127.5) / 127.5)):
        alpha = np.where(on < 0, 0, np.floor(255 * np.minimum(1, 0.5 * (0.7 + 0.6 * strength)) + 0.5))
        assert np.abs((pixels >> 24).astype(int) - alpha).max() <= 1
        colour = np.where(on < 0, 0, rgba("viridis")[on.clip(0)] & 0xFFFFFF)
        np.testing.assert_array_equal(pixels & 0xFFFFFF, colour)


def test_little_weight_dims_the_picture_and_signed_maps_keep_their_colours() -> None:
    script = """((view, table) => [veilOf(view, table, false), veilOf(view, table, true)])
      ({data: {overlay: "light", opacity: 0.8}}, shared.tables.gray)"""
    light, signed = (np.array(pixels, dtype=np.uint32) for pixels in ask(script))
    on = np.arange(256)
    assert np.all(light & 0xFFFFFF == 0)
    assert np.abs((light >> 24).astype(int) - 255 * 0.8 * (1 - on / 255)).max() <= 0.501
    assert light[-1] == 0  # the most weight leaves the picture as it is
    np.testing.assert_array_equal(signed & 0xFFFFFF, rgba("gray") & 0xFFFFFF)


def test_what_has_no_step_is_dark_where_weight_is_light() -> None:
    """Cut away by a share of the mass or masked: without anything over it, it would look like the most relevant."""
    script = "litSteps({overlay: $overlay}, [5, -1, -2, 0], $signed)"
    assert ask(script, overlay="light", signed=False) == [5, 0, 0, 0]
    assert ask(script, overlay="light", signed=True) == [5, -1, -2, 0]
    assert ask(script, overlay="colour", signed=False) == [5, -1, -2, 0]


@pytest.mark.parametrize("times", [1, 2, 5, 16])
def test_smooth_maps_are_linear_between_the_middles_of_cells(times: int) -> None:
    rng = np.random.default_rng(7)
    cells = rng.integers(0, 256, (3, 4)).astype(float)
    cells[1, 2] = np.nan  # masked: stays whole, and lends nothing
    index = [7, *np.where(np.isnan(cells), -1, cells).astype(int).ravel().tolist()]
    found = ask("interpolated($index, {rows: 3, columns: 4, first: 1}, $times)", index=index, times=times)
    expected = np.full((3 * times, 4 * times), -1.0)
    for y, x in np.ndindex(expected.shape):
        if np.isnan(cells[y // times, x // times]):
            continue
        down, along = (y + 0.5) / times - 0.5, (x + 0.5) / times - 0.5
        near = [
            (r, c, max(0, 1 - abs(down - r)) * max(0, 1 - abs(along - c))) for r in range(-1, 4) for c in range(-1, 5)
        ]
        held = [(cells[min(2, max(0, r)), min(3, max(0, c))], weight) for r, c, weight in near]
        value, weight = zip(*[(v, w) for v, w in held if not np.isnan(v)], strict=True)
        expected[y, x] = np.average(value, weights=weight)
    assert np.abs(np.array(found).reshape(expected.shape) - expected).max() <= 0.5 + 1e-9


@pytest.mark.parametrize(
    ("scale", "said"),
    [
        ({"high": 0.5, "clipped": True}, ["0 %", "≥ 50.0 %"]),
        ({"high": 0.5, "low": 0.25}, ["25.0 %", "50.0 %"]),
        ({"high": 0.5, "signed": True}, ["−50.0 %", "50.0 %"]),
        ({"high": 0.5, "signed": True, "clipped": True}, ["≤ −50.0 %", "≥ 50.0 %"]),
    ],
)
def test_a_legend_in_words(scale: dict, said: list[str]) -> None:
    script = """((view) => { drawLegend(view, {scale: $scale, unit: "percent", table: shared.tables.viridis});
      return [view.low.textContent, view.high.textContent, view.bar.pixels]; })
      ({low: {}, high: {}, bar: new OffscreenCanvas(256, 1)})"""
    found = ask(script, scale=scale)
    assert found[:2] == said
    assert found[2] == rgba("viridis").tolist()


def test_numbers_in_words() -> None:
    asked = [
        (0.12345, "percent"),
        (0, "percent"),
        (0.0004, "percent"),
        (0.0005, "percent"),
        (-0.5, "percent"),
        (1, "percent"),
        (-1.23456, "number"),
        (0, "number"),
        (None, "number"),
        (1234.5, "number"),
    ]
    found = ask("$asked.map(([value, unit]) => written(value ?? NaN, unit))", asked=asked)
    assert found == [
        "12.3 %",
        "0 %",
        "under 0.1 %",
        "0.1 %",
        "−50.0 %",
        "100.0 %",
        "−1.23",
        "0",
        "nothing (masked)",
        "1230",
    ]
