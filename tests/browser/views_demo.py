"""A page of nothing but views over made-up maps, for tests/browser/test_views.py."""

import numpy as np
import streamlit as st
from PIL import Image, ImageDraw

from attnviz import views
from attnviz.types import Tokens

st.set_page_config(layout="wide")
TOKENS = Tokens.patches(8, 8, ["CLS"])
COUNT, LAYERS, HEADS = len(TOKENS), 2, 3
several = st.query_params.get("several") == "1"
st.session_state.setdefault("tokens", ())
st.session_state.setdefault("cell", (0, 0))


def draw() -> Image.Image:
    """A house on a lawn."""
    picture = Image.new("RGB", (300, 200), "#9fc8ee")
    pen = ImageDraw.Draw(picture)
    pen.rectangle((0, 140, 300, 200), fill="#5d9b4c")
    pen.rectangle((110, 80, 190, 160), fill="#b5553c")
    pen.polygon([(100, 80), (150, 40), (200, 80)], fill="#4a3b36")
    return picture


def maps(layer: int) -> np.ndarray:
    """Query i of head h gives half of its weight to token i + h + 1 and the rest evenly."""
    weights = np.full((HEADS, COUNT, COUNT), 0.5 / COUNT)
    for head in range(HEADS):
        weights[head, np.arange(COUNT), (np.arange(COUNT) + head + layer + 1) % COUNT] += 0.5
    return weights


def pick(tokens: tuple[int, ...]) -> None:
    """Remember what was picked."""
    st.session_state["tokens"] = tokens


def open_cell(cell: tuple[int, int]) -> None:
    """Remember the open head."""
    st.session_state["cell"] = cell


views.mount()
views.send_picture("picture", draw(), draw().crop((50, 0, 250, 200)).resize((64, 64)), (50, 0, 250, 200), TOKENS)
for layer in range(LAYERS):
    views.send_maps(f"layer {layer}", maps(layer), titles=[f"Head {h + 1}" for h in range(HEADS)], keys=TOKENS)
WORDS = Tokens(("the", "cat", "sat", "the"), stream="words")
attention = np.array(
    [
        [[0.7, 0.1, 0.1, 0.1], [0.4, 0.3, 0.2, 0.1], [0.1, 0.8, 0.05, 0.05], [0.25] * 4],
        [[0.1, 0.2, 0.3, 0.4], [0.05, 0.05, 0.1, 0.8], [0.3, 0.3, 0.2, 0.2], [0, 0, 0, 1]],
    ]
)
views.send_maps("words", attention, titles=["Head 1", "Head 2"], keys=WORDS)
views.send_tiles("glance", np.stack([views.block_means(maps(layer), 16) for layer in range(LAYERS)]))
colours = np.random.default_rng(0).integers(0, 256, (1, COUNT, 3)).astype(np.uint8)
views.send_colours("colours", colours, titles=["Made up"], keys=TOKENS)
views.send_maps("row", maps(0)[:, 5], titles=["One", "Two", "Three"], keys=TOKENS, map_type="relevance")


@st.fragment
def body() -> None:
    """All views, linked."""
    tokens, (layer, head) = st.session_state["tokens"], st.session_state["cell"]
    st.write(f"picked {list(tokens)}, cell {layer} {head}")
    left, right = st.columns(2)
    with left:
        views.picture_view(
            "picture_view",
            picture="picture",
            maps=f"layer {layer}",
            index=head,
            tokens=tokens,
            several=several,
            linked_to="tiles_view",
            label="The house",
            on_pick=pick,
        )
    with right:
        views.matrix_view(
            "matrix_view",
            maps=f"layer {layer}",
            index=head,
            tokens=tokens,
            several=several,
            linked_to="tiles_view",
            on_pick=pick,
        )
    views.tiles_view(
        "tiles_view",
        maps=["layer 0", "layer 1"],
        rows=["Layer 1", "Layer 2"],
        columns=["Head 1", "Head 2", "Head 3"],
        tokens=tokens,
        selected=(layer, head),
        tiles="glance",
        style=views.ViewStyle(hide_special=True),
        on_pick=open_cell,
    )
    views.tiles_view("rows_view", maps=["row"], rows=["Rows"], tokens=tokens, style=views.ViewStyle(hide_special=True))
    views.colour_view("colours_view", colours="colours", tokens=tokens, on_pick=pick)
    chosen = [int(head) for head in st.query_params.get("heads", "0,1").split(",") if head]
    views.lines_view(
        "lines_view",
        maps="words",
        heads=chosen,
        tokens=[t for t in tokens if t < 4],
        min_weight=0.08,
        label="Four words",
        on_pick=pick,
    )
    views.matrix_view("waiting_view", maps="never sent", height=120)


body()
