"""What pages show in common: charts, exact numbers to download, the picture for the views."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import streamlit as st
from PIL import Image

from attnviz import views
from attnviz.plots import Unchecked
from attnviz.ui.core.assets import picture_address
from attnviz.ui.inputs.image_run import ImageRun
from attnviz.views.page import Page

Row = Callable[[], tuple[Sequence[str], Iterable[Sequence[Any]]]]


def dark() -> bool:
    """Whether the visitor sees the dark theme."""
    return st.context.theme.type == "dark"


def plot(figure: Any, key: str, *, alt: str | None = None) -> None:
    """Show a figure of plots, or one of plotly, as it was themed there; `alt` says what is seen."""
    config = {"displaylogo": False, "modeBarButtonsToRemove": ["lasso2d", "select2d", "autoScale2d"]}
    shown = Unchecked(figure) if isinstance(figure, dict) else figure
    st.plotly_chart(shown, theme=None, key=key, alt=alt, config=config)


def show_picture(place: Any, pixels: np.ndarray, *, alt: str, caption: str | None = None) -> None:
    """Show pixels uint8 [row column channel] in a container, or in `st`, from a data address; `alt` says what is seen.

    Streamlit forgets pictures that it serves itself when a run is cut short, and the page then shows a broken one.
    """
    address = picture_address(Image.fromarray(pixels), "PNG", compress_level=1)
    place.image(address, caption=caption, alt=alt)


def share_picture(visit: ImageRun, slot: str = "picture") -> None:
    """Send the visitor's picture, and the small one the network sees, to the views on this page."""
    sample, picture = visit.sample, visit.picture
    crop = sample.crop or (0, 0, *picture.size)
    views.send_picture(slot, picture, sample.image or picture, crop, sample.tokens["main"])


def downloads(
    maps: Callable[[], dict[str, np.ndarray]],
    row: Row | None,
    name: str,
    *,
    of_row: str = "This row as CSV",
    page: Callable[[], Page] | None = None,
) -> None:
    """Buttons for the exact numbers: NPZ of the maps, CSV of one row; and for a page of views that needs no server.

    The files are made on click.
    """
    with st.container(horizontal=True):
        download("Maps as NPZ", lambda: npz(maps()), f"{name}.npz")
        if row is not None:
            download(of_row, lambda: table(*row()), f"{name}.csv")
        if page is not None:
            download("All heads as one HTML file", lambda: page().html().encode(), f"{name}.html")


def download(label: str, made: Callable[[], bytes], file: str) -> None:
    """A button for one file, which is made on click; its name says what kind it is."""
    name, _, ending = file.rpartition(".")
    kind = {"csv": "text/csv", "webp": "image/webp"}.get(ending, "application/octet-stream")
    look: dict[str, Any] = {"on_click": "ignore", "icon": ":material/download:", "type": "tertiary"}
    st.download_button(label, made, file, kind, key=f"{name}:{ending}", **look)


def npz(arrays: dict[str, np.ndarray]) -> bytes:
    """Named arrays as one compressed NPZ file."""
    file = io.BytesIO()
    np.savez_compressed(file, allow_pickle=False, **{name: np.asarray(array) for name, array in arrays.items()})
    return file.getvalue()


def table(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> bytes:
    """A table as CSV, with the byte order mark without which Excel reads "…ing" as something else."""
    file = io.StringIO()
    csv.writer(file, lineterminator="\n").writerows([header, *rows])
    return file.getvalue().encode("utf-8-sig")
