"""What pages show in common: predictions, charts, downloads, the picture for the views."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import streamlit as st

from attnviz.ui.visit import Visit


def plot(figure: Any, key: str, *, alt: str | None = None) -> None:
    """Show a plotly figure in the app's own theme."""
    st.plotly_chart(figure, theme=None, key=key, alt=alt, config={"displaylogo": False})


def dark() -> bool:
    """Whether the visitor sees the dark theme."""
    return st.context.theme.type == "dark"


def downloads(
    maps: Callable[[], dict[str, np.ndarray]],
    row: Callable[[], tuple[Sequence[str], Iterable[Sequence[Any]]]] | None,
    name: str,
) -> None:
    """Buttons for the exact numbers: NPZ of the maps, CSV of one row; files are made on click."""

    def npz() -> bytes:
        file = io.BytesIO()
        np.savez_compressed(file, **maps())
        return file.getvalue()

    def table() -> str:
        file = io.StringIO()
        header, rows = row()
        csv.writer(file).writerows([header, *rows])
        return file.getvalue()

    with st.container(horizontal=True):
        st.download_button("Maps as NPZ", npz, f"{name}.npz", key=f"{name}:npz", on_click="ignore")
        if row is not None:
            st.download_button("Row as CSV", table, f"{name}.csv", "text/csv", key=f"{name}:csv", on_click="ignore")


def share_picture(visit: Visit, slot: str = "picture") -> None:
    """Send the visitor's picture to the views on this page."""
    from attnviz import views

    views.send_picture(slot, visit.picture, visit.sample.image, visit.sample.crop, visit.sample.tokens["main"])


def class_name(visit: Visit, index: int) -> str:
    """A class with its coarse group: "dog: chihuahua"."""
    group, name = visit.model.groups[index], visit.model.classes[index]
    return name if group == name else f"{group}: {name}"


def top(visit: Visit, count: int = 5) -> list[tuple[str, float]]:
    """The likeliest classes with their probabilities."""
    best = visit.trace.logits["class"][0].float().softmax(-1).topk(count)
    return [(class_name(visit, int(i)), float(p)) for p, i in zip(best.values, best.indices, strict=True)]


def predictions(visit: Visit) -> None:
    """What the model thinks the picture shows: the five likeliest classes."""
    for name, probability in top(visit):
        st.progress(probability, f"{name} · {probability:.1%}")
