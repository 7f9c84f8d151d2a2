"""Heads, for a text: all heads at a glance, one opened, lines, matrix and arcs, heads found by their habits."""

import streamlit as st

from attnviz import ui, views
from attnviz.ui.core.labels import of_text
from attnviz.ui.heads import charts, overview, text
from attnviz.ui.shell.prose import section
from attnviz.ui.widgets import text_display

about = ui.reading()
calls, tokens = about.trace.calls, about.sample.tokens["main"]

ui.header("text/heads")
ui.remarks(about)


def open_head(cell: tuple[int, ...]) -> None:
    ui.go(layer=ui.call_labels(about.trace)[cell[0]], head=cell[1] + 1)


@ui.fragment
def page() -> None:
    with st.container(horizontal=True, vertical_alignment="bottom"):
        head = ui.head_choice(calls[layer := ui.call_choice(about.trace)])
        several = st.toggle("Pick several", key="several", bind="query-params", help=of_text(overview.WHY_SEVERAL))
        look = text_display.look_at(tokens)
    exact = text.send_all(about, look)
    slot = text.slots(about)[layer] if exact else text.send_layer(about, look, layer)
    table, opened = text.measured(about), overview.place(about, layer, head)
    chosen = look.picked(text_display.middle(tokens), several=several)
    row = text.exact_row(calls[layer], head, look, chosen)

    large, grid = st.columns(2, gap="medium")
    with large:
        st.markdown(f"**{opened}:** {overview.said(look.tokens, chosen, shares=text.shares(about))}")
        views.text_view(
            "large",
            maps=slot,
            index=head,
            several=several,
            best=overview.best_key(row),
            on_pick=look.pick,
            linked_to="all",
            label=f"Your text with the attention of {opened.lower()}",
            tokens=chosen,
            style=look.style,
        )
        one = calls[layer].token_map([head]).float().numpy()
        if said := look.left_out(one, shares=text.shares(about)):
            st.caption(said)
        overview.facts(about, table, layer, head)
        overview.strongest(row, look.tokens.labels, shares=calls[layer].rule.stochastic)
    with grid:
        with st.container(horizontal=True, vertical_alignment="bottom"):
            mode = ui.one_of("All heads", ["One word", "Matrices"], default="Matrices", key="grid")
            measure = overview.order_choice(table)
        across = max(call.heads for call in calls)
        views.tiles_view(
            "all",
            maps=text.slots(about),
            order=overview.order(table, measure),
            rows=ui.call_names(about.trace),
            selected=(layer, head),
            buttons=("layer", "head"),
            columns=[ui.head_name(i) for i in range(across)],
            tile=min(96, 580 // across),
            mode="rows" if mode == "One word" and exact else "matrix",
            on_pick=open_head,
            tiles=None if exact else "read:tiles",
            label="Every head of every layer; click one to open it",
            tokens=chosen,
            style=look.style,
        )
    overview.find_buttons(about, table)

    ways = text.VIEWS if text.shares(about) else ("Matrix",)
    ui.keep_inside("view", ways)
    show = ui.one_of("Show", ways, default=ways[0], key="view")
    if show == "Lines":
        others, least, most, mass = text.lines_choice(calls[layer].heads, head)
        views.lines_view(
            "lines",
            maps=slot,
            index=head,
            heads=others,
            tokens=chosen,
            min_weight=least,
            top_k=most,
            top_p=mass,
            several=several,
            on_pick=look.pick,
            linked_to="all",
            label=f"Lines of {opened.lower()}",
        )
    elif show == "Matrix":
        views.matrix_view(
            "matrix",
            maps=slot,
            index=head,
            several=several,
            on_pick=look.pick,
            height=620,
            linked_to="all",
            label=f"All weights of {opened.lower()}",
            tokens=chosen,
            style=look.style,
        )
    else:
        arcs = text.gold(about, look)
        alone = chosen if st.session_state.get("token") else ()  # the whole tree until a word is picked
        views.arcs_view(
            "arcs",
            maps=slot,
            index=head,
            tokens=alone,
            gold_dependencies=arcs,
            on_pick=look.pick,
            linked_to="all",
            label=f"Arcs of {opened.lower()}",
        )
        section("text/heads", "Arcs" if arcs else "Arcs without a treebank", title=False)
        if arcs and about.model.spec.supervised_heads:
            section("text/heads", "Arcs, where one head was trained", title=False)

    section("text/heads", "What the heads do, layer by layer")
    even = {"even attention": text.even(calls[0])}
    charts.measure_charts(about, table, {"reach": {}, "entropy": even, "first": {}}, layer, head, "on this text")
    charts.head_table(about, table, measure)
    ui.downloads(
        lambda: {"weights": calls[layer].token_map().numpy(), **table},
        lambda: overview.row_table(row, look.tokens.labels),
        "heads-text",
    )


page()
ui.footer("text/heads")
