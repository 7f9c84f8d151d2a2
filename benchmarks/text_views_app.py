"""A page with nothing but our views of text: what `python -m benchmarks.text_views` opens and measures."""

from __future__ import annotations

import sys
from pathlib import Path

import streamlit as st

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run by path, so the repository is not importable yet

from attnviz import views
from attnviz.types import Tokens
from benchmarks.tensors import attention

count, layers = int(st.query_params.get("tokens", "64")), int(st.query_params.get("layers", "1"))
weights = st.cache_resource(attention)(count, layers).numpy()
tokens = Tokens(tuple(f"t{i}" for i in range(count)))
names = [f"Head {head + 1}" for head in range(weights.shape[1])]
views.mount()
if st.button("Show"):
    st.session_state["shown"] = True
if st.session_state.get("shown"):
    if layers > 1:
        views.send_tiles("overview", views.block_means(weights, 32))
    views.send_maps("layer 0", weights[0], titles=names, keys=tokens)
    views.text_view("text", maps="layer 0", tokens=(0,), linked_to="grid")
    left, right = st.columns(2)
    with left:
        views.lines_view("lines", maps="layer 0", heads=range(len(names)))
    with right:
        views.matrix_view("matrix", maps="layer 0", linked_to="grid")
    views.tiles_view(
        "grid",
        maps=[f"layer {i}" for i in range(layers)],
        rows=[f"Layer {i + 1}" for i in range(layers)],
        columns=names,
        mode="matrix",
        tile=48,
        tiles="overview" if layers > 1 else None,
    )
