"""Queries and keys, for a text: how one word meets every other, from dot products to weights, number by number."""

from typing import Any

import streamlit as st

from attnviz import ui, views
from attnviz.ui import queries_keys as pairs
from attnviz.ui import read_look, read_pairs
from attnviz.ui.prose import section

TURNED = {"Rows are queries": False, "Columns are queries": True}

about = ui.reading()
tokens = about.sample.tokens["main"]

ui.header("text/queries_keys")
ui.remarks(about)


def pick_query(chosen: tuple[int, ...]) -> None:
    if chosen:  # letting go keeps the last one
        ui.set_tokens("token", chosen)


def pick_key(chosen: tuple[int, ...]) -> None:
    if chosen:
        ui.set_tokens("key", chosen)


@ui.fragment
def page() -> None:
    with st.container(horizontal=True, vertical_alignment="bottom"):
        layer, head = ui.call_choice(about.trace), ui.head_choice(about.model)
        call = about.trace.calls[layer]
        maps = pairs.maps_of(call, head)
        stage, look = pairs.stage_choice(maps), read_look.look_at(tokens, grouped=False)
    query = ui.chosen_token("token", len(tokens), read_look.middle(tokens))
    key = ui.chosen_token("key", len(tokens), read_pairs.strongest(maps["weights"], query, tokens.words or ()))
    pairs.send_stages(call, maps)
    received = pairs.send_received(call, maps, stage)
    drawn: dict[str, Any] = {"scale": look.scale, "colours": look.colours}
    over_query, over_key = pairs.headings(stage, tokens.labels[query], tokens.labels[key])

    asks, answers = st.columns(2, gap="medium")
    with asks:
        st.markdown(over_query)
        views.text_view("query", maps=f"pairs:{stage}", tokens=(query,), on_pick=pick_query,
                        label="Click the word that asks", **drawn)  # fmt: skip
    with answers:
        st.markdown(over_key)
        views.text_view("answer", maps=received, tokens=(key,), on_pick=pick_key,
                        label="Click the word that is looked at", **drawn)  # fmt: skip

    section("text/queries_keys", "One pair, number by number")
    bars, steps = st.columns([1.3, 1], gap="medium")
    with steps:
        found = pairs.pair_steps(call, head, query, key)
    with bars:
        pairs.pair_bars(found)
    if about.model.config.variant == "gqa":
        section("text/queries_keys", "Shared keys", title=False)
    if about.model.config.positions == "rotary":
        section("text/queries_keys", "Turned by place", title=False)

    section("text/queries_keys", "From dot products to weights")
    read_pairs.stage_views(maps, (query,), pick_query, **drawn)

    section("text/queries_keys", "All queries and all keys")
    matrix, off = st.columns([1.3, 1], gap="medium")
    with matrix:
        turn = st.segmented_control("Picture", list(TURNED), default="Rows are queries", required=True,
                                    key="picture", bind="query-params")  # fmt: skip
        views.matrix_view("matrix", maps=f"pairs:{stage}", tokens=(query,), transposed=TURNED[turn], height=560,
                          on_pick=pick_query, label=f"{pairs.name_of(stage)} of one head", **drawn)  # fmt: skip
        st.caption(pairs.TURN_SAYS[TURNED[turn]])
    with off:
        st.markdown("**Dot product against cosine**, one point per key of this query")
        pairs.lengths_plot(call, head, query, key)
        st.caption("Keys of one length would lie on a straight line; what lies above it is a longer key.")

    section("text/queries_keys", "Queries and keys in one plane")
    read_pairs.joint_plane(about, layer, head, query, key)
    ui.downloads(lambda: maps, lambda: pairs.row_table(tokens, maps, query), "queries-keys-text")


page()
ui.footer("text/queries_keys")
