"""The four views: thin wrappers that hand a small description to the browser and bring a pick back.

Each view reads records that `send_*` put into the browser. `key` names the view: the picked tokens land in
`st.session_state[key + ":tokens"]` and go to `on_pick`. To add a view, write NAME.js, put it into bus.LIBRARY and write
one function here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

import streamlit as st

from attnviz.views.bus import HERE

Scale = Literal["linear", "sqrt", "log", "rank"]
OnPick = Callable[[tuple[int, ...]], None]

CHROME = 74  # pixels below a canvas: the sentence and the legend, reserved before anything is drawn

_view = st.components.v2.component("attnviz_view", html='<div class="view"></div>', js=(HERE / "view.js").read_text())


def picture_view(
    key: str,
    *,
    picture: str,
    maps: str | None = None,
    index: int = 0,
    tokens: Sequence[int] = (),
    scale: Scale = "sqrt",
    colours: str = "viridis",
    drop_prefix: bool = True,
    network: bool = False,
    overlay: float = 0.65,
    outline: bool = True,
    several: bool = False,
    label: str = "",
    height: int | None = None,
    on_pick: OnPick | None = None,
) -> None:
    """The picture with one map over it: the row of the token under the pointer, else of the picked tokens."""
    height = height or 480
    _mount(key, "picture", height, on_pick, picture=picture, maps=maps, index=index, tokens=list(tokens), scale=scale,
           colours=colours, drop_prefix=drop_prefix, network=network, overlay=overlay, outline=outline,
           several=several, label=label)  # fmt: skip


def tiles_view(
    key: str,
    *,
    maps: Sequence[str],
    rows: Sequence[str],
    columns: Sequence[str] | None = None,
    picture: str | None = None,
    tokens: Sequence[int] = (),
    scale: Scale = "sqrt",
    colours: str = "viridis",
    drop_prefix: bool = True,
    selected: tuple[int, int] | None = None,
    mode: Literal["rows", "matrix"] = "rows",
    tiles: str | None = None,
    tile: int = 72,
    order: Sequence[tuple[int, int]] | None = None,
    shared: bool | None = None,
    label: str = "",
    on_pick: OnPick | None = None,
) -> None:
    """A grid of small maps: `maps[i]` is one row of the grid (a layer), its maps are the columns (heads)."""
    titled = 18 if columns is None or order is not None else 0
    height = len(rows) * (tile + 6 + titled) + 24
    _mount(key, "tiles", height, on_pick, picture=picture, maps=list(maps), rows=list(rows),
           columns=None if columns is None else list(columns), tokens=list(tokens), scale=scale, colours=colours,
           drop_prefix=drop_prefix, selected=None if selected is None else list(selected), mode=mode, tiles=tiles,
           tile=tile, order=None if order is None else [list(cell) for cell in order], shared=shared,
           label=label)  # fmt: skip


def matrix_view(
    key: str,
    *,
    maps: str,
    index: int = 0,
    tokens: Sequence[int] = (),
    scale: Scale = "sqrt",
    colours: str = "viridis",
    drop_prefix: bool = False,
    transposed: bool = False,
    label: str = "",
    height: int | None = None,
    on_pick: OnPick | None = None,
) -> None:
    """One whole map as a matrix: rows are queries, columns are keys; `transposed` turns the picture only."""
    height = height or 440
    _mount(key, "matrix", height, on_pick, maps=maps, index=index, tokens=list(tokens), scale=scale, colours=colours,
           drop_prefix=drop_prefix, transposed=transposed, label=label)  # fmt: skip


def colour_view(
    key: str,
    *,
    colours: str,
    index: int = 0,
    picture: str | None = None,
    tokens: Sequence[int] = (),
    label: str = "",
    height: int | None = None,
    on_pick: OnPick | None = None,
) -> None:
    """One colour per token, on the patch grid or over the picture."""
    height = height or 360
    _mount(key, "colours", height, on_pick, source=colours, index=index, picture=picture, tokens=list(tokens),
           label=label)  # fmt: skip


def _mount(key: str, view: str, height: int, on_pick: OnPick | None, **data: Any) -> None:
    """Show a view at its reserved height; a pick is stored and passed on before the script runs again."""

    def picked() -> None:
        tokens = tuple(int(token) for token in st.session_state[key]["pick"]["tokens"])
        st.session_state[f"{key}:tokens"] = list(tokens)
        if on_pick is not None:
            on_pick(tokens)

    state = st.session_state.get(key)
    answered = ((state or {}).get("pick") or {}).get("count", 0)
    _view(
        key=key,
        data={"view": view, "name": key, "height": height, "answered": answered, **data},
        default={"pick": None},
        on_pick_change=picked,
        height=height + CHROME,
    )
