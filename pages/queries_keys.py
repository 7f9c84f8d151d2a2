"""Queries and keys: one query and every key, from dot products to weights, number by number."""

from dataclasses import replace

import streamlit as st

from attnviz import ui, views
from attnviz.ui.core.budget import fits
from attnviz.ui.core.recorded import middle
from attnviz.ui.queries_keys import pairs, two_pictures
from attnviz.ui.shell.prose import section

visit = ui.visit()
tokens = visit.sample.tokens["main"]

ui.header("queries_keys")
ui.share_picture(visit)


@ui.fragment
def page() -> None:
    with st.container(horizontal=True, vertical_alignment="bottom"):
        if two_pictures.mode_choice():
            st.rerun()  # the whole page: what is brought as a second picture is read outside of fragments
        call = visit.trace.calls[layer := ui.call_choice(visit.trace)]
        head = ui.head_choice(call)
        query = ui.chosen_token("token", len(tokens), middle(tokens))
        maps = pairs.maps_of(call, head, query)
        stage, style = pairs.stage_choice(maps), ui.display()
    key = ui.chosen_token("key", len(tokens), pairs.strongest(maps["weights"], query, tokens.prefix))
    pairs.send_stages(call, maps)
    received = pairs.send_for_key(visit, layer, head, maps, stage, key)
    whole = replace(style, hide_special=False)
    over_query, over_key = pairs.headings(stage, ui.token_name(tokens, query), ui.token_name(tokens, key))

    over_keys, over_queries = st.columns([1.3, 1], gap="medium")
    with over_keys:
        st.markdown(over_query)
        views.picture_view(
            "query",
            picture="picture",
            maps=f"pairs:{stage}",
            tokens=(query,),
            height=480,
            style=style if stage == "weights" else whole,
            on_pick=pairs.keep("token"),
            label="Query: click a patch to choose it",
        )
    with over_queries:
        st.markdown(over_key)
        views.picture_view(
            "answer",
            picture="picture",
            maps=received,
            tokens=(key,),
            height=480,
            style=whole,
            on_pick=pairs.keep("key"),
            label="Key: click a patch to choose it",
        )

    section("queries_keys", "One pair, number by number")
    bars, steps = st.columns([1.3, 1], gap="medium")
    with steps:
        found = pairs.pair_steps(call, head, query, key)
    with bars:
        pairs.pair_bars(found)

    section("queries_keys", "Softmax: from dot products to weights")
    pairs.stage_views(maps, (query,), pairs.keep("token"), style=whole)

    section("queries_keys", "All queries and all keys")
    if fits(call):
        pairs.whole_map(call, head, maps, stage, query, key, height=460, style=whole)
    else:
        pairs.block_map(visit, layer, head, query, key, style=whole)

    section("queries_keys", "Queries and keys in one plane")
    pairs.joint_plane(visit, layer, head, query, key)
    ui.downloads(lambda: maps, lambda: pairs.row_table(tokens, maps, query), f"queries-keys-{visit.source}")


if two_pictures.chosen():
    with st.container(horizontal=True, vertical_alignment="bottom"):
        two_pictures.mode_choice()
        other = two_pictures.second_run(visit)
    ui.fragment(two_pictures.show)(visit, other)
else:
    page()
ui.footer("queries_keys")
