"""Heads: every head of every layer at a glance, one opened large, all views linked, heads ranked by behaviour."""

from collections.abc import Callable
from functools import partial

import streamlit as st

from attnviz import ui, views
from attnviz.ui.core.budget import ON_DEMAND, fits
from attnviz.ui.core.recorded import middle
from attnviz.ui.heads import charts, drawing, naming, overview, question
from attnviz.ui.widgets import asking
from attnviz.ui.widgets.block_matrix import block_matrix
from attnviz.views import ViewStyle

visit = ui.visit()
calls, tokens, side = visit.trace.calls, visit.sample.tokens["main"], visit.model.spec.patch_size

with st.container(key="around_top"):
    ui.header("heads")
ui.share_picture(visit)
overview.send_overview(visit)


def pick(chosen: tuple[int, ...]) -> None:
    if chosen:  # a deselected patch stays shown until another is selected
        ui.set_tokens("token", chosen)


def choices() -> tuple[int, int, bool, ViewStyle, bool]:
    """Layer, head, whether several patches may be selected, how maps are drawn, whether a question is asked."""
    with st.container(horizontal=True, vertical_alignment="bottom", key="around_controls"):
        head = ui.head_choice(calls[layer := ui.call_choice(visit.trace)])
        several = st.toggle("Select multiple", key="several", bind="query-params", help=overview.WHY_SEVERAL["patch"])
        style = ui.display()
        asks = asking.toggle(possible=overview.shares(visit))
    return layer, head, several and not asks, style, asks


def check(layer: int, head: int, chosen: tuple[int, ...], row: overview.Row, picture: Callable[..., None]) -> None:
    """The same row weighted by value where that is defined, and the strongest keys of both."""
    if calls[layer].rule.stochastic:
        st.markdown("**Weighted by value:** the same row, times the length of the value each key passes on")
        moved, best = overview.send_moved(visit, layer, head, chosen), overview.best_key(row, "weighted by value")
        picture("moved", maps=moved, height=300, label="Weights times the length of each value", best=best)
    else:
        st.markdown("**Most weight:** the keys that add most in the same row")
    overview.strongest(row, ui.token_names(calls[layer].keys), shares=calls[layer].rule.stochastic)


@ui.fragment
def page() -> None:
    layer, head, several, style, asks = choices()
    table, names = overview.measured(visit), naming.named(visit)
    chosen = ui.chosen_tokens("token", len(tokens), (middle(tokens),))[0 if several else -1 :]
    slot, index = overview.send_opened(visit, layer, head, chosen)
    opened = overview.place(visit, layer, head)
    row = overview.shown_row(calls[layer], head, chosen, leave_out=style.hide_special)
    picture = partial(views.picture_view, picture="picture", tokens=chosen, several=several, style=style, on_pick=pick)
    found = question.about_picture(visit, (layer, head), chosen[0], row["weight"], style) if asks else None
    if asks and found is None:  # the question waits, and nothing else is shown
        return
    guess = None if found is None else found.guess

    large, grid = st.columns(2, gap="medium")
    with large:
        said = overview.said(tokens, chosen, shares=calls[layer].rule.stochastic)
        st.markdown(f"**{opened}:** {said}{naming.beside_title(names, layer, head)}")
        what = f"Your picture with the attention of {opened.lower()}"
        best = overview.best_key(row)
        picture("large", maps=slot, index=index, height=520, linked_to="all", label=what, best=best, guess=guess)
        overview.facts(visit, table, layer, head, side)
        naming.say_names(visit, names, layer, head)
        if not overview.resident(visit):
            st.caption(ON_DEMAND)
    with grid:
        measure = drawing.all_heads(
            visit,
            table,
            names,
            (layer, head),
            drawing.PICTURED,
            default=drawing.TOKEN,
            picture="picture",
            source=partial(overview.at_a_glance, visit, leave_out=style.hide_special),
            tokens=chosen,
            style=style,
        )
    overview.find_buttons(visit, table)

    matrix, beside = st.columns(2, gap="medium")
    with matrix:
        st.markdown("**The whole matrix:** rows are queries, columns are keys")
        if fits(calls[layer]):
            view = {"maps": slot, "index": index, "tokens": chosen, "several": several, "style": style}
            drawing.matrix(opened, **view, on_pick=pick, height=560)
        else:
            block_matrix(visit, layer, head, chosen[-1], style, pick)
    with beside:
        check(layer, head, chosen, row, picture)

    charts.depth_section(visit, table, names, layer, head, measure)
    ui.downloads(
        lambda: {**overview.weights_file(calls[layer], chosen), **table, **naming.names_file(names)},
        lambda: overview.exact_table(calls[layer], head, chosen),
        f"heads-{visit.source}",
        page=overview.alone(visit, (layer, head), chosen[-1]),
    )


page()
with st.container(key="around_bottom"):
    ui.footer("heads")
