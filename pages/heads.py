"""Heads: every head of every layer at a glance, one opened large, all views linked, heads found by what they do."""

import streamlit as st

from attnviz import ui, views
from attnviz.ui.core.recorded import middle
from attnviz.ui.heads import charts, overview

visit = ui.visit()
calls, tokens, side = visit.trace.calls, visit.sample.tokens["main"], visit.model.spec.patch_size

ui.header("heads")
ui.share_picture(visit)
overview.send_overview(visit)


def pick(chosen: tuple[int, ...]) -> None:
    if chosen:  # letting go keeps the last one
        ui.set_tokens("token", chosen)


def open_head(cell: tuple[int, ...]) -> None:
    ui.go(layer=ui.call_labels(visit.trace)[cell[0]], head=cell[1] + 1)


@ui.fragment
def page() -> None:
    with st.container(horizontal=True, vertical_alignment="bottom"):
        head = ui.head_choice(calls[layer := ui.call_choice(visit.trace)])
        several = st.toggle("Pick several", key="several", bind="query-params", help=overview.WHY_SEVERAL)
        style = ui.display()
    table = overview.measured(visit)
    chosen = ui.chosen_tokens("token", len(tokens), (middle(tokens),))[0 if several else -1 :]
    slot, index = overview.send_opened(visit, layer, head, leave_out=style.hide_special)
    opened = f"{ui.call_names(visit.trace)[layer]}, {ui.head_name(head).lower()}"
    row = overview.shown_row(calls[layer], head, chosen, leave_out=style.hide_special)

    large, grid = st.columns(2, gap="medium")
    with large:
        st.markdown(f"**{opened}:** {overview.said(tokens, chosen, shares=calls[layer].rule.stochastic)}")
        views.picture_view(
            "large",
            picture="picture",
            maps=slot,
            index=index,
            tokens=chosen,
            several=several,
            style=style,
            on_pick=pick,
            height=520,
            linked_to="all",
            label=f"Your picture with the attention of {opened.lower()}",
            best=overview.best_key(row),
        )
        overview.facts(visit, table, layer, head, side)
    with grid:
        with st.container(horizontal=True, vertical_alignment="bottom"):
            mode = ui.one_of("All heads", ["One patch", "Matrices"], default="One patch", key="grid")
            measure = overview.order_choice(table)
        across = max(call.heads for call in calls)
        views.tiles_view(
            "all",
            picture="picture",
            maps=overview.slots(visit),
            tokens=chosen,
            order=overview.order(table, measure),
            rows=ui.call_names(visit.trace),
            selected=(layer, head),
            buttons=("layer", "head"),
            columns=[ui.head_name(i) for i in range(across)],
            tile=min(96, 580 // across),
            mode="rows" if mode == "One patch" else "matrix",
            style=style,
            tiles=None if overview.resident(visit) else "heads:tiles",
            on_pick=open_head,
            label="Every head of every layer; click one to open it",
        )
    if table:
        overview.find_buttons(visit, table)

    matrix, check = st.columns(2, gap="medium")
    with matrix:
        st.markdown("**The whole matrix:** rows are queries, columns are keys")
        views.matrix_view(
            "matrix",
            maps=slot,
            index=index,
            tokens=chosen,
            several=several,
            on_pick=pick,
            height=560,
            linked_to="all",
            style=style,
            label=f"All weights of {opened.lower()}",
        )
    with check:
        if table:
            st.markdown("**Weighted by value:** the same row, counting how much each key hands over")
            views.picture_view(
                "moved",
                picture="picture",
                maps=overview.send_moved(visit, layer, head),
                tokens=chosen,
                style=style,
                height=300,
                several=several,
                label="Weights times the length of each value",
                on_pick=pick,
                best=overview.best_key(row, "weighted by value"),
            )
        else:
            st.markdown("**Most weight:** the keys that add most in the same row")
        overview.strongest(row, ui.token_names(calls[layer].keys), shares=calls[layer].rule.stochastic)

    charts.depth_section(visit, table, layer, head, measure)
    ui.downloads(
        lambda: {"weights": calls[layer].token_map().numpy(), **table},
        lambda: overview.exact_table(calls[layer], head, chosen),
        f"heads-{visit.source}",
    )


page()
ui.footer("heads")
