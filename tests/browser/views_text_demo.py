"""A page of nothing but views of text over made-up maps, for tests/browser/test_views_text.py.

In the address: `tokens` repeats the sentence up to so many, `causal=1` masks what comes later, `signed=1` shows scores,
`odd=1` takes labels that a careless page would run, `top_k`, `top_p` and `min_weight` limit the lines.
"""

import numpy as np
import streamlit as st

from attnviz import views
from attnviz.types import Tokens

st.set_page_config(layout="wide")
ask = st.query_params.get
SUBWORDS = [
    ("the", 0),
    ("puppy", 1),
    ("bark", 2),
    ("…ed", 2),
    ("at", 3),
    ("the", 4),
    ("grand", 5),
    ("…mother", 5),
    (",", 6),
    ("then", 7),
    ("it", 8),
    ("ran", 9),
    ("away", 10),
    (".", 11),
]
ODD = [
    ("</script><img src=x onerror=alert(1)>", 0),
    ("👩‍🚀", 1),
    ("שלום", 2),
    ("${1+1}", 3),
    ("<b>", 4),
    ("<F0>", 5),
    ("a" * 300, 6),
    ("", 7),
]
HEADS = 12
GOLD = [(2, 1), (3, 2), (8, 6), (3, 8), (11, 10)]  # for arcs: word and word


def sentence(subwords: list[tuple[str, int]], count: int | None, stream: str = "main") -> Tokens:
    """CLS, the subwords, again and again up to `count` tokens, SEP."""
    count = len(subwords) if count is None else count - 2
    labels = [subwords[i % len(subwords)][0] for i in range(count)]
    words = [subwords[i % len(subwords)][1] + i // len(subwords) * (subwords[-1][1] + 1) for i in range(count)]
    return Tokens(("CLS", *labels, "SEP"), None, 0, stream, (-1, *words, -1))


def weights(queries: int, keys: int, masked: np.ndarray | None = None) -> np.ndarray:
    """Head h gives half of a query's weight to the token h + 1 before it, a quarter to CLS and the rest at random."""
    maps = np.random.default_rng(1).random((HEADS, queries, keys)) ** 6
    maps *= 0.25 / maps.sum(-1, keepdims=True)
    rows = np.arange(queries)
    for head in range(HEADS):
        maps[head, rows, np.clip(rows - head - 1, 0, keys - 1)] += 0.5
    maps[:, :, 0] += 0.25
    if masked is not None:
        maps = np.where(masked, 0, maps)
    return maps / maps.sum(-1, keepdims=True)


def pick(tokens: tuple[int, ...]) -> None:
    """Remember what was picked."""
    st.session_state["tokens"] = tokens


count = int(ask("tokens", "0")) or None
tokens = sentence(ODD if ask("odd") else SUBWORDS, count)
other = sentence([("le", 0), ("chiot", 1), ("aboy", 2), ("…ait", 2), (".", 3)], None, "target")
masked = ~np.tri(len(tokens), dtype=bool) if ask("causal") else None
titles = [f"Head {head + 1}" for head in range(HEADS)]
st.session_state.setdefault("tokens", ())

views.mount()
records = ["all"] if len(tokens) < 300 else [f"all {i}" for i in range(3)]  # 2 MB a message
maps = weights(len(tokens), len(tokens), masked)
if ask("signed"):
    maps = np.log(maps + 1e-3) + 3
for i, name in enumerate(records):
    part = slice(i * HEADS // len(records), (i + 1) * HEADS // len(records))
    views.send_maps(
        name,
        maps[part],
        titles=titles[part],
        keys=tokens,
        masked=masked,
        signed=bool(ask("signed")),
        unit="number" if ask("signed") else "percent",
        map_type="scores" if ask("signed") else "weights",
    )
views.send_maps("cross", weights(len(other), len(tokens)), titles=titles, keys=tokens, queries=other)
likely = np.linspace(0.1, 0.9, len(other))[None]
views.send_maps("target", likely, titles=["How likely"], keys=other, map_type="probability")
views.send_maps("row", maps[:1, 4], titles=["Relevance"], keys=tokens, map_type="relevance", signed=bool(ask("signed")))


@st.fragment
def body() -> None:
    """All views, linked."""
    chosen, style = st.session_state["tokens"], views.ViewStyle(hide_special=ask("drop") == "1")
    st.write(f"picked {list(chosen)}")
    views.text_view(
        "text",
        maps=records[0],
        tokens=chosen,
        several=ask("several") == "1",
        linked_to="tiles",
        style=style,
        label="The sentence",
        on_pick=pick,
    )
    views.arcs_view(
        "arcs",
        maps=records[0],
        index=min(1, len(maps) - 1),
        tokens=chosen,
        linked_to="tiles",
        on_pick=pick,
        gold_dependencies=[] if ask("odd") else GOLD,
        style=style,
        label="Arcs",
    )
    left, right = st.columns(2)
    with left:
        views.matrix_view(
            "matrix", maps=records[0], tokens=chosen, linked_to="tiles", label="All weights", on_pick=pick
        )
    with right:
        heads = list(range(int(ask("heads", "2"))))
        views.lines_view(
            "lines",
            maps=records[0],
            heads=heads,
            tokens=chosen,
            min_weight=float(ask("min_weight", "0.02")),
            top_k=int(ask("top_k", "0")),
            top_p=float(ask("top_p", "1")),
            style=style,
            on_pick=pick,
        )
    views.tiles_view(
        "tiles",
        maps=records,
        rows=[f"Part {i + 1}" for i in range(len(records))],
        columns=titles[:6],
        tokens=chosen,
        mode="matrix" if ask("mode") == "matrix" else "rows",
        style=views.ViewStyle(hide_special=True),
    )
    views.text_view("row", maps="row", label="Relevance")
    left, right = st.columns(2)
    with left:
        views.text_view("cross text", maps="cross", tokens=(2,), label="The source sentence")
    with right:
        views.lines_view("cross lines", maps="cross", heads=[0], min_weight=0.02, label="Between two sentences")
        views.text_view("target", maps="target", back="cross", label="The target sentence")


body()
