"""Figures on their way to the browser, unchecked: what is checked is that every plot makes valid ones, by a test."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any

import numpy as np
from plotly.basedatatypes import BaseFigure

from attnviz.plots.frame import Figure


class Unchecked(BaseFigure):
    """A figure as `st.plotly_chart` takes it, without a check of its properties.

    Streamlit 1.67 passes a dictionary through `go.Figure(**figure)`, which costs as much as having built one: about
    twenty times what making and packing a small figure takes. Of a figure of plotly it asks for `to_dict()` alone, and
    believes it (`plotly.tools.return_figure_from_figure_or_data`).
    """

    _figure: Figure

    def __init__(self, figure: Figure):  # not that of plotly, which checks
        object.__setattr__(self, "_figure", figure)

    def to_dict(self) -> Figure:
        """The figure with its arrays written as plotly writes them."""
        return packed(self._figure)


def packed(value: Any) -> Any:
    """A copy whose numpy arrays are typed arrays of plotly.js, in base64. Raises TypeError for 64-bit integers."""
    if isinstance(value, np.ndarray):
        return typed_array(value) if value.size else []
    if isinstance(value, Mapping):
        return {name: packed(item) for name, item in value.items()}
    if isinstance(value, list | tuple) and value and isinstance(value[0], Mapping):
        return [packed(item) for item in value]
    return value


def typed_array(array: np.ndarray) -> dict[str, str]:
    """An array as plotly.js reads it: type, bytes and, of a matrix, shape."""
    kind = array.dtype.newbyteorder("<").str[1:]
    if kind not in ("f4", "f8", "i1", "i2", "i4", "u1", "u2", "u4"):
        raise TypeError(f"plotly.js has no arrays of {array.dtype}")
    data = array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes()
    found = {"dtype": kind, "bdata": base64.b64encode(data).decode()}
    return found | ({"shape": ", ".join(map(str, array.shape))} if array.ndim > 1 else {})
