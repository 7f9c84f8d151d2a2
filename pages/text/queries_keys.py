"""Queries and keys, for a text: one word and every other, from dot products to weights, number by number."""

import streamlit as st

from attnviz import ui, views
from attnviz.ui.queries_keys import pairs, text
from attnviz.ui.shell.prose import section
from attnviz.ui.widgets import text_display

run = ui.reading()
tokens = run.sample.tokens["main"]

ui.header("text/queries_keys")
ui.remarks(run)


@ui.fragment
def page() -> None:
    with st.container(horizontal=True, vertical_alignment="bottom"):
        call = run.trace.calls[layer := ui.call_choice(run.trace)]
        head = ui.head_choice(call)
        maps = pairs.maps_of(call, head)
        stage, look = pairs.stage_choice(maps), text_display.look_at(tokens, by_word=False)
    query = ui.chosen_token("token", len(tokens), text_display.middle(tokens))
    key = ui.chosen_token("key", len(tokens), text.strongest(maps["weights"], query, tokens.words or ()))
    pairs.send_stages(call, maps)
    received = pairs.send_received(call, maps, stage)
    over_query, over_key = pairs.headings(stage, tokens.labels[query], tokens.labels[key])

    over_keys, over_queries = st.columns(2, gap="medium")
    with over_keys:
        st.markdown(over_query)
        views.text_view(
            "query",
            maps=f"pairs:{stage}",
            tokens=(query,),
            on_pick=pairs.keep("token"),
            label="Query: click a word to choose it",
            style=look.style,
        )
    with over_queries:
        st.markdown(over_key)
        views.text_view(
            "answer",
            maps=received,
            tokens=(key,),
            on_pick=pairs.keep("key"),
            label="Key: click a word to choose it",
            style=look.style,
        )

    section("text/queries_keys", "One pair, number by number")
    bars, steps = st.columns([1.3, 1], gap="medium")
    with steps:
        found = pairs.pair_steps(call, head, query, key)
    with bars:
        pairs.pair_bars(found)
    if run.model.spec.variant == "gqa":
        section("text/queries_keys", "Shared keys", title=False)
    if run.model.spec.positions == "rotary":
        section("text/queries_keys", "Rotary positions (RoPE)", title=False)

    section("text/queries_keys", "Softmax: from dot products to weights")
    text.stage_views(maps, (query,), pairs.keep("token"), style=look.style)

    section("text/queries_keys", "All queries and all keys")
    pairs.whole_map(call, head, maps, stage, query, key, height=560, style=look.style)

    section("text/queries_keys", "Queries and keys in one plane")
    text.joint_plane(run, layer, head, query, key)
    ui.downloads(lambda: maps, lambda: pairs.row_table(tokens, maps, query), "queries-keys-text")


page()
ui.footer("text/queries_keys")
