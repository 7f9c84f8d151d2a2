"""A page with nothing but our views of given tensors: what `python -m benchmarks.bertviz` opens and measures."""

from __future__ import annotations

import sys
from pathlib import Path

import streamlit as st

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run by path, so the repository is not importable yet

from attnviz import views
from attnviz.types import Tokens
from attnviz.ui.shell.warmup import freeze_imports
from benchmarks.tensors import GRIDS, attention

count = int(st.query_params.get("tokens", "64"))
weights = st.cache_resource(attention)(count).numpy()
overview = st.cache_resource(show_spinner=False)(lambda count: views.block_means(weights, 32))(count)
tokens = Tokens.patches(*GRIDS[count], prefix=["CLS"] * (count - GRIDS[count][0] * GRIDS[count][1]))
layers, heads = len(weights), len(weights[0])
views.mount()
if not st.button("Show"):
    st.session_state.setdefault("shown", False)
else:
    st.session_state["shown"] = True


def open_cell(cell: tuple[int, int]) -> None:
    """A click in the grid."""
    st.session_state["layer"], st.session_state["head"] = cell


@st.fragment
def body() -> None:
    """All heads at a glance, and the opened layer's exact rows."""
    layer = st.segmented_control("Layer", range(layers), default=0, required=True, key="layer")
    head = st.segmented_control("Head", range(heads), default=0, required=True, key="head")
    names = [f"Head {h + 1}" for h in range(heads)]
    views.send_maps(f"layer {layer}", weights[layer], titles=names, keys=tokens, queries=tokens)
    rows = [f"Layer {i + 1}" for i in range(layers)]
    maps = [f"layer {i}" for i in range(layers)]
    views.tiles_view(
        "grid",
        maps=maps,
        rows=rows,
        columns=names,
        tiles="overview",
        mode="matrix",
        tile=48,
        selected=(layer, head),
        buttons=("layer", "head"),
        style=views.ViewStyle(hide_special=True),
        on_pick=open_cell,
    )
    views.matrix_view("matrix", maps=f"layer {layer}", index=head, linked_to="grid")


if st.session_state["shown"]:
    views.send_tiles("overview", overview)  # outside of the fragment, as on the page Heads: it does not change
    body()
freeze_imports()  # as the app does
