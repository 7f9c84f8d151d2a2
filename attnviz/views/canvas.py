"""The views: thin wrappers that hand a small description to the browser and bring a pick back.

Each view reads records that `send_*` put into the browser. `key` names the view: the selected tokens land in
`st.session_state[key + ":tokens"]` and go to `on_pick`. To add a view, write NAME.js, put it into
library.LIBRARY and write one function here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import streamlit as st
from streamlit.components.v2 import component

from attnviz.plots import theme
from attnviz.views.library import read
from attnviz.views.page import CURRENT
from attnviz.views.transport import shape_of

Scale = Literal["linear", "sqrt", "log", "rank"]
OnPick = Callable[[tuple[int, ...]], None]
OnCell = Callable[[tuple[int, int]], None]


@dataclass(frozen=True)
class ViewStyle:
    """How maps are drawn: the choices that hold for all views of a page.

    Over a picture, weight is light or colour: "light" leaves the picture its own colours and dims it where weight is
    low, up to `opacity`; "colour" lays colours of that opacity over a grey picture, as do signed maps always. `smooth`
    interpolates between the middles of patches. An `overlay` of None is colour, unless a page says otherwise. A `scale`
    of None is the usual one of each view: linear over a picture, else square root.
    The scale of a view is per map, unless `shared` makes it one for all maps of the record; where that is None, it is
    one in a grid of rows if `tiles_shared`. `row_range` lets the range of a shown row begin at its least number instead
    of at zero, where it is not shared; signed maps stay centred at zero. `mass`: of a row over a picture or a text only
    the keys that hold this share of it, the largest first, are coloured, as `measures.mass.mass_mask` says.
    """

    scale: Scale | None = None
    colours: str = "viridis"  # a sequential scale of plots.theme
    overlay: Literal["light", "colour"] | None = None
    opacity: float = 0.75  # 0..1, of what lies over a picture
    smooth: bool = False
    hide_special: bool = False  # leave out CLS, SEP, registers and their like as keys, and rescale the rest of each row
    model_input: bool = False  # the small picture the model reads instead of the visitor's
    shared: bool | None = None
    tiles_shared: bool = True
    row_range: bool = False
    mass: float | None = None

    def drawn(self, usual: Scale = "sqrt") -> dict[str, Any]:
        """What a view is told, with its usual scale where none is chosen."""
        return {**vars(self), "scale": self.scale or usual, "overlay": self.overlay or "colour"}


@dataclass(frozen=True)
class Badge:
    """A name in words for a small map: whole, short, and as the sentence that pointing at the map shows.

    An `even` map is drawn on a scale from 0 to 100 % where it would have a range of its own, so that it looks even.
    """

    title: str
    short: str
    sentence: str
    even: bool = False


DEFAULT = ViewStyle()
_view = component("attnviz_view", html='<div class="view"></div>', js=read("view.js"))


def picture_view(
    key: str,
    *,
    picture: str,
    maps: str | None = None,
    index: int = 0,
    tokens: Sequence[int] = (),
    style: ViewStyle = DEFAULT,
    several: bool = False,
    removal: bool = False,
    best: int | None = None,
    asked_in: str | None = None,
    asks: bool = False,
    guess: int | None = None,
    linked_to: str | None = None,
    label: str = "",
    height: int | None = None,
    on_pick: OnPick | None = None,
) -> None:
    """The picture with one map over it: the row of the token under the pointer, else of the selected tokens.

    `several`: a click adds a token to those that are selected, or removes it. `best`: the key that receives most from
    the selected tokens, by exact numbers; bytes may take another one that receives almost as much from several of them.
    `removal`: the selected tokens are drawn as taken away, a click adds one or brings it back, and so does a rectangle
    that is dragged; there are no `maps` then. `asked_in`: the key of the view of another picture, whose patches are the
    queries of these maps; a click there, or the pointer, says which row is shown here.
    `asks`: no map is shown, the selected tokens stay, and a click hands on the token that was clicked; `guess` outlines
    the one that was clicked so.

    `linked_to`: the key of a grid of small maps; a map clicked there is shown at once, before Python has answered.
    """
    fit = _plane(picture, style.model_input)
    _mount(
        key,
        "picture",
        height or 480,
        fit,
        on_pick,
        tokens,
        picture=picture,
        maps=maps,
        index=index,
        **style.drawn("linear"),
        several=several,
        removal=removal,
        best=best,
        asked_in=asked_in,
        asks=asks,
        guess=guess,
        label=label,
        **_link(linked_to),
    )


def tiles_view(
    key: str,
    *,
    maps: Sequence[str],
    rows: Sequence[str],
    columns: Sequence[str] | None = None,
    picture: str | None = None,
    tokens: Sequence[int] = (),
    style: ViewStyle = DEFAULT,
    selected: tuple[int, int] | None = None,
    buttons: tuple[str, str] | None = None,
    mode: Literal["rows", "matrix"] = "rows",
    tiles: str | None = None,
    tile: int = 72,
    order: Sequence[tuple[int, int]] | None = None,
    badges: Mapping[tuple[int, int], Badge] | None = None,
    label: str = "",
    on_pick: OnCell | None = None,
) -> None:
    """A grid of small maps: `maps[i]` is one row of the grid (a layer), its maps are the columns (heads).

    Rows share one colour scale unless the style says otherwise; whole maps have each their own. `buttons`: the keys of
    the two rows of buttons that choose the row and the column that are selected; a press is shown at once. `badges`:
    names in words that stand under some of the maps, by (row, column).
    """
    title = (18 if columns is None or order is not None else 0) + (15 if badges else 0)  # TITLE, BADGE in the browser
    across = len(columns) if columns is not None else max((shape_of(name).get("maps", 1) for name in maps), default=1)
    down = len(rows) if order is None else -(-len(order) // across)
    left = 0 if order is not None else 10 + 6 * max(map(len, rows), default=0)
    fit = {"shape": "tiles", "across": across, "down": down, "left": left, "title": title}
    height = down * (tile + 6 + title) + (2 if columns is None or order is not None else 20)
    _mount(
        key,
        "tiles",
        height,
        fit,
        on_pick,
        tokens,
        picture=picture,
        maps=list(maps),
        rows=list(rows),
        columns=None if columns is None else list(columns),
        **style.drawn() | {"shared": style.tiles_shared if style.shared is None else style.shared},
        selected=None if selected is None else list(selected),
        buttons=buttons and list(buttons),
        mode=mode,
        tiles=tiles,
        tile=tile,
        order=None if order is None else [list(cell) for cell in order],
        badges={f"{row},{column}": vars(badge) for (row, column), badge in (badges or {}).items()},
        label=label,
    )


def matrix_view(
    key: str,
    *,
    maps: str,
    index: int = 0,
    tokens: Sequence[int] = (),
    style: ViewStyle = DEFAULT,
    transposed: bool = False,
    several: bool = False,
    linked_to: str | None = None,
    label: str = "",
    height: int | None = None,
    on_pick: OnPick | None = None,
) -> None:
    """One whole map as a matrix: rows are queries, columns are keys; `transposed` turns the picture only.

    Up to 64 words stand along both axes; of more, those of the row and column under the pointer. `linked_to` and
    `several`: as in `picture_view`.
    """
    rows = shape_of(maps).get("rows", 0) if shape_of(maps).get("text") else 0
    tall = min(640, 120 + 11 * rows) if rows <= 64 else 560  # words need more room than patches
    _mount(
        key,
        "matrix",
        height or max(440, tall),
        {"shape": "matrix"},
        on_pick,
        tokens,
        maps=maps,
        index=index,
        **style.drawn(),
        transposed=transposed,
        several=several,
        label=label,
        **_link(linked_to),
    )


def text_view(
    key: str,
    *,
    maps: str,
    index: int = 0,
    tokens: Sequence[int] = (),
    style: ViewStyle = DEFAULT,
    several: bool = False,
    removal: bool = False,
    best: int | None = None,
    asks: bool = False,
    guess: int | None = None,
    linked_to: str | None = None,
    back: str | None = None,
    label: str = "",
    height: int | None = None,
    on_pick: OnPick | None = None,
) -> None:
    """A sentence as text, coloured by the row of the token under the pointer, else of the selected tokens.

    The words are the keys. Where they are of another stream than the queries (cross-attention) pointing only reads
    them, and nothing is selected. A text of more than `height` pixels (560) scrolls. `best` and `linked_to`: as in
    `picture_view`. `back`: maps from these words to another text; while a word of that one is pointed at, these are
    coloured by how much they attend to it. `removal`: the selected words are struck out, and a click adds one or brings
    it back; the maps have a single row then. `asks` and `guess`: as in `picture_view`.
    """
    fit = {"shape": "text", "letters": shape_of(maps).get("text", 0)}
    _mount(
        key,
        "text",
        height or 560,
        fit,
        on_pick,
        tokens,
        maps=maps,
        index=index,
        **style.drawn(),
        several=several,
        removal=removal,
        best=best,
        asks=asks,
        guess=guess,
        back=back,
        label=label,
        **_link(linked_to),
    )


def lines_view(
    key: str,
    *,
    maps: str,
    heads: Sequence[int] = (),
    index: int | None = None,
    tokens: Sequence[int] = (),
    min_weight: float = 0.0,
    top_k: int = 0,
    top_p: float = 1.0,
    style: ViewStyle = DEFAULT,
    several: bool = False,
    linked_to: str | None = None,
    label: str = "",
    height: int | None = None,
    on_pick: OnPick | None = None,
) -> None:
    """Two columns of words, a line from each query to the keys with `min_weight` or more, one colour a head.

    `top_k`: only that many keys of each query and head, 0 = all. `top_p`: only the strongest keys that together reach
    this share of a row. Pointing at a word on the left shows what it attends to, at one on the right what attends to
    it. Columns of more than `height` pixels (560) scroll. Rows must sum to 1. `index`: the head that is open, whose
    lines are drawn with those of `heads`; it and the map may change by `linked_to`, as in `picture_view`.
    """
    shape, opened = shape_of(maps), () if index is None else (index,)
    most_heads = max(shape.get("maps", 0), 1 + max((*heads, *opened), default=0))
    full = 30 + 24 * max(shape.get("rows", 0), shape.get("columns", 0))  # 24 is LINE in lines.js
    _mount(
        key,
        "lines",
        max(min(full, height or 560), 120),
        None,
        on_pick,
        tokens,
        maps=maps,
        heads=list(heads),
        index=index,
        min_weight=min_weight,
        top_k=top_k,
        top_p=top_p,
        **style.drawn(),
        several=several,
        label=label,
        paint=[theme.head_colour(head) for head in range(most_heads)],
        **_link(linked_to),
    )


def arcs_view(
    key: str,
    *,
    maps: str,
    index: int = 0,
    tokens: Sequence[int] = (),
    gold_dependencies: Sequence[tuple[int, int]] = (),
    min_weight: float = 0.1,
    style: ViewStyle = DEFAULT,
    linked_to: str | None = None,
    label: str = "",
    height: int | None = None,
    on_pick: OnPick | None = None,
) -> None:
    """A sentence on one line, an arc from each word to those with `min_weight` or more; it scrolls sideways.

    `gold_dependencies`: pairs (query, key) of token numbers, such as those of a treebank; they are drawn below the
    words, and arcs that agree with them are marked. `linked_to`: as in `picture_view`.
    Raises ValueError where `gold_dependencies` names a token that is not there.
    """
    pairs, count = [[int(query), int(to)] for query, to in gold_dependencies], shape_of(maps).get("columns")
    if count is not None and any(not 0 <= token < count for pair in pairs for token in pair):
        raise ValueError(f"gold_dependencies are {pairs} but {maps!r} has {count} tokens")
    _mount(
        key,
        "arcs",
        height or (280 if pairs else 200),
        None,
        on_pick,
        tokens,
        maps=maps,
        index=index,
        min_weight=min_weight,
        gold_dependencies=pairs,
        **style.drawn(),
        label=label,
        **_link(linked_to),
    )


def colour_view(
    key: str,
    *,
    colours: str,
    index: int = 0,
    picture: str | None = None,
    tokens: Sequence[int] = (),
    tips: Sequence[str] | None = None,
    note: str = "",
    label: str = "",
    height: int | None = None,
    on_pick: OnPick | None = None,
) -> None:
    """One colour per token, on the patch grid or over the picture.

    `tips` say what the colour of each token is, `note` what colours are; without it, they show how alike vectors are.
    """
    fit = _plane(picture or colours)
    _mount(
        key,
        "colours",
        height or 360,
        fit,
        on_pick,
        tokens,
        source=colours,
        index=index,
        picture=picture,
        tips=None if tips is None else list(tips),
        note=note,
        label=label,
    )


def cells_view(
    key: str,
    *,
    rows: Sequence[str],
    columns: Sequence[str],
    values: Sequence[Sequence[float | None]],
    texts: Sequence[Sequence[str]] | None = None,
    tips: Sequence[Sequence[str]],
    signed: bool = False,
    limit: float | None = None,
    unit: Literal["percent", "number"] = "number",
    colours: str = "viridis",
    cell: tuple[int, int] = (64, 40),
    chosen: Sequence[int] = (),
    crossed: Sequence[int] = (),
    several: bool = False,
    note: str = "",
    label: str = "",
    height: int = 560,
    on_pick: OnPick | None = None,
) -> None:
    """A table of numbers as coloured cells, such as one for each head or for each word and layer; a click picks one.

    `texts` stand in the cells, `tips` [row column] say one in words. Picks and `crossed` cells, which are struck
    through, are numbered row by row. `limit` is the number of the last colour, None the largest there is; a value None
    has no colour. `cell`: pixels a cell is wide at most, and tall. What is taller than `height` scrolls.
    Raises ValueError where values or tips are not [row column].
    """
    for name, table in {"values": values, "texts": texts or values, "tips": tips}.items():
        if [len(row) for row in table] != [len(columns)] * len(rows):
            raise ValueError(f"{name} are not {len(rows)} rows of {len(columns)} columns")
    _mount(
        key,
        "cells",
        min(height, 27 + cell[1] * len(rows)),
        None,
        on_pick,
        chosen,
        rows=list(rows),
        columns=list(columns),
        values=[[None if one is None else float(one) for one in row] for row in values],
        texts=None if texts is None else [list(row) for row in texts],
        tips=[list(row) for row in tips],
        signed=signed,
        limit=limit,
        unit=unit,
        colours=colours,
        cell=list(cell),
        crossed=[int(one) for one in crossed],
        several=several,
        note=note,
        label=label,
    )


def _plane(name: str, square: bool = False) -> dict[str, Any] | None:
    """What the height of a picture or a patch grid depends on besides its width."""
    shape = shape_of(name)
    if not shape:
        return None
    return {"shape": "plane", "aspect": 1 if square else shape["aspect"], "prefix": shape["prefix"]}


def _answered(key: str) -> int:
    """How many picks of a view this run of the script knows of."""
    if CURRENT.get() is not None:
        return 0  # a page that stands alone has no Python to answer
    return ((st.session_state.get(key) or {}).get("pick") or {}).get("count", 0)


def _link(linked_to: str | None) -> dict[str, Any]:
    """The grid a view is linked to, and how many of its picks Python has answered."""
    return {} if linked_to is None else {"linked_to": linked_to, "linked_answered": _answered(linked_to)}


def _mount(
    key: str,
    view: str,
    height: int,
    fit: dict[str, Any] | None,
    on_pick: Callable[..., None] | None,
    tokens: Sequence[int],
    **data: Any,
) -> None:
    """Show a view; a pick is stored and passed on before the script runs again."""

    def picked() -> None:
        pick = tuple(int(token) for token in st.session_state[key]["pick"]["tokens"])
        st.session_state[f"{key}:tokens"] = list(pick)
        if on_pick is not None:
            on_pick(pick)

    frame = {"view": view, "name": key, "height": height, "fit": fit, "answered": _answered(key)}
    data = {**frame, "tokens": [int(token) for token in tokens], **data}
    if (page := CURRENT.get()) is not None:
        page.take_view(data)
        return
    _view(key=key, data=data, default={"pick": None}, on_pick_change=picked)
