"""The invisible part: what carries the bytes into the browser, once, and keeps them there by name.

Call `mount` and every `send_*` on every run: what the browser already holds crosses the wire as a hash only.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import streamlit as st
from jaxtyping import Bool, Num, UInt8
from PIL import Image
from streamlit.components.v2 import component

from attnviz.views import records
from attnviz.views.library import library, library_data, read
from attnviz.views.page import CURRENT
from attnviz.views.records import Box, TokensLike

Maps = Num[np.ndarray, "map *query key"]
BUDGET = 2_000_000  # bytes of one message
Keep = Callable[[str, Callable[[], bytes]], bytes]  # a record by its description, made by a function if there is none

_library = component("attnviz_library", html="<i hidden></i>", js=library())
_transport = component("attnviz_transport", html="<i hidden></i>", js=read("transport.js"))


def mount() -> None:
    """Put the views' code and colours into the browser; once per run, outside of any fragment."""
    _library(key="attnviz:library", data=library_data())


def send_picture(name: str, picture: Image.Image, network: Image.Image, crop: Box, tokens: TokensLike) -> None:
    """Give the browser the user's picture, what the network saw of it, and the crop box in the picture's pixels."""
    shown, inside = records.surroundings(picture, crop)
    blob = records.pack_picture(name, shown, network, inside, tokens)
    _send(name, blob, aspect=shown.width / shown.height, prefix=tokens.prefix > 0)


def send_maps(
    name: str,
    maps: Maps | Callable[[], np.ndarray],
    *,
    titles: Sequence[str],
    keys: TokensLike,
    queries: TokensLike | None = None,
    signed: bool = False,
    map_type: str = "weights",
    unit: str = "percent",
    axes: tuple[str, str] | None = None,
    masked: Bool[np.ndarray, "..."] | None = None,
    keep: Keep | None = None,
) -> None:
    """Give the browser maps [map query key], or one number per token and map [map key].

    `signed` draws on the diverging scale around 0 and lets -inf stand for masked. `unit` is "percent" (weights, shares)
    or "number" (scores, cosines). `axes` names rows and columns that are no queries and keys. `masked`: bool, for all
    maps or for each, True = the query may not attend to the key (the opposite of a `Mask`); such cells are drawn as
    masked, not as zero. Raises ValueError where a message would be over 2 MB, or where masked cells hold weights.

    Packing costs more than all else, so `keep` is asked first for a record that was packed before, by a description of
    all but its numbers, which it has to know by itself; `maps` may then be a function, called where there is none.
    """
    said = {"signed": signed, "map_type": map_type, "unit": unit, "axes": axes}

    def pack() -> bytes:
        found = maps() if callable(maps) else maps
        return records.pack_maps(name, found, titles=titles, keys=keys, queries=queries, masked=masked, **said)

    described = [name, list(titles), said, records.describe(keys), records.describe(queries or keys)]
    blob = pack() if keep is None else keep(json.dumps(described), pack)
    text = 0 if keys.grid else sum(len(label) + 2 for label in keys.labels)  # letters and gaps
    _send(name, blob, maps=len(titles), rows=len((queries or keys).labels), columns=len(keys.labels), text=text)


def send_tiles(name: str, tiles: Num[np.ndarray, "layer head t t"]) -> None:
    """Give the browser overview tiles [layer head t t], made by `block_means`."""
    _send(name, records.pack_tiles(name, tiles))


def send_colours(name: str, rgb: UInt8[np.ndarray, "map token 3"], *, titles: Sequence[str], keys: TokensLike) -> None:
    """Give the browser colours uint8 [map token 3]."""
    rows, columns = keys.grid or (1, 1)
    blob = records.pack_colours(name, rgb, titles=titles, keys=keys)
    _send(name, blob, aspect=columns / rows, prefix=keys.prefix > 0)


def _send(name: str, blob: bytes, **shape: Any) -> None:
    if (page := CURRENT.get()) is not None:
        page.take_record(name, blob, shape)
        return
    if len(blob) > BUDGET:
        axes = " x ".join(str(shape[axis]) for axis in ("maps", "rows", "columns") if axis in shape)
        raise ValueError(
            f"record {name!r} ({axes}) packs to {len(blob):,} bytes, over the budget of {BUDGET:,}: "
            "send fewer maps in one record"
        )
    _transport(key=f"transport:{name}", data=blob)
    st.session_state[f"views:{name}"] = shape


def shape_of(name: str) -> dict[str, Any]:
    """The shape of what was last sent under a name, so that a view can reserve its height; empty if nothing was."""
    page = CURRENT.get()
    return st.session_state.get(f"views:{name}", {}) if page is None else page.shapes.get(name, {})
