"""Heads, for a text: all heads at a glance, one opened, lines, matrix and arcs, heads ranked by behaviour."""

import streamlit as st

from attnviz import ui, views
from attnviz.ui.heads import charts, drawing, naming, overview, question, text, text_views
from attnviz.ui.shell.prose import section
from attnviz.ui.widgets import asking, text_display

about = ui.reading()
calls, tokens = about.trace.calls, about.sample.tokens["main"]

with st.container(key="around_top"):
    ui.header("text/heads")
    ui.remarks(about)


def choices() -> tuple[int, int, bool, text_display.Look, bool]:
    """Layer, head, whether several words may be selected, how maps are shown, whether a question is asked."""
    with st.container(horizontal=True, vertical_alignment="bottom", key="around_controls"):
        head = ui.head_choice(calls[layer := ui.call_choice(about.trace)])
        several = st.toggle("Select multiple", key="several", bind="query-params", help=overview.WHY_SEVERAL["word"])
        look = text_display.look_at(tokens)
        asks = asking.toggle(possible=text.shares(about))
    return layer, head, several and not asks, look, asks


def depths(table: overview.Table, names: naming.Named, layer: int, head: int, measure: str | None) -> None:
    """What the heads do, layer by layer, and all of them in a table."""
    section("text/heads", "What the heads do, layer by layer")
    even = {"even attention": text.even(calls[0])}
    charts.measure_charts(about, table, {"reach": {}, "entropy": even, "first": {}}, layer, head, "on this text")
    charts.head_table(about, table, names, measure)


@ui.fragment
def page() -> None:
    layer, head, several, look, asks = choices()
    exact = text.send_all(about, look)
    slot = text.slots(about)[layer] if exact else text.send_layer(about, look, layer)
    table, opened = text.measured(about), overview.place(about, layer, head)
    names = naming.named(about)
    chosen = look.picked(text_display.middle(tokens), several=several)
    row = text.exact_row(calls[layer], head, look, chosen)

    found = question.about_text(about, (layer, head), look, chosen[0], row["weight"]) if asks else None
    if asks and found is None:  # the question waits, and nothing else is shown
        return

    large, grid = st.columns(2, gap="medium")
    with large:
        said = overview.said(look.tokens, chosen, shares=text.shares(about))
        st.markdown(f"**{opened}:** {said}{naming.beside_title(names, layer, head)}")
        views.text_view(
            "large",
            maps=slot,
            index=head,
            several=several,
            best=overview.best_key(row),
            guess=found and found.guess,
            on_pick=look.pick,
            linked_to="all",
            label=f"Your text with the attention of {opened.lower()}",
            tokens=chosen,
            style=look.style,
        )
        one = calls[layer].token_map([head]).float().numpy()
        if left_out := look.left_out(one, shares=text.shares(about)):
            st.caption(left_out)
        overview.facts(about, table, layer, head)
        naming.say_names(about, names, layer, head)
        overview.strongest(row, look.tokens.labels, shares=calls[layer].rule.stochastic)
    with grid:
        measure = drawing.all_heads(
            about,
            table,
            names,
            (layer, head),
            drawing.WRITTEN,
            default=drawing.MATRIX,
            exact=exact,
            maps=text.slots(about),
            tiles=None if exact else "read:tiles",
            tokens=chosen,
            style=look.style,
        )
    overview.find_buttons(about, table)
    text_views.opened_head(about, look, (layer, head), slot, chosen, several=several)

    depths(table, names, layer, head, measure)
    ui.downloads(
        lambda: {"weights": calls[layer].token_map().numpy(), **table, **naming.names_file(names)},
        lambda: overview.row_table(row, look.tokens.labels),
        "heads-text",
        page=overview.alone(about, (layer, head), look.groups.first(chosen[-1])),
    )


page()
with st.container(key="around_bottom"):
    ui.footer("text/heads")
