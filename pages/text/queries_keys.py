"""Queries and keys, for a text: how one word meets every other, from dot products to weights, number by number."""

import streamlit as st

from attnviz import ui, views
from attnviz.ui.queries_keys import pairs, text
from attnviz.ui.shell.prose import section
from attnviz.ui.widgets import text_display

about = ui.reading()
tokens = about.sample.tokens["main"]

ui.header("text/queries_keys")
ui.remarks(about)


@ui.fragment
def page() -> None:
    with st.container(horizontal=True, vertical_alignment="bottom"):
        call = about.trace.calls[layer := ui.call_choice(about.trace)]
        head = ui.head_choice(call)
        maps = pairs.maps_of(call, head)
        stage, look = pairs.stage_choice(maps), text_display.look_at(tokens, grouped=False)
    query = ui.chosen_token("token", len(tokens), text_display.middle(tokens))
    key = ui.chosen_token("key", len(tokens), text.strongest(maps["weights"], query, tokens.words or ()))
    pairs.send_stages(call, maps)
    received = pairs.send_received(call, maps, stage)
    over_query, over_key = pairs.headings(stage, tokens.labels[query], tokens.labels[key])

    asks, answers = st.columns(2, gap="medium")
    with asks:
        st.markdown(over_query)
        views.text_view(
            "query",
            maps=f"pairs:{stage}",
            tokens=(query,),
            on_pick=pairs.keep("token"),
            label="Click the word that asks",
            style=look.style,
        )
    with answers:
        st.markdown(over_key)
        views.text_view(
            "answer",
            maps=received,
            tokens=(key,),
            on_pick=pairs.keep("key"),
            label="Click the word that is looked at",
            style=look.style,
        )

    section("text/queries_keys", "One pair, number by number")
    bars, steps = st.columns([1.3, 1], gap="medium")
    with steps:
        found = pairs.pair_steps(call, head, query, key)
    with bars:
        pairs.pair_bars(found)
    if about.model.spec.variant == "gqa":
        section("text/queries_keys", "Shared keys", title=False)
    if about.model.spec.positions == "rotary":
        section("text/queries_keys", "Turned by place", title=False)

    section("text/queries_keys", "From dot products to weights")
    text.stage_views(maps, (query,), pairs.keep("token"), style=look.style)

    section("text/queries_keys", "All queries and all keys")
    pairs.whole_map(call, head, maps, stage, query, key, height=560, style=look.style)

    section("text/queries_keys", "Queries and keys in one plane")
    text.joint_plane(about, layer, head, query, key)
    ui.downloads(lambda: maps, lambda: pairs.row_table(tokens, maps, query), "queries-keys-text")


page()
ui.footer("text/queries_keys")
