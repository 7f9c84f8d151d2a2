"""Positions, for a text: the model's position information, the model without it, and schemes with sliders."""

import streamlit as st

from attnviz import ui, views
from attnviz.ui.positions import ablation, text
from attnviz.ui.positions.origin import origin, table_file, table_of
from attnviz.ui.shell.prose import section
from attnviz.ui.widgets import text_display

ui.header("text/positions")
run = ui.reading()
tokens = run.sample.tokens["main"]
ui.remarks(run)


def own() -> None:
    """The model's own position information."""
    table = table_of(run)
    section("text/positions", origin(run))
    section("text/positions", f"Started as {run.model.spec.positions}", title=False, optional=True)
    if table is None:
        return
    rows, alike = text.table_figures(run, table)
    left, right = st.columns(2, gap="large")
    with left:
        ui.plot(rows, "table", alt="The position table, one row per token and one column per feature")
    with right:
        ui.plot(alike, "alike", alt="Centred cosine of every two positions")
    ui.downloads(lambda: {"table": table}, lambda: table_file(tokens, table), "positions-text")


@ui.fragment
def ablated() -> None:
    """The model with its positions ablated or permuted, beside itself."""
    section("text/positions", "Ablate position embeddings")
    if not ablation.can_ablate(run):
        st.info(ablation.CANNOT, icon=":material/info:")
        return
    with st.container(horizontal=True, vertical_alignment="bottom", gap="large"):
        how = ui.one_of("Positions", ablation.CHANGES, default="none", key="change")
        one = ui.head_choice(run.trace.calls[at := ui.call_choice(run.trace)])
        look = text_display.look_at(tokens)
    changed = ui.trace(run.name, run.sample, positions=how)
    chosen = look.picked(text_display.middle(tokens))
    answer = ablation.change_of(run, changed)
    st.markdown(ablation.NO_ANSWER if answer is None else answer.sentence)
    if answer is not None:
        ui.plot(answer.figure(how), "answers", alt=f"Bars: {answer.sentence}")
    calls = {"own": run.trace.calls[at], how: changed.calls[at]}
    for column, (name, call) in zip(st.columns(2, gap="large"), calls.items(), strict=True):
        place = f"{ablation.NAMES[name]} positions, {ui.call_names(run.trace)[at].lower()}"
        titles = [f"{place}, {ui.head_name(head).lower()}" for head in range(call.heads)]
        with column:
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
    st.markdown(ablation.moved_sentence(calls["own"], calls[how], one, look.groups.first(chosen[0])))


@ui.fragment
def made() -> None:
    """Schemes made to order, without training."""
    section("text/positions", "Schemes")
    name = ui.one_of("Scheme", text.SCHEMES, default="sine", key="scheme")
    text.scheme(name)
    section("text/positions", name, title=False)


own()
ablated()
made()
ui.footer("text/positions")
