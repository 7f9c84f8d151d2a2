"""Where things lie in a view, and which token is under the pointer: the geometry of the views, run by node."""

from __future__ import annotations

import numpy as np
import pytest

from attnviz.plots import theme
from attnviz.types import Tokens
from tests.node import ask, numbers
from tests.views.test_javascript import CASES, WORDS, case, packed, share_maps

GRID, PLAIN = {"grid": [3, 4], "prefix": 2, "count": 14, "stream": "main"}, {"grid": None, "count": 5, "stream": "main"}
ABOVE = {"data": {"height": 300}, "width": 900}  # wide and low: the prefix stands at the left; else above
NARROW = {"data": {"height": 900}, "width": 300}


def test_a_token_is_found_again_at_its_place() -> None:
    places = ask("Array.from({length: 14}, (_, i) => placeOf($grid, i))", grid=GRID)
    assert places[:2] == [{"stream": "main", "prefix": 0}, {"stream": "main", "prefix": 1}]
    for index, place in enumerate(places[2:]):
        row, column = divmod(index, 4)
        assert (place["u"], place["v"]) == pytest.approx(((column + 0.5) / 4, (row + 0.5) / 3))
    assert ask("$places.map((place) => tokenAt($grid, place))", places=places, grid=GRID) == list(range(14))
    nowhere = (
        "[placeOf($grid, -1), placeOf($grid, 14), placeOf($grid, null), tokenAt($grid, {stream: 'x', prefix: 0}), "
    )
    nowhere += (
        "tokenAt($grid, null), tokenAt($grid, {stream: 'main', prefix: 2}), tokenAt($grid, {stream: 'main', token: 1})]"
    )
    assert ask(nowhere, grid=GRID) == [None] * 7


def test_grids_of_other_sizes_stay_linked() -> None:
    finer = {"grid": [6, 12], "prefix": 1, "count": 73, "stream": "main"}
    found = ask("Array.from({length: 72}, (_, i) => tokenAt($grid, placeOf($finer, 1 + i)))", grid=GRID, finer=finer)
    assert found == [2 + (i // 12 // 2) * 4 + i % 12 // 3 for i in range(72)]
    words = ask("[0, 4, 5].map((token) => tokenAt($plain, {stream: 'main', token}))", plain=PLAIN)
    assert words == [0, 4, None]
    assert ask("[placeOf($plain, 3), tokenAt($plain, {stream: 'main', u: 0.5, v: 0.5})]", plain=PLAIN) == [
        {"stream": "main", "token": 3},
        None,
    ]
    assert ask("[0, 1, 2, 13].map((i) => cellOf($grid, i))", grid=GRID) == [None, None, [0, 0], [2, 3]]


def test_what_is_shown_is_hovered_else_picked() -> None:
    script = "[null, {query: placeOf($grid, 7)}, {query: placeOf($grid, 1)}, {query: {stream: 'other', prefix: 0}}]"
    script += ".map((hover) => (shared.hover = hover, active({tokens: [3, 99, -1]}, $grid)))"
    assert ask(script, grid=GRID) == [[3], [7], [1], [3]]


@pytest.mark.parametrize("view", [ABOVE, NARROW], ids=["prefix left", "prefix above"])
@pytest.mark.parametrize("crop", [[0, 0, 1, 1], [0.25, 0.1, 0.75, 0.9]], ids=str)
def test_a_patch_is_under_the_pointer_where_it_is_drawn(view: dict, crop: list[float]) -> None:
    boxes = "gridBoxes($view, $grid, 2, $crop)"
    script = """((boxes) => Array.from({length: 14}, (_, i) => {
      const [x, y, w, h] = boxOf(boxes, i);
      const within = [[0.5, 0.5], [0.02, 0.02], [0.98, 0.02], [0.02, 0.98], [0.98, 0.98]];
      return [[x, y, w, h], within.map(([u, v]) => tokenUnder(boxes, x + u * w, y + v * h))]; }))(BOXES)"""
    found, made = ask([script.replace("BOXES", boxes), boxes], view=view, grid=GRID, crop=crop)
    x, y, w, h = made["window"]
    assert w == pytest.approx(2 * h, abs=1)  # the aspect of the picture
    assert made["crop"] == pytest.approx(
        [x + crop[0] * w, y + crop[1] * h, (crop[2] - crop[0]) * w, (crop[3] - crop[1]) * h]
    )
    assert x + w <= view["width"]
    assert made["bottom"] == y + h + 3 <= view["data"]["height"]
    assert made["above"] == (view is NARROW)
    for index, (box, under) in enumerate(found):
        assert under == [index] * 5
        if index >= 2:
            row, column = divmod(index - 2, 4)
            left, top, wide, tall = made["crop"]
            assert box == pytest.approx([left + column * wide / 4, top + row * tall / 3, wide / 4, tall / 3])
        else:
            assert (box[1] + box[3] <= y) if view is NARROW else (box[0] + box[2] <= x)
    assert found[1][0][0 if view is NARROW else 1] > found[0][0][0 if view is NARROW else 1]
    around = """(({crop: [x, y, w, h]}) => [[x - 1, y + 1], [x + w + 1, y + 1], [x + 1, y + h + 1]]
      .map(([a, b]) => tokenUnder(BOXES, a, b)))(BOXES)"""
    beyond = ask(around.replace("BOXES", boxes), view=view, grid=GRID, crop=crop)
    assert beyond == [None] * 3


@pytest.mark.parametrize("above", [False, True])
def test_arrows_reach_every_patch_and_the_prefix(above: bool) -> None:
    boxes = {"tokens": GRID, "above": above}
    left, right, up, down = [0, -1], [0, 1], [-1, 0], [1, 0]
    asked = [
        (None, right),
        (2, right),
        (2, down),
        (13, right),
        (13, down),
        (12, up),
        (7, left),
        (6, left),
        (3, up),
        (0, down if above else right),
        (0, right if above else down),
        (1, left if above else up),
    ]
    found = ask("$asked.map(([index, arrow]) => step($boxes, index, arrow))", boxes=boxes, asked=asked)
    prefix_of_row_1, prefix_of_column_1 = (
        (6, 1) if above else (1, 3)
    )  # beyond the edge lies the prefix, if on that side
    assert found == [2, 3, 6, 13, 13, 8, 6, prefix_of_row_1, prefix_of_column_1, 2, 1, 0]


@pytest.mark.parametrize("drop", [False, True])
@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("name", ["patches", "words", "two texts"])
def test_a_cell_of_a_matrix_is_its_query_and_key(name: str, transposed: bool, drop: bool) -> None:
    blob, *_ = case(name, False)
    keys, queries = CASES[name]["keys"], CASES[name].get("queries", CASES[name]["keys"])
    skip = (2 if name == "patches" else 1) if drop else 0
    script = """((view, m = of("m")) => { const boxes = matrixBoxes(view, m), [x, y, w, h] = boxes.plane, found = [];
      for (let row = 0; row < boxes.rows; row++) for (let column = 0; column < boxes.columns; column++) {
        const at = matrixView.at(view, x + (column + 0.5) * w / boxes.columns, y + (row + 0.5) * h / boxes.rows);
        const middle = (role) => { const [l, t, wide, tall] = band(boxes, role, at[role]);
          return [(l + wide / 2 - x) / w * boxes.columns, (t + tall / 2 - y) / h * boxes.rows]; };
        found.push([row, column, at.query, at.key, middle("query"), middle("key"), matrixView.places(view, at)]); }
      return [found, matrixView.at(view, x - 1, y + 1), matrixView.at(view, x + w + 1, y + 1)]; })
      ({maps: "m", index: 0, context: recorder(), ink: {}, width: 700,
        data: {height: 500, transposed: $transposed, hide_special: $drop}})"""
    found, *outside = ask(script, blob, transposed=transposed, drop=drop)
    assert outside == [None, None]
    shape = (len(queries), len(keys) - skip)
    assert len(found) == shape[0] * shape[1]
    for row, column, query, key, of_query, of_key, places in found:
        assert (query, key) == ((column, row + skip) if transposed else (row, column + skip))
        assert of_query[0 if transposed else 1] == pytest.approx((column if transposed else row) + 0.5)
        assert of_key[1 if transposed else 0] == pytest.approx((row if transposed else column) + 0.5)
        for place, tokens, index in ((places["query"], queries, query), (places["key"], keys, key)):
            assert place["stream"] == tokens.stream
            if not tokens.grid:
                assert place["token"] == index
            elif index < tokens.prefix:
                assert place["prefix"] == index
            else:
                assert place["u"] == pytest.approx(((index - 2) % 4 + 0.5) / 4)


def test_arrows_in_a_matrix_turn_with_it() -> None:
    blob, *_ = case("two texts", False)
    script = """[false, true].map((transposed) => [[0, 1], [1, 0], [0, -1], [9, 9]].map((arrow) => matrixView.move(
      {maps: "m", index: 0, context: recorder(), ink: {}, width: 700, tokens: [], data: {height: 500, transposed,
       hide_special: true}}, {query: 2, key: 1}, arrow)))"""
    plain, turned = ([(one["query"], one["key"]) for one in found] for found in ask(script, blob))
    assert plain == [(2, 2), (3, 1), (2, 1), (3, 6)]
    assert turned == [(3, 1), (2, 2), (1, 1), (3, 6)]


@pytest.mark.parametrize("drop", [False, True])
@pytest.mark.parametrize("name", ["patches", "words"])
def test_small_maps_show_a_row_as_it_lies(name: str, drop: bool) -> None:
    blob, shown, _ = case(name, drop)
    keys = CASES[name]["keys"]
    view = {
        "data": {
            "maps": ["m"],
            "rows": ["Layer"],
            "columns": ["a", "b", "c"],
            "tile": 60,
            "hide_special": drop,
            "mode": "rows",
            "order": None,
        },
        "ink": {},
        "width": 500,
    }
    script = """((view) => { view.context = recorder();
      const boxes = tileBoxes(view), record = of("m"), cell = boxes.cells[1];
      const [x, y, w, h] = inner(view, boxes, cell, record);
      const {rows, columns, first} = cellsOf(view, record.keys, boxes.tile), found = [];
      for (let row = 0; row < rows; row++) for (let column = 0; column < columns; column++)
        found.push(tilesView.at(view, x + (column + 0.5) * w / columns, y + (row + 0.5) * h / rows));
      const prefix = [0.25, 0.75].map((v) => tilesView.at(view, cell.x + 1, y + v * h).token);
      const atlas = atlasOf(view, boxes, [record]), {cells} = boxes;
      cells.forEach((_, at) => fillCell(atlas, at, paintRow(record, at, [4], {name: "linear", colours: "gray",
        drop: $drop}), first));
      const places = [0, 1, 2].map(atlas.place);
      return [boxes, [rows, columns, first], found, prefix, atlas.out, atlas.width, places]; })($view)"""
    boxes, (rows, columns, first), found, prefix, out, wide, places = ask(script, blob, view=view, drop=drop)
    assert (rows, columns, first) == ((3, 4, 2) if name == "patches" else (1, 7 - drop, int(drop)))
    tokens = [one.get("token") for one in found]
    assert tokens == list(range(first, first + rows * columns))
    assert all((one["row"], one["column"]) == (0, 1) for one in found)
    if name == "patches" and not drop:
        assert prefix == [0, 1]
    assert boxes["cells"][1]["x"] - boxes["cells"][0]["x"] == boxes["tile"] + 6
    image = np.array(out, dtype=np.uint32).reshape(-1, wide)
    for head, (left, top, w, h) in enumerate(places):
        row = shown[head, 4, first:]
        light = image[top : top + h, left : left + w].ravel()
        dropped = np.isnan(row)
        assert (light[dropped] == 0x40808080).all()
        expected = theme.table("gray")[np.rint(255 * row[~dropped] / np.nanmax(shown[head, 4])).astype(int), 0]
        assert np.abs((light[~dropped] & 255) - expected.astype(int)).max() <= 1
        assert len(keys) - first == len(row)


def test_small_maps_in_an_order_of_their_own() -> None:
    order = [[1, 1], [0, 1], [1, 0]]
    data = {"maps": ["m"], "rows": ["A", "B"], "columns": ["a", "b"], "tile": 50, "order": order}
    view = {"data": data, "ink": {}, "width": 130}
    found = ask("((view) => (view.context = recorder(), tileBoxes(view)))($view)", view=view)
    assert [(cell["row"], cell["column"]) for cell in found["cells"]] == [(1, 1), (0, 1), (1, 0)]
    assert found["cells"][2]["x"] == found["cells"][0]["x"]
    assert found["cells"][2]["y"] - found["cells"][0]["y"] == 50 + 6 + 18
    assert found["bottom"] > found["cells"][2]["y"] + 50


def test_neighbours_that_are_masked_are_hatched_together() -> None:
    index = [5, -1, -1, 7, -1, -1, 3, -1, -1, -1, -1, -1]
    found = numbers(
        ask("maskedBoxes([9, 9, ...$index], {rows: 3, columns: 4, first: 2}, [10, 20, 40, 30])", index=index)
    )
    cells = np.zeros((3, 4), int)
    for x, y, w, h in found:
        row, column = round((y - 20) / 10), round((x - 10) / 10)
        cells[row : row + round(h / 10), column : column + round(w / 10)] += 1
    np.testing.assert_array_equal(cells.ravel() > 0, np.array(index) < 0)
    assert cells.max() == 1


def test_words_flow_in_lines_and_pieces_stay_together() -> None:
    labels = ("CLS", "un", "…believ", "…able", "cats", ",", "sleep", "SEP")
    tokens = Tokens(labels, words=(-1, 0, 0, 0, 1, 2, 3, -1))
    blob = packed(share_maps(tokens), tokens)
    script = """((view) => { view.context = recorder(); const boxes = textBoxes(view, of("m").keys);
      return [boxes, boxes.places.map(([x, y, w, h]) => tokenIn(boxes.places, x + w / 2, y + h / 2).token),
        nearest(boxes.places, 4, -1), nearest(boxes.places, 0, -1)]; })({width: 200, ink: {}})"""
    boxes, under, above, top = ask(script, blob)
    places = boxes["places"]
    assert under == list(range(8))
    assert len({y for _, y, *_ in places[1:4]}) == 1  # one word on one line
    for one, other in ((1, 2), (2, 3)):
        assert places[one][0] + places[one][2] == places[other][0]
    assert max(x + w for x, _, w, _ in places) <= 197
    assert boxes["bottom"] == places[-1][1] + 28 + 3
    lines = sorted({y for _, y, *_ in places})
    assert set(np.diff(lines)) == {38}
    if places[4][1] > lines[0]:
        middle = places[4][0] + places[4][2] / 2
        line = [i for i, place in enumerate(places) if place[1] == places[4][1] - 38]
        assert above == min(line, key=lambda i: abs(places[i][0] + places[i][2] / 2 - middle))
    assert top == 0


def test_words_in_two_columns_are_found_by_their_line() -> None:
    blob, shown, _ = case("two texts", False)
    view = {
        "maps": "m",
        "index": 0,
        "tokens": [],
        "width": 600,
        "ink": {},
        "stage": {"scrollTop": 0},
        "data": {
            "heads": [1],
            "min_weight": 0,
            "top_k": 0,
            "top_p": 1,
            "hide_special": False,
            "paint": ["#0", "#1", "#2"],
        },
    }
    script = """((view) => { view.context = recorder();
      const places = [["query", 0], ["query", 3], ["key", 0], ["key", 6]].map(([side, index]) => ({side, index}));
      const {left, right} = columnBoxes(view, of("m"));
      const x = ({side}) => (side === "query" ? left - 5 : right + 5);
      return [places.map((at) => linesView.at(view, x(at), heightOfLine(at.index))),
        linesView.at(view, left - 5, heightOfLine(4)), linesView.at(view, left - 5, 5), linesView.heads(view, of("m")),
        linesView.weight(view, of("m"), 1, 2, 5), linesView.lines(view, of("m"), [0], {queries: [1], key: null}),
        [[0], [2], []].map((query) => pinnedHeights({query, key: [1]}, {top: 100, bottom: 150})).map((heights) => {
          const at = (side, index) => heights[side].get(index) ?? heightOfLine(index);
          return [at("query", 0), at("query", 2), at("key", 1)]; })]; })($view)"""
    at, beyond, title, heads, weight, lines, heights = ask(script, blob, view=view)
    assert [(one["side"], one["index"]) for one in at] == [("query", 0), ("query", 3), ("key", 0), ("key", 6)]
    assert beyond is None
    assert title is None
    assert heads == [0, 1]
    assert weight == pytest.approx(shown[1, 2, 5], rel=1e-5)
    assert {(q, k) for _, q, k, _ in lines["shown"]} == {(1, k) for k in range(7) if shown[0, 1, k] > 0}
    assert lines["omitted"] == 0
    line = [24 + (i + 0.5) * 24 for i in range(3)]
    held = 100 + 24 + 12  # at the edge of the window, once its line has left it
    assert heights == [[held, line[2], held], [line[0], min(max(line[2], held), 138), held], [line[0], line[2], held]]


def test_a_stronger_line_is_thicker_and_drawn_later() -> None:
    script = """((context) => { const lines = [[0.1, 0, 1, 0], [0.4, 1, 0, 1]], heightOf = (_, i) => 100 * i;
      linesView.draw({context, data: {paint: ["#0", "#1"]}}, {left: 50, right: 250, heightOf}, [0, 1], lines,
        {queries: [0], key: null}, {top: -50, bottom: 500}); return context.drawn; })(recorder())"""
    drawn = ask(script)
    values = lambda name: [one[2] for one in drawn if one[0] == name and one[1] == "="]  # noqa: E731
    assert values("strokeStyle") == ["#0", "#1"]
    assert values("lineWidth") == pytest.approx([0.75 + 2.5 / 4, 3.25])
    assert values("globalAlpha") == pytest.approx([0.3 + 0.65 / 4, 0.95, 1])
    assert [one[1:] for one in drawn if one[0] == "moveTo"] == [[54, -0.75], [54, 100.75]]
    assert [one[-2:] for one in drawn if one[0] == "bezierCurveTo"] == [[246, 99.25], [246, 0.75]]


def test_an_arc_leads_from_query_to_key() -> None:
    places = [[0, 100, 40, 28], [50, 100, 40, 28], [100, 100, 40, 28]]
    script = """[[0, 2], [2, 0], [0, 1], [1, 1]].map(([from, to]) => [-1, 1].map((up) => { const context = recorder();
      const high = drawArc(context, $places, from, to, {up, room: 80, right: 140, seen: {left: 0, right: 900}});
      return [high, context.drawn.find(([name]) => name === "moveTo").slice(1),
        context.drawn.find(([name]) => name === "bezierCurveTo").slice(1)]; }))"""
    found = ask(script, places=places)
    (long_up, long_down), (back, _), (short, _), (loop, _) = found
    assert long_up[1] == [24, 97]
    assert long_up[2][-2:] == [116, 92]  # comes down a little short of the middle, above the word
    assert back[1][0] == 116
    assert back[2][-2] == 24
    assert long_up[0][1] < short[0][1] < 97  # farther is higher
    assert long_down[0][1] > 131
    assert loop[1][0] < 70 < loop[2][-2]
    rise = 12 + 68 * np.sqrt(92 / 140)
    assert long_up[0] == pytest.approx([70, 97 - 0.75 * rise - 0.6])


def test_the_height_that_is_reserved_is_the_height_that_is_drawn() -> None:
    for data, width, aspect in (({"height": 300}, 900, 2), ({"height": 900}, 300, 2), ({"height": 480}, 500, 1)):
        fit = {**data, "fit": {"aspect": aspect, "prefix": True}}
        script = "[HEIGHTS.plane($fit, $width), gridBoxes({data: $data, width: $width}, $grid, $aspect, WHOLE).bottom]"
        expected, drawn = ask(script, fit=fit, width=width, data=data, grid=GRID, aspect=aspect)
        assert abs(expected - drawn) <= 2
    tiles = {"height": 2 * (60 + 6) + 20, "tile": 60, "fit": {"across": 3, "down": 2, "left": 26, "title": 0}}
    assert ask("[500, 120].map((width) => HEIGHTS.tiles($tiles, width))", tiles=tiles) == [152, 152 - 2 * (60 - 26)]
    assert ask("[HEIGHTS.matrix({height: 440}, 300), HEIGHTS.matrix({height: 440}, 900)]") == [300, 440]
    text = "HEIGHTS.text({height: 560, fit: {letters: $letters}}, 440)"
    assert [ask(text, letters=n) for n in (10, 60, 99999)] == [12 + 38, 12 + 2 * 38, 560]


def test_streams_that_differ_are_told_apart() -> None:
    blob, *_ = case("two texts", False)
    asked = ["own(of('m'))", "same(of('m'), 1, 1)", "isSpecial(of('m').keys, 0)", "isSpecial(of('m').keys, 1)"]
    assert ask(asked, blob) == [False, False, True, False]
    asked = [
        "own(of('m'))",
        "same(of('m'), 1, 1)",
        "same(of('m'), 1, 2)",
        *(f"goesOn(of('m').keys, {i})" for i in (2, 3)),
    ]
    assert ask(asked, packed(share_maps(WORDS), WORDS)) == [True, True, False, True, False]


def test_a_rectangle_takes_the_patches_it_touches() -> None:
    boxes = {"tokens": GRID, "crop": [100, 50, 40, 30]}  # patches of 10 by 10, three rows of four
    for start, stop, wanted in (
        ([111, 61], [128, 69], [7, 8]),  # one row, second and third column
        ([128, 69], [111, 61], [7, 8]),  # drawn the other way round
        ([0, 0], [500, 500], list(range(2, 14))),  # more than the picture
        ([101, 51], [101.5, 79], [2, 6, 10]),
        ([0, 0], [90, 90], []),  # beside it
        ([150, 50], [190, 90], []),
    ):
        assert ask("tokensWithin($boxes, $start, $stop)", boxes=boxes, start=start, stop=stop) == wanted


def test_a_rectangle_adds_to_the_set_or_takes_out_of_it() -> None:
    found = ask("[swept([5], [6, 5, 7]), swept([5, 6, 9], [6, 5]), swept([], [3])]")
    assert found == [[5, 6, 7], [9], [3]]
