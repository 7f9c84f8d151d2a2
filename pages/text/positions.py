"""Positions, for a text: how the model knows where a word stands, what it does without, and schemes with sliders."""

import streamlit as st

from attnviz import ui, views
from attnviz.ui.heads import overview
from attnviz.ui.positions import image, text
from attnviz.ui.shell.prose import section
from attnviz.ui.widgets import text_display

ui.header("text/positions")
about = ui.reading()
tokens = about.sample.tokens["main"]
ui.remarks(about)


def own() -> None:
    """The model's own way of telling places."""
    table = text.table_of(about)
    fixed = about.model.spec.positions == "sine"
    section("text/positions", "Turned by place" if table is None else "A fixed table" if fixed else "A table")
    if table is None:
        return
    rows, alike = text.table_figures(about, table)
    left, right = st.columns(2, gap="large")
    with left:
        ui.plot(rows, "table", alt="The position table, one row per token and one column per feature")
    with right:
        ui.plot(alike, "alike", alt="Centred cosine of every two places")
    ui.downloads(lambda: {"table": table}, lambda: image.table_file(tokens, table), "positions-text")


@ui.fragment
def without() -> None:
    """The real model with its positions removed or shuffled, beside itself."""
    section("text/positions", "Take positions away")
    with st.container(horizontal=True, vertical_alignment="bottom", gap="large"):
        how = ui.one_of("Positions", list(image.CHANGES), default="Removed", key="change")
        one = ui.head_choice(about.trace.calls[at := ui.call_choice(about.trace)])
        look = text_display.look_at(tokens)
    changed = ui.trace(about.name, about.sample, positions=image.CHANGES[how])
    chosen = look.picked(text_display.middle(tokens))
    answer = text.change_of(about, changed, look.groups.first(chosen[0]))
    st.markdown(answer.sentence)
    ui.plot(answer.figure(how), "answers", alt=f"Bars: {answer.sentence}")
    for column, name, trace in zip(st.columns(2, gap="large"), ("Own", how), (about.trace, changed), strict=True):
        call = trace.calls[at]
        with column:
            titles = [f"{name} positions, {overview.place(about, at, head).lower()}" for head in range(call.heads)]
            slot = text_display.send(f"weights {name}", call, look, titles)
            st.markdown(f"**{titles[one]}**")
            for view, key, height in ((views.text_view, "positions", None), (views.matrix_view, "matrix", 420)):
                view(
                    f"{key}:{name}",
                    maps=slot,
                    index=one,
                    tokens=chosen,
                    style=look.style,
                    height=height,
                    on_pick=look.pick,
                    label=titles[one],
                )
    token = look.groups.first(chosen[0])
    st.markdown(image.moved_sentence(about.trace.calls[at], changed.calls[at], one, token))


@ui.fragment
def made() -> None:
    """Schemes made to order, without training."""
    section("text/positions", "Schemes")
    name = ui.one_of("Scheme", text.SCHEMES, default=text.SCHEMES[0], key="scheme")
    text.scheme(name)
    section("text/positions", name, title=False)


own()
without()
made()
ui.footer("text/positions")
